"""Fixtures for tests that need a real MLflow store."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow_helpers import start, uri_of
from postgres_server import PostgresServer

from sweeper.tracking import Tracker
from sweeper.tracking.store.client import open_client

OpenTracker = Callable[..., Tracker]


@pytest.fixture(autouse=True)
def _no_tracking_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own MLflow server is not the tests' business."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def template_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database with its tables: they take 4 to 8 s to create, a copy takes no time."""
    path = tmp_path_factory.mktemp("mlflow") / "template.db"
    open_client(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def fresh_home(template_db: Path) -> Iterator[Callable[[str], Path]]:
    """Makes study homes, each with an empty MLflow database and the spec beside it. In memory where possible:
    a kill, unlike a power cut, loses nothing there either, and MLflow's database writes ten times as fast."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="sweeper-homes-", dir=memory, ignore_cleanup_errors=True) as root:

        def make(spec: str) -> Path:
            home = Path(tempfile.mkdtemp(dir=root)) / "home"
            home.mkdir()
            (home.parent / "spec.yaml").write_text(spec)
            shutil.copy(template_db, home / "mlflow.db")
            return home

        yield make


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server, which a test that stops it must start again; it ends with the tests."""
    server = PostgresServer()
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def warm_python() -> Iterator[Path]:
    """An interpreter that has imported Lightning and Transformers; see `warm_python`."""
    from warm_python import warm_python as serving  # late: most tests need none of it

    with tempfile.TemporaryDirectory(prefix="sweeper-python-") as folder, serving(Path(folder)) as python:
        yield python


@pytest.fixture(scope="session")
def warm_trainer() -> Iterator[Path]:
    """An interpreter that has imported what the shared trainer depends on; see `warm_python`."""
    from warm_python import OF_TRAINER
    from warm_python import warm_python as serving

    with tempfile.TemporaryDirectory(prefix="sweeper-python-") as folder, serving(Path(folder), OF_TRAINER) as python:
        yield python


@pytest.fixture(scope="session")
def warm_sweeper() -> Iterator[Path]:
    """An interpreter that has imported what verbs and MLflow's server import; see `warm_python`."""
    from warm_python import warm_sweeper as serving

    with tempfile.TemporaryDirectory(prefix="sweeper-python-") as folder, serving(Path(folder)) as python:
        yield python


@pytest.fixture
def home(tmp_path: Path, template_db: Path) -> Path:
    """A study home with an empty MLflow database."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(template_db, home / "mlflow.db")
    return home


@pytest.fixture
def study_dir(home: Path) -> Path:
    folder = home / "studies" / "toy"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def open_tracker(home: Path, study_dir: Path) -> Iterator[OpenTracker]:
    """Opens Trackers on the study, and closes them after the test."""
    with contextlib.ExitStack() as stack:

        def open_it(uri: str | None = None, **options: Any) -> Tracker:
            tracker = Tracker(study_dir, uri or uri_of(home), home / "artifacts", "toy", **options)
            stack.callback(tracker.close)
            return tracker

        yield open_it


@pytest.fixture
def recorded(home: Path, open_tracker: OpenTracker) -> str:
    """The URI of a store with two complete trials, a better one that was pruned, and a better control."""
    tracker = open_tracker()
    trials = {"toy-0001": 9.0, "toy-0002": 8.0, "toy-0010": 1.0, "toy-0011": 0.0}
    start(tracker, *trials)
    tracker.start_trial("toy-0011", {}, {"sweeper.role": "oracle"}, {})
    for trial_id, error_mm in trials.items():
        tracker.report(trial_id, 1, 1, {"val/pa_mpjpe_mm": error_mm})
        state = "PRUNED" if trial_id == "toy-0010" else "COMPLETE"
        tracker.finish_trial(trial_id, "FINISHED", {"sweeper.state": state})
    assert tracker.flush(60) == 0
    return uri_of(home)
