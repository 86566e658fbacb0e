"""Where a ledger is kept: a journal file in the study's folder, or a database given by its URL."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import optuna

from sweeper.errors import UserError
from sweeper.files import write_atomic
from sweeper.home import refuse_special_files
from sweeper.ledger.storage.journal import DamagedLine, LedgerJournal

JOURNAL: Final = "ledger.journal"
POINTER: Final = "ledger.url"
"""File in the folder of a study whose ledger is in a database: its URL, without a password."""
RESTORE: Final = "restore it from a copy; `sweeper doctor` says what else is wrong"
LEDGER_VARIABLE: Final = "SWEEPER_LEDGER"


_opened: dict[str, str] = {}
"""URL without a password -> the one that was given to this process."""


@contextmanager
def one_sync(storage: optuna.storages.BaseStorage) -> Iterator[None]:
    """Writes within are on the disk when this ends, by one fsync: each costs milliseconds, more on a busy disk. What a
    kill leaves of them is a beginning."""
    if not isinstance(storage, LedgerJournal) or storage.journal.syncs_later:
        yield
        return
    storage.journal.syncs_later = True
    try:
        yield
    finally:
        storage.journal.syncs_later = False
        storage.journal.sync()


@contextmanager
def readable(study_dir: Path) -> Iterator[None]:
    """What Optuna and we raise for a ledger that makes no sense, as an error a person can act on."""
    try:
        yield
    except DamagedLine as error:
        raise UserError(
            f"the ledger of `{study_dir.name}` is damaged: this line is not a record", error.place, RESTORE
        ) from None
    except (ValueError, TypeError, LookupError, AttributeError, AssertionError, RecursionError, OverflowError) as error:
        what = f"the ledger of `{study_dir.name}` is damaged: {type(error).__name__}: {str(error)[:200]}"
        raise UserError(what, str(study_dir), RESTORE) from error


def is_study(folder: Path) -> bool:
    """Whether a ledger was ever opened for the folder of a study."""
    return (folder / JOURNAL).exists() or (folder / POINTER).exists()


def never_started(study: str) -> UserError:
    """For a study whose ledger contains nothing of it: it has not begun, or the ledger was changed."""
    help = "`sweeper run` starts it; if it has run before, its ledger was lost: restore it from a copy"
    return UserError(f"the study `{study}` was never started", help=help)


def open_storage(study_dir: Path, url: str | None, *, create: bool, adopt: bool = False) -> optuna.storages.BaseStorage:
    """The storage of a study's ledger: the one it was started with, or the database at the URL, or a journal.

    Args:
        study_dir: the folder of the study.
        url: `sqlite:///...` or `postgresql://...`, or None.
        create: make what is not there.
        adopt: the database already contains the study, from another folder.

    Raises:
        UserError: the URL is not valid, the database does not answer, another driver writes the ledger that is there,
            or the study keeps its ledger elsewhere.
    """
    refuse_special_files(study_dir)
    recorded = recorded_url(study_dir)
    if recorded is None and (url is None or not create):
        return _journal(study_dir, create=create)
    from sweeper.ledger.storage.database import (  # slow to import, and no journal needs it
        open_database,
        parse_url,
        without_password,
    )

    if recorded is not None:
        url = url or _with_password(recorded)
    assert url is not None
    parsed = parse_url(url)
    shown = without_password(parsed)
    if (place := recorded or (study_dir / JOURNAL if (study_dir / JOURNAL).exists() else shown)) != shown:
        what = f"the study `{study_dir.name}` keeps its ledger in {place}, not in {shown}"
        raise UserError(what, help="leave the URL out to continue it, or start another study with --new")
    storage = open_database(parsed, study_dir.name if create else None, is_made=recorded is not None)
    _opened[shown] = url
    if recorded is None:
        is_there = study_dir.name in optuna.get_all_study_names(storage)
        if is_there != adopt:
            close_storage(storage)
            raise _not_adopted(study_dir.name, shown) if is_there else _not_there(study_dir.name, shown)
        write_atomic(study_dir / POINTER, f"{shown}\n", sync=True)
    return storage


def recorded_url(study_dir: Path) -> str | None:
    """The URL of a study's ledger, without a password, if it is in a database."""
    pointer = study_dir / POINTER
    return pointer.read_text(errors="replace").strip() if pointer.exists() else None


