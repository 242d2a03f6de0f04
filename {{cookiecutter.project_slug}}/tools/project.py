"""What the service's own files say of it. Paths start at the service's folder, where make runs."""

import contextlib
import functools
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tools.errors import ToolError
from tools.local import running

ENVIRONMENTS = ("dev", "prod")
LOCAL = "local"


@dataclass(frozen=True)
class Project:
    """The service: its name, its package, and what it is built for."""

    name: str
    package: str
    architecture: str
    python_version: str
    fifo: bool = False


@functools.cache
def project() -> Project:
    """Read pyproject.toml and .python-version."""
    try:
        pyproject = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ToolError(f"pyproject.toml is not valid TOML: {error}.") from None
    answers = pyproject["tool"]["cookiecutter-lambda-python"]
    return Project(
        name=pyproject["project"]["name"],
        package=answers["package"],
        architecture=answers["architecture"],
        python_version=Path(".python-version").read_text(encoding="utf-8").strip(),
        fifo=answers.get("fifo", False),
    )


def read_environment(path: Path = Path("local.env")) -> dict[str, str]:
    """Return the variables in a file of lines NAME=value; quotes are part of the value.

    Empty lines and lines that begin with # are skipped. Raises ToolError.
    """
    if not path.exists():
        raise ToolError(f"There is no {path}, which sets the handler's environment variables.")
    variables = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        name, equals, value = line.partition("=")
        if not line.strip() or line.startswith("#"):
            continue
        if not equals or not name.isidentifier():
            raise ToolError(f"{path}, line {number}, is {line!r}: it must be NAME=value.")
        variables[name] = value
    return variables


@dataclass(frozen=True)
class Environment:
    """dev, prod or local: a Terraform workspace, and the files that belong to it.

    home is the folder of all its files, where it is deployed to a local AWS; code is the folder of
    Terraform's code, where it is another than usual.
    """

    name: str
    home: str = ""
    code: str = ""

    def __post_init__(self) -> None:
        """Fill in what is usual."""
        home = self.home or (str(running.FOLDER) if self.name == LOCAL else "")
        object.__setattr__(self, "home", home)
        object.__setattr__(self, "code", self.code or str(Path(home, "terraform")))

    @property
    def is_local(self) -> bool:
        """Tell whether it is deployed to a local AWS: without commits, and the code from here."""
        return bool(self.home)

    @property
    def tfvars(self) -> Path:
        """Return the file of the environment's settings."""
        return Path(self.home or "terraform/environments", f"{self.name}.tfvars")

    def var_files(self, tfvars: Path | None = None) -> list[str]:
        """Return Terraform's options for the files of settings; tfvars replaces the environment's.

        On a local AWS the settings are dev's, but for those of the environment.
        """
        dev = [Path("terraform/environments/dev.tfvars")] if self.is_local else []
        return [f"-var-file={file.absolute()}" for file in (*dev, tfvars or self.tfvars)]

    @property
    def backend(self) -> Path:
        """Return the file that says where the environment's state is."""
        return Path(self.home or "terraform/environments", f"{self.name}.s3.tfbackend")

    @property
    def data_dir(self) -> Path:
        """Return Terraform's own folder for the environment, TF_DATA_DIR."""
        return Path(self.home or "terraform", ".terraform", self.name)

    @property
    def plan(self) -> Path:
        """Return the saved plan that `make plan` writes and `make apply` applies."""
        return Path(f"dist/{self.name}.tfplan")


def _environment(_: click.Context, __: click.Parameter, name: Any) -> Environment:
    if name == LOCAL:
        running.connect()
    elif name not in ENVIRONMENTS:
        raise click.UsageError(f"ENV is {name!r}: it must be dev, prod or local.")
    else:
        running.refuse(name)
    return Environment(name)


# The option of every command that works on one environment; the command gets an Environment.
environment_option = click.option(
    "--env",
    "environment",
    envvar="ENV",
    default="dev",
    callback=_environment,
    help="dev, prod or local",
)


def between(low: float, high: float) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Return the callback of an option that takes a number, whole if its bounds are whole."""

    def convert(_: click.Context, param: click.Parameter, value: Any) -> Any:
        if value is None:
            return None
        with contextlib.suppress(ValueError):
            number = type(low)(value)
            if low <= number <= high:
                return number
        what = "a whole number" if isinstance(low, int) else "a number"
        raise click.UsageError(
            f"{param.envvar} is {value!r}: it must be {what} from {low:g} to {high:g}."
        )

    return convert
