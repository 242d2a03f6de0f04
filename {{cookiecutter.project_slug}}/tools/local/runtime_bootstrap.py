"""Runs in the function's process: AWS's runtime client, with events from runtime.py.

    python runtime_bootstrap.py <socket> <package> <folder with the runtime's libraries> <handler>

On Lambda the client fetches events by HTTP, with a library that awslambdaric has for Linux only.
Here it uses a socket that it inherits, in the format of multiprocessing.connection, which would
take longer to import than all else here.
"""

import json
import os
import site
import sys
import threading
import traceback

channel, task, runtime, handler = int(sys.argv[1]), *sys.argv[2:]

# Where a thread that waits for work, and does none, is.
WAITING = {("threading", "wait"), ("concurrent.futures.thread", "_worker"), ("selectors", "select")}


def working_threads() -> list[str]:
    """Return the names of the threads that are at work beside the handler's."""
    # No variable for the frames: this function's own is one of them, a cycle that stays in memory.
    places = {
        ident: (frame.f_globals.get("__name__"), frame.f_code.co_name)
        for ident, frame in sys._current_frames().items()
    }
    return [
        thread.name
        for thread in threading.enumerate()
        if thread is not threading.main_thread()
        and (place := places.get(thread.ident or 0))
        and place not in WAITING
    ]


def places(error: BaseException) -> list[str]:
    """Return where in the package an import failed, as in a traceback."""
    stack = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in stack if frame.filename.startswith(task)]
    return traceback.format_list(frames)


def receive(size: int) -> bytes:
    """Wait for so many bytes; end where runtime.py has ended."""
    data = b""
    while len(data) < size:
        data += os.read(channel, size - len(data)) or sys.exit()
    return data


def send(kind: str, body: str = "") -> None:
    """Send a message: its kind, and JSON."""
    message = f"{kind}\n{body}".encode()
    data = len(message).to_bytes(4, "big") + message
    while data:
        data = data[os.write(channel, data) :]


def main() -> None:
    """Import the handler and pass events to it, as Lambda does."""
    os.set_inheritable(channel, False)
    site.setquit()
    site.sethelper()
    sys.path[:0] = [task]
    sys.path.append(runtime)
    sys.argv = ["bootstrap", handler]
    from awslambdaric import bootstrap
    from awslambdaric.lambda_runtime_client import InvocationRequest, LambdaRuntimeClient

    class Client(LambdaRuntimeClient):  # type: ignore[misc]
        def wait_next_invocation(self) -> object:
            send("next", json.dumps(working_threads()))
            size = int.from_bytes(receive(4), "big")
            head, _, body = receive(size).partition(b"\n")
            return InvocationRequest(event_body=body, **json.loads(head))

        def post_invocation_result(self, _: str, result: str, *__: object) -> None:
            send("response", result)

        def post_invocation_error(self, _: str, error: str, *__: object) -> None:
            send("error", error)

        def post_init_error(self, error: object, *_: object) -> None:
            send("init error", json.dumps(error))

    if os.environ.get("LOCAL_RUN"):
        say_where_imports_fail()
    bootstrap.run(handler, Client(""))


def say_where_imports_fail() -> None:
    """Let errors name their places in the package: of an ImportError, Lambda names none."""
    from awslambdaric import bootstrap

    find = bootstrap._get_handler

    def find_handler(name: str) -> object:
        try:
            return find(name)
        except bootstrap.FaultException as error:
            error.trace = error.trace or places(error.__context__ or error)
            raise
        except Exception as error:
            kind = type(error).__name__
            raise bootstrap.FaultException(kind, str(error), places(error)) from error

    bootstrap._get_handler = find_handler


if __name__ == "__main__":
    main()
