"""A ledger in a database: the URL that names it, and how it is opened."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from sweeper.errors import LedgerLost, UserError
from sweeper.ledger.storage import advisory_lock as advisory
from sweeper.ledger.storage.retrying_storage import RetryingStorage, RetryPolicy, said

LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
FORMS: Final = "for example sqlite:////srv/ledger.db or postgresql://user@host/database"
PASSWORD_HELP: Final = "the password is not stored: give it with PGPASSWORD, ~/.pgpass, or in SWEEPER_LEDGER"
NETWORK: Final = {"connect_timeout": 10, "keepalives_idle": 15, "keepalives_interval": 5, "tcp_user_timeout": 30_000}
"""How a driver notices that its server is cut off: seconds, the last one milliseconds."""
SERVERS_NETWORK: Final = {
    "tcp_keepalives_idle": 20,
    "tcp_keepalives_interval": 5,
    "tcp_keepalives_count": 4,
    "tcp_user_timeout": 40_000,
    "statement_timeout": 50_000,
}
"""How the server notices that a driver's machine is lost, which frees its study: in 40 s instead of two hours. The last
one ends a statement that waits for somebody else's lock, milliseconds too (see `bounded_connection`)."""


def parse_url(text: str) -> URL:
    """The URL of a ledger's database.

    Raises:
        UserError: it cannot be read, or no ledger can be kept there.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise UserError("the URL of the ledger is not valid", help=FORMS) from None  # it may hold a password
    match url.drivername:
        case "postgresql" | "postgres" | "postgresql+psycopg":
            return url.set(drivername="postgresql+psycopg")
        case "sqlite" if url.database and url.database != ":memory:":
            return url.set(database=str(Path(url.database).resolve()))
    raise UserError(f"a ledger cannot be stored in `{url.drivername}`", help=FORMS)


def without_password(url: URL) -> str:
    """The URL in a form that may be shown and stored."""
    query = {key: value for key, value in url.query.items() if "password" not in key.lower()}
    shown = type(url).create(url.drivername, url.username, None, url.host, url.port, url.database, query)
    return shown.render_as_string()


def require_named(url: URL) -> None:
    """Refuse a database that only a study home names: the password would be sent to whoever made the home.

    One on this machine is accepted; one elsewhere if PGHOST or the password file names its host too. A study's own URL
    in SWEEPER_LEDGER needs no such permission.

    Raises:
        UserError: it is on another machine, or the URL says more than where it is.
    """
    here = not url.host or url.host in LOCAL_HOSTS or url.host.startswith("/")
    known = url.host == os.environ.get("PGHOST") or url.host in _hosts_with_passwords()
    if url.query or not (here or known):
        what = f"the study home names a ledger elsewhere, {without_password(url)}"
        raise UserError(what, help="if it is yours, name it in SWEEPER_LEDGER, or its host in PGHOST or ~/.pgpass")


def _hosts_with_passwords() -> set[str]:
    try:
        lines = Path(os.environ.get("PGPASSFILE", "~/.pgpass")).expanduser().read_text().splitlines()
    except (OSError, ValueError):
        return set()
    return {line.partition(":")[0] for line in lines if not line.startswith(("#", "*"))}


def open_database(url: URL, study: str | None = None, *, is_made: bool = False) -> RetryingStorage:
    """The storage in a database.

    Args:
        url: from `parse_url`.
        study: write the ledger of this one, hold it as its one driver while the storage is open, and wait for the
            server when it is unavailable later; None: only read.
        is_made: its tables are there: a file without them is not a ledger, and is left as it is.

    Raises:
        LedgerLost: the database does not answer.
        StudyTaken: another driver holds the study.
        UserError: PostgreSQL's driver is missing, or the database belongs to something else.
    """
    if url.drivername == "sqlite":
        if is_made and not Path(str(url.database)).is_file():
            raise LedgerLost(f"the ledger {without_password(url)} is gone: no such file")
        return _connect(url, {"connect_args": {"timeout": 60}}, skip_table_creation=is_made)
    arguments = _arguments(url)
    storage: RetryingStorage | None = None  # not yet there for the first connections
    creator = _creator(url, arguments, lambda: bool(storage and storage.policy and storage.policy.is_over()))
    connecting = {"pool_pre_ping": True, "creator": creator}
    storage = _connect(url, connecting)
    if study is None:
        return storage
    storage.engine.dispose()  # it has created the tables, for which Optuna sometimes opens a second connection
    driver = advisory.this_driver()

    def take(connection: Any, _record: object) -> None:
        advisory.take(connection, study, driver)

    arguments["application_name"] = driver.name
    one = {"pool_size": 1, "max_overflow": 0, "pool_events": [(take, "connect")]}
    storage = _connect(url, connecting | one, skip_table_creation=True)
    storage.policy = RetryPolicy()
    return storage


def holder_in_database(url: URL, study: str) -> str | None:
    """Who holds a study in PostgreSQL, as `pid N on HOST`; None if nobody does, or it does not answer."""
    import psycopg

    try:
        with _creator(url, _arguments(url))() as connection:
            return advisory.holder(connection, study)
    except psycopg.Error:
        return None


def _arguments(url: URL) -> dict[str, Any]:
    """psycopg's arguments besides the URL, which takes precedence."""
    options = [f"-c {name}={value}" for name, value in SERVERS_NETWORK.items()]
    arguments: dict[str, Any] = {name: value for name, value in NETWORK.items() if name not in url.query}
    return arguments | {"options": " ".join([*options, str(url.query.get("options", ""))]).strip()}


def _creator(url: URL, arguments: Mapping[str, Any], is_over: Callable[[], bool] = lambda: False) -> Callable[[], Any]:
    """Makes psycopg connections for an engine. `is_over`: called while waiting for a statement."""

    def connect() -> Any:
        from sweeper.ledger.storage.bounded_connection import BoundedConnection

        positional, named = url.get_dialect()().create_connect_args(url)
        connection = BoundedConnection.connect(*positional, **{**named, **arguments})
        connection.is_over = is_over
        return connection

    return connect


def _connect(url: URL, engine: dict[str, Any], *, skip_table_creation: bool = False) -> RetryingStorage:
    shown = without_password(url)
    try:
        storage = RDBStorage(
            url.render_as_string(hide_password=False),
            engine_kwargs=engine,
            skip_compatibility_check=skip_table_creation,
            skip_table_creation=skip_table_creation,
        )
    except ImportError as error:
        help = "install it: python -m pip install 'mano-sweeper[postgres]'"
        raise UserError(f"the driver of PostgreSQL is missing: {error}", help=help) from None
    except RuntimeError as error:  # Optuna, about tables that it did not create, or that another release of it did
        what = f"the database {shown} is not a ledger of this version: {error}"
        raise UserError(what, help="is it MLflow's database? Give the ledger a database of its own") from None
    except (SQLAlchemyError, StorageInternalError) as error:
        text = said(error)
        if url.password:
            text = text.replace(str(url.password), "***")
        hint = PASSWORD_HELP if url.password is None and url.drivername != "sqlite" else None
        raise LedgerLost(f"the ledger {shown} does not answer: {text}", help=hint) from None
    return RetryingStorage(storage, shown)
