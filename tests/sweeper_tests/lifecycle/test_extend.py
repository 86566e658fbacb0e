"""What `sweeper extend` refuses, leaving the study as it was; and variants added to the file."""

import shutil
from pathlib import Path

import pytest
from finished import finish_study
from forked import Driver

from sweeper.errors import UserError
from sweeper.ledger.ledger import Ledger
from sweeper.lifecycle.options import RunOptions
from sweeper.lifecycle.resume import extend
from sweeper.spec.load import parse_spec

SPEC = """
name: listed
trainer: scripted_trainer:train
search_space: {scale: {choices: [1.0, 2.0]}}
objective: {metric: val/pa_mpjpe_mm, mode: min}
controls: []
"""


@pytest.mark.parametrize("sampler", ["{name: grid}", "{name: random}"])
def test_a_study_that_has_tried_everything_cannot_be_extended(tmp_path: Path, sampler: str) -> None:
    spec = parse_spec(f"{SPEC}sampler: {sampler}\ntrials: 2\n", Path("listed.yaml"))
    finish_study(tmp_path, spec, lambda params: float(params["scale"]))
    with pytest.raises(UserError, match="cannot be extended: every configuration of its search space was tried"):
        extend(tmp_path, "listed", 1, RunOptions())
    assert Ledger.open(tmp_path / "studies" / "listed", "listed").attributes.extended == 0


VARIANTS = """
name: scripted
trainer: scripted_trainer:train
base: {epochs: 2}
variants:
  a: {scale: 1.0}
  b: {scale: 2.0}
objective: {metric: val/pa_mpjpe_mm, mode: min}
scheduler: {name: none}
controls: []
"""


@pytest.mark.slow
@pytest.mark.parametrize("kill", ["1:before", "2:after", "4:after", "7:before"])
def test_a_variant_added_to_the_file_is_trained_once_wherever_the_run_is_killed(
    tmp_path: Path, template_db: Path, kill: str
) -> None:
    home, spec = tmp_path / "home", tmp_path / "spec.yaml"
    home.mkdir()
    shutil.copy(template_db, home / "mlflow.db")
    spec.write_text(VARIANTS)
    code, said = Driver(home, "run").end()
    assert code == 0, said
    spec.write_text(VARIANTS.replace("  a:", "  new: {scale: 3.0}\n  a:"))
    code, _ = Driver(home, "run", KILL_WRITE=kill).end()
    assert code == -9
    for _ in range(2):
        code, said = Driver(home, "run").end()
        assert code == 0, said
    trials = Ledger.open(home / "studies" / "scripted", "scripted").trials()
    assert [trial.params["variant"] for trial in trials] == ["a", "b", "new"]
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
