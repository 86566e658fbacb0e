"""The exact error pages of bad sweep files and bad overrides."""

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spec_pages import FILE, GOOD, errors_of, page

from mano_trainers.config import ModelConfig
from sweeper.errors import Problem, SpecError
from sweeper.spec.load import parse_spec

BACKBONES = ", ".join(f"`{name}`" for name in get_args(ModelConfig.model_fields["backbone"].annotation))

# Each case: what is replaced in GOOD, by what, and the exact error page.
BAD = {
    "unknown control": (
        "trials: 4",
        "trials: 4\ncontrols: [oracle, constant]",
        page("the trainer offers no control `constant`", "s.yaml:9:20 controls.1", "did you mean `constant_pose`?"),
    ),
    "control named twice": (
        "trials: 4",
        "trials: 4\ncontrols: [oracle, oracle]",
        page("a control is named twice", "s.yaml:9:11 controls"),
    ),
    "misspelt key of base": (
        "epochs",
        "epoch",
        page("unknown key `epoch`", "s.yaml:3:11 base.optim.epoch", "did you mean `optim.epochs`?"),
    ),
    "out of range in base": (
        "epochs: 2",
        "epochs: -2",
        page("expected a number >= 1 but got -2", "s.yaml:3:19 base.optim.epochs"),
    ),
    "float for a whole number": (
        "epochs: 2",
        "epochs: 2.0",
        page("expected a whole number but got 2.0", "s.yaml:3:19 base.optim.epochs", "write 2"),
    ),
    "text for a number": (
        "epochs: 2",
        "lr: fast",
        page("expected a number but got `fast`", "s.yaml:3:15 base.optim.lr"),
    ),
    "value for a section": (
        "{epochs: 2}",
        "2",
        page("expected a mapping but got 2", "s.yaml:3:10 base.optim"),
    ),
    "YAML 1.1 boolean": (
        "optim: {epochs: 2}",
        "augment: no",
        page("expected true or false but got `no`", "s.yaml:3:12 base.augment", "write `false`"),
    ),
    "number for a text": (
        "optim: {epochs: 2}",
        "data: {root: 7}",
        page("expected a string but got 7", "s.yaml:3:16 base.data.root", 'put it in quotes: "7"'),
    ),
    "choice of base": (
        "optim: {epochs: 2}",
        "model: {backbone: resnet19}",
        page(
            f"expected one of {BACKBONES}, but got `resnet19`",
            "s.yaml:3:21 base.model.backbone",
            "did you mean `resnet18`?",
        ),
    ),
    "path traversal in the name": (
        "name: tiny",
        "name: ../../etc",
        page("expected lower-case letters, digits, `_` and `-`, at most 64, but got `../../etc`", "s.yaml:1:7 name"),
    ),
    "terminal codes in the name": (
        "name: tiny",
        r'name: "a\e[31mb"',
        page("expected lower-case letters, digits, `_` and `-`, at most 64, but got `a\\x1b[31mb`", "s.yaml:1:7 name"),
    ),
    "missing key": (
        "trials: 4\n",
        "",
        page("missing key `trials`", "s.yaml:1:1 trials", "add `trials:`"),
    ),
    "empty value": (
        "trials: 4",
        "trials:",
        page("expected a whole number but got nothing", "s.yaml:8:8 trials"),
    ),
    "boolean for a number": (
        "trials: 4",
        "trials: true",
        page("expected a whole number but got true", "s.yaml:8:9 trials"),
    ),
    "number in quotes": (
        "trials: 4",
        "trials: '4'",
        page("expected a whole number but got `4`", "s.yaml:8:9 trials"),
    ),
    "no trials": ("trials: 4", "trials: 0", page("expected a number >= 1 but got 0", "s.yaml:8:9 trials")),
    "mode": (
        "mode: min",
        "mode: minimum",
        page("expected one of `min`, `max`, but got `minimum`", "s.yaml:7:44 objective.mode", "did you mean `min`?"),
    ),
    "objective with varying weights": (
        "val/pa_mpjpe_mm",
        "train/loss",
        page("the objective must be a validation metric, but got train/loss", "s.yaml:7:21 objective.metric"),
    ),
    "unknown guard": (
        "trials: 4",
        "trials: 4\nguards: [{kind: colapse}]",
        page(
            "expected one of `collapse`, `threshold`, `plateau`, but got `colapse`",
            "s.yaml:9:17 guards.0.kind",
            "did you mean `collapse`?",
        ),
    ),
    "guard without kind": (
        "trials: 4",
        "trials: 4\nguards:\n  - {name: a}",
        page("missing key `kind`", "s.yaml:10:5 guards.0.kind", "add `kind:`"),
    ),
    "guard without a threshold": (
        "trials: 4",
        "trials: 4\nguards: [{name: a, kind: threshold, metric: m}]",
        page("a threshold guard needs `below`, `above` or `nonfinite: true`", "s.yaml:9:10 guards.0"),
    ),
    "misspelt key of a guard": (
        "trials: 4",
        "trials: 4\nguards: [{name: a, kind: threshold, metric: m, belw: 1, above: 2}]",
        page("unknown key `belw`", "s.yaml:9:48 guards.0.belw", "did you mean `below`?"),
    ),
    "two guards of one name": (
        "trials: 4",
        "trials: 4\nguards: [{kind: collapse}, {kind: collapse}]",
        page("two guards have the name `collapse`", "s.yaml:9:9 guards"),
    ),
    "negative resources": (
        "trials: 4",
        "trials: 4\nresources: {gpus: -1}",
        page("expected a number >= 0 but got -1", "s.yaml:9:19 resources.gpus"),
    ),
    "unknown scheduler": (
        "trials: 4",
        "trials: 4\nscheduler: {name: median}",
        page("expected one of `asha`, `hyperband`, `none`, but got `median`", "s.yaml:9:19 scheduler.name"),
    ),
    "unknown trainer module": (
        "trials: 4",
        "trials: 4\ntrainer: no_such_module:train",
        page(
            "cannot import trainer module `no_such_module`: ModuleNotFoundError: No module named 'no_such_module'",
            "s.yaml:9:10 trainer",
            "is it installed, or is its folder on PYTHONPATH?",
        ),
    ),
    "unknown trainer function": (
        "trials: 4",
        "trials: 4\ntrainer: yaml:dmp",
        page("module `yaml` has no function `dmp`", "s.yaml:9:10 trainer", "did you mean `yaml:dump`?"),
    ),
    "trainer by its path": (
        "trials: 4",
        "trials: 4\ntrainer: trainers/loop.py:train",
        page("expected `package.module:function`, but got `trainers/loop.py:train`", "s.yaml:9:10 trainer"),
    ),
    "duplicate key": (
        "trials: 4",
        "trials: 4\ntrials: 5",
        page("key `trials` appears twice, first on line 8", "s.yaml:9:1 trials", "remove one of the two"),
    ),
    "tag": (
        "trials: 4",
        "trials: !!python/object:os.system 4",
        page("tag `tag:yaml.org,2002:python/object:os.system` is not allowed", "s.yaml:8:9 trials", "remove it"),
    ),
    "tab": (
        "  optim.lr",
        "\toptim.lr",
        page("a tab in the indentation", "s.yaml:6:1", "indent with spaces"),
    ),
    "a list": (
        GOOD,
        "- a\n- b\n",
        page("expected a mapping but got a list", "s.yaml:1:1"),
    ),
    "an empty file": (GOOD, "\n", page("the file is empty", "s.yaml:1:1")),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_bad_specs(case: tuple[str, str, str]) -> None:
    old, new, expected = case
    assert old in GOOD
    assert errors_of(GOOD.replace(old, new)) == expected


BAD_OVERRIDES = {
    "foo": page("expected key=value but got `foo`", "--set 'foo'", "for example base.optim.epochs=2"),
    "seed=": page("expected key=value but got `seed=`", "--set 'seed='", "for example base.optim.epochs=2"),
    "trials=-3": page("expected a number >= 1 but got -3", "--set 'trials=-3'"),
    "base.optim.epochs=x": page("expected a whole number but got `x`", "--set 'base.optim.epochs=x'"),
    "base.optim.epochs.x=2": page(
        "`base.optim.epochs` is not a mapping, it cannot hold `x`", "--set 'base.optim.epochs.x=2'"
    ),
    "search_space.optim.lr.hig=1": page(
        "unknown key `hig`", "--set 'search_space.optim.lr.hig=1'", "did you mean `high`?"
    ),
    "search_space.optim.lr.high=1e-9": page(
        "`low` must be less than `high`, but got low 0.0001 and high 1e-09", "--set 'search_space.optim.lr.high=1e-9'"
    ),
    "search_space.optim.lrr.high=1": page(
        "unknown key `lrr`", "--set 'search_space.optim.lrr.high=1'", "did you mean `optim.lr`?"
    ),
    "trials=[1": page(
        "not valid YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'",
        "--set 'trials=[1'",
        "check indentation, brackets and quotes here",
    ),
    "objectiv.mode=max": page("unknown key `objectiv`", "--set 'objectiv.mode=max'", "did you mean `objective`?"),
}


@pytest.mark.parametrize(("override", "expected"), BAD_OVERRIDES.items(), ids=BAD_OVERRIDES.keys())
def test_bad_overrides(override: str, expected: str) -> None:
    assert errors_of(GOOD, override) == expected


def test_all_errors_are_reported_at_once_in_the_order_of_the_file() -> None:
    text = (
        GOOD.replace("epochs: 2", "epochs: 0").replace("lambda_joint", "lamda_joint").replace("trials: 4", "seed: -1")
    )
    assert errors_of(text, "resources.concurrent=0").split("\n\n") == [
        page("missing key `trials`", "s.yaml:1:1 trials", "add `trials:`"),
        page("expected a number >= 1 but got 0", "s.yaml:3:19 base.optim.epochs"),
        page(
            "unknown key `lamda_joint`", "s.yaml:5:3 search_space.loss.lamda_joint", "did you mean `loss.lambda_joint`?"
        ),
        page("expected a number >= 0 but got -1", "s.yaml:8:7 seed"),
        page("expected a number >= 1 but got 0", "--set 'resources.concurrent=0'"),
    ]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [
        *("name", "trainer", "base", "base.loss", "base.optim.lr", "objective", "trials", "sampler.name", "resources"),
        *("search_space", "search_space.optim.lr", "search_space.optim.lr.low", "search_space.x.choices", "guards"),
    ]
)


@given(st.dictionaries(KEYS, JUNK, min_size=1, max_size=4))
def test_junk_gives_an_error_page_and_never_a_traceback(junk: dict[str, Any]) -> None:
    overrides = [f"{key}={json.dumps(value)}" for key, value in junk.items()]
    problems: tuple[Problem, ...] = ()
    try:
        parse_spec(GOOD, FILE, overrides)
    except SpecError as error:
        problems = error.problems
    assert all(problem.where for problem in problems)
