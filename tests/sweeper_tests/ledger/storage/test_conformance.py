"""The ledger's storages against Optuna's own suite for storages, where now and then the answer to a commit is lost, or
the database is away."""

import random
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import BaseStorage, RDBStorage
from optuna.testing.pytest_storages import StorageTestCase

from sweeper.ledger.storage.journal import LedgerJournal
from sweeper.ledger.storage.retrying_storage import RetryingStorage, RetryPolicy

ONE_IN = 10
MOST_A_CALL = 2
"""How often one call is cut: some are of 30 statements, which would hardly ever all be answered."""


class Fault:
    """Breaks a database now and then.

    Args:
        database: whose commits lose their answers, or whose statements are not executed.
        error: of the driver.
        kind: `lost` or `away`.
    """

    def __init__(self, database: RDBStorage, error: Exception, kind: str) -> None:
        self.error, self.left, self.chance = error, MOST_A_CALL, random.Random(0)
        dialect: Any = database.engine.dialect
        commit, execute = dialect.do_commit, dialect.do_execute

        def do_commit(connection: Any) -> None:
            commit(connection)
            self.strike()

        def do_execute(*arguments: Any, **keywords: Any) -> None:
            self.strike()
            execute(*arguments, **keywords)

        if kind == "lost":
            dialect.do_commit = do_commit
        else:
            dialect.do_execute = do_execute

    def strike(self) -> None:
        if self.left and self.chance.random() < 1 / ONE_IN:
            self.left -= 1
            raise self.error


def breaking(database: RDBStorage, error: Exception, kind: str) -> RetryingStorage:
    """A storage in a database that breaks now and then; most calls are not broken."""
    storage = RetryingStorage(database, "the database", RetryPolicy(lambda text: None))
    fault, until_answered = Fault(database, error, kind), storage.until_answered

    def call(*arguments: Any) -> Any:
        fault.left = MOST_A_CALL
        return until_answered(*arguments)

    storage.until_answered = call  # type: ignore[method-assign, assignment]
    return storage


KINDS = ("lost", "away")


class RefusesToBePickled(StorageTestCase):
    def test_pickle_storage(self, storage: BaseStorage) -> None:
        with pytest.raises(TypeError, match="it belongs to the one driver that holds the study's lock"):
            super().test_pickle_storage(storage)


class TestJournal(RefusesToBePickled):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> BaseStorage:
        return LedgerJournal(tmp_path / "ledger.journal")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeper.ledger.storage.retrying_storage.FIRST_PAUSE_S", 0.0)


@pytest.fixture(scope="module")
def empty_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with tables and nothing in them: to make them takes longer than a test."""
    file = tmp_path_factory.mktemp("empty") / "ledger.db"
    RDBStorage(f"sqlite:///{file}").engine.dispose()
    return file


class TestSqlite(RefusesToBePickled):
    @pytest.fixture(params=KINDS)
    def storage(self, request: pytest.FixtureRequest, tmp_path: Path, empty_sqlite: Path) -> BaseStorage:
        shutil.copy(empty_sqlite, tmp_path / "ledger.db")
        database = RDBStorage(f"sqlite:///{tmp_path}/ledger.db", skip_table_creation=True)
        return breaking(database, sqlite3.OperationalError("disk I/O error"), request.param)


@pytest.fixture(scope="module")
def postgres_url(postgres_server: Any) -> str:
    url: str = postgres_server.new_database("conformance")
    RDBStorage(driven(url)).engine.dispose()  # makes the tables, which takes longer than a test
    return url


def driven(url: str) -> str:
    return url.replace("postgresql", "postgresql+psycopg")


@pytest.mark.slow
class TestPostgres(RefusesToBePickled):
    @pytest.fixture(params=KINDS)
    def storage(self, request: pytest.FixtureRequest, postgres_url: str) -> Iterator[BaseStorage]:
        import psycopg

        database = RDBStorage(driven(postgres_url), skip_table_creation=True)
        yield breaking(database, psycopg.OperationalError("the connection is lost"), request.param)
        database.engine.dispose()
        with psycopg.connect(postgres_url, autocommit=True) as connection:  # trials and all they hold go with studies
            connection.execute("TRUNCATE studies RESTART IDENTITY CASCADE")
