"""A study home written by version 0.1, before modules moved into packages, is still read, continued and reproduced.

`home_0.1.tar.xz` was recorded from an interrupted sweep of the scripted trainer, in `/srv/users/home`.
"""

import json
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
from checker import check
from faulty import sweep

from sweeper.ledger.ledger import Ledger
from sweeper.reproducibility.drift import spec_drift
from sweeper.spec.load import parse_spec

pytestmark = pytest.mark.slow

RECORDED = "/srv/users/home"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded home, unpacked; its MLflow is told where its artifacts are now."""
    home = tmp_path_factory.mktemp("earlier") / "home"
    with tarfile.open(Path(__file__).with_name("home_0.1.tar.xz")) as archive:
        archive.extractall(home, filter="data")
    with sqlite3.connect(home / "mlflow.db") as database:
        database.execute("update runs set artifact_uri = replace(artifact_uri, ?, ?)", (RECORDED, str(home)))
        move = "update experiments set artifact_location = replace(artifact_location, ?, ?)"
        database.execute(move, (RECORDED, str(home)))
    return home


def test_it_is_shown(home: Path) -> None:
    shown = json.loads(sweep(home, "show", "scripted", "--json").stdout)
    assert [trial["state"] for trial in shown["trials"]] == ["COMPLETE", "WAITING", "WAITING"]
    assert shown["winner"] == "scripted-0000"


def test_its_own_spec_is_not_drift(home: Path) -> None:
    with closing(Ledger.open(home / "studies" / "scripted", "scripted")) as ledger:
        spec = parse_spec(ledger.attributes.spec_text, home / "spec.yaml")
        assert spec_drift(ledger, spec) == []
        changed = parse_spec(ledger.attributes.spec_text, home / "spec.yaml", ["base.epochs=9", "trials=7"])
        assert spec_drift(ledger, changed) == ["base.epochs: 8 -> 9", "trials: 8 -> 7"]


def test_it_is_continued(home: Path) -> None:
    refused = sweep(home, "resume", "scripted", ray=True)
    assert refused.returncode == 2
    assert "other code" in refused.stderr
    done = sweep(home, "resume", "scripted", "--accept-drift", ray=True)
    assert done.returncode == 0, done.stdout + done.stderr
    check(home)
    shown = json.loads(sweep(home, "show", "scripted", "--json").stdout)
    assert len(shown["trials"]) == 8


def test_one_of_its_trials_is_reproduced(home: Path) -> None:
    done = sweep(home, "reproduce", "scripted-0000", ray=True)  # trained to its end by that version
    assert "BIT-EXACT" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0
