"""Ablation designs: which runs they stand for."""

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spec_pages import ABLATION, FILE, FRACTION, errors_of, page

from sweeper.spec.design import defining_words, design_runs, factors_of, resolution_of
from sweeper.spec.load import load_spec, parse_spec
from sweeper.spec.resolve import SweepSpec, resolve
from sweeper.views.spec import describe


def parse(text: str = ABLATION, *overrides: str) -> SweepSpec:
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
    spec = parse(ABLATION, "ablation.design=full_factorial")
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
    sign = "-" if len(right) % 2 == 0 else ""  # so that all factors at their first level make up a run
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
    assert errors_of(text.replace("baseline: b", "baseline: c")) == page(
        "the baseline `c` is not among the variants", "s.yaml:3:40 ablation.baseline", "known: a, b"
    )


def test_the_effective_spec_reads_back_and_overrides_reach_levels() -> None:
    spec = parse(ABLATION, "ablation.factors.head.six.model.head=pca", "ablation.factors.loss.lambda_joint=[5, 7]")
    assert SweepSpec.model_validate(spec.effective).effective == spec.effective
    assert resolve(spec, {"variant": "head-six", "seed": 0})["model"]["head"] == "pca"
    assert list(spec.variants) == ["baseline", "lambda_joint-7", "head-six"]
    assert "variant  one of baseline, lambda_joint-7, head-six" in describe(spec)


@pytest.mark.parametrize("path", sorted(Path("search_spaces").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_spec_is_valid(path: Path) -> None:
    spec = load_spec(path)
    assert spec.trials >= 1
    assert (spec.kind == "ablation") == (spec.ablation is not None)


def test_check_names_factors_levels_and_what_a_fraction_aliases() -> None:
    assert "  ablation    one at a time: loss.lambda_joint (0, 5, 25); head (theta, six)\n" in describe(parse())
    assert "; D = ABC, so I = ABCD: resolution 4\n" in describe(parse(FRACTION))


def test_the_guides_example_is_valid() -> None:
    guide = Path("docs/guide.md").read_text()
    block = next(part for part in guide.split("```yaml\n")[1:] if part.startswith("kind: ablation")).split("```")[0]
    spec = parse(f"name: example\nobjective: {{metric: val/pa_mpjpe_mm, mode: min}}\n{block}")
    assert (len(spec.variants), spec.trials) == (8, 40)
