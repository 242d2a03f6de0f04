"""What make and the workflow run for this service: build, run locally, deploy, operate.

``python -m tools --help`` lists the commands. The files here are the template's: an update replaces
them, so keep your own code elsewhere.
"""
