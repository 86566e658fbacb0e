"""A storage in PostgreSQL whose connection breaks: each write is made once, and a server that is away is waited for."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import psycopg
import pytest
import sqlalchemy
from postgres_server import PostgresServer
from test_ledger import SPEC

from sweeper import advisory, patient
from sweeper.errors import LedgerLost, StudyTaken, UserError
from sweeper.ledger import Ledger, Report, TrialState
from sweeper.lock import holder
from sweeper.patient import PatientStorage

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        yield server
    finally:
        server.remove()


class Saboteur:
    """Cuts the connection of a ledger at the n-th commit of a write from now, right `before` or right `after` it.

    Args:
        ledger: in a PostgreSQL.
        cut_at: 0: at none.
    """

    def __init__(self, ledger: Ledger, cut_at: int, moment: str) -> None:
        storage = ledger._storage._backend  # type: ignore[attr-defined]
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
    ledger.set_attribute("note", 1)
    ledger.add_control("oracle")
    trial = ledger.ask(SPEC)
    ledger.report(trial.id, Report(1, 1.0, {"val/pa_mpjpe_mm": 3.0}, None, 1), 3.0)
    ledger.pause(trial.id, "waits", {})
    ledger.finish(trial.id, TrialState.COMPLETE, "over", {}, 3.0)
    ledger.add_retry(trial, SPEC)


def contents(ledger: Ledger) -> list[Any]:
    """What the database holds, without what differs from study to study."""
    studies = [study for study in (ledger._optuna, ledger._optuna_controls) if study is not None]
    found: list[Any] = [ledger.attributes]
    for trial in (trial for study in studies for trial in study.get_trials()):
        attributes = {key: value for key, value in trial.user_attrs.items() if key not in ("ending", "retry_of")}
        ending = {key: value for key, value in trial.user_attrs.get("ending", {}).items() if key != "time_s"}
        told = (trial.number, trial.state, trial.values, trial.params, trial.intermediate_values, trial.constraints)
        found.append((told, attributes, ending))
    return found


def run_scenario(server: PostgresServer, folder: Path, cut_at: int, moment: str) -> tuple[list[Any], Saboteur]:
    name = f"cut-{moment}-{cut_at}"
    folder = folder / name
    folder.mkdir()
    ledger = Ledger(folder, name, create=True, url=server.url())
    saboteur = Saboteur(ledger, cut_at, moment)
    scenario(ledger)
    ledger.close()
    return contents(Ledger(folder, name, url=server.url())), saboteur


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_write_is_made_once_wherever_the_connection_breaks(
    moment: str, server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEPER_LEDGER", server.url())
    expected, unbroken = run_scenario(server, tmp_path, 0, moment)
    assert unbroken.notes == []
    assert unbroken.commits == 13, "a study, three trials, three parameters, an end, five attributes and values"
    for cut_at in range(1, unbroken.commits + 1):
        found, saboteur = run_scenario(server, tmp_path, cut_at, moment)
        assert found == expected, f"cut {moment} commit {cut_at}"
        assert len(saboteur.notes) == 2, saboteur.notes
        assert "does not answer since" in saboteur.notes[0]
        assert "answers again" in saboteur.notes[1]


def open_in(folder: Path, server: PostgresServer, *, create: bool = True) -> Ledger:
    folder.mkdir(parents=True, exist_ok=True)
    return Ledger(folder, folder.name, create=create, url=server.url())


def test_every_call_of_optuna_is_made_again_until_it_is_answered() -> None:
    """A method that a newer Optuna adds must be thought about."""
    by_optuna = {name for name in vars(optuna.storages.BaseStorage) if not name.startswith("_")}
    built_on_others = {
        "get_all_trials",
        "get_best_trial",
        "get_n_trials",
        "get_trial_params",
        "check_trial_is_updatable",
    }
    never_called = {"delete_study", "remove_session", "create_new_trial"}
    covered = {*patient.READS, *patient.STORED_BY_A_KEY, "create_new_study", "set_trial_state_values"}
    assert by_optuna - built_on_others - never_called == covered - {"_get_trials", "_set_trial_param"} | {
        "set_trial_param"
    }
    assert all(name in vars(PatientStorage) for name in covered)


def test_a_driver_that_has_waited_long_enough_says_so(
    server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = open_in(tmp_path / "short", server)
    notes: list[str] = []
    asked = iter([False, False, True])
    ledger.wait_with(notes.append, lambda: next(asked))
    server.stop()
    try:
        with pytest.raises(LedgerLost, match="does not answer, and was not waited for"):
            ledger.set_attribute("note", 1)
        storage = ledger._storage._backend  # type: ignore[attr-defined]
        storage.patience = patient.Patience(notes.append, lambda: False, limit_s=0.5)
        with pytest.raises(LedgerLost, match=r"has not answered for [01] s: .*refused") as lost:
            ledger.set_attribute("note", 1)
        assert "what is in the ledger is safe" in lost.value.render()
        with pytest.raises(LedgerLost, match=r"does not answer: .*refused"):
            open_in(tmp_path / "short", server, create=False)
    finally:
        server.start()
    ledger.set_attribute("note", 2)
    assert open_in(tmp_path / "short", server, create=False).attributes["note"] == 2
    ledger.close()


def test_a_study_has_one_driver_wherever_its_home_is(server: PostgresServer, tmp_path: Path) -> None:
    first = open_in(tmp_path / "a" / "held", server)
    me = f"pid {os.getpid()} on {os.uname().nodename}"
    with pytest.raises(StudyTaken, match=f"the study `held` is being run by another driver .{me}"):
        open_in(tmp_path / "b" / "held", server)
    assert holder(tmp_path / "a" / "held") is None, "this test has not told it the password"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEPER_LEDGER", server.url())
        assert holder(tmp_path / "a" / "held") == me
        first.close()
        assert holder(tmp_path / "a" / "held") is None
    with pytest.raises(UserError, match="holds a study `held` of another folder"):
        open_in(tmp_path / "b" / "held", server)
    open_in(tmp_path / "a" / "held", server).close()


def test_a_driver_takes_its_study_again_after_a_restart_or_stops(server: PostgresServer, tmp_path: Path) -> None:
    ledger = open_in(tmp_path / "a" / "again", server)
    server.stop()
    server.start()
    ledger.set_attribute("note", 1)
    with pytest.raises(StudyTaken):
        open_in(tmp_path / "b" / "again", server)
    server.stop()
    server.start()
    other = psycopg.connect(server.url(), application_name="sweeper 00000000 pid 7 on elsewhere")
    advisory.take(other, "again", advisory.Driver("00000000", "pid 7 on elsewhere"))
    with pytest.raises(StudyTaken, match=r"another driver \(pid 7 on elsewhere"):
        ledger.set_attribute("note", 2)
    other.close()
    assert ledger.attributes["note"] == 1


def test_a_connection_that_only_the_server_believes_in_gives_the_study_back(server: PostgresServer) -> None:
    """What is left of a driver that was cut off for a while."""
    driver = advisory.this_driver()
    zombie = psycopg.connect(server.url(), application_name=driver.name)
    advisory.take(zombie, "haunted", driver)
    with psycopg.connect(server.url(), application_name=driver.name) as connection:
        advisory.take(connection, "haunted", driver)
        assert advisory.holder(connection, "haunted") == driver.place
    with pytest.raises(psycopg.OperationalError):
        zombie.execute("SELECT 1")
