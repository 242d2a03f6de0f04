"""What the function did, as it recorded it itself: an SQLite file that both sides open."""

import sqlite3
from collections import Counter
from pathlib import Path

SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = OFF;
CREATE TABLE invocations (slot INTEGER PRIMARY KEY, batch INTEGER, may_strike INTEGER);
CREATE TABLE tries (event_id TEXT);
CREATE INDEX tries_of ON tries (event_id);
CREATE TABLE effects (event_id TEXT, batch INTEGER);
"""


class Ledger:
    """The file, on this side."""

    def __init__(self, path: Path) -> None:
        """Create it; raises sqlite3.OperationalError if it exists."""
        self.path = path
        self._connection = sqlite3.connect(
            path, timeout=60, isolation_level=None, check_same_thread=False
        )
        self._connection.executescript(SCHEMA)

    def announce(self, slot: int, batch: int, may_strike: bool) -> None:
        """Tell a slot's function which batch it gets, and whether it may die or hang."""
        self._connection.execute(
            "INSERT OR REPLACE INTO invocations VALUES (?, ?, ?)", (slot, batch, may_strike)
        )

    def effects(self) -> Counter[tuple[str, int]]:
        """Return how often each event had its effect, by event id and batch."""
        return Counter(self.in_order())

    def in_order(self) -> list[tuple[str, int]]:
        """Return the effects in the order in which they happened: event id and batch."""
        rows = self._connection.execute("SELECT event_id, batch FROM effects ORDER BY rowid")
        return [(event_id, batch) for event_id, batch in rows]

    def count(self) -> int:
        """Return how many effects there have been so far."""
        (number,) = self._connection.execute("SELECT max(rowid) FROM effects").fetchone()
        return number or 0

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
