"""What another terminal asks of a study's driver: a file in the study's folder, at which the driver looks often."""

import os
import time
from pathlib import Path
from typing import Final, Literal, cast

Request = Literal["pause", "stop"]
FILE: Final = "request"
ANSWER_S: Final = 30.0


def ask(study_dir: Path, request: Request) -> bool:
    """Leave a request for the driver; False if none took it in half a minute."""
    path = study_dir / FILE
    scratch = study_dir / f"{FILE}.{os.getpid()}"
    scratch.write_text(request)
    os.replace(scratch, path)
    deadline_s = time.monotonic() + ANSWER_S
    while time.monotonic() < deadline_s:
        if not path.exists():
            return True
        time.sleep(0.1)
    path.unlink(missing_ok=True)
    return False


def take(study_dir: Path, only: Request | None = None) -> Request | None:
    """The request that waits, if one does (and is this one). It is gone afterwards."""
    path = study_dir / FILE
    try:
        text = path.read_text()
        if only not in (None, text):
            return None
        path.unlink()
    except FileNotFoundError:
        return None
    return cast(Request, text) if text in ("pause", "stop") else None
