"""The SQLite database of MLflow: complete, or absent.

MLflow creates its tables step by step in the file itself; a process that ends halfway leaves a database that no MLflow
can open again. So a new one, and one that a newer MLflow needs in another form, is created beside the file, checked,
and renamed. A second process waits for the first.
"""

import fcntl
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from sweeper.errors import UserError
from sweeper.tracking.store.environment import MLFLOW_ENVIRONMENT
from sweeper.tracking.store.relocation import relocate

PREFIX: Final = "sqlite:///"
UPGRADE_TIMEOUT_S: Final = 3600
HELP_REPAIR: Final = "`sweeper doctor --fix` sets it aside and records the studies of this home again"


class DatabaseState(Enum):
    """What a file that should be a database of MLflow is."""

    MISSING = "missing"
    CURRENT = "of the installed MLflow"
    OLDER = "of an older MLflow"
    NEWER = "of a newer MLflow"
    BROKEN = "broken"


@dataclass(frozen=True)
class Examined:
    """A look at a database.

    Attributes:
        state: what it is.
        why: what is wrong with it, if it is broken.
    """

    state: DatabaseState
    why: str = ""


def database_file(uri: str) -> Path | None:
    """The file of a SQLite store, None for any other store."""
    return Path(uri.removeprefix(PREFIX).partition("?")[0]) if uri.startswith(PREFIX) else None


def prepare_database(uri: str) -> Sequence[str]:
    """Make a SQLite store, or bring it into the form of the installed MLflow, so that it can be written to.

    A database that is broken is set aside; one of an older MLflow is kept as a copy.

    Returns:
        What people must be told, a sentence each; usually nothing.

    Raises:
        UserError: a newer MLflow wrote it, or it cannot be made.
    """
    path = database_file(uri)
    if path is None:
        return []
    if examine(path).state is DatabaseState.CURRENT:
        return relocate(path)
    with _one_maker(path):
        return [*_bring_up(path), *relocate(path)]


def refuse_newer(uri: str) -> None:
    """Refuse a SQLite store that a newer MLflow wrote, before anything is done for it.

    Raises:
        UserError: says what to install.
    """
    path = database_file(uri)
    if path is not None and examine(path).state is DatabaseState.NEWER:
        help = f"install the MLflow that wrote it, newer than {version('mlflow')}: pip install --upgrade mlflow"
        raise UserError("a newer MLflow wrote this database", where=str(path), help=help)


def require_database(uri: str) -> Sequence[str]:
    """Refuse a SQLite store that is not there, which MLflow would silently make, or that cannot be read.

    Returns:
        What people must be told: that it was brought into the form of the installed MLflow, say.

    Raises:
        UserError: there is none, it is broken, or a newer MLflow wrote it.
    """
    path = database_file(uri)
    if path is None:
        return []
    found = examine(path)
    match found.state:
        case DatabaseState.MISSING:
            help = "run a sweep first, or name the study home with --home"
            raise UserError("no MLflow store here", where=str(path), help=help)
        case DatabaseState.BROKEN:
            raise UserError(f"the MLflow database is broken: {found.why}", where=str(path), help=HELP_REPAIR)
        case _:
            return prepare_database(uri)


def examine(path: Path, *, thorough: bool = False) -> Examined:
    """Look at a database without changing it.

    Args:
        path: its file.
        thorough: read every page of it, which takes a second for some hundred megabytes.
    """
    if not os.path.lexists(path):
        return Examined(DatabaseState.MISSING)
    if not path.is_file():  # a pipe would be waited for, without end
        return Examined(DatabaseState.BROKEN, "it is not a file")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=20)) as database:
            return _examine(database, thorough=thorough)
    except sqlite3.Error as error:
        return Examined(DatabaseState.BROKEN, str(error))


def _examine(database: sqlite3.Connection, *, thorough: bool) -> Examined:
    if thorough:
        problem = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            return Examined(DatabaseState.BROKEN, f"damaged: {problem}")
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if left := sorted(name for name in tables if name.startswith("_alembic_tmp_")):
        return Examined(DatabaseState.BROKEN, f"a change of its tables was cut off (there is a table {left[0]})")
    if "alembic_version" not in tables:
        return Examined(DatabaseState.BROKEN, "its tables were never finished")
    revisions = [revision for (revision,) in database.execute("SELECT version_num FROM alembic_version")]
    known, head = _revisions()
    if len(revisions) != 1:
        return Examined(DatabaseState.BROKEN, "its tables were never finished")
    if revisions[0] == head:
        return Examined(DatabaseState.CURRENT)
    return Examined(DatabaseState.OLDER if revisions[0] in known else DatabaseState.NEWER)


