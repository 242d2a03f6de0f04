"""Terraform's code for a local environment: links to the service's, beside what only it has."""

from fnmatch import fnmatch
from pathlib import Path

from tools.project import Environment

# In terraform/, and not part of the code; settings that Terraform reads unasked may name a real
# account.
LEFT_OUT = (
    *(".terraform*", "*.tfplan", "*.tfstate*", "*.tfvars*"),
    *("environments", "tests", "local_override.tf"),
)
# A request that the local AWS can't answer fails soon: with 25 retries, the provider's default, it
# would seem to hang.
OVERRIDE = 'provider "aws" {\n  max_retries = 2\n}\n'


def link_code(environment: Environment) -> None:
    """Have the environment's code consist of links to the files that are in terraform/ now."""
    folder = Path(environment.code)
    folder.mkdir(parents=True, exist_ok=True)
    for link in folder.iterdir():
        if link.is_symlink() and not link.exists():
            link.unlink(missing_ok=True)
    for file in Path("terraform").iterdir():
        link = folder / file.name
        if not link.is_symlink() and not any(fnmatch(file.name, left) for left in LEFT_OUT):
            link.symlink_to(file.absolute())
    (folder / "local_override.tf").write_text(OVERRIDE, encoding="utf-8")
