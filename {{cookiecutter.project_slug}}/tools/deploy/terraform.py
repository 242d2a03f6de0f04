"""Run Terraform so that it ends well, and say what to do about errors whose own text does not.

    python scripts/terraform.py <environment> <command> [argument …]

However this process is ended, by Ctrl-C, `kill` or `kill -9`, to it alone or to make and all below,
Terraform is interrupted once: then it stops at the next safe point, writes down what it has done
and unlocks the state. A second Ctrl-C reaches it too; Terraform then stops at once. That takes a
process group of Terraform's own: in make's it would get a signal twice, from the terminal and from
make, and of `kill -9` it would die with the state locked.

Exit code: the command's.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Run the command of the command line; return its exit code."""
    environment, *command = sys.argv[1:]
    lifeline, end = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # until both processes know what to do
    child = os.fork()
    if not child:
        os.close(end)
        os.setsid()
        for number in STOPS:
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        return run(environment, command, lifeline)

    asked: list[int] = []

    def stop(number: int, _: object) -> None:
        if not asked or number == signal.SIGINT:
            with contextlib.suppress(OSError):  # it has just ended
                os.write(end, b"!")
        asked.append(number)

    os.close(lifeline)
    for number in STOPS:
        signal.signal(number, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(environment: str, command: list[str], lifeline: int) -> int:
    """Run the command; return its exit code.

    :param lifeline: a pipe. Each byte in it interrupts the command; so does its end, unless a byte
        did before.
    """
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace")

    def interrupt() -> None:
        asked = False
        while os.read(lifeline, 1) or not asked:
            asked = True
            process.send_signal(signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    _, errors = process.communicate()
    code = process.returncode
    tell(explain(environment, errors) if code else errors)
    return code if code >= 0 else 128 - code


def tell(text: str) -> None:
    """Write to stderr, if anybody is still there to read it."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def explain(environment: str, errors: str) -> str:
    """Return Terraform's errors, with what to do about them where they don't say it themselves."""
    if re.search("No valid credential sources|failed to refresh cached credentials", errors):
        return (
            "No AWS credentials: sign in, for example with `aws sso login`, or set AWS_PROFILE.\n"
        )
    advice = ""
    if re.search("ExpiredToken|InvalidClientTokenId|SSOTokenProvider|token has expired", errors):
        advice = "Your AWS sign-in has expired or is not accepted: sign in again."
    elif "Error acquiring the state lock" in errors:
        # S3's own error above it names a RequestID and a HostID.
        found = re.search(r"(?<![A-Za-z])ID: *([A-Za-z0-9-]+)", errors)
        unlock = f"terraform -chdir=terraform force-unlock {found[1] if found else 'ID'}"
        advice = (
            f'The state of {environment} is locked. "Lock Info" above says by whom (Who), since '
            "when (Created)\nand for what (Operation). Wait for it to end, or ask them. Only if "
            f"you know that it is dead:\n  TF_DATA_DIR=.terraform/{environment} {unlock}\n"
            "Nothing was changed, and nothing unlocks by itself."
        )
    elif "Saved plan is stale" in errors:
        advice = (
            f"{environment} has changed since this plan was made, so it is not applied: plan again "
            f"and read it\n(make plan ENV={environment}; in the workflow, run all jobs again)."
        )
    elif "Inconsistent dependency lock file" in errors:
        advice = (
            "terraform/.terraform.lock.hcl does not fit the providers that the code asks for: run "
            "`make lock`\nand commit it."
        )
    return f"{errors}\n{advice}\n" if advice else errors


if __name__ == "__main__":
    sys.exit(main())
