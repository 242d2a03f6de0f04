"""A simulator of GitHub for the rendered workflows: what tests/test_scenarios.py is played on."""
