"""What counts as the trainer's code, and which changes to a search space a study cannot continue with."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sweeper.entrypoint.call import prepare
from sweeper.entrypoint.source_hashes import code_sums, counted, trainer_sums
from sweeper.errors import UserError
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import TrialState
from sweeper.reproducibility.drift import changed, refuse_other_objective
from sweeper.reproducibility.growth import refuse_unfit_space
from sweeper.spec.command import COMMAND_TRAINER
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


def test_a_changed_trainer_has_different_checksums_and_is_named(trainer_in: Callable[[str], None]) -> None:
    trainer_in("x = 1")
    before = trainer_sums("drifting:train")
    assert before == trainer_sums("drifting:train")
    trainer_in("x = 2")
    assert changed(before, trainer_sums("drifting:train")) == ["drifting.py has changed"]


def test_the_checksums_cover_the_sweeper_the_trainers_and_a_custom_trainer(
    trainer_in: Callable[[str], None],
) -> None:
    trainer_in("x = 1")
    sums = code_sums("drifting:train")
    assert {"sweeper/pruning/asha.py", "sweeper/executor/worker/trainable.py", "mano_trainers/loop.py"} <= set(sums)
    assert "drifting.py" in sums
    assert "drifting.py" not in code_sums("mano_trainers.loop:train")


def test_changes_to_code_that_neither_decides_nor_trains_are_not_drift(trainer_in: Callable[[str], None]) -> None:
    trainer_in("x = 1")
    sums = code_sums("drifting:train")
    rest = ("html_report", "views", "cli", "tracking", "maintenance", "analysis", "executor/cluster", "ledger")
    assert [name for name in sums if name.startswith(tuple(f"sweeper/{part}" for part in rest))] == []
    of_an_earlier_version = {**sums, "sweeper/html_report/page.py": "0", "sweeper/study/controller.py": "0"}
    assert changed(counted(of_an_earlier_version), sums) == ["sweeper/study/controller.py has changed"]


def test_the_code_that_runs_a_command_counts_once() -> None:
    sums = code_sums(COMMAND_TRAINER)
    assert changed(counted(sums), code_sums(COMMAND_TRAINER)) == [], "a study of it can be continued"
    assert trainer_sums(COMMAND_TRAINER) == {}


def test_a_changed_script_is_drift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("x = 1")
    config = {"lr": 0.1, "command": {"line": "{python} train.py --lr {lr}"}}
    before = prepare(COMMAND_TRAINER, config)
    assert before == prepare(COMMAND_TRAINER, config)
    (tmp_path / "train.py").write_text("x = 2")
    assert changed(before, prepare(COMMAND_TRAINER, config)) == ["train.py has changed"]


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
        ("{choices: [0.0, 1.0]}", "{choices: [0.0, 2.0]}", "can no longer be 1.0, which drifty-000. has"),
        ("{values: [0.0, 1.0]}", "{values: [0.0, 2.0]}", "can no longer be 1.0, which drifty-000. has"),
        ("{choices: [0.0, 1.0]}", "{choices: [2.0, 1.0, 0.0]}", None),
        ("{choices: [0.0, 1.0]}", "{low: 0.0, high: 1.0}", "is now another kind of parameter"),
        ("{low: 0.1, high: 1.0}", "{low: 0.1, high: 1.0, log: true}", "is now another kind of parameter"),
        ("{low: 0, high: 1}", "{type: int, low: 0, high: 1}", "is now another kind of parameter"),
        ("{low: 0.0, high: 1.0}", "{low: 0.0, high: 2.0}", None),
    ],
)
def test_a_removed_value_or_another_kind_is_refused_but_other_bounds_are_not(
    tmp_path: Path, before: str, after: str, refused: str | None
) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC.format(dimension=before))
    ledger = Ledger.create(tmp_path, "drifty")
    started = load_spec(path)
    ledger.attributes.spec = started.effective
    for _ in range(2):
        ledger.finish(ledger.ask(started).id, TrialState.COMPLETE, "", {}, (1.0,))
    path.write_text(SPEC.format(dimension=after))
    if refused is None:
        refuse_unfit_space(ledger, load_spec(path))
        return
    with pytest.raises(UserError, match=f"`scale` of the study `drifty` {refused}") as error:
        refuse_unfit_space(ledger, load_spec(path))
    assert "--new" in error.value.render()


@pytest.mark.parametrize(
    ("objective", "told"),
    [
        ("{metric: val/pa_mpjpe_mm, mode: max}", r"by val/pa_mpjpe_mm \(min\), not by val/pa_mpjpe_mm \(max\)"),
        ("{metric: val/mpjpe_mm, mode: min}", r"not by val/mpjpe_mm \(min\)"),
        ("[{metric: val/pa_mpjpe_mm, mode: min}, {metric: val/x, mode: max}]", r"\(min\), val/x \(max\)"),
        ("{metric: val/pa_mpjpe_mm, mode: min}", None),
    ],
)
def test_another_objective_is_refused_even_if_drift_is_accepted(
    tmp_path: Path, objective: str, told: str | None
) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC.format(dimension="{low: 0.0, high: 1.0}"))
    ledger = Ledger.create(tmp_path, "drifty")
    refuse_other_objective(ledger, load_spec(path))  # a study that has not begun
    ledger.attributes.spec = load_spec(path).effective
    path.write_text(path.read_text().replace("{metric: val/pa_mpjpe_mm, mode: min}", objective))
    if told is None:
        refuse_other_objective(ledger, load_spec(path))
        return
    with pytest.raises(UserError, match=told):
        refuse_other_objective(ledger, load_spec(path))
