"""Which study home a ledger in a database belongs to, so that a home that was given up no longer writes.

A home that moves takes its ID with it. One that is lost is replaced by another that adopts the study (`adoption`)."""

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sweeper.errors import UserError
from sweeper.files import write_atomic
from sweeper.ledger.attributes import StudyAttributes

FILE: Final = "home.id"


def claim(study_dir: Path, attributes: StudyAttributes, *, adopt: bool) -> None:
    """Assign the ledger to this folder, if it has no owner yet or is adopted.

    Args:
        study_dir: the folder of the study.
        attributes: of the study.
        adopt: take it from another home.

    Raises:
        UserError: it belongs to another home.
    """
    owner, file = attributes.owner, study_dir / FILE
    mine = file.read_text(errors="replace") if file.exists() else uuid.uuid4().hex
    if owner and owner["id"] == mine:
        return
    if owner and not adopt:
        study = study_dir.name
        what = f"the study `{study}` was taken over by the home {_home(owner)} on {owner['host']}"
        raise UserError(what, help=f"continue it there, or take it back: `sweeper resume {study} --adopt`")
    write_atomic(file, mine, sync=True)
    attributes.owner = {"id": mine, "host": os.uname().nodename, "path": str(study_dir.resolve())}


def place_of(owner: Mapping[str, str] | None) -> str:
    """Where the study was driven from, for people."""
    return f"{_home(owner)} on {owner['host']}" if owner else "another folder"


def _home(owner: Mapping[str, str]) -> str:
    return str(Path(owner["path"]).parent.parent)
