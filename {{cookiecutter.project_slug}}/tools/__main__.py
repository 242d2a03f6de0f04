"""The command line: ``python -m tools COMMAND``. make passes its variables on as options."""

import io
import os
import signal
import sys
from importlib import import_module

import click

from tools.display import shown
from tools.errors import explain

# Each command's module and function. Only what is asked for is imported: boto3 alone takes longer
# than most commands.
COMMANDS = {
    "package": "tools.build.package:command",
    "sbom": "tools.build.sbom:command",
    "invoke": "tools.local.invoke:invoke",
    "debug": "tools.local.invoke:debug",
    "local": "tools.local.loop:command",
    "check-samples": "tools.events:check_samples",
    "init": "tools.deploy.terraform:init",
    "validate": "tools.deploy.validate:command",
    "output": "tools.deploy.terraform:output",
    "destroy": "tools.deploy.terraform:destroy",
    "lock": "tools.deploy.lock:lock",
    "upgrade": "tools.deploy.lock:upgrade",
    "plan": "tools.deploy.plans:plan",
    "apply": "tools.deploy.plans:apply",
    "check-plan": "tools.deploy.plans:check_plan",
    "save-plan": "tools.deploy.kept:save_plan",
    "fetch-plan": "tools.deploy.kept:fetch_plan",
    "forget-plan": "tools.deploy.kept:forget_plan",
    "rollback": "tools.deploy.settings:rollback",
    "pause": "tools.deploy.settings:pause",
    "resume": "tools.deploy.settings:resume",
    "unlock": "tools.deploy.unlock:unlock",
    "status": "tools.operate.status:command",
    "logs": "tools.operate.logs:command",
    "publish": "tools.operate.send:publish_command",
    "smoke": "tools.operate.send:smoke_command",
    "versions": "tools.operate.compute:versions_command",
    "dlq-peek": "tools.operate.messages:dlq_peek",
    "undelivered-peek": "tools.operate.messages:undelivered_peek",
    "replay": "tools.operate.saved:replay_command",
    "dlq-redrive": "tools.operate.redrive:dlq_redrive",
    "undelivered-redrive": "tools.operate.redrive:undelivered_redrive",
}


class _Commands(click.Group):
    """Finds a command's function when it is asked for."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        place = COMMANDS.get(name)
        if place is None:
            place = import_module("tools.operate.compute").COMMANDS.get(name)
        if place is None:
            return None
        module, function = place.split(":")
        command: click.Command = getattr(import_module(module), function)
        return command


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def tools() -> None:
    """Build, run, deploy and operate this service; `make` lists what there is."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: done; 1: not done, and one sentence on stderr says why; 130: Ctrl-C; 143: SIGTERM; 129: the
    terminal is gone.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as SIGHUP is with nohup
            # So that temporary files go, and messages that are held are given back.
            signal.signal(number, lambda sent, _: sys.exit(128 + sent))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what the terminal's encoding lacks
    try:
        return int(tools.main(arguments, prog_name="tools", standalone_mode=False) or 0)
    except click.Abort:
        return 130
    except click.ClickException as error:
        message = error.format_message()
    except BrokenPipeError:
        # The reader has seen enough, as with `| head`; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        message = explain(error) or ""  # first: a timeout of boto3 is an OSError, too
        if not message and isinstance(error, OSError):
            place = error.filename2 or error.filename or "a file"
            message = f"Cannot read or write {place}: {error.strerror}."
        if not message:
            raise
    print("\n".join(map(shown, message.split("\n"))), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
