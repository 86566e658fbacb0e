"""Designs of ablations: which runs they stand for, and the exact error page of those that make no sense."""

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.errors import SpecError
from sweeper.spec.design import defining_words, design_runs, factors_of, resolution_of
from sweeper.spec.load import load_spec, parse_spec
from sweeper.spec.resolve import SweepSpec, resolve
from sweeper.views.spec import describe

FILE = Path("s.yaml")
GOOD = """\
name: parts
kind: ablation
base:
  optim: {epochs: 2}
ablation:
  design: one_at_a_time
  factors:
    loss.lambda_joint: [0.0, 5.0, 25.0]
    head:
      theta: {model.head: theta}
      six: {model.head: rot6d}
  baseline: {loss.lambda_joint: 5.0}
seeds: [0, 1, 2]
objective: {metric: val/pa_mpjpe_mm, mode: min}
"""


def parse(text: str = GOOD, *overrides: str) -> SweepSpec:
    return parse_spec(text, FILE, overrides)


def test_one_at_a_time_is_the_baseline_and_each_other_level_alone() -> None:
    spec = parse()
    assert list(spec.variants) == ["baseline", "lambda_joint-0", "lambda_joint-25", "head-six"]
    assert spec.trials == 12
    assert spec.scheduler.name == "none"
    config = resolve(spec, {"variant": "lambda_joint-25", "seed": 2})
    assert (config["loss"]["lambda_joint"], config["model"]["head"], config["seed"]) == (25.0, "theta", 2)
    assert resolve(spec, {"variant": "baseline", "seed": 0})["loss"]["lambda_joint"] == 5.0


def test_leave_one_out_starts_from_all_and_add_one_in_from_none() -> None:
    factors = {name: ["off", "on"] for name in "ab"}
    built = factors_of(factors)
    on, off = dict.fromkeys("ab", "on"), dict.fromkeys("ab", "off")
    runs = {run.name: run.levels for run in design_runs("leave_one_out", built, on, [])}
    assert runs == {"baseline": on, "without_a": {"a": "off", "b": "on"}, "without_b": {"a": "on", "b": "off"}}
    runs = {run.name: run.levels for run in design_runs("add_one_in", built, off, [])}
    assert runs == {"baseline": off, "with_a": {"a": "on", "b": "off"}, "with_b": {"a": "off", "b": "on"}}


def test_a_full_factorial_is_every_combination_once() -> None:
    spec = parse(GOOD, "ablation.design=full_factorial")
    assert len(spec.variants) == 6
    assert {tuple(sorted(settings.items())) for settings in spec.variants.values()} == {
        (("loss.lambda_joint", joint), ("model.head", head))
        for joint, head in product((0.0, 5.0, 25.0), ("theta", "rot6d"))
    }
    assert "baseline" in spec.variants
    assert "lambda_joint-25_head-six" in spec.variants


@given(st.integers(4, 7), st.data())
def test_a_fraction_is_balanced_orthogonal_and_true_to_its_generator(count: int, data: st.DataObject) -> None:
    letters = "ABCDEFG"[: count - 1]
    right = "".join(sorted(data.draw(st.sets(st.sampled_from(letters), min_size=2))))
    sign = "-" if len(right) % 2 == 0 else ""  # so that all factors at their first level are a run
    last = "ABCDEFG"[count - 1]
    factors = factors_of({f"f{index}": ["lo", "hi"] for index in range(count)})
    runs = design_runs("fractional_factorial", factors, dict.fromkeys(factors, "lo"), [f"{last} = {sign}{right}"])
    assert len({run.name for run in runs}) == len(runs) == 2 ** (count - 1)
    signs = [[1 if level == "hi" else -1 for level in run.levels.values()] for run in runs]
    columns = list(zip(*signs, strict=True))
    assert all(sum(column) == 0 for column in columns)
    assert all(
        sum(a * b for a, b in zip(one, other, strict=True)) == 0
        for index, one in enumerate(columns)
        for other in columns[:index]
    )
    assert resolution_of([f"{last} = {right}"]) == len(right) + 1


