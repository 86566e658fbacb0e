"""Sweep files that run a command instead of a trainer."""

import re
from pathlib import Path

import pytest

from sweeper.errors import SpecError
from sweeper.spec.command import COMMAND_TRAINER
from sweeper.spec.load import parse_spec
from sweeper.spec.resolve import SweepSpec, resolve

SPEC = """\
name: script
command: python train.py --lr {lr}
base: {hidden: 64}
search_space: {lr: {low: 0.1, high: 1.0}}
objective: {metric: val/acc, mode: max}
trials: 3
"""


def test_a_trials_config_holds_the_parameters_and_the_command() -> None:
    spec = parse_spec(SPEC + "report: {patterns: {val/acc: 'acc ([0-9.]+)'}}\n", Path("s.yaml"))
    assert (spec.trainer, spec.guards, spec.control_names) == (COMMAND_TRAINER, (), ())
    assert resolve(spec, {"lr": 0.5}) == {
        "hidden": 64,
        "lr": 0.5,
        "command": {
            "line": "python train.py --lr {lr}",
            "objective": "val/acc",
            "patterns": {"val/acc": "acc ([0-9.]+)"},
            "rows": None,
            "tensorboard": None,
            "wandb": False,
        },
    }


def test_a_recorded_spec_reads_back() -> None:
    spec = parse_spec(SPEC, Path("s.yaml"))
    recorded = spec.effective
    assert recorded["base"] == {"hidden": 64}
    again = SweepSpec.model_validate(recorded, strict=False)
    assert (again.effective, resolve(again, {"lr": 0.2})) == (recorded, resolve(spec, {"lr": 0.2}))


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ("trainer: mine:train", "`command` and `trainer` cannot be used together"),
        ("report: {patterns: {val/acc: 'acc ['}}", "not a valid regular expression"),
        ("report: {patterns: {val/acc: acc}}", "the number must be in a group"),
        ("report: {row: log.csv}", "unknown key `row`"),
    ],
)
def test_keys_that_do_not_fit_are_refused(more: str, what: str) -> None:
    with pytest.raises(SpecError, match=what.replace("(", r"\(")):
        parse_spec(f"{SPEC}{more}\n", Path("s.yaml"))


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("python t.py --lr {lrr}", r"`\{lrr\}` names no parameter"),
        ("python t.py {optim.lr}", "did you mean `lr`"),
        ("python t.py --all={args}", r"`\{args\}` names no parameter"),
        ("python t.py --lr '{lr}", "cannot be split into words: no closing quotation"),
    ],
)
def test_a_command_that_no_trial_can_fill_in_is_refused_in_advance(command: str, what: str) -> None:
    text = SPEC.replace("python train.py --lr {lr}", f'"{command}"')
    with pytest.raises(SpecError) as error:
        parse_spec(text, Path("s.yaml"))
    assert re.search(what, error.value.render())
    assert "s.yaml:2" in error.value.render()


@pytest.mark.parametrize(
    "command",
    [
        "{python} t.py {args} --out={workdir} --ckpt={resume}",
        "t {overrides} {config_json} {config_yaml} {args_json}",
        "t --hidden {hidden} --lr {lr}",
        "bash -c 'echo ${HOME} {1} {}'",
    ],
)
def test_a_command_that_can_be_filled_in_is_accepted(command: str) -> None:
    assert parse_spec(SPEC.replace("python train.py --lr {lr}", f'"{command}"'), Path("s.yaml")).command == command


def test_reports_need_a_command() -> None:
    text = SPEC.replace("command: python train.py --lr {lr}", "trainer: scripted_trainer:train\nreport: {wandb: true}")
    with pytest.raises(SpecError, match="`report` says where the reports of a `command` come from"):
        parse_spec(text.replace("hidden: 64", "").replace("lr:", "scale:"), Path("s.yaml"))
