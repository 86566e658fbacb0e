"""The exact error pages of bad dimensions of a search space."""

import pytest
from spec_pages import GOOD, errors_of, page

from mano_trainers.config import ModelConfig

JOINT = "{low: 0.1, high: 10.0, log: true}"

# Each case: what is replaced in GOOD, by what, and the exact error page.
BAD = {
    "misspelt dimension": (
        "loss.lambda_joint",
        "loss.lamda_joint",
        page(
            "unknown key `lamda_joint`", "s.yaml:5:3 search_space.loss.lamda_joint", "did you mean `loss.lambda_joint`?"
        ),
    ),
    "misspelt section": (
        "loss.lambda_joint",
        "los.lambda_joint",
        page("unknown key `los`", "s.yaml:5:3 search_space.los.lambda_joint", "did you mean `loss.lambda_joint`?"),
    ),
    "dimension without its section": (
        "optim.lr",
        "lr",
        page("unknown key `lr`", "s.yaml:6:3 search_space.lr", "did you mean `optim.lr`?"),
    ),
    "dimension that is a section": (
        "optim.lr",
        "model",
        page(
            "`model` is a section, not a value",
            "s.yaml:6:3 search_space.model",
            "name one of " + ", ".join(f"`model.{field}`" for field in ModelConfig.model_fields),
        ),
    ),
    "dimension below a value": (
        "optim.lr",
        "seed.lr",
        page("`seed` is a value and has no key `lr`", "s.yaml:6:3 search_space.seed.lr"),
    ),
    "log of zero": (
        "low: 1e-4",
        "low: 0",
        page("`low` must be > 0 on a log scale, but got 0", "s.yaml:6:13 search_space.optim.lr"),
    ),
    "reversed bounds": (
        "low: 0.1, high: 10.0",
        "low: 10, high: 0.1",
        page(
            "`low` must be less than `high`, but got low 10 and high 0.1", "s.yaml:5:22 search_space.loss.lambda_joint"
        ),
    ),
    "step that does not fit": (
        "high: 10.0, log: true",
        "high: 1.0, step: 0.4",
        page("step 0.4 does not divide the range 0.1 to 1", "s.yaml:5:22 search_space.loss.lambda_joint"),
    ),
    "bound the config refuses": (
        "low: 1e-4, high: 1e-2, log: true",
        "low: 0, high: 0.01",
        page("expected a number > 0 but got 0", "s.yaml:6:19 search_space.optim.lr.low"),
    ),
    "choice the config refuses": (
        JOINT,
        "{choices: [1, 2.5, -3]}",
        page("expected a number >= 0 but got -3", "s.yaml:5:41 search_space.loss.lambda_joint.choices.2"),
    ),
    "real numbers for a whole one": (
        f"loss.lambda_joint: {JOINT}",
        "optim.batch_size: {low: 16, high: 64}",
        page(
            "`optim.batch_size` is a whole number, and this dimension samples real numbers",
            "s.yaml:5:3 search_space.optim.batch_size",
            "add `type: int`",
        ),
    ),
    "NaN bound": (
        "low: 0.1",
        "low: .nan",
        page("expected a finite number but got .nan", "s.yaml:5:28 search_space.loss.lambda_joint.low"),
    ),
    "infinite bound": (
        "high: 10.0",
        "high: 1e999",
        page("expected a finite number but got 1e999", "s.yaml:5:39 search_space.loss.lambda_joint.high"),
    ),
    "missing bound": (
        "low: 0.1, ",
        "",
        page("missing key `low`", "s.yaml:5:3 search_space.loss.lambda_joint.low", "add `low:`"),
    ),
    "unknown type of dimension": (
        "low: 0.1",
        "type: flaot, low: 0.1",
        page(
            "expected one of `float`, `int`, `categorical`, but got `flaot`",
            "s.yaml:5:29 search_space.loss.lambda_joint.type",
            "did you mean `float`?",
        ),
    ),
    "no choices": (
        JOINT,
        "{choices: []}",
        page("expected at least 1 entry but got none", "s.yaml:5:32 search_space.loss.lambda_joint.choices"),
    ),
    "choice that is a list": (
        JOINT,
        "{choices: [1, [2]]}",
        page(
            "expected a string, a finite number, true, false or null, but got [2]; name each as a string, or write "
            "`variants`, which may set lists and mappings",
            "s.yaml:5:36 search_space.loss.lambda_joint.choices.1",
        ),
    ),
    "dimension that is a number": (
        JOINT,
        "3",
        page("expected a mapping but got 3", "s.yaml:5:22 search_space.loss.lambda_joint"),
    ),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_bad_dimensions(case: tuple[str, str, str]) -> None:
    old, new, expected = case
    assert old in GOOD
    assert errors_of(GOOD.replace(old, new)) == expected