def close_storage(storage: optuna.storages.BaseStorage) -> None:
    """Leave the database, which another driver may then write; a journal needs no closing."""
    if isinstance(storage, optuna.storages.JournalStorage):
        return
    from sweeper.ledger.storage.retrying_storage import RetryingStorage  # slow to import, and no journal needs it

    if isinstance(storage, RetryingStorage):
        storage.engine.dispose()


def wait_with(storage: optuna.storages.BaseStorage, note: Callable[[str], None], is_over: Callable[[], bool]) -> None:
    """Wait for an unavailable server until `is_over`, and say so with `note`."""
    if isinstance(storage, optuna.storages.JournalStorage):
        return
    from sweeper.ledger.storage.retrying_storage import RetryingStorage

    if isinstance(storage, RetryingStorage) and storage.policy:
        storage.policy = replace(storage.policy, note=note, is_over=is_over)


def database_holder(study_dir: Path) -> str | None:
    """Who writes the study's ledger, as `pid N on HOST`, if that is on a database server; None if nobody does."""
    if not is_on_a_server(study_dir):
        return None
    from sweeper.ledger.storage.database import holder_in_database, parse_url

    return holder_in_database(parse_url(_with_password(recorded_url(study_dir) or "")), study_dir.name)


def is_on_a_server(study_dir: Path, url: str | None = None) -> bool:
    """Whether the study's ledger is on a database server, or a new study's would be according to its URL."""
    place = url if (recorded := recorded_url(study_dir)) is None else recorded
    return place is not None and place.startswith("postgres")


def _with_password(recorded: str) -> str:
    """The URL as recorded, or one of the same database that may contain the password: the one this process was given
    before, or that of the environment.

    Raises:
        UserError: it names another machine, which only the home names.
    """
    from sweeper.ledger.storage.database import parse_url, require_named, without_password

    if recorded in _opened:
        return _opened[recorded]
    fitting = os.environ.get(LEDGER_VARIABLE)
    if fitting and without_password(parse_url(fitting)) == recorded:
        return fitting
    require_named(parse_url(recorded))
    return recorded


def url_beside(study_dir: Path, other: Path) -> str | None:
    """The URL for the ledger of a new study that belongs to another one: the same database, if that one's ledger is in
    one. Also None if the study already exists."""
    recorded = recorded_url(other)
    return None if recorded is None or is_study(study_dir) else _with_password(recorded)


def _not_adopted(study: str, shown: str) -> UserError:
    return UserError(
        f"the ledger {shown} contains a study `{study}` of another folder",
        help="run it with the --home it was started with; or, if that is lost, take it over:\n"
        f"`sweeper resume {study} --adopt --ledger URL`; or give the spec another name",
    )


def _not_there(study: str, shown: str) -> UserError:
    return UserError(f"the ledger {shown} contains no study `{study}`", help="is it the right database, and name?")


def _journal(study_dir: Path, *, create: bool) -> optuna.storages.BaseStorage:
    path = study_dir / JOURNAL
    if create:
        _drop_half_written_line(path)
    elif not path.exists():
        raise UserError(f"no study `{study_dir.name}` in {study_dir.parent}", help="`sweeper list` shows them")
    return LedgerJournal(path)


def _drop_half_written_line(path: Path) -> None:
    """A crash can leave the last line half written; appending after it would corrupt both lines."""
    if not path.exists():
        return
    with open(path, "rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            file.truncate(whole)
