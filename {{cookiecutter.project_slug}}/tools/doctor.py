"""Say what is missing on this machine, and how to get it: what `make doctor` runs.

    python scripts/doctor.py dev

Any Python from 3.9 on will do, since the right one may be what is missing; asking AWS takes boto3,
which comes with `make install`. It changes nothing, here or there.

Exit code 0: nothing is missing; 1: something is; 130: Ctrl-C.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COLOURS = {"ok": "32", "missing": "31", "unknown": "33"}
SECONDS = 30  # that a program may take to answer


@dataclass
class Finding:
    """One line of the answer. ``state`` is ok, missing or unknown; ``fix`` says what to do."""

    name: str
    state: str
    text: str
    fix: str = ""


def output(*command: str, **environment: str) -> tuple[bool, str]:
    """Run a program; return whether it succeeded, and what it printed."""
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, str(error)
    return done.returncode == 0, done.stdout.decode("utf-8", "replace").strip()


def read(path: str) -> str:
    """Return a file's text without comments, "" if it can't be read."""
    try:
        text = (ROOT / path).read_text(encoding="utf-8")
    except (OSError, UnicodeError):
        return ""
    return re.sub(r"(?m)^\s*(#|//).*$", "", text).strip()


def setting(text: str, name: str) -> str:
    """Return a text that is set in HCL, ``name = "text"``; "" if it is not."""
    found = re.search(rf'(?m)^\s*{name}\s*=\s*"(.*?)"', text)
    return found[1] if found else ""


def numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


# On this machine


def python() -> Finding:
    version = read(".python-version")
    # uv, where it is installed, is not to install a Python now.
    never = {"UV_PYTHON_DOWNLOADS": "never", "UV_OFFLINE": "1"}
    found, text = output("sh", "scripts/find_python.sh", version, **never)
    name = f"Python {version}"
    if found:
        return Finding(name, "ok", text)
    if shutil.which("uv"):
        return Finding(name, "ok", "not here yet; `make install` lets uv get it")
    return Finding(name, "missing", "none that makes virtual environments", text.split(": ", 1)[-1])


def virtual_environment() -> Finding:
    made, locks = ROOT / ".venv/installed", ("requirements-dev.txt", ".python-version")
    if not made.exists():
        return Finding(".venv", "missing", "not made yet", "Run `make install`.")
    if any((ROOT / lock).stat().st_mtime > made.stat().st_mtime for lock in locks):
        return Finding(".venv", "missing", "older than what it is made of", "Run `make install`.")
    return Finding(".venv", "ok", "has what requirements-dev.txt asks for")


def terraform() -> Finding:
    wanted = read(".terraform-version")
    needed = setting(read("terraform/versions.tf"), "required_version")
    get = "https://developer.hashicorp.com/terraform/install"
    fix = f"Install version {wanted}: {get}, or with tfenv or mise, which read .terraform-version."
    if shutil.which("terraform") is None:
        return Finding("Terraform", "missing", "not on the PATH", fix)
    done, text = output("terraform", "version", "-json")
    try:
        version = str(json.loads(text[text.index("{") :])["terraform_version"])
    except (ValueError, KeyError):
        return Finding("Terraform", "missing", "`terraform version` fails: " + text[:200], fix)
    if not done or numbers(version) < numbers(needed):
        return Finding("Terraform", "missing", f"{version}, but it must be {needed}", fix)
    note = "" if version == wanted else f"; the workflow has {wanted}"
    return Finding("Terraform", "ok", version + note)


def image_tools() -> Iterator[Finding]:
    """Look for what `make image` and `make push` of a service on Fargate need."""
    get = "Install Docker with buildx: https://docs.docker.com/engine/install/"
    if shutil.which("docker") is None:
        yield Finding("Docker", "missing", "not on the PATH", get)
    elif not output("docker", "buildx", "version")[0]:
        yield Finding("Docker", "missing", "without buildx", get)
    elif not output("docker", "info")[0]:
        yield Finding("Docker", "missing", "its daemon does not answer", "Start Docker.")
    else:
        yield Finding("Docker", "ok", "with buildx")
    if shutil.which("skopeo") is None:
        get = "Install skopeo: https://github.com/containers/skopeo/blob/main/install.md"
        yield Finding("skopeo", "missing", "not on the PATH", get)
    else:
        yield Finding("skopeo", "ok", output("skopeo", "--version")[1])


# On AWS


class Aws:
    """What an environment's files say, and what AWS says to it."""

    def __init__(self, environment: str) -> None:
        folder = "terraform/environments"
        self.environment = environment
        self.tfvars_path = f"{folder}/{environment}.tfvars"
        self.backend_path = f"{folder}/{environment}.s3.tfbackend"
        self.tfvars, self.backend = read(self.tfvars_path), read(self.backend_path)
        variables = read("terraform/variables.tf")
        default = re.search(r'variable "aws_region" \{.*?default\s*=\s*"(.*?)"', variables, re.S)
        self.region = setting(self.tfvars, "aws_region") or (default[1] if default else "")
        self.arn = ""

    def client(self, name: str, region: str) -> Any:
        import boto3
        from botocore.config import Config

        config = Config(connect_timeout=5, read_timeout=15, retries={"total_max_attempts": 2})
        return boto3.client(name, region_name=region, config=config)

    def findings(self) -> Iterator[Finding]:
        """Look for each thing that a deployment needs; without credentials AWS is not asked."""
        if self.region:
            yield Finding("region", "ok", self.region)
        else:
            yield Finding("region", "missing", "none", f"Set aws_region in {self.tfvars_path}.")
        credentials = attempt("credentials", self.credentials)
        yield credentials
        let_in = credentials.state == "ok"
        bucket = setting(self.backend, "bucket")
        if not bucket:
            fix = f"Write its name into {self.backend_path}. The bucket must exist: README.md."
            yield Finding("state bucket", "missing", "not named yet", fix)
        elif let_in:
            yield attempt("state bucket", lambda: self.bucket(bucket))
        else:
            yield Finding(
                "state bucket", "unknown", f"{bucket}: not looked for, without credentials"
            )
        if let_in:
            yield attempt("SNS topic", self.topic)
        else:
            yield Finding("SNS topic", "unknown", "not looked for, without credentials")

    def credentials(self) -> Finding:
        try:
            from botocore.exceptions import BotoCoreError, ClientError

            from operations.service import explain
        except ImportError:
            return Finding("credentials", "unknown", "boto3 is not here", "Run `make install`.")
        try:
            # Asked in the service's region: one that the account has not enabled refuses.
            caller = self.client("sts", self.region or "us-east-1").get_caller_identity()
        except (BotoCoreError, ClientError) as error:
            refused = isinstance(error, ClientError)
            fix = f"If they work elsewhere, {self.region} is not enabled for the account."
            return Finding("credentials", "missing", explain(error), fix if refused else "")
        account, self.arn = str(caller["Account"]), str(caller["Arn"])
        allowed = re.search(r"(?m)^\s*allowed_account_ids\s*=\s*\[(.*?)\]", self.tfvars, re.S)
        accounts = re.findall(r'"(\d+)"', allowed[1]) if allowed else []
        if accounts and account not in accounts:
            text = f"of account {account}, but {self.environment} is in {' or '.join(accounts)}"
            fix = f"Sign in there, or correct allowed_account_ids in {self.tfvars_path}."
            return Finding("credentials", "missing", text, fix)
        return Finding("credentials", "ok", f"account {account}, {self.arn}")

    def bucket(self, bucket: str) -> Finding:
        from botocore.exceptions import ClientError

        region = setting(self.backend, "region")
        try:
            self.client("s3", region or self.region).head_bucket(Bucket=bucket)
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status == 404:
                fix = f"Make it (the template's bootstrap does), or correct {self.backend_path}."
                return Finding("state bucket", "missing", f"there is no {bucket}", fix)
            if status in {301, 400}:
                fix = f"Correct region in {self.backend_path}."
                return Finding("state bucket", "missing", f"{bucket} is not in {region}", fix)
            fix = "Ask its owner for s3:ListBucket, and the right to read and write the state."
            return Finding("state bucket", "missing", f"{bucket} lets nobody like you in", fix)
        return Finding("state bucket", "ok", bucket)

    def topic(self) -> Finding:
        from botocore.exceptions import ClientError

        arn = setting(self.tfvars, "sns_topic_arn")
        if not arn:
            default = re.search(r'var\.sns_topic_name, "(.*?)"', read("terraform/sns.tf"))
            name = setting(self.tfvars, "sns_topic_name") or (default[1] if default else "")
            name = name.replace("${local.environment}", self.environment)
            _, partition, *_ = self.arn.split(":")
            account = self.arn.split(":")[4]
            arn = f"arn:{partition}:sns:{self.region}:{account}:{name}"
        try:
            self.client("sns", self.region).get_topic_attributes(TopicArn=arn)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code.startswith("NotFound"):
                fix = f"Its owner makes it; another one: sns_topic_name in {self.tfvars_path}."
                return Finding("SNS topic", "missing", f"there is no {arn}", fix)
            return Finding("SNS topic", "unknown", f"{arn} can't be looked at: {code}")
        return Finding("SNS topic", "ok", arn)


