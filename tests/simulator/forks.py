"""Runs the service's tools/github: a process that has imported it forks for each command.

Started anew, Python would take longer than the command. `python3 -m simulator.forks` reads requests
in JSON, one a line, and answers with exit codes; PYTHONPATH says where tools/ is.
"""

import json
import os
import sys
import traceback

from tools.github.__main__ import main


def run(arguments: list[str], folder: str, variables: dict[str, str], output: str) -> None:
    """Run one command in this process, and end it."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor in (1, 2):
        os.dup2(file, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    code = 1
    try:
        code = main(arguments)
    except Exception:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(**json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
