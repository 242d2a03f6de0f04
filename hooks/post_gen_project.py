"""Finish the rendered service: remove what its answers make useless, put its workflows where GitHub
looks, and say what to do next.

Cookiecutter renders this file, then runs it in the project folder. It uses no network and installs
nothing. The answers come in as data (JSON), so no text in them can run as code. The service is
complete before this runs: what can't be done here is reported, and fails nothing. It imports
little, as the other hook does, so that rendering stays quick.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import sys
from collections.abc import Mapping

ANSWERS = r"""
{{ cookiecutter.items() | list | tojson }}
"""

# Files that take another one's place on Fargate.
FARGATE_VARIANTS = {
    "requirements-fargate.txt": "requirements.txt",
    "tests/e2e/compute_fargate.py": "tests/e2e/compute.py",
    "tools/local/feed_fargate.py": "tools/local/feed.py",
    "tools/local/runtime_fargate.py": "tools/local/runtime.py",
    "tools/local/target_fargate.py": "tools/local/target.py",
    "tools/operate/compute_fargate.py": "tools/operate/compute.py",
}

# Files that only some services need, by the answer that asks for them.
ONLY_WITH = {
    # GitHub and pre-commit read these only at the root of a repository.
    ("service_path", "."): (".github/dependabot.yml", ".pre-commit-config.yaml"),
    ("idempotency", "yes"): (
        "<package>/idempotency.py",
        "terraform/idempotency.tf",
        "terraform/tests/idempotency.tftest.hcl",
        "tests/e2e/test_idempotency.py",
        "tests/unit/test_idempotency.py",
    ),
    # A topic whose name ends in .fifo.
