"""Fixtures for tests that need a real MLflow store."""

import shutil
from pathlib import Path

import pytest

from sweeper.tracking.locate import open_client


@pytest.fixture(autouse=True)
def _no_tracking_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own MLflow server is not the tests' business."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def template_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database with its tables: they take 4 to 8 s to make, a copy takes none."""
    path = tmp_path_factory.mktemp("mlflow") / "template.db"
    open_client(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def home(tmp_path: Path, template_db: Path) -> Path:
    """A study home with an empty MLflow database."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(template_db, home / "mlflow.db")
    return home
