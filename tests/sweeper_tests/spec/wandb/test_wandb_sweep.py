"""W&B sweep configurations become sweep files that pass `check`."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweeper.cli.main import main
from sweeper.errors import UserError
from sweeper.search_space.dimensions import CategoricalDimension, FloatDimension, IntDimension
from sweeper.spec.load import parse_spec
from sweeper.spec.resolve import SweepSpec
from sweeper.spec.wandb.sweep import convert_wandb

USUAL = """\
program: train.py
project: hands
method: bayes
metric: {name: val/loss, goal: minimize}
parameters:
  lr: {distribution: log_uniform_values, min: 1e-5, max: 1e-1}
  optimizer: {values: [adam, sgd]}
  epochs: {value: 10}
  dropout: {min: 0.1, max: 0.5}
  layers: {min: 1, max: 6}
  model: {parameters: {width: {values: [16, 32]}, bias: {value: true}}}
early_terminate: {type: hyperband, min_iter: 3, eta: 2}
run_cap: 50
"""


def convert(folder: Path, text: str) -> tuple[SweepSpec, tuple[str, ...], str]:
    path = folder / "My Sweep.yaml"
    path.write_text(text)
    converted = convert_wandb(path)
    return parse_spec(converted.text, folder / "spec.yaml"), converted.notes, converted.text


def test_a_usual_one(tmp_path: Path) -> None:
    spec, notes, text = convert(tmp_path, USUAL)
    assert spec.search_space == {
        "lr": FloatDimension(low=1e-5, high=0.1, log=True),
        "optimizer": CategoricalDimension(choices=("adam", "sgd")),
        "dropout": FloatDimension(low=0.1, high=0.5),
        "layers": IntDimension(type="int", low=1, high=6),
        "model.width": CategoricalDimension(choices=(16, 32)),
    }
    assert spec.base == {"epochs": 10, "model": {"bias": True}}
    assert (spec.name, spec.trials, spec.sampler.name) == ("my-sweep", 50, "tpe")
    assert (spec.objective.metric, spec.objective.mode) == ("val/loss", "min")
    assert (spec.scheduler.name, spec.scheduler.grace_epochs, spec.scheduler.eta) == ("asha", 3, 2)
    assert spec.command == "{python} train.py {args}"
    assert spec.report is not None
    assert spec.report.wandb
    assert notes == ('`project` has no counterpart: "hands"',)
    assert f"# {notes[0]}" in text


@pytest.mark.parametrize(
    ("parameter", "low", "high", "log", "step"),
    [
        ("{distribution: uniform, min: 0, max: 1}", 0, 1, False, None),
        ("{distribution: log_uniform, min: -2.0, max: 1.0}", math.exp(-2), math.e, True, None),
        ("{distribution: inv_log_uniform_values, min: 0.1, max: 10}", 0.1, 10, True, None),
        ("{distribution: inv_log_uniform, min: -1.0, max: 2.0}", math.exp(-2), math.e, True, None),
        ("{distribution: q_uniform, min: 0, max: 1, q: 0.25}", 0, 1, False, 0.25),
        ("{distribution: q_uniform, min: 0.1, max: 1, q: 0.25}", 0.25, 1, False, 0.25),
        ("{distribution: q_uniform, min: 0, max: 64, q: 8}", 0, 64, False, 8),
        ("{distribution: q_log_uniform_values, min: 8, max: 64, q: 8}", 8, 64, True, 1),
        ("{distribution: q_log_uniform_values, min: 0.1, max: 1, q: 0.1}", 0.1, 1, True, None),
        ("{distribution: q_log_uniform, min: 2, max: 5, q: 1}", 7, 148, True, 1),
        ("{distribution: int_uniform, min: 1.0, max: 9}", 1, 9, False, 1),
        ("{distribution: normal, mu: 1, sigma: 0.5}", -0.5, 2.5, False, None),
        ("{mu: 1, sigma: 0.5}", -0.5, 2.5, False, None),
        ("{distribution: log_normal, mu: 0, sigma: 1}", math.exp(-3), math.exp(3), True, None),
        ("{distribution: q_log_normal, mu: 0, sigma: 1, q: 2}", math.exp(-3), math.exp(3), True, None),
    ],
)
def test_distributions(tmp_path: Path, parameter: str, low: float, high: float, log: bool, step: float | None) -> None:
    text = USUAL.replace("{distribution: log_uniform_values, min: 1e-5, max: 1e-1}", parameter)
    dimension: Any = convert(tmp_path, text)[0].search_space["lr"]
    assert (dimension.low, dimension.high) == (pytest.approx(low), pytest.approx(high))
    assert (dimension.log, dimension.step) == (log, step)
    assert isinstance(dimension, IntDimension if step in (1, 8) else FloatDimension), "whole numbers where W&B has them"


@pytest.mark.parametrize(
    ("parameter", "center", "spread"),
    [("{distribution: normal, mu: 1, sigma: 0.5}", 1, 0.5), ("{distribution: log_normal, mu: 0, sigma: 1}", 1, math.e)],
)
def test_a_normal_distribution_is_a_prior(tmp_path: Path, parameter: str, center: float, spread: float) -> None:
    text = USUAL.replace("{distribution: log_uniform_values, min: 1e-5, max: 1e-1}", parameter)
    prior = convert(tmp_path, text)[0].search_space["lr"].prior  # type: ignore[union-attr]
    assert prior is not None
    assert (prior.center, prior.spread) == (pytest.approx(center), pytest.approx(spread))


@pytest.mark.parametrize(
    ("values", "choices"),
    [
        ("[1e-3, 2, adam, true, null]", (1e-3, 2, "adam", True, None)),
        ("[[64, 32], [128], null]", ("[64, 32]", "[128]", None)),
        ("[{a: 1}, {a: 2}]", ('{"a": 1}', '{"a": 2}')),
        ("['yes', 'no', '1e-3', '0.1']", ("yes", "no", "1e-3", "0.1")),
        ("[1, 1.0, true, 1, 2]", (1, 2)),
        ("[3]", (3,)),
    ],
)
def test_values_of_any_type(tmp_path: Path, values: str, choices: tuple[Any, ...]) -> None:
    spec, notes, _ = convert(tmp_path, USUAL.replace("{values: [adam, sgd]}", f"{{values: {values}}}"))
    found = spec.search_space["optimizer"].choices  # type: ignore[union-attr]
    assert [(type(one), one) for one in found] == [(type(one), one) for one in choices]
    assert any("`optimizer`" in note for note in notes) == ("[[" in values or "{" in values or "[1," in values)


@pytest.mark.parametrize("value", ["[1, 2]", "{a: {b: 1}}", "'1e-3'", "null", "1e-3", "false"])
def test_fixed_values_of_any_type(tmp_path: Path, value: str) -> None:
    spec, _, _ = convert(tmp_path, USUAL.replace("{value: 10}", f"{{value: {value}}}"))
    [expected] = [1e-3] if value == "1e-3" else [yaml.safe_load(value)]
    assert spec.base["epochs"] == expected


def test_a_target_ends_the_study(tmp_path: Path) -> None:
    spec, _, _ = convert(tmp_path, USUAL.replace("goal: minimize", "goal: minimize, target: 0.1"))
    assert spec.stop_when.target == 0.1


@pytest.mark.parametrize(
    ("early", "grace"),
    [("{type: hyperband, min_iter: 3}", 3), ("{type: hyperband, max_iter: 27, s: 2, eta: 3}", 3)],
)
def test_hyperband_s_first_rung(tmp_path: Path, early: str, grace: float) -> None:
    spec, _, _ = convert(tmp_path, USUAL.replace("{type: hyperband, min_iter: 3, eta: 2}", early))
    assert (spec.scheduler.name, spec.scheduler.grace_epochs, spec.scheduler.eta) == ("asha", grace, 3)


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (("{values: [adam, sgd]}", "{values: [adam, sgd], probabilities: [0.9, 0.1]}"), "equal probability"),
        (("run_cap: 50\n", ""), "`trials` is 20 here"),
        (("{min: 1, max: 6}", "{min: 2, max: 2}"), "`layers`: both bounds are 2, so it is fixed"),
        (("goal: minimize", "goal: minimize, impute: worst"), '`metric.impute` has no counterpart: "worst"'),
        (
            ("program: train.py", 'program: train.py\ncommand: ["${program}", "${sweep}"]'),
            "`${sweep}` in `command` has no",
        ),
        (
            ("program: train.py", 'program: train.py\ncommand: ["${program}", "${args_no_boolean_flags}"]'),
            "booleans are passed as --flag=true",
        ),
        (("min_iter: 3, eta: 2", "min_iter: 3, strict: true"), "`early_terminate.strict` has no counterpart"),
        (("{min: 0.1, max: 0.5}", "{distribution: q_normal, mu: 0, sigma: 1, q: 2}"), "not rounded to multiples of 2"),
    ],
)
def test_what_has_no_counterpart_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], note: str
) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(USUAL.replace(*change))
    assert main(["convert", str(path)]) == 0
    said = capsys.readouterr()
    assert note in said.err
    assert note in said.out, "and it is a comment"
    parse_spec(said.out, tmp_path / "spec.yaml")


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ('command: ["${env}", python3, "${program}", "${args_no_hyphens}"]', "python3 train.py {overrides}"),
        ('command: ["${interpreter}", -m, pkg.train, "${args_json_file}"]', "{python} -m pkg.train {config_json}"),
        (
            'command: ["${env}", "${interpreter}", "${program}", "--name=a b", "${args}"]',
            "{python} train.py '--name=a b' {args}",
        ),
    ],
)
def test_commands(tmp_path: Path, line: str, command: str) -> None:
    assert convert(tmp_path, USUAL + line + "\n")[0].command == command


def test_a_grid_has_as_many_trials_as_points(tmp_path: Path) -> None:
    text = USUAL.replace("bayes", "grid").replace("run_cap: 50\n", "").replace("early_terminate", "# ")
    text = text.replace("{min: 0.1, max: 0.5}", "{value: 0.2}").replace(
        "{distribution: log_uniform_values, min: 1e-5, max: 1e-1}", "{values: [0.1, 0.2]}"
    )
    spec, _, _ = convert(tmp_path, text)
    assert (spec.sampler.name, spec.trials) == ("grid", 2 * 2 * 6 * 2)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a: 1\n", "it has no `parameters`"),
        (USUAL.replace("metric: {name: val/loss, goal: minimize}\n", ""), "it names no metric"),
        (
            USUAL.replace("method: bayes", "method: magic"),
            '`method` must be one of bayes, random, grid, but got "magic"',
        ),
        (USUAL.replace("program: train.py\n", ""), "it names no `program`"),
        (USUAL.replace("{min: 1, max: 6}", "{min: 1}"), "parameter `layers` has no `value`"),
        (USUAL.replace("val/loss", "train/loss"), "its metric `train/loss` is a training metric"),
        (USUAL.replace("{min: 1, max: 6}", "{distribution: beta, a: 1, b: 2}"), "has the distribution `beta`"),
        (USUAL.replace("{values: [adam, sgd]}", "{values: adam}"), "`values` of parameter `optimizer` is not a list"),
        (USUAL.replace("{value: 10}", "10"), "parameter `epochs` is not a mapping"),
    ],
)
def test_what_is_not_one_is_refused(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(UserError) as error:
        convert(tmp_path, text)
    assert what in error.value.render()
