"""Where a ledger is kept: a journal file in the study's folder, or a database that is named by its URL."""

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import optuna
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.storages.journal._file import BaseJournalFileLock

from sweeper.errors import UserError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL  # slow to import, and no journal needs it

JOURNAL: Final = "ledger.journal"
POINTER: Final = "ledger.url"
"""File in the folder of a study whose ledger is in a database: its URL, without a password."""
VARIABLE: Final = "SWEEPER_LEDGER"
FORMS: Final = "for example sqlite:////srv/ledger.db or postgresql://user@host/database"
PASSWORD_HELP: Final = "the password is not stored: give it with PGPASSWORD, ~/.pgpass, or in SWEEPER_LEDGER"


class _FlockLock(BaseJournalFileLock):
    """Lock of the journal that dies with its process; Optuna's own outlives a kill -9 by 30 s."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def acquire(self) -> bool:
        self._file = open(self._path, "ab")  # noqa: SIM115 - held until release
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        assert self._file is not None
        self._file.close()


class Journal(JournalFileBackend):
    """Optuna's journal file, where a write that fails half way, on a full disk say, leaves nothing behind, and writes
    that belong together reach the disk together (`one_sync`)."""

    def __init__(self, path: Path) -> None:
        self._flock = _FlockLock(path.with_suffix(".lock"))
        self.syncs_later = False
        super().__init__(str(path), lock_obj=self._flock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        data = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        self._flock.acquire()
        try:
            with open(self._file_path, "ab", buffering=0) as file:
                size = file.tell()
                try:
                    written = 0
                    while written < len(data):
                        written += file.write(data[written:])
                    if not self.syncs_later:
                        os.fsync(file.fileno())
                except BaseException:  # Ctrl-C too: the next line would be written after half of this one
                    os.truncate(self._file_path, size)
                    raise
        finally:
            self._flock.release()

    def sync(self) -> None:
        """Force what was written onto the disk."""
        with open(self._file_path, "ab") as file:
            os.fsync(file.fileno())


@contextmanager
def one_sync(storage: optuna.storages.BaseStorage) -> Iterator[None]:
    """Writes within are on the disk when this ends, by one fsync: each costs milliseconds, more on a busy disk. What a
    kill leaves of them is a beginning."""
    journal = getattr(storage, "_backend", None)
    if not isinstance(journal, Journal) or journal.syncs_later:
        yield
        return
    journal.syncs_later = True
    try:
        yield
    finally:
        journal.syncs_later = False
        journal.sync()


def is_study(folder: Path) -> bool:
    """Whether a ledger was ever opened for the folder of a study."""
    return (folder / JOURNAL).exists() or (folder / POINTER).exists()


def open_storage(study_dir: Path, url: str | None, *, create: bool) -> optuna.storages.BaseStorage:
    """The storage of a study's ledger: the one it was started with, else the database at the URL, else a journal.

    Args:
        study_dir: the folder of the study.
        url: `sqlite:///...` or `postgresql://...`, or None.
        create: make what is not there.

    Raises:
        UserError: the URL is none, the database does not answer, or the study keeps its ledger elsewhere.
    """
    recorded = _recorded(study_dir)
    if recorded is None and (url is None or not create):
        return _journal(study_dir, create=create)
    if url is None and recorded is not None:
        fitting = os.environ.get(VARIABLE)  # it may hold the password
        url = fitting if fitting and without_password(_parse(fitting)) == recorded else recorded
    assert url is not None
    parsed = _parse(url)
    shown = without_password(parsed)
    if (place := recorded or (study_dir / JOURNAL if (study_dir / JOURNAL).exists() else shown)) != shown:
        what = f"the study `{study_dir.name}` keeps its ledger in {place}, not in {shown}"
        raise UserError(what, help="leave the URL out to continue it, or start another study with --new")
    storage = _database(parsed)
    if recorded is None:
        if study_dir.name in optuna.get_all_study_names(storage):
            what = f"the ledger {shown} holds a study `{study_dir.name}` of another folder"
            raise UserError(what, help="run it with the --home it was started with, or give the spec another name")
        (study_dir / POINTER).write_text(f"{shown}\n")
    return storage


def _recorded(study_dir: Path) -> str | None:
    pointer = study_dir / POINTER
    return pointer.read_text().strip() if pointer.exists() else None


def without_password(url: "URL") -> str:
    """The URL as it may be shown and stored."""
    query = {key: value for key, value in url.query.items() if "password" not in key.lower()}
    shown = type(url).create(url.drivername, url.username, None, url.host, url.port, url.database, query)
    return shown.render_as_string()


def _parse(text: str) -> "URL":
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise UserError("the URL of the ledger cannot be read", help=FORMS) from None  # it may hold a password
    match url.drivername:
        case "postgresql" | "postgres" | "postgresql+psycopg":
            return url.set(drivername="postgresql+psycopg")
        case "sqlite" if url.database and url.database != ":memory:":
            return url.set(database=str(Path(url.database).resolve()))
    raise UserError(f"a ledger cannot be kept in `{url.drivername}`", help=FORMS)


def _database(url: "URL") -> optuna.storages.BaseStorage:
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return optuna.storages.RDBStorage(
            url.render_as_string(hide_password=False),
            engine_kwargs={"connect_args": {"timeout": 60}} if url.drivername == "sqlite" else {"pool_pre_ping": True},
        )
    except ImportError as error:
        help = "install it: python -m pip install 'mano-sweeper[postgres]'"
        raise UserError(f"the driver of PostgreSQL is missing: {error}", help=help) from None
    except SQLAlchemyError as error:
        said = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
        text = said[-1].replace(str(url.password), "***") if url.password else said[-1]
        what = f"the ledger {without_password(url)} does not answer: {re.sub(r'password=[^ ]+', 'password=***', text)}"
        raise UserError(what, help=PASSWORD_HELP if url.password is None else None) from None


def _journal(study_dir: Path, *, create: bool) -> optuna.storages.BaseStorage:
    path = study_dir / JOURNAL
    if create:
        _drop_half_written_line(path)
    elif not path.exists():
        raise UserError(f"no study `{study_dir.name}` in {study_dir.parent}", help="`sweeper list` shows them")
    return JournalStorage(Journal(path))


def _drop_half_written_line(path: Path) -> None:
    """A crash can leave the last line half written; appending after it would corrupt both lines."""
    if not path.exists():
        return
    with open(path, "rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            file.truncate(whole)
