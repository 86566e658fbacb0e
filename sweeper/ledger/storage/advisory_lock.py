"""One driver per study, across machines: an advisory lock in the PostgreSQL that holds the ledger.

The connection that writes the ledger is the one that holds the lock, so nobody writes without it, and the server
releases it with the connection. The connection's name, which every role may read, shows who holds it.
"""

import hashlib
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sweeper.errors import StudyTaken

LONGEST_NAME: Final = 63
"""Bytes of a connection's name that PostgreSQL keeps."""
TRIES: Final = 50
TRY_S: Final = 0.1
HELD_BY: Final = """
    SELECT activity.pid, activity.application_name FROM pg_locks AS held JOIN pg_stat_activity AS activity USING (pid)
    WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 1
      AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND (held.classid::bigint << 32) | held.objid::bigint = %s
"""


@dataclass(frozen=True)
class Driver:
    """A driver as its connection names it.

    Attributes:
        token: tells this driver's connections from all others.
        place: `pid N on HOST`.
    """

    token: str
    place: str

    @property
    def name(self) -> str:
        return f"sweeper {self.token} {self.place}".encode()[:LONGEST_NAME].decode(errors="ignore")


def this_driver() -> Driver:
    """A driver in this process."""
    return Driver(uuid.uuid4().hex[:8], f"pid {os.getpid()} on {os.uname().nodename}")


def take(connection: Any, study: str, driver: Driver) -> None:
    """Take the study's lock for as long as the connection (of psycopg) lasts.

    An earlier connection of our own that the server does not know to be broken is ended; one of a process on this
    machine that was just killed is waited for.

    Raises:
        StudyTaken: another driver has it.
    """
    for _ in range(TRIES):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", (_key(study),))
            taken = cursor.fetchone()[0]
            held = None if taken else _held(cursor, study)
            if held and held[1].startswith(f"sweeper {driver.token} "):
                cursor.execute("SELECT pg_terminate_backend(%s)", (held[0],))
                held = None
        connection.commit()
        if taken:
            return
        place = _place(held[1]) if held else "unknown"
        if held and not _was_killed_here(place):
            break
        time.sleep(TRY_S)  # it was just released, or is about to be
    raise StudyTaken(study, place)


def holder(connection: Any, study: str) -> str | None:
    """Who holds the study's lock, as `pid N on HOST`; None if nobody does."""
    with connection.cursor() as cursor:
        held = _held(cursor, study)
    return _place(held[1]) if held else None


def _held(cursor: Any, study: str) -> tuple[int, str] | None:
    cursor.execute(HELD_BY, (_key(study),))
    found: tuple[int, str] | None = cursor.fetchone()
    return found


def _place(name: str) -> str:
    program, _, rest = name.partition(" ")
    return rest.partition(" ")[2] if program == "sweeper" and rest else name or "unknown"


def _was_killed_here(place: str) -> bool:
    pid, _, host = place.removeprefix("pid ").partition(" on ")
    return host == os.uname().nodename and not Path(f"/proc/{pid}").exists()


def _key(study: str) -> int:
    """Advisory locks are 64-bit numbers, separate for each database."""
    return int.from_bytes(hashlib.sha256(f"sweeper study {study}".encode()).digest()[:8], signed=True)
