"""`sweeper init`: what it writes is a sweep that runs, and nothing is overwritten."""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from extras import skip_without
from forked import verb

from sweeper.cli.init import KINDS
from sweeper.cli.main import main


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_writes_is_valid_and_commented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "train", raising=False)
    others = tempfile.gettempdir()  # where other tests in this process have had a `train.py`
    monkeypatch.setattr("sys.path", [entry for entry in sys.path if entry and not entry.startswith(others)])
    assert main(["init", "--trainer", kind]) == 0
    assert capsys.readouterr().out.endswith("next: sweeper run sweep.yaml\n")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"sweep.yaml"} | ({"train.py"} if kind != "hand" else set())
    assert main(["check", "sweep.yaml"]) == 0
    assert (tmp_path / "sweep.yaml").read_text().count("#") > 8
    monkeypatch.delitem(sys.modules, "train", raising=False)


@pytest.mark.parametrize("there", ["sweep.yaml", "train.py"])
def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str], there: str) -> None:
    (tmp_path / there).write_text("mine")
    assert main(["init", str(tmp_path)]) == 2
    assert f"{tmp_path / there}" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {there: "mine"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["function", "script", "lightning"])
def test_what_it_writes_runs_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template_db: Path, warm_python: Path, kind: str
) -> None:
    if kind == "lightning":
        skip_without("lightning")
    folder = tmp_path / "new"
    assert main(["init", str(folder), "--trainer", kind]) == 0
    (folder / ".sweeper").mkdir()
    shutil.copy(template_db, folder / ".sweeper" / "mlflow.db")
    monkeypatch.chdir(folder)
    few = ["--trials", "3", "--set", "base.epochs=4"]
    done = verb(["run", "sweep.yaml", *few], ray=False, timeout_s=500, WARM_PYTHON=str(warm_python))
    assert done.returncode == 0, done.stderr
    show = verb(["show", "my_sweep", "--json"], ray=False, timeout_s=500)
    trials = json.loads(show.stdout)["trials"]
    assert len(trials) == 3
    assert {trial["state"] for trial in trials} <= {"COMPLETE", "PRUNED"}
    assert max(trial["epochs"] for trial in trials) == 4
