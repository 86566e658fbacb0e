"""The exact error pages of ablation designs that make no sense."""

import pytest
from spec_pages import ABLATION, FILE, FRACTION, errors_of, page

from sweeper.errors import SpecError
from sweeper.spec.load import parse_spec

FACTORS = "ablation.factors"

# Each case: the text, what is replaced in it, by what, and the exact error page.
BAD = {
    "misspelt field of a listed factor": (
        ABLATION.replace("  baseline: {loss.lambda_joint: 5.0}\n", ""),
        "loss.lambda_joint: [0",
        "loss.lamda_joint: [0",
        page(
            "unknown key `lamda_joint`", f"s.yaml:8:5 {FACTORS}.loss.lamda_joint", "did you mean `loss.lambda_joint`?"
        ),
    ),
    "misspelt field of a level": (
        ABLATION,
        "{model.head: rot6d}",
        "{model.hed: rot6d}",
        page("unknown key `hed`", f"s.yaml:11:13 {FACTORS}.head.six.model.hed", "did you mean `model.head`?"),
    ),
    "value that the config refuses": (
        ABLATION,
        "25.0]",
        "-25.0]",
        page("expected a number >= 0 but got -25", f"s.yaml:8:35 {FACTORS}.loss.lambda_joint.2"),
    ),
    "choice that the config refuses": (
        ABLATION,
        "rot6d}",
        "rot6}",
        page(
            "expected one of `theta`, `rot6d`, `pca`, `joints`, but got `rot6`",
            f"s.yaml:11:25 {FACTORS}.head.six.model.head",
            "did you mean `rot6d`?",
        ),
    ),
    "unknown design": (
        ABLATION,
        "one_at_a_time",
        "one_by_one",
        page(
            "expected one of `one_at_a_time`, `leave_one_out`, `add_one_in`, `full_factorial`, `fractional_factorial`, "
            "`variants`, but got `one_by_one`",
            "s.yaml:6:11 ablation.design",
        ),
    ),
    "level named twice": (
        ABLATION,
        "[0.0, 5.0, 25.0]",
        "[0.0, 5.0, 5]",
        page("the level 5.0 appears twice", f"s.yaml:8:30 {FACTORS}.loss.lambda_joint.1", "remove one of the two"),
    ),
    "baseline that is no level": (
        ABLATION,
        "baseline: {loss.lambda_joint: 5.0}",
        "baseline: {loss.lambda_joint: 6.0}",
        page(
            "the baseline `6` is not among the levels of `loss.lambda_joint`",
            "s.yaml:12:33 ablation.baseline.loss.lambda_joint",
            "known: 0, 5, 25",
        ),
    ),
    "baseline of no factor": (
        ABLATION,
        "baseline: {loss.lambda_joint: 5.0}",
        "baseline: {heat: six}",
        page("there is no factor `heat`", "s.yaml:12:14 ablation.baseline.heat", "did you mean `head`?"),
    ),
    "one level": (
        ABLATION,
        "[0.0, 5.0, 25.0]",
        "[5.0]",
        page("a factor needs at least 2 levels but got 1", f"s.yaml:8:24 {FACTORS}.loss.lambda_joint"),
    ),
    "two factors of one field": (
        ABLATION,
        "{model.head: rot6d}",
        "{model.head: rot6d, loss.lambda_joint: 3.0}",
        page(
            "the factor `loss.lambda_joint` sets `loss.lambda_joint` too",
            f"s.yaml:11:32 {FACTORS}.head.six.loss.lambda_joint",
            "make the two one factor",
        ),
    ),
    "three levels to leave out": (
        ABLATION,
        "design: one_at_a_time",
        "design: leave_one_out",
        page(
            "the design `leave_one_out` has factors of 2 levels, but this one has 3",
            f"s.yaml:8:24 {FACTORS}.loss.lambda_joint",
        ),
    ),
    "no seeds": (
        ABLATION,
        "seeds: [0, 1, 2]\n",
        "",
        page("missing key `seeds`", "s.yaml:1:1 seeds", "one run of each says nothing: add `seeds: [0, 1, 2, 3, 4]`"),
    ),
    "no kind": (
        ABLATION,
        "kind: ablation\n",
        "",
        page("missing key `kind`", "s.yaml:4:1 ablation", "add `kind: ablation`"),
    ),
    "no generators": (
        FRACTION,
        "  generators: [D = ABC]\n",
        "",
        page(
            "missing key `generators`",
            "s.yaml:3:1 ablation.generators",
            "for example [`D = ABC`]: one letter per factor, in the order written",
        ),
    ),
    "aliased main effects": (
        FRACTION,
        "[D = ABC]",
        "[D = A]",
        page(
            "A (`loss.lambda_param`) and D (`augment`) are the same in every run, so their effects cannot be told "
            "apart",
            "s.yaml:10:16 ablation.generators.0",
            "use a product of at least two factors, another one for each generator",
        ),
    ),
    "generators that alias each other": (
        FRACTION,
        "[D = ABC]",
        "[C = -AB, D = -AB]",
        page(
            "C (`loss.lambda_angular`) and D (`augment`) are the same in every run, so their effects cannot be told "
            "apart",
            "s.yaml:10:25 ablation.generators.1",
            "use a product of at least two factors, another one for each generator",
        ),
    ),
    "letter of no factor": (
        FRACTION,
        "D = ABC",
        "D = ABE",
        page("there is no factor E: the 4 factors are A to D", "s.yaml:10:16 ablation.generators.0"),
    ),
    "no generator": (
        FRACTION,
        "D = ABC",
        "D from ABC",
        page(
            "expected a generator such as `D = ABC`, but got `D from ABC`",
            "s.yaml:10:16 ablation.generators.0",
            "one letter per factor, in the order written",
        ),
    ),
    "fraction without its baseline": (
        FRACTION,
        "D = ABC",
        "D = AB",
        page(
            "`D = AB` leaves the baseline out of the runs",
            "s.yaml:10:16 ablation.generators.0",
            "write `D = -AB`, or choose another baseline",
        ),
    ),
    "long names": (
        ABLATION,
        "six: {",
        f"{'s' * 70}: {{",
        page(
            f"the name of a run, `head-{'s' * 35}...`, has 75 characters, more than 64",
            f"s.yaml:7:3 {FACTORS}",
            "shorten the names of factors and levels",
        ),
    ),
}


@pytest.mark.parametrize("case", BAD, ids=list(BAD))
def test_error_pages(case: str) -> None:
    text, old, new, expected = BAD[case]
    assert text.count(old) == 1
    assert errors_of(text.replace(old, new)) == expected


def test_all_errors_are_reported_at_once() -> None:
    text = ABLATION.replace("epochs: 2", "epochs: -2").replace("rot6d", "rot6").replace("seeds: [0, 1, 2]\n", "")
    with pytest.raises(SpecError) as error:
        parse_spec(text, FILE)
    assert [problem.where for problem in error.value.problems] == [
        "s.yaml:1:1 seeds",
        "s.yaml:4:19 base.optim.epochs",
        "s.yaml:11:25 ablation.factors.head.six.model.head",
    ]
