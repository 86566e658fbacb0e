import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from spec_pages import FILE, GOOD

from mano_trainers.config import TrainConfig
from mano_trainers.report import EpochReport
from sweeper.errors import SpecError
from sweeper.reproducibility.drift import spec_differences
from sweeper.search_space.dimensions import FloatDimension
from sweeper.spec.load import load_spec, parse_spec
from sweeper.spec.resolve import SweepSpec, resolve
from sweeper.spec.schema import spec_schema
from sweeper.spec.sections import CollapseGuard, ThresholdGuard

SHIPPED = Path("search_spaces")


class ToyConfig(BaseModel):
    """Config of a trainer that is not the default one; `slope` has no default."""

    slope: float
    steps: int = 3


def train_toy(config: ToyConfig, workdir: Path, resume: Path | None = None) -> Iterator[EpochReport]:
    raise NotImplementedError


def train_plain(config: dict[str, Any], workdir: Path, resume: Path | None = None) -> Iterator[EpochReport]:
    raise NotImplementedError


def test_a_good_spec_and_its_defaults() -> None:
    spec = parse_spec(GOOD, FILE)
    assert spec.text == GOOD
    assert spec.trainer == "mano_trainers.loop:train"
    assert spec.search_space["optim.lr"] == FloatDimension(low=1e-4, high=1e-2, log=True)
    assert spec.guards == (CollapseGuard(),)
    assert parse_spec(GOOD + "guards: []\n", FILE).guards == ()


def test_guards_are_told_apart_by_kind() -> None:
    spec = parse_spec(GOOD + "guards: [{kind: collapse}, {kind: threshold, name: s, metric: m, below: 0}]\n", FILE)
    assert spec.guards == (CollapseGuard(), ThresholdGuard(name="s", kind="threshold", metric="m", below=0.0))


def test_overrides_reach_every_part_of_the_spec() -> None:
    overrides = (
        "base.optim.epochs=3",
        "base.loss.lambda_reg=0",
        "search_space.optim.lr.high=0.5",
        "search_space.loss.lambda_pca={low: 0.1, high: 1}",
        "guards=[{kind: collapse}]",
        "guards.0.after_epochs=4",
        "resources.concurrent=1",
        "seed=7",
        "seed=8",
    )
    spec = parse_spec(GOOD, FILE, overrides)
    assert spec.base == {"optim": {"epochs": 3}, "loss": {"lambda_reg": 0}}
    assert spec.search_space["optim.lr"] == FloatDimension(low=1e-4, high=0.5, log=True)
    assert spec.search_space["loss.lambda_pca"] == FloatDimension(low=0.1, high=1.0)
    assert spec.guards == (CollapseGuard(after_epochs=4.0),)
    assert (spec.resources.concurrent, spec.seed) == (1, 8)
    assert (spec.text, spec.overrides) == (GOOD, overrides)


