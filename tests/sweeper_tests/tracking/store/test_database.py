"""MLflow's database is whole or not there: however a first run ends, whoever else makes it, whatever wrote it."""

import errno
import fcntl
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from mlflow_helpers import points_of, start, uri_of

from sweeper.errors import UserError
from sweeper.tracking import Tracker
from sweeper.tracking.store.client import open_client, require_store
from sweeper.tracking.store.database import DatabaseState, examine, prepare_database

MAKE = "import sys; from sweeper.tracking.store.database import prepare_database; prepare_database(sys.argv[1])"
OLDER_REVISION = "bd07f7e963c5"


def state_of(home: Path) -> DatabaseState:
    return examine(home / "mlflow.db", thorough=True).state


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        for statement in statements:
            database.execute(statement)


@pytest.mark.slow
def test_three_makers_at_once_make_one_whole_database(tmp_path: Path) -> None:
    makers = [subprocess.Popen([sys.executable, "-c", MAKE, uri_of(tmp_path)]) for _ in range(3)]
    assert [maker.wait(240) for maker in makers] == [0, 0, 0]
    assert state_of(tmp_path) is DatabaseState.CURRENT
    assert [path.name for path in tmp_path.iterdir() if "building" in path.name] == []


@pytest.mark.slow
def test_a_maker_that_is_killed_leaves_nothing_or_all(tmp_path: Path) -> None:
    for pause_s in (0.0, 0.5, 2.0):
        maker = subprocess.Popen([sys.executable, "-c", MAKE, uri_of(tmp_path)])
        deadline = time.monotonic() + 60
        while not any("building" in path.name for path in tmp_path.iterdir()) and maker.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(pause_s)
        maker.send_signal(signal.SIGKILL)
        maker.wait()
        assert state_of(tmp_path) in (DatabaseState.MISSING, DatabaseState.CURRENT)
    assert list(prepare_database(uri_of(tmp_path))) == []
    assert state_of(tmp_path) is DatabaseState.CURRENT


BREAK = {
    "empty": lambda path: path.write_bytes(b""),
    "not a database": lambda path: path.write_bytes(b"x" * 9000),
    "cut off": lambda path: os.truncate(path, 70_000),
    "without versions": lambda path: execute(path, "DROP TABLE alembic_version"),
    "half a migration": lambda path: execute(path, "CREATE TABLE _alembic_tmp_runs (x INT)"),
    "two versions": lambda path: execute(path, "INSERT INTO alembic_version VALUES ('0a8213491aaa')"),
}


@pytest.fixture(scope="module")
def recorded_home(tmp_path_factory: pytest.TempPathFactory, template_db: Path) -> Path:
    """A home with a study of one evaluation. Tests take copies: MLflow keeps connections to what it once opened."""
    home = tmp_path_factory.mktemp("recorded") / "home"
    (home / "studies" / "toy").mkdir(parents=True)
    shutil.copy(template_db, home / "mlflow.db")
    tracker = Tracker(home / "studies" / "toy", uri_of(home), home / "artifacts", "toy")
    start(tracker, "toy-0001")
    tracker.report("toy-0001", 1, 1, {"a": 1.0})
    assert tracker.flush(60) == 0
    tracker.close()
    return home


@pytest.mark.parametrize("harm", BREAK)
def test_a_broken_database_is_told_from_a_whole_one(home: Path, harm: str) -> None:
    assert state_of(home) is DatabaseState.CURRENT
    BREAK[harm](home / "mlflow.db")
    assert state_of(home) is DatabaseState.BROKEN
    with pytest.raises(UserError, match="broken") as refused:
        require_store(uri_of(home))
    assert "doctor --fix" in refused.value.render()