def test_defining_relation_of_a_textbook_fraction() -> None:
    # Montgomery, chapter 8: 2^(6-2) with E = ABC, F = BCD has I = ABCE = BCDF = ADEF, resolution IV.
    words = {"".join(sorted(word.letters)) for word in defining_words(["E = ABC", "F = BCD"])}
    assert words == {"ABCE", "BCDF", "ADEF"}
    assert resolution_of(["E = ABC", "F = BCD"]) == 4


def test_an_ablation_of_named_variants_has_a_baseline_among_them() -> None:
    text = "name: v\nkind: ablation\nablation: {design: variants, baseline: b}\nseeds: [0, 1]\n"
    text += "variants: {a: {optim.lr: 1e-3}, b: {}}\nobjective: {metric: val/pa_mpjpe_mm, mode: min}\n"
    assert list(parse(text).variants) == ["a", "b"]
    with pytest.raises(SpecError) as error:
        parse(text.replace("baseline: b", "baseline: c"))
    assert error.value.render() == page(
        "the baseline `c` is not among the variants", "s.yaml:3:40 ablation.baseline", "known: a, b"
    )


def test_the_effective_spec_can_be_read_again_and_overrides_reach_levels() -> None:
    spec = parse(GOOD, "ablation.factors.head.six.model.head=pca", "ablation.factors.loss.lambda_joint=[5, 7]")
    assert SweepSpec.model_validate(spec.effective).effective == spec.effective
    assert resolve(spec, {"variant": "head-six", "seed": 0})["model"]["head"] == "pca"
    assert list(spec.variants) == ["baseline", "lambda_joint-7", "head-six"]
    assert "variant  one of baseline, lambda_joint-7, head-six" in describe(spec)


