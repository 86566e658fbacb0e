"""Faults that sequences of verbs, kills and damage have found (`state_machine.py`), each as short as possible."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from checker import check
from faulty import SHORT, SPEC, FreshHome
from forked import Driver

pytestmark = pytest.mark.slow


@pytest.fixture
def home(fresh_home: FreshHome) -> Path:
    """The home of a complete study."""
    made = fresh_home(SHORT)
    code, said = Driver(made, "run").end()
    assert code == 0, said
    return made


def in_database(home: Path, statement: str) -> None:
    with closing(sqlite3.connect(home / "mlflow.db")) as database, database:
        database.execute(statement)


@pytest.mark.parametrize("loss", ["removed", "a run is open", "a run is deleted"])
def test_a_run_of_a_complete_study_finds_what_mlflow_has_lost(home: Path, loss: str) -> None:
    """`run` and `resume` used to find nothing to send and to exit with 0, although MLflow had lost it."""
    match loss:
        case "removed":
            (home / "mlflow.db").unlink()
        case "a run is open":
            in_database(home, "UPDATE runs SET status = 'RUNNING' WHERE name = 'scripted-0001'")
        case "a run is deleted":
            in_database(home, "UPDATE runs SET lifecycle_stage = 'deleted' WHERE name = 'scripted-0001'")
    code, said = Driver(home, "resume", "scripted").end()
    assert code == 0, said
    assert "MLflow had lost records of this study" in " ".join(said.split())
    check(home)


def test_a_sync_closes_the_runs_that_a_killed_driver_left_open(fresh_home: FreshHome) -> None:
    """`doctor --fix` used to say fixed, again and again, while the run of the trial seemed to go on for ever."""
    home = fresh_home(SHORT)
    assert Driver(home, "run", KILL_WRITE="25:after").end()[0] == -9
    code, said = Driver(home, "sync", "scripted").end()
    assert code == 0, said
    assert "records delivered" in said
    with closing(sqlite3.connect(home / "mlflow.db")) as database:
        statuses = dict(database.execute("SELECT name, status FROM runs").fetchall())
    assert "scripted" in statuses
    assert "RUNNING" not in statuses.values(), statuses
    _, said = Driver(home, "doctor", "--fix").end()
    assert "in MLflow" not in said
    assert "nothing to do" in Driver(home, "sync", "scripted").end()[1]
    code, said = Driver(home, "run").end()
    assert code == 0, said
    check(home)


def test_gc_works_after_mlflow_has_lost_its_runs_and_knows_the_new_ones(home: Path) -> None:
    """It used to end with a traceback every time: the ledger named runs that no longer existed."""
    (home / "mlflow.db").write_bytes(b"")
    assert Driver(home, "doctor", "--fix").end()[0] == 0
    in_database(home, "DELETE FROM tags")
    for table in ("params", "metrics", "latest_metrics", "inputs", "runs"):
        in_database(home, f"DELETE FROM {table}")
    code, said = Driver(home, "gc").end()
    assert code == 0, said
    assert "Traceback" not in said
    assert "MLflow holds this checkpoint" not in said
    assert Driver(home, "run").end()[0] == 0
    code, said = Driver(home, "gc", "--delete").end()
    assert code == 0, said
    assert said.count("MLflow holds this checkpoint") == 4
    check(home)


def test_an_extension_counts_even_if_an_enqueued_trial_is_waiting(home: Path) -> None:
    """It used to be taken for the previous extension, as if that had been interrupted, although it was complete."""
    spec = home.parent / "spec.yaml"
    spec.write_text(SPEC.replace("trials: 4", "trials: 1\ncontrols: []"))
    for verb in (("run", "--new"), ("extend", "scripted-2", "--trials", "1"), ("enqueue", "scripted-2", "scale=1.0")):
        code, said = Driver(home, *verb).end()
        assert code == 0, said
    code, said = Driver(home, "extend", "scripted-2", "--trials", "1").end()
    assert code == 0, said
    assert "interrupted" not in said
    assert len(check(home, study="scripted-2")) == 4
