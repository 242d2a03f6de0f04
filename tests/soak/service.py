"""Business logic for the soak test only: it fails in the way that the event's data asks for.

It takes the place of ``service.py`` in the rendered package before that is built. What it does is
written to an SQLite file outside, which the soak test reads afterwards (``ledger.py``).
"""

import os
import signal
import sqlite3
import time

from .events import SoakEvent

# Without a transaction every statement is committed at once, whatever kills this process.
ledger = sqlite3.connect(os.environ["SOAK_LEDGER"], timeout=60, isolation_level=None)
ledger.execute("PRAGMA synchronous = OFF")
slot = int(os.environ["SOAK_SLOT"])


def process(event_type: str, event: SoakEvent) -> None:
    """Have an effect that can be counted, unless the event's data says that something goes wrong.

    data: ``fails`` (tries that raise, at first), ``takes`` (seconds), ``stalls`` (the same, in the
    first try only), ``hangs``, ``dies`` (``before`` or ``after`` the effect; like hanging once, and
    only where the soak test lets it).
    """
    data = event.data
    batch, may_strike = ledger.execute(
        "SELECT batch, may_strike FROM invocations WHERE slot = ?", (slot,)
    ).fetchone()
    tries = 0
    if data.keys() & {"fails", "stalls", "hangs", "dies"}:
        ledger.execute("INSERT INTO tries VALUES (?)", (event.id,))
        (tries,) = ledger.execute(
            "SELECT count(*) FROM tries WHERE event_id = ?", (event.id,)
        ).fetchone()
        if tries <= data.get("fails", 0):
            raise ConnectionError(f"the payload, which must not be logged: {data}")
        strikes = may_strike and tries == 1
        if strikes and "hangs" in data:
            time.sleep(3600)
        if strikes and data.get("dies") == "before":
            os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(data.get("takes", 0) + (data.get("stalls", 0) if tries == 1 else 0))
    ledger.execute("INSERT INTO effects VALUES (?, ?)", (event.id, batch))
    if data.get("dies") == "after" and strikes:
        os.kill(os.getpid(), signal.SIGKILL)