@pytest.mark.slow
def test_a_broken_database_is_set_aside_and_the_study_recorded_anew(recorded_home: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(recorded_home, home)
    BREAK["half a migration"](home / "mlflow.db")

    tracker = Tracker(home / "studies" / "toy", uri_of(home), home / "artifacts", "toy")
    tracker.report("toy-0001", 2, 2, {"a": 2.0})
    assert tracker.flush(120) == 0
    tracker.close()
    assert any("is kept as mlflow.db.broken-" in notice for notice in tracker.notices)
    assert len(list(home.glob("mlflow.db.broken-*"))) == 1
    assert points_of(uri_of(home), "toy-0001") == [(1, "a", 1, 1.0), (2, "a", 2, 2.0)]


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    os.mkfifo(tmp_path / "mlflow.db") if kind == "pipe" else (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(UserError, match="it is not a file"):
        require_store(uri_of(tmp_path))


def test_a_newer_database_is_refused_before_anything_runs(home: Path, study_dir: Path) -> None:
    execute(home / "mlflow.db", "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    before = (home / "mlflow.db").read_bytes()
    with pytest.raises(UserError, match="a newer MLflow wrote this database") as refused:
        Tracker(study_dir, uri_of(home), home / "artifacts", "toy")
    assert "pip install --upgrade mlflow" in refused.value.render()
    assert (home / "mlflow.db").read_bytes() == before
    assert list(study_dir.iterdir()) == []


@pytest.mark.slow
def test_an_older_database_is_migrated_and_a_copy_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import mlflow
    from alembic import command
    from alembic.config import Config
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    path = tmp_path / "mlflow.db"
    engine = create_engine(uri_of(tmp_path))
    Base.metadata.create_all(engine)
    scripts = Path(mlflow.__file__).parent / "store" / "db_migrations"
    config = Config(str(scripts / "alembic.ini"))
    config.set_main_option("script_location", str(scripts))
    config.set_main_option("sqlalchemy.url", uri_of(tmp_path))
    command.upgrade(config, OLDER_REVISION)
    engine.dispose()
    execute(path, "INSERT INTO experiments (name, artifact_location, lifecycle_stage) VALUES ('old', '/a', 'active')")
    assert state_of(tmp_path) is DatabaseState.OLDER
    before = path.read_bytes()

    require_store(uri_of(tmp_path))
    (copy,) = tmp_path.glob("mlflow.db.before-mlflow-*")
    assert capsys.readouterr().err.count("\n") == 1
    assert copy.read_bytes() == before
    assert state_of(tmp_path) is DatabaseState.CURRENT
    assert open_client(uri_of(tmp_path)).get_experiment_by_name("old") is not None


@pytest.mark.parametrize("left_out", ["", "artifacts"])
def test_a_moved_home_finds_its_artifacts_and_a_copy_has_its_own(
    home: Path, study_dir: Path, tmp_path: Path, left_out: str
) -> None:
    tracker = Tracker(study_dir, uri_of(home), home / "artifacts", "toy")
    start(tracker, "toy-0001")
    assert tracker.flush(60) == 0
    tracker.close()
    copy = tmp_path / "copy"
    shutil.copytree(home, copy, ignore=shutil.ignore_patterns(left_out))

    second = Tracker(copy / "studies" / "toy", uri_of(copy), copy / "artifacts", "toy")
    (copy / "studies" / "toy" / "epoch_001").mkdir()
    (copy / "studies" / "toy" / "epoch_001" / "weights").write_text("of the copy")
    second.checkpoint("toy-0001", copy / "studies" / "toy" / "epoch_001", "checkpoints/epoch_001")
    assert second.flush(60) == 0
    second.close()
    assert second.notices == (
        f"this home was copied from {home}: MLflow now looks for its artifacts in {copy}/artifacts",
    )
    assert list((home / "artifacts").rglob("weights")) == []
    assert len(list((copy / "artifacts").rglob("weights"))) == 1

    moved = tmp_path / "moved"
    home.rename(moved)
    require_store(uri_of(moved))
    client = open_client(uri_of(moved))
    experiment = client.get_experiment_by_name("toy")
    assert experiment.artifact_location == str(moved / "artifacts" / "toy")
    for run in client.search_runs([experiment.experiment_id]):
        assert run.info.artifact_uri.startswith(str(moved))
    assert not home.exists()


def test_a_file_system_without_locks_cannot_hold_it_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UserError, match="without locks: No locks available"):
        prepare_database(uri_of(tmp_path))
