"""A storage in PostgreSQL whose connection breaks: each write is made once, and a server that is away is waited for."""

import re
import socket
from pathlib import Path
from threading import Timer
from typing import Any

import psycopg
import pytest
import sqlalchemy
from ledgers import SPEC, open_on_server
from postgres_server import SECRET, PostgresServer

from sweeper.cli.main import main
from sweeper.errors import LedgerLost
from sweeper.ledger.ledger import Ledger, Report, TrialState
from sweeper.ledger.storage import bounded_connection, database, retrying_storage
from sweeper.ledger.study_lock import running_driver

pytestmark = pytest.mark.slow


class Saboteur:
    """Cuts the connection of a ledger at the n-th commit of a write from now, right `before` or right `after` it.

    Args:
        ledger: in a PostgreSQL.
        cut_at: 0: at none.
    """

    def __init__(self, ledger: Ledger, cut_at: int, moment: str) -> None:
        storage = ledger._optuna.storage  # type: ignore[attr-defined]
        self.commits, self.writes = 0, False
        self.notes: list[str] = []
        dialect = storage.engine.dialect
        commit = dialect.do_commit

        def look(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            self.writes |= not statement.lstrip().startswith("SELECT")

        def sabotaged(connection: Any) -> None:
            self.commits += self.writes
            cut = self.writes and self.commits == cut_at
            self.writes = False
            if cut:
                if moment == "after":
                    commit(connection)
                broken = socket.socket(fileno=connection.fileno())
                broken.shutdown(socket.SHUT_RDWR)
                broken.detach()
            commit(connection)
            if cut:
                connection.cursor().execute("SELECT 1")

        dialect.do_commit = sabotaged
        sqlalchemy.event.listen(storage.engine, "before_cursor_execute", look)
        ledger.wait_with(self.notes.append, lambda: False)


def scenario(ledger: Ledger) -> None:
    """Every kind of write to a ledger."""
    ledger.attributes.store("note", 1)
    ledger.add_control("oracle")
    trial = ledger.ask(SPEC)
    ledger.report(trial.id, Report(1, 1.0, {"val/pa_mpjpe_mm": 3.0}, None, 1), 3.0)
    ledger.pause(trial.id, "waits", {})
    ledger.finish(trial.id, TrialState.COMPLETE, "over", {}, (3.0,))
    ledger.add_retry(trial, SPEC)


def contents(ledger: Ledger) -> list[Any]:
    """What the database holds, without what differs from study to study."""
    studies = [study for study in (ledger._optuna.candidates, ledger._optuna.controls) if study is not None]
    found: list[Any] = [{key: value for key, value in ledger.attributes.stored.items() if key != "home"}]
    for trial in (trial for study in studies for trial in study.get_trials()):
        attributes = {key: value for key, value in trial.user_attrs.items() if key not in ("ending", "retry_of")}
        ending = {key: value for key, value in trial.user_attrs.get("ending", {}).items() if key != "time_s"}
        told = (trial.number, trial.state, trial.values, trial.params, trial.intermediate_values, trial.constraints)
        found.append((told, attributes, ending))
    return found


def run_scenario(postgres_server: PostgresServer, folder: Path, cut_at: int, moment: str) -> tuple[list[Any], Saboteur]:
    name = f"cut-{moment}-{cut_at}"
    folder = folder / name
    folder.mkdir()
    ledger = Ledger.create(folder, name, url=postgres_server.url())
    saboteur = Saboteur(ledger, cut_at, moment)
    scenario(ledger)
    ledger.close()
    return contents(Ledger.open(folder, name, url=postgres_server.url())), saboteur


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_write_is_made_once_wherever_the_connection_breaks(
    moment: str, postgres_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEPER_LEDGER", postgres_server.url())
    expected, unbroken = run_scenario(postgres_server, tmp_path, 0, moment)
    assert unbroken.notes == []
    assert unbroken.commits == 13, "a study, three trials, three parameters, an end, five attributes and values"
    for cut_at in range(1, unbroken.commits + 1):
        found, saboteur = run_scenario(postgres_server, tmp_path, cut_at, moment)
        assert found == expected, f"cut {moment} commit {cut_at}"
        assert len(saboteur.notes) == 2, saboteur.notes
        assert "has not answered since" in saboteur.notes[0]
        assert "answers again" in saboteur.notes[1]


def test_a_driver_that_has_waited_long_enough_says_so(
    postgres_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = open_on_server(tmp_path / "short", postgres_server)
    notes: list[str] = []
    asked = iter([False, False, True])
    ledger.wait_with(notes.append, lambda: next(asked))
    postgres_server.stop()
    try:
        with pytest.raises(LedgerLost, match="does not answer, and the wait was interrupted"):
            ledger.attributes.store("note", 1)
        storage = ledger._optuna.storage  # type: ignore[attr-defined]
        storage.policy = retrying_storage.RetryPolicy(notes.append, lambda: False, limit_s=0.5)
        with pytest.raises(LedgerLost, match=r"has not answered for [01] s: .*refused") as lost:
            ledger.attributes.store("note", 1)
        assert "the ledger is safe" in lost.value.render()
        with pytest.raises(LedgerLost, match=r"does not answer: .*refused"):
            open_on_server(tmp_path / "short", postgres_server, create=False)
    finally:
        postgres_server.start()
    ledger.attributes.store("note", 2)
    assert open_on_server(tmp_path / "short", postgres_server, create=False).attributes.stored["note"] == 2
    ledger.close()


def test_a_frozen_server_is_told_in_a_bounded_time(
    postgres_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_connection, "ANSWER_S", 1.0)
    monkeypatch.setitem(database.NETWORK, "connect_timeout", 2)
    ledger = open_on_server(tmp_path / "frozen", postgres_server)
    notes: list[str] = []
    ledger.wait_with(notes.append, lambda: bool(notes))  # the user gives up as soon as it is said
    postgres_server.freeze()
    try:
        with pytest.raises(LedgerLost, match="does not answer, and the wait was interrupted: connection timeout"):
            ledger.attributes.store("note", 1)
        assert running_driver(tmp_path / "frozen") is None, "nobody knows, and nobody waits for ever"
        with pytest.raises(LedgerLost, match="does not answer: "):
            open_on_server(tmp_path / "frozen", postgres_server, create=False)
    finally:
        postgres_server.thaw()
    ledger.attributes.store("note", 2)
    assert ledger.attributes.stored["note"] == 2
    ledger.close()


def test_a_statement_that_is_not_answered_is_broken_off(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_connection, "ANSWER_S", 1.0)
    connection = bounded_connection.BoundedConnection.connect(postgres_server.url())
    assert connection.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError, match="is connected, and has not answered for 1 s"):
        connection.execute("SELECT pg_sleep(30)")
    assert connection.closed
    monkeypatch.setattr(bounded_connection, "ANSWER_S", 100.0)
    monkeypatch.setattr(bounded_connection, "NOTICE_S", 0.2)
    connection = bounded_connection.BoundedConnection.connect(postgres_server.url())
    connection.is_over = lambda: True
    with pytest.raises(psycopg.OperationalError, match="has not answered for 0 s"):
        connection.execute("SELECT pg_sleep(30)")


def test_a_statement_that_waits_for_a_lock_of_somebody_else_is_ended(
    postgres_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(database.SERVERS_NETWORK, "statement_timeout", 500)
    ledger = open_on_server(tmp_path / "locked", postgres_server)
    notes: list[str] = []
    ledger.wait_with(notes.append, lambda: False)
    with psycopg.connect(postgres_server.url()) as other:
        other.execute("LOCK TABLE study_user_attributes")
        Timer(2.0, other.rollback).start()
        ledger.attributes.store("note", 1)
        assert "statement timeout" in notes[0]
    assert ledger.attributes.stored["note"] == 1
    ledger.close()


READERS = [
    ["list"],
    ["list", "--json"],
    ["show", "far"],
    ["status", "far"],
    ["report", "far"],
    ["watch", "far"],
    ["compare", "far-0000", "far-0001"],
    ["explain", "far-0000"],
    ["importance", "far"],
    ["ablate", "far"],
    ["sync", "far"],
    ["stop", "far"],
    ["resume", "far"],
    ["extend", "far", "--trials", "1"],
    ["retry", "far", "--failed"],
    ["winners", "far"],
    ["resume", "far", "--adopt"],
    ["run", "search_spaces/loss_balance.yaml"],
]


def test_verbs_say_that_the_database_is_away(
    postgres_server: PostgresServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEPER_LEDGER", postgres_server.url())
    ledger = open_on_server(tmp_path / "studies" / "far", postgres_server)
    ledger.attributes.spec = SPEC.effective
    ledger.ask(SPEC)
    ledger.close()
    near = tmp_path / "studies" / "near"
    near.mkdir()
    Ledger.create(near, "near").attributes.spec = SPEC.effective
    postgres_server.stop()
    try:
        for line in READERS:
            assert main([*line, "--home", str(tmp_path)]) == 2, line
            said = capsys.readouterr()
            assert re.search(r"error: the ledger postgresql.* does not answer: .*refused", said.err), line
            assert SECRET not in said.out + said.err
            assert ("near" in said.out) == (line[0] == "list"), "the other study is shown all the same"
        assert main(["pause", "far", "--home", str(tmp_path)]) == 2
        assert "is not running" in capsys.readouterr().err
        assert main(["doctor", "--home", str(tmp_path)]) == 1
        found = " ".join(capsys.readouterr().out.split())
        assert re.search(r"FAIL studies\.far\.ledger: the ledger postgresql.* does not answer: .*refused", found)
    finally:
        postgres_server.start()
    assert main(["show", "far", "--home", str(tmp_path)]) == 0
