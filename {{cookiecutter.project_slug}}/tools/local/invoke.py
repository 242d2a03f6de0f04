"""Run the built package on an event, as Lambda would, and print what Lambda would log.

    python scripts/invoke.py --package dist/lambda.zip --event events/one_message.json \\
        --environment-file local.env --timeout 30 --memory-size 256

The environment file has a line NAME=value for each of the function's environment variables; empty
lines and lines that begin with # are left out, quotes are part of the value.

Exit code: 0 if the function returned, 1 if it failed or could not be run.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
from pathlib import Path

from tools.errors import ToolError
from tools.local.runtime import Invocation, Runtime


class InvokeError(Exception):
    """What is wrong and what can be done, in words for the person who ran `make invoke`."""


def main(arguments: list[str] | None = None) -> int:
    """Invoke once; return the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the process and files go
    parser = argparse.ArgumentParser(description="Run the deployment package on an event.")
    parser.add_argument("--package", type=Path, default=Path("dist/lambda.zip"))
    parser.add_argument("--event", type=Path, required=True, help="a JSON file")
    parser.add_argument("--environment-file", type=Path, help="lines NAME=value")
    parser.add_argument("--handler", default="handler.handler")
    parser.add_argument("--timeout", type=float, default=30, help="seconds")
    parser.add_argument("--memory-size", type=int, default=256, help="MB")
    options = parser.parse_args(arguments)
    try:
        event = read_event(options.event)
        environment = read_environment(options.environment_file)
        with Runtime(
            options.package,
            handler=options.handler,
            environment=environment,
            timeout=options.timeout,
            memory_size=options.memory_size,
        ) as runtime:
            invocation = runtime.invoke(event)
    except (InvokeError, ToolError) as problem:
        print(f"invoke: {problem}", file=sys.stderr)
        return 1
    except OSError as problem:
        where = problem.filename or options.package
        print(f"invoke: Cannot read or write {where}: {problem.strerror}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    show(invocation, options.memory_size)
    return 1 if invocation.error else 0


def read_event(path: Path) -> object:
    """Return the event in a JSON file. Raises InvokeError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        beside = sorted(str(other) for other in path.parent.glob("*.json"))
        known = f" There are: {', '.join(beside)}." if beside else ""
        raise InvokeError(f"There is no event file {path}.{known}") from None
    except (ValueError, RecursionError) as problem:
        raise InvokeError(f"{path} is not JSON: {problem}.") from None


def read_environment(path: Path | None) -> dict[str, str]:
    """Return the variables in a file of lines NAME=value. Raises InvokeError."""
    result: dict[str, str] = {}
    if path is None:
        return result
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InvokeError(f"There is no environment file {path}.") from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.isidentifier():
            raise InvokeError(f"{path}, line {number}: {line!r} is not of the form NAME=value.")
        result[name] = value
    return result


def show(invocation: Invocation, memory_size: int) -> None:
    """Print logs, response or error, and the REPORT line."""
    print(f"START RequestId: {invocation.request_id} Version: $LATEST")
    print(
        invocation.logs, end="" if invocation.logs.endswith("\n") or not invocation.logs else "\n"
    )
    print(f"END RequestId: {invocation.request_id}")
    # Since August 2025 the init phase is billed too.
    billed = math.ceil(invocation.duration + (invocation.init_duration or 0))
    report = [
        f"REPORT RequestId: {invocation.request_id}",
        f"Duration: {invocation.duration:.2f} ms",
        f"Billed Duration: {billed} ms",
        f"Memory Size: {memory_size} MB",
        f"Max Memory Used: {invocation.max_memory_used} MB",
    ]
    if invocation.init_duration is not None:
        report.append(f"Init Duration: {invocation.init_duration:.2f} ms")
    print("\t".join(report))
    if invocation.error:
        sys.stdout.flush()
        kind = invocation.error.get("errorType", "Error")
        print(
            f"invoke: the function failed: {kind}: {invocation.error.get('errorMessage', '')}",
            file=sys.stderr,
        )
    else:
        print("Response:")
        print(json.dumps(invocation.response, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    sys.exit(main())
