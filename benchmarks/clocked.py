"""The handler of the worker's benchmark: the service's own, with clocks around it.

It runs as `handler`, beside the service's handler.py as `service_handler`. For each batch it adds a
line to the file CLOCKED: when the call began and ended, and the CPU time so far of this process and
of those in CLOCKED_PARENT, all in seconds.
"""

import os
import time
from typing import Any

import service_handler

output = os.open(os.environ["CLOCKED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
clocks = [time.CLOCK_PROCESS_CPUTIME_ID]
if os.environ.get("CLOCKED_PARENT"):
    # The clock of another process's CPU time, by clock_getcpuclockid(3) of Linux.
    clocks.append((~os.getppid() << 3) | 2)


def handler(event: dict[str, Any], context: Any) -> Any:
    """Process a batch; note the times."""
    began, cpu = time.monotonic(), sum(map(time.clock_gettime, clocks))
    answer = service_handler.handler(event, context)
    os.write(output, f"{began} {time.monotonic()} {cpu}\n".encode())
    return answer
