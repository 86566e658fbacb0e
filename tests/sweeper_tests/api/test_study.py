"""A study from Python: frames, the best trial, the report."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from faulty import SPEC, FreshHome
from forked import Driver
from places import ROOT

import sweeper
from sweeper.errors import UserError


@pytest.fixture(scope="module")
def study(fresh_home: FreshHome) -> sweeper.Study:
    """A finished study of the scripted trainer."""
    home = fresh_home(SPEC)
    code, said = Driver(home, "run").end()
    assert code == 0, said
    return sweeper.load("scripted", home=home)


def test_trials_are_a_data_frame(study: sweeper.Study) -> None:
    frame = study.trials()
    assert frame.index[0] == "scripted-0000"
    assert set(frame["state"]) >= {"COMPLETE", "COLLAPSED"}
    assert {"params.scale", "metrics.val/pa_mpjpe_mm", "reason", "epochs", "seconds"} <= set(frame.columns)
    assert len(study.trials(controls=True)) >= len(frame)


def test_curves_have_a_row_per_evaluation(study: sweeper.Study) -> None:
    curves, frame = study.curves(), study.trials()
    last = curves.groupby("trial")["val/pa_mpjpe_mm"].last()
    assert (last == frame["metrics.val/pa_mpjpe_mm"].loc[last.index]).all()
    assert set(study.curves(["scripted-0001"])["trial"]) == {"scripted-0001"}


def test_the_best_trial_has_its_whole_config(study: sweeper.Study) -> None:
    best = study.best
    assert best is not None
    complete = study.trials().query("state == 'COMPLETE'")["metrics.val/pa_mpjpe_mm"]
    assert best.id == complete.idxmin()
    assert best.config["scale"] == best.params["scale"]
    assert best.config["epochs"] == study.spec.base["epochs"], "what all trials share is in it"
    assert study.trial(best.id) == best


def test_a_notebook_shows_study_and_report(study: sweeper.Study) -> None:
    assert repr(study).startswith("<Study scripted: ")
    assert "scripted-0000" in study._repr_html_()
    page = study.plot()
    assert str(page).startswith("<!doctype html>")
    assert "<iframe srcdoc=" in page._repr_html_()


def test_what_does_not_exist_is_named(study: sweeper.Study) -> None:
    with pytest.raises(UserError, match="no study `scriptde`") as error:
        sweeper.load("scriptde", home=study.home)
    assert "did you mean `scripted`?" in error.value.render()
    with pytest.raises(UserError, match="has no trial `scripted-0999`"):
        study.trial("scripted-0999")


@pytest.mark.slow
def test_the_cells_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/python.md from its first cell to its last, in an empty folder."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    module, *cells = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL)
    (tmp_path / "square.py").write_text(module)
    names: dict[str, Any] = {}
    for cell in cells:
        exec(cell, names)
    study = names["study"]
    assert study.best.config["x"] == study.best.params["x"]
    assert len(study.trials()) == 4
    assert len(study.curves()) == 16


@pytest.mark.slow
def test_the_cells_of_the_page_run_in_a_notebook(tmp_path: Path) -> None:
    """Run by a real kernel from an empty folder, as `jupyter execute` does."""
    why = "notebooks are run where Jupyter is installed; no extra installs it"
    nbclient = pytest.importorskip("nbclient", reason=why)
    nbformat = pytest.importorskip("nbformat", reason=why)
    cells = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL)
    cells[0] = cells[0].removeprefix("# ")  # the line magic that writes the module
    shown = ["study", "study.plot()", "study.best.id"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in [*cells, *shown]])
    nbclient.NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    table, page, best = [cell["outputs"][-1]["data"] for cell in notebook.cells[-3:]]
    assert "<table" in table["text/html"]
    assert "<iframe srcdoc=" in page["text/html"]
    assert best["text/plain"].startswith("'square-000")
    assert (tmp_path / "trials.parquet").exists()


def test_a_training_script_that_reports_imports_nothing_slow() -> None:
    code = (
        "import sys, sweeper; sweeper.report(1, {'a': 1}); "
        "print([n for n in ('numpy', 'pydantic', 'pandas', 'ray', 'yaml') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