@pytest.mark.parametrize("path", sorted(Path("search_spaces").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_spec_is_valid(path: Path) -> None:
    spec = load_spec(path)
    assert spec.trials >= 1
    assert (spec.kind == "ablation") == (spec.ablation is not None)


def test_check_names_factors_levels_and_what_a_fraction_mixes() -> None:
    assert "  ablation    one at a time: loss.lambda_joint (0, 5, 25); head (theta, six)\n" in describe(parse())
    assert "; D = ABC, so I = ABCD: resolution 4\n" in describe(parse(FRACTION))


def test_the_example_of_the_guide_is_valid() -> None:
    guide = Path("docs/guide.md").read_text()
    block = next(part for part in guide.split("```yaml\n")[1:] if part.startswith("kind: ablation")).split("```")[0]
    spec = parse(f"name: example\nobjective: {{metric: val/pa_mpjpe_mm, mode: min}}\n{block}")
    assert (len(spec.variants), spec.trials) == (8, 40)


def page(what: str, where: str, help: str | None = None) -> str:
    return f"error: {what}\n  --> {where}" + (f"\nhelp: {help}" if help else "")


FRACTION = """\
name: parts
kind: ablation
ablation:
  design: fractional_factorial
  factors:
    loss.lambda_param: [0.5, 1.0]
    loss.lambda_joint: [1.0, 5.0]
    loss.lambda_angular: [0.0, 1.0]
    augment: [false, true]
  generators: [D = ABC]
seeds: [0, 1, 2]
objective: {metric: val/pa_mpjpe_mm, mode: min}
"""
FACTORS = "ablation.factors"

# Each case: the text, what is replaced in it, by what, and the exact error page.
BAD = {
    "misspelt field of a listed factor": (
        GOOD.replace("  baseline: {loss.lambda_joint: 5.0}\n", ""),
        "loss.lambda_joint: [0",
        "loss.lamda_joint: [0",
        page(
            "unknown key `lamda_joint`", f"s.yaml:8:5 {FACTORS}.loss.lamda_joint", "did you mean `loss.lambda_joint`?"
        ),
    ),
    "misspelt field of a level": (
        GOOD,
        "{model.head: rot6d}",
        "{model.hed: rot6d}",
        page("unknown key `hed`", f"s.yaml:11:13 {FACTORS}.head.six.model.hed", "did you mean `model.head`?"),
    ),
    "value that the config refuses": (
        GOOD,
        "25.0]",
        "-25.0]",
        page("expected a number >= 0 but got -25", f"s.yaml:8:35 {FACTORS}.loss.lambda_joint.2"),
    ),
    "choice that the config refuses": (
        GOOD,
        "rot6d}",
        "rot6}",
        page(
            "expected one of `theta`, `rot6d`, `pca`, `joints`, but got `rot6`",
            f"s.yaml:11:25 {FACTORS}.head.six.model.head",
            "did you mean `rot6d`?",
        ),
    ),
    "unknown design": (
        GOOD,
        "one_at_a_time",
        "one_by_one",
        page(
            "expected one of `one_at_a_time`, `leave_one_out`, `add_one_in`, `full_factorial`, `fractional_factorial`, "
            "`variants`, but got `one_by_one`",
            "s.yaml:6:11 ablation.design",
        ),
    ),
    "level named twice": (
        GOOD,
        "[0.0, 5.0, 25.0]",
        "[0.0, 5.0, 5]",
        page("the level 5.0 appears twice", f"s.yaml:8:30 {FACTORS}.loss.lambda_joint.1", "remove one of the two"),
    ),
    "baseline that is no level": (
        GOOD,
        "baseline: {loss.lambda_joint: 5.0}",
        "baseline: {loss.lambda_joint: 6.0}",
        page(
            "the baseline `6` is not among the levels of `loss.lambda_joint`",
            "s.yaml:12:33 ablation.baseline.loss.lambda_joint",
            "known: 0, 5, 25",
        ),
    ),
    "baseline of no factor": (
        GOOD,
        "baseline: {loss.lambda_joint: 5.0}",
        "baseline: {heat: six}",
        page("there is no factor `heat`", "s.yaml:12:14 ablation.baseline.heat", "did you mean `head`?"),
    ),
    "one level": (
        GOOD,
        "[0.0, 5.0, 25.0]",
        "[5.0]",
        page("a factor needs at least 2 levels but got 1", f"s.yaml:8:24 {FACTORS}.loss.lambda_joint"),
    ),
    "two factors of one field": (
        GOOD,
        "{model.head: rot6d}",
        "{model.head: rot6d, loss.lambda_joint: 3.0}",
        page(
            "the factor `loss.lambda_joint` sets `loss.lambda_joint` too",
            f"s.yaml:11:32 {FACTORS}.head.six.loss.lambda_joint",
            "make the two one factor",
        ),
    ),
    "three levels to leave out": (
        GOOD,
        "design: one_at_a_time",
        "design: leave_one_out",
        page(
            "the design `leave_one_out` has factors of 2 levels, but this one has 3",
            f"s.yaml:8:24 {FACTORS}.loss.lambda_joint",
        ),
    ),
    "no seeds": (
        GOOD,
        "seeds: [0, 1, 2]\n",
        "",
        page("missing key `seeds`", "s.yaml:1:1 seeds", "one run of each says nothing: add `seeds: [0, 1, 2, 3, 4]`"),
    ),
    "no kind": (
        GOOD,
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
        GOOD,
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
    with pytest.raises(SpecError) as error:
        parse(text.replace(old, new))
    assert error.value.render() == expected


def test_all_errors_are_told_at_once() -> None:
    text = GOOD.replace("epochs: 2", "epochs: -2").replace("rot6d", "rot6").replace("seeds: [0, 1, 2]\n", "")
    with pytest.raises(SpecError) as error:
        parse(text)
    assert [problem.where for problem in error.value.problems] == [
        "s.yaml:1:1 seeds",
        "s.yaml:4:19 base.optim.epochs",
        "s.yaml:11:25 ablation.factors.head.six.model.head",
    ]