def attempt(name: str, check: Any) -> Finding:
    """Make a check; what goes wrong in it is told, and stops nothing."""
    try:
        finding: Finding = check()
    except Exception as error:
        return Finding(name, "unknown", f"can't be told: {type(error).__name__}: {error}")
    return finding


def report(title: str, findings: Iterator[Finding], coloured: bool) -> int:
    """Print findings as they come; return how many things are missing."""
    print(title)
    missing = 0
    for finding in findings:
        missing += finding.state == "missing"
        state = f"{finding.state:<7}"
        if coloured:
            state = f"\033[{COLOURS[finding.state]}m{state}\033[0m"
        print(f"  {state}  {finding.name:<12}  {' '.join(finding.text.split())}", flush=True)
        if finding.fix:
            print(f"{'':25}{' '.join(finding.fix.split())}", flush=True)
    return missing


def local() -> Iterator[Finding]:
    yield attempt("Python", python)
    yield attempt(".venv", virtual_environment)
    yield attempt("Terraform", terraform)
    if (ROOT / "Dockerfile").exists():
        yield from image_tools()


def main() -> int:
    """Check everything for one environment; return the exit code."""
    environment = sys.argv[1] if len(sys.argv) > 1 else "dev"
    terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    coloured = terminal and not os.environ.get("NO_COLOR")
    try:
        missing = report("On this machine", local(), coloured)
        missing += report(f"To deploy to {environment}", Aws(environment).findings(), coloured)
        print("Nothing is missing." if not missing else f"Missing: {missing}.")
    except BrokenPipeError:
        # The reader has seen enough; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
