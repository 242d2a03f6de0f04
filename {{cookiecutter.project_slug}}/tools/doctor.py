"""Says what is missing on this machine and for an environment, and how to get it: ``make doctor``.

It fails if this machine is not ready; if the environment isn't, only where one is named, as in
``make doctor ENV=prod``: most work needs no AWS.

Any Python from 3.9 on can run it, since the right one may be what is missing; asking AWS takes
boto3, which comes with ``make install``. It changes nothing, here or in AWS.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.deploy import terraform_binary
from tools.errors import ToolError, explain
from tools.local import running


def show(title: str, checks: dict[str, Callable[[], str]]) -> bool:
    """Make checks, which return what is there or raise what is missing; tell whether all is."""
    print(title)
    ready = True
    for name, check in checks.items():
        try:
            state, text = "ok", check()
        except ToolError as error:
            state, text = "missing", str(error)
        except ImportError:
            state, text = "unknown", "could not be checked: run `make install` first"
        except Exception as error:
            state, text = "unknown", f"could not be checked: {explain(error) or error}"
        text = text.replace("\n", f"\n{'':25}")
        print(f"  {state:<7}  {name:<12}  {text}", flush=True)
        ready = ready and state == "ok"
    return ready


def output(*command: str, **environment: str) -> tuple[bool, str]:
    """Run a program, for 30 s at most; return whether it succeeded, and what it printed."""
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=30,
    )
    return done.returncode == 0, done.stdout.decode("utf-8", "replace").strip()


def python() -> str:
    # uv, where it is installed, must not install a Python now.
    never = {"UV_PYTHON_DOWNLOADS": "never", "UV_OFFLINE": "1"}
    version = Path(".python-version").read_text(encoding="utf-8").strip()
    found, text = output("sh", "tools/find_python.sh", version, **never)
    if found:
        return text
    if shutil.which("uv"):
        return "not here yet: `make install` lets uv get it"
    raise ToolError(text)


def virtual_environment() -> str:
    made = next(Path(".venv").glob("requirements*.txt"), None)
    if made is None:
        raise ToolError("not made yet\nRun `make install`.")
    time, locks = made.stat().st_mtime, (made.name, ".python-version")
    if any(Path(lock).stat().st_mtime > time for lock in locks):
        raise ToolError(f"older than {made.name}\nRun `make install`.")
    return f"has what {made.name} asks for"


def terraform() -> str:
    wanted = terraform_binary.wanted()
    fix = f"Run `make install`, which fetches version {wanted}."
    program = terraform_binary.installed()
    if program is None:
        raise ToolError(f"not on the PATH\n{fix}")
    try:
        version = terraform_binary.version(program)
    except ToolError as error:
        raise ToolError(f"{error}\n{fix}") from None
    return version if version == wanted else f"{version}; the workflow has {wanted}"


def local_aws() -> str:
    if (found := running.find()) is None:
        raise ToolError(running.NONE)
    done = "deployed" if found.code else "Terraform is deploying the service"
    return f"{found.url}, process {found.pid}: {done}"


class Aws:
    """What an environment's files say, and what AWS says to that."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tfvars = f"terraform/environments/{name}.tfvars"
        self.arn = ""  # whose credentials these are, once they are known to be good

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        from tools import hcl
        from tools.project import Environment

        return hcl.settings(Environment(self.name))

    def client(self, name: str, region: str) -> Any:
        if not self.arn and name != "sts":
            raise RuntimeError("no credentials")
        from tools.operate.service import client

        return client(name, region)

    def credentials(self) -> str:
        # Asked in the service's region: one that the account has not enabled refuses.
        region = self.settings["aws_region"]
        try:
            caller = self.client("sts", region).get_caller_identity()
        except Exception as error:
            if not (text := explain(error)):
                raise
            hint = f"\nIf they work elsewhere, the account has not enabled {region}."
            raise ToolError(text + (hint if hasattr(error, "response") else "")) from None
        account = str(caller["Account"])
        accounts = [str(allowed) for allowed in self.settings["allowed_account_ids"]]
        if accounts and account not in accounts:
            raise ToolError(
                f"of account {account}, but {self.name} is in {' or '.join(accounts)}\n"
                f"Sign in there, or correct allowed_account_ids in {self.tfvars}."
            )
        self.arn = str(caller["Arn"])
        return f"account {account}, {self.arn}"

    def bucket(self) -> str:
        from tools.deploy.terraform import backend_of
        from tools.project import Environment

        environment = Environment(self.name)
        backend = backend_of(environment)
        bucket = str(backend["bucket"])
        s3 = self.client("s3", backend["region"])
        try:
            s3.head_bucket(Bucket=bucket)
        except s3.exceptions.ClientError as error:
            why = {
                404: f"there is no {bucket}\nCreate it (the template's bootstrap does), or correct",
                403: f"{bucket}: access denied\nAsk its owner for access, or correct",
            }
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            other = f"{bucket} is in another region\nCorrect region in"
            raise ToolError(f"{why.get(status, other)} {environment.backend}.") from None
        return bucket

    def topic(self) -> str:
        region = self.settings["aws_region"]
        sns = self.client("sns", region)
        arn = self.settings["sns_topic_arn"]
        if not arn:
            code = Path("terraform/sns.tf").read_text(encoding="utf-8")
            (default,) = re.findall(r'var\.sns_topic_name, *"(.*)"', code)
            default = default.replace("${local.environment}", self.name)
            name = self.settings["sns_topic_name"] or default
            _, partition, _, _, account, _ = self.arn.split(":", 5)
            arn = f"arn:{partition}:sns:{region}:{account}:{name}"
        try:
            sns.get_topic_attributes(TopicArn=arn)
        except sns.exceptions.NotFoundException:
            fix = f"Its owner creates it; for another one set sns_topic_name in {self.tfvars}."
            raise ToolError(f"there is no {arn}\n{fix}") from None
        return str(arn)


def main() -> int:
    """Check everything; return 1 if this machine, or an environment that is named, isn't ready."""
    named = sys.argv[1:]
    environment = named[0] if named else "dev"
    if environment not in ("dev", "prod", "local"):
        sys.exit(f"ENV is {environment!r}: it must be dev, prod or local.")
    aws = Aws(environment)
    checks = {"Python": python, ".venv": virtual_environment, "Terraform": terraform}
    machine = show("On this machine", checks)
    checks = {"credentials": aws.credentials, "state bucket": aws.bucket, "SNS topic": aws.topic}
    with contextlib.suppress(ImportError):  # without .venv, which is missing then
        from tools.operate import compute

        checks |= compute.checks()
    if environment == "local":
        checks = {"make local": local_aws}
    deploy = show(f"To deploy to {environment}", checks)
    words = {True: "ready", False: "not ready"}
    print(f"This machine: {words[machine]}. To deploy to {environment}: {words[deploy]}.")
    return 0 if machine and (deploy or not named) else 1


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)  # ends without a traceback
    sys.exit(main())
