"""What `sweeper extend` refuses, and that the study is then as it was."""

from pathlib import Path

import pytest
from finished import finish_study

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
