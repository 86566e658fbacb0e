"""What another terminal asks of a study's driver: a file in the study's folder, which the driver checks often.

It says who asked and when, so that a driver can tell requests to it from those to an earlier driver.
"""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal

from pydantic import TypeAdapter, ValidationError

from sweeper.files import reread, write_atomic
from sweeper.search_space.dimensions import ParamValue

Request = Literal["pause", "stop", "enqueue"]
FILE: Final = "request"
LOCK: Final = "lock"
ANSWER_S: Final = 30.0


@dataclass(frozen=True)
class Asked:
    """A request as the file holds it.

    Attributes:
        request: what is asked.
        by: who asks, as `pid N on HOST`.
        at: local time, for people.
        trial: the one trial that `stop` is about; empty: the study.
        params: of the trial that `enqueue` adds.
    """

    request: Request
    by: str = "somebody"
    at: str = "an unknown time"
    trial: str = ""
    params: Mapping[str, ParamValue] = field(default_factory=dict)


ADAPTER: Final = TypeAdapter(Asked)


def ask(study_dir: Path, request: Request, *, trial: str = "", params: Mapping[str, ParamValue] | None = None) -> bool:
    """Leave a request for the driver; False if none took it in half a minute. `trial`, `params`: as in `Asked`."""
    path = study_dir / FILE
    by, at = f"pid {os.getpid()} on {os.uname().nodename}", time.strftime("%Y-%m-%d %H:%M:%S")
    asked = Asked(request, by, at, trial, dict(params or {}))
    write_atomic(path, json.dumps(asdict(asked)))
    deadline_s = time.monotonic() + ANSWER_S
    try:
        while time.monotonic() < deadline_s:
            if not path.exists():
                return True
            time.sleep(0.1)
        return False
    finally:
        path.unlink(missing_ok=True)  # after Ctrl-C too: nobody waits for the answer any longer


def take(study_dir: Path, only: Request | None = None) -> Asked | None:
    """The waiting request, if there is one (and it is this one). It is gone afterwards."""
    path = study_dir / FILE
    try:
        asked = _read(path)
        if only is not None and asked is not None and asked.request != only:
            return None
        path.unlink()
    except FileNotFoundError:
        return None
    return asked


def clear_older(study_dir: Path) -> str | None:
    """Drop a request that was left before this driver took the study's lock, by a process that was killed.

    Both times are those of the files, so that the clocks of two machines do not matter.

    Returns:
        What was dropped, in a sentence; None if nothing was.
    """
    path = study_dir / FILE
    try:
        if path.stat().st_mtime_ns >= (study_dir / LOCK).stat().st_mtime_ns:
            return None
        asked = _read(path)
        path.unlink()
    except FileNotFoundError:
        return None
    if asked is None:
        return "an unreadable request, left for an earlier driver, was dropped"
    return f"a request to {asked.request}, left by {asked.by} at {asked.at} for an earlier driver, was dropped"


def _read(path: Path) -> Asked | None:
    """The request in a file; None if it makes no sense.

    Raises:
        FileNotFoundError: there is none.
    """
    text = reread(lambda: path.read_text(errors="replace"))
    try:
        return ADAPTER.validate_json(text if text.startswith("{") else json.dumps({"request": text}))
    except ValidationError:
        return None
