"""What Terraform's files say, without Terraform."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.errors import ToolError
from tools.project import Environment


def read(file: Path) -> dict[str, Any]:
    """Return what a file sets, by name; expressions as they are written, like "${var.name}".

    :raises ToolError: it is not HCL.
    """
    # Imported only here: it takes longer than most commands.
    import hcl2
    from lark.exceptions import UnexpectedInput

    options = hcl2.SerializationOptions(
        with_comments=False, explicit_blocks=False, strip_string_quotes=True
    )
    try:
        found: dict[str, Any] = hcl2.loads(
            file.read_text(encoding="utf-8"), serialization_options=options
        )
    except UnexpectedInput as error:
        raise ToolError(
            f"{file}, line {error.line}: this is not HCL. `terraform fmt` says what is wrong."
        ) from None
    return found


def settings(environment: Environment) -> dict[str, Any]:
    """Return the environment's settings: its .tfvars, and the defaults in variables.tf."""
    dev = settings(Environment("dev")) if environment.is_local else defaults()
    return {**dev, **read(environment.tfvars)}


def defaults() -> dict[str, Any]:
    """Return the defaults in variables.tf; None where a variable has none."""
    variables = read(Path("terraform/variables.tf"))["variable"]
    return {name: body.get("default") for one in variables for name, body in one.items()}


def number(settings: Mapping[str, Any], name: str) -> float:
    """Return a setting that is a number. Raises ToolError."""
    try:
        return float(settings[name])
    except (TypeError, ValueError):
        value = settings[name]
        raise ToolError(f"Terraform's setting {name} is {value!r}: it must be a number.") from None
