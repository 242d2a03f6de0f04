"""Checks the Terraform code and the settings of every environment, without AWS: ``make validate``.

It works on a copy beside terraform/, so that relative paths lead to the same files. The copy has a
state of its own, and Terraform's lock file, with hashes for this machine only, stays in it.
"""

import re
import shutil
import sys
from pathlib import Path

import click

from tools.deploy.terraform import OFFLINE, attempt, run
from tools.errors import ToolError
from tools.operate import compute
from tools.project import ENVIRONMENTS, Environment

COPY = Environment(OFFLINE.name, code=".terraform")  # a name that Git ignores
OVERRIDE = 'terraform {\n  backend "local" {}\n}\n'


@click.command()
def command() -> None:
    """Check the Terraform code, the settings of both environments, and run Terraform's tests."""
    code, printed, errors = attempt(OFFLINE, "fmt", "-check", "-recursive", "-no-color")
    if code:
        raise ToolError(errors or f"Run `make format`. Not formatted in terraform/:\n{printed}")
    copy = Path(COPY.code)
    shutil.rmtree(copy, ignore_errors=True)
    try:
        made = shutil.ignore_patterns(".terraform", "*.tfplan", "*.tfstate*")
        shutil.copytree("terraform", copy, ignore=made)
        (copy / "validate_override.tf").write_text(OVERRIDE, encoding="utf-8")
        print("terraform init", flush=True)  # quietly: it would recommend the copy's lock file
        run(COPY, "init", "-input=false", "-reconfigure", capture=True, TF_WORKSPACE="dev")
        run(COPY, "validate")
        wrong = [str(Environment(name).tfvars) for name in ENVIRONMENTS if not accepted(name)]
        if wrong:
            files = " and ".join(wrong)
            raise ToolError(f"Wrong settings: correct {files}, or the default in variables.tf.")
        run(COPY, "test", TF_WORKSPACE="dev")
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def accepted(environment: str) -> bool:
    """Tell whether Terraform accepts the environment's settings; show what it says if not."""
    arguments = ("console", "-no-color", f"-var-file=environments/{environment}.tfvars")
    more = {f"TF_VAR_{name}": value for name, value in compute.STAND_INS.items()}
    more["TF_WORKSPACE"] = environment
    code, printed, errors = attempt(COPY, *arguments, more=more)
    said = complaints(printed, errors) or (errors if code else "")
    sys.stderr.write(said)
    return not said


def complaints(printed: str, errors: str) -> str:
    """Return what `terraform console -no-color` says of wrong settings, "" if they are right.

    Terraform only warns of a value for a variable that is not there. Its console succeeds in any
    case.

    :param printed: its stdout.
    :param errors: its stderr.
    """
    title = "Value for undeclared variable\n"
    unknown = re.findall(rf"Warning: {title}\n(.+?\n)\n", printed, re.DOTALL)
    said = errors if "Error: " in errors else ""
    return said + "".join(f"\nError: {title}\n{text}\n" for text in unknown)
