"""What a driver does before its first trial runs, which takes minutes if data are made: a file in the study's folder,
for those who watch from another terminal. It is only valid while a driver runs."""

import contextlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from sweeper.files import write_atomic

FILE: Final = "stage.json"


@dataclass(frozen=True)
class Stage:
    """What is being done, and since when, in seconds since 1970."""

    text: str
    since_s: float


ADAPTER: Final = TypeAdapter(Stage)


def enter_stage(study_dir: Path, text: str) -> None:
    """The driver is doing this now. A full disk is reported by the ledger."""
    with contextlib.suppress(OSError):
        write_atomic(study_dir / FILE, json.dumps(asdict(Stage(text, time.time()))))


def leave_stages(study_dir: Path) -> None:
    """The driver is training, or ending."""
    with contextlib.suppress(OSError):
        (study_dir / FILE).unlink(missing_ok=True)


def stage_of(study_dir: Path) -> Stage | None:
    """What the study's driver is preparing; None: it is training, or says nothing."""
    try:
        return ADAPTER.validate_json((study_dir / FILE).read_bytes())
    except (OSError, ValidationError):
        return None
