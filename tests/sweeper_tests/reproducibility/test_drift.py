"""What counts as the trainer's code, and which changes of a search space no study can hold."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sweeper.entrypoint.source_hashes import code_sums, trainer_sums
from sweeper.errors import UserError
from sweeper.ledger.ledger import Ledger
from sweeper.reproducibility.drift import changed, refuse_other_choices
from sweeper.spec.load import load_spec


@pytest.fixture
def trainer_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Write the single-file trainer `drifting` with this body."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(body: str) -> None:
        (tmp_path / "drifting.py").write_text(
            f"def train(config: dict, workdir: str, resume: bool):\n    {body}\n    yield None\n"
        )

    return write


def test_a_changed_trainer_has_other_sums_and_is_named(trainer_in: Callable[[str], None]) -> None:
    trainer_in("x = 1")
    before = trainer_sums("drifting:train")
    assert before == trainer_sums("drifting:train")
    trainer_in("x = 2")
    assert changed(before, trainer_sums("drifting:train")) == ["drifting.py has changed"]


def test_the_sums_of_the_code_hold_the_sweeper_the_trainers_and_an_own_trainer(
    trainer_in: Callable[[str], None],
) -> None:
    trainer_in("x = 1")
    sums = code_sums("drifting:train")
    assert {"sweeper/reproducibility/drift.py", "mano_trainers/loop.py", "drifting.py"} <= set(sums)
    assert "drifting.py" not in code_sums("mano_trainers.loop:train")


SPEC = """\
name: drifty
trainer: scripted_trainer:train
search_space: {{scale: {dimension}}}
sampler: {{name: random}}
objective: {{metric: val/pa_mpjpe_mm, mode: min}}
trials: 2
"""


@pytest.mark.parametrize(
    ("before", "after", "refused"),
    [
        ("{choices: [0.0, 1.0]}", "{choices: [0.0, 2.0]}", True),
        ("{choices: [0.0, 1.0]}", "{low: 0.0, high: 1.0}", True),
        ("{low: 0.0, high: 1.0}", "{low: 0.0, high: 2.0}", False),
    ],
)
def test_other_choices_or_another_kind_are_refused_and_other_bounds_are_not(
    tmp_path: Path, before: str, after: str, refused: bool
) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC.format(dimension=before))
    ledger = Ledger.create(tmp_path, "drifty")
    ledger.attributes.spec = load_spec(path).effective
    path.write_text(SPEC.format(dimension=after))
    if not refused:
        refuse_other_choices(ledger, load_spec(path))
        return
    with pytest.raises(UserError, match="`scale` of the study `drifty` has other choices now"):
        refuse_other_choices(ledger, load_spec(path))
