"""Which study home a ledger in a database belongs to, so that a home that was given up writes no more.

A home that moves takes its ID with it. One that is lost is replaced by another that adopts the study (`adoption`)."""

import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from sweeper.errors import UserError

OWNER: Final = "home"
"""The study's attribute that says whose it is: `{"id", "host", "path"}`."""
FILE: Final = "home.id"


def claim(study_dir: Path, kept: Mapping[str, Any], keep: Callable[[str, Any], None], *, adopt: bool) -> None:
    """Make the ledger that of this folder, if it is nobody's yet or is adopted.

    Args:
        study_dir: the folder of the study.
        kept: the study's attributes.
        keep: stores one.
        adopt: take it from another home.

    Raises:
        UserError: it is another home's.
    """
    owner, file = kept.get(OWNER), study_dir / FILE
    mine = file.read_text() if file.exists() else uuid.uuid4().hex
    if owner and owner["id"] == mine:
        return
    if owner and not adopt:
        study = study_dir.name
        what = f"the study `{study}` was taken over by the home {_home(owner)} on {owner['host']}"
        raise UserError(what, help=f"go on with it there, or take it back: `sweeper resume {study} --adopt`")
    file.write_text(mine)
    keep(OWNER, {"id": mine, "host": os.uname().nodename, "path": str(study_dir.resolve())})


def place_of(kept: Mapping[str, Any]) -> str:
    """Where the study was driven from, for people."""
    owner = kept.get(OWNER)
    return f"{_home(owner)} on {owner['host']}" if owner else "another folder"


def _home(owner: Mapping[str, str]) -> str:
    return str(Path(owner["path"]).parent.parent)
