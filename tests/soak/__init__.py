"""Fault injection over the whole chain: is every message accounted for?

messages.py     a seeded mix of messages, each with the fault that it meets
service.py      the business logic that acts these faults out
deployment.py   puts that into a rendered service, and deploys it with the service's own Terraform
chain.py        publishes the messages and hands them to the function, as Lambda does
accounting.py   compares what became of each message with what should have
order.py        compares the order of effects in each message group with that of publishing
fargate.py      the same for Fargate's worker, which receives them itself (test_soak_fargate.py)
"""

import sys
from pathlib import Path

TEMPLATE = Path(__file__).parents[2]
SERVICE = TEMPLATE / "{{cookiecutter.project_slug}}"

# The local AWS, its event source and the runtime are the service's own. No bytecode is written:
# everything in the service's folder is rendered.
sys.dont_write_bytecode = True
sys.path.insert(0, str(SERVICE))
