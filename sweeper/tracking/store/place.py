"""Where a study is when it is recorded, so that a copied home can be told from one that was moved.

A copy that shares an MLflow or a ledger's database with its original would give its runs two values for each step. The
user says which of the two continues the study, or that the copy becomes a separate study.
"""

import json
import platform
from contextlib import suppress
from pathlib import Path
from typing import Final

from sweeper.errors import UserError
from sweeper.files import write_atomic
from sweeper.home import command_line
from sweeper.ledger.storage.location import recorded_url
from sweeper.tracking.store.client import tracking_uri

PLACE: Final = "outbox.place"
"""Where a study continues: path, host and inode of its folder."""


def refuse_copy_of_home(home: Path, study_dir: Path) -> None:
    """Refuse to continue a study in a copy of its home while the original is there too and both write to one MLflow, or
    one ledger. A home that was moved is not a copy, and says where it is.

    Raises:
        UserError: names the original, and what to do.
    """
    if problem := copy_problem(home, study_dir):
        what, help = problem
        raise UserError(what, where=str(study_dir), help=help)
    if original_of(study_dir) is None:
        with suppress(OSError):
            _write(study_dir, study_dir)


def copy_problem(home: Path, study_dir: Path) -> tuple[str, str] | None:
    """What is wrong with continuing in this folder, and what to do; None where it is not a copy or shares nothing."""
    original, name = original_of(study_dir), study_dir.name
    if original is None or not (shared := _shared_by_copies(home, study_dir)):
        return None
    what = f"the study `{name}` continues in {original}, and this copy would write to the same {shared}"
    resume = command_line(home, "resume", name)
    help = (
        f"continue there; or take it over: `{resume} --adopt`; or make the copy a study of its own: `{resume} --fork`"
    )
    return what, help


def original_of(study_dir: Path) -> Path | None:
    """The folder in which a study continues, where this one is a copy of it; None: it continues here."""
    try:
        before = json.loads((study_dir / PLACE).read_text())
        original = Path(before["path"])
        is_there = original.is_dir() and original.stat().st_ino == before["inode"] and before["host"] == platform.node()
        return original if is_there and not original.samefile(study_dir) else None
    except (OSError, ValueError, KeyError, TypeError):  # there is no note, or it is damaged
        return None


def go_on_here(study_dir: Path, original: Path | None) -> None:
    """Let the study continue in this folder, and tell its original, if there is one."""
    for folder in filter(None, (study_dir, original)):
        _write(folder, study_dir)


def _write(folder: Path, goes_on_in: Path) -> None:
    here = {"path": str(goes_on_in.resolve()), "host": platform.node(), "inode": goes_on_in.stat().st_ino}
    text = json.dumps(here)
    note = folder / PLACE
    if not note.is_file() or note.read_text(errors="replace") != text:
        write_atomic(note, text)


def _shared_by_copies(home: Path, study_dir: Path) -> str | None:
    """What a copy and its original both write to; None: each has its own."""
    if recorded_url(study_dir):
        return "ledger"
    return "MLflow" if tracking_uri(home) != f"sqlite:///{home.resolve()}/mlflow.db" else None