def set_aside(path: Path) -> Path:
    """Give a file a name that cannot be mistaken for the database's."""
    aside = _free_name(path, f"broken-{time.strftime('%Y%m%d-%H%M%S')}")
    path.rename(aside)
    journal = path.with_name(f"{path.name}-journal")  # would be replayed into the next database
    journal.unlink(missing_ok=True)
    return aside


@contextmanager
def _one_maker(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            what = f"MLflow's database cannot be on a file system without locks: {error.strerror}"
            raise UserError(what, str(path), "set MLFLOW_TRACKING_URI to a server or another disk") from None
        for left in path.parent.glob(f"{path.name}.building-*"):  # its creator is dead
            left.unlink(missing_ok=True)
        yield
    finally:
        os.close(lock)


def _bring_up(path: Path) -> Iterator[str]:
    """Bring what lies at `path` into form; whoever calls holds the lock."""
    found = examine(path)
    match found.state:
        case DatabaseState.MISSING:
            _build(path)
        case DatabaseState.NEWER:
            refuse_newer(f"{PREFIX}{path}")
        case DatabaseState.BROKEN:
            yield _replace_broken(path, found.why)
        case DatabaseState.OLDER:
            yield _migrate(path)
        case DatabaseState.CURRENT:
            pass


def _replace_broken(path: Path, why: str) -> str:
    aside = set_aside(path)
    _build(path)
    said = f"the MLflow database was broken ({why}): it is kept as {aside.name}, and a new one is in its place"
    return f"{said}; `sweeper sync STUDY` records each of the other studies of this home there"


def _build(path: Path) -> None:
    from sweeper.tracking.store.client import open_client

    making = path.with_name(f"{path.name}.building-{os.getpid()}")
    open_client(f"{PREFIX}{making}").search_experiments(max_results=1)  # makes all tables
    _put_in_place(making, path)


def _migrate(path: Path) -> str:
    """Migrate a copy, and keep the database as it was."""
    making = path.with_name(f"{path.name}.building-{os.getpid()}")
    with closing(sqlite3.connect(path)) as old, closing(sqlite3.connect(making)) as new:
        old.backup(new)
    command = [sys.executable, "-P", "-m", "mlflow", "db", "upgrade", f"{PREFIX}{making}"]
    done = subprocess.run(
        command, env=MLFLOW_ENVIRONMENT | os.environ, capture_output=True, text=True, timeout=UPGRADE_TIMEOUT_S
    )
    if done.returncode != 0:
        return _replace_broken(path, f"MLflow cannot migrate it: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    kept = _free_name(path, f"before-mlflow-{version('mlflow')}")
    os.link(path, kept)
    _put_in_place(making, path)
    return f"the MLflow database was of an older MLflow and is migrated; a copy of it as it was is {kept.name}"


def _put_in_place(made: Path, path: Path) -> None:
    found = examine(made, thorough=True)
    if found.state is not DatabaseState.CURRENT:
        made.unlink(missing_ok=True)
        raise UserError(f"MLflow made a database that is {found.state.value}", str(path), found.why or None)
    with made.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(made, path)


def _free_name(path: Path, ending: str) -> Path:
    candidates = (path.with_name(f"{path.name}.{ending}{more}") for more in ("", *(f"-{n}" for n in range(2, 1000))))
    return next(each for each in candidates if not os.path.lexists(each))


def _revisions() -> tuple[set[str], str]:
    """All forms of the tables that the installed MLflow knows, and the newest. MLflow itself is not imported."""
    found = find_spec("mlflow")
    assert found is not None
    assert found.origin is not None, "mlflow is a dependency"
    scripts = Path(found.origin).parent / "store" / "db_migrations" / "versions"
    known, replaced = set(), set()
    for script in scripts.glob("*.py"):
        text = script.read_text()
        known |= set(re.findall(r'^revision = "(\w+)"', text, re.MULTILINE))
        replaced |= set(re.findall(r'^down_revision = "(\w+)"', text, re.MULTILINE))
    (head,) = known - replaced
    return known, head