def test_trials_on_the_command_line_win(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(GOOD)
    spec = load_spec(path, ["trials=9"], trials=2)
    assert spec.trials == 2
    assert parse_spec(spec.text, path, spec.overrides) == spec


def test_resolve_writes_out_every_default() -> None:
    config = resolve(parse_spec(GOOD, FILE), {"optim.lr": 1, "loss.lambda_joint": 0.3})
    assert config["optim"] == {
        "lr": 1.0,
        "weight_decay": 1e-4,
        "batch_size": 64,
        "epochs": 2,
        "warmup_steps": 20,
        "clip_norm": 1.0,
        "ema_decay": None,
        "layer_decay": 1.0,
        "micro_batches": 1,
        "weight_decay_on": "all",
    }
    assert config["loss"]["lambda_joint"] == 0.3
    assert json.loads(json.dumps(config)) == config


@given(st.floats(min_value=1e-4, max_value=1e-2))
def test_resolve_keeps_floats_exact(lr: float) -> None:
    config = resolve(parse_spec(GOOD, FILE), {"optim.lr": lr})
    assert config["optim"]["lr"] == lr
    assert TrainConfig.model_validate(config).model_dump(mode="json") == config


def test_resolve_refuses_what_the_config_refuses() -> None:
    with pytest.raises(SpecError) as error:
        resolve(parse_spec(GOOD, FILE), {"optim.lr": -1.0})
    assert error.value.render() == "error: expected a number > 0 but got -1\n  --> s.yaml base.optim.lr"


def toy_spec(function: str, base: str = "{}", dimension: str = "slope") -> SweepSpec:
    text = f"""\
name: toy
trainer: {__name__}:{function}
base: {base}
search_space: {{{dimension}: {{low: 0, high: 1}}}}
objective: {{metric: val/error, mode: min}}
trials: 2
"""
    return parse_spec(text, FILE)


def test_another_trainer_brings_its_own_config() -> None:
    spec = toy_spec("train_toy")
    assert resolve(spec, {"slope": 1}) == {"slope": 1.0, "steps": 3}
    with pytest.raises(SpecError, match="missing key `slope`"):
        toy_spec("train_toy", dimension="steps")


def test_a_trainer_with_a_plain_mapping_takes_anything() -> None:
    assert resolve(toy_spec("train_plain", "{a: {b: x}}", "a.c"), {"a.c": 0.5}) == {"a": {"b": "x", "c": 0.5}}


def test_a_parameter_of_a_plain_mapping_cannot_be_nested_below_a_value() -> None:
    with pytest.raises(SpecError, match=r"`a` of `a\.c` is not a mapping"):
        toy_spec("train_plain", "{a: 1}", "a.c")


def test_per_trial_seeds_need_a_seed() -> None:
    with pytest.raises(SpecError, match="the trainer's config has no `seed` to vary"):
        parse_spec(toy_spec("train_toy").text + "replicate_seed: per_trial\n", FILE)


def test_seeds_of_variants_need_a_seed() -> None:
    text = toy_spec("train_toy").text
    variants = text[: text.index("search_space")] + "variants: {one: {slope: 1.0}}\nseeds: [1]\n"
    with pytest.raises(SpecError, match="the trainer's config has no `seed` to vary"):
        parse_spec(variants + text[text.index("objective") :].replace("trials", "# trials"), FILE)


def test_the_effective_spec_is_complete_and_shows_what_differs() -> None:
    spec, same = parse_spec(GOOD, FILE), parse_spec(f"# a comment\n{GOOD}seed: 0\n", FILE)
    other = parse_spec(GOOD, FILE, ["base.optim.epochs=3", "search_space.optim.lr.high=0.1", "guards=[]"])
    assert spec.effective["base"]["data"] == TrainConfig().data.model_dump(mode="json")
    assert "lr" not in spec.effective["base"]["optim"]
    assert SweepSpec.model_validate(spec.effective).effective == spec.effective
    assert json.loads(json.dumps(spec.effective)) == spec.effective
    assert spec_differences(spec.effective, same.effective) == []
    differences = spec_differences(spec.effective, other.effective)
    assert differences[:2] == ["base.optim.epochs: 2 -> 3", "search_space.optim.lr.high: 0.01 -> 0.1"]
    assert 'guards.0.name: "collapse" -> (absent)' in differences


def test_spec_differences_of_plain_data() -> None:
    old: Mapping[str, Any] = {"a": {"b": 1, "c": [1, 2]}, "d": []}
    new: Mapping[str, Any] = {"a": {"b": 1.5, "c": [1, 3]}, "e": "x"}
    assert spec_differences(old, new) == ["a.b: 1 -> 1.5", "a.c.1: 2 -> 3", "d: [] -> (absent)", 'e: (absent) -> "x"']


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_specs_are_valid(path: Path) -> None:
    assert load_spec(path).name == path.stem


def test_the_shipped_schema_matches_the_code() -> None:
    command = "python -m sweeper.spec.schema > search_spaces/schema.json"
    assert json.loads((SHIPPED / "schema.json").read_text()) == spec_schema(), f"run `{command}`"


def test_a_spec_is_read_without_the_slow_libraries() -> None:
    program = (
        "import sys, pathlib; from sweeper.spec.load import load_spec; load_spec(pathlib.Path(sys.argv[1]));"
        "print([name for name in ('torch', 'ray', 'mlflow', 'optuna', 'rich', 'numpy') if name in sys.modules])"
    )
    arguments = [sys.executable, "-c", program, str(SHIPPED / "loss_balance.yaml")]
    assert subprocess.run(arguments, capture_output=True, text=True, check=True).stdout == "[]\n"
