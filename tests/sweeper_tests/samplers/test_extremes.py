"""Search spaces at the extremes of what can be written: refused in one line, or searched without a warning."""

import math
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proposals import make_spec

from sweeper.errors import SpecError
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import TrialState
from sweeper.search_space.conditions import contains
from sweeper.spec.load import parse_spec
from sweeper.spec.resolve import SweepSpec
from sweeper.spec.validation.feasibility import Feasibility, feasibility_lines
from sweeper.views.spec import describe

TEXT = """\
name: toy
trainer: proposals:train
search_space:
  x: {}
  y: {{low: 0, high: 1}}
objective: {{metric: val/pa_mpjpe_mm, mode: min}}
trials: 40
"""
SMALL = "is too small for the precision of numbers"
BOUND = "a bound must be between -1e+100 and 1e+100, beyond which samplers overflow"
SOUND = Feasibility(0, {}, listed=False)
LIST = "; name each as a string, or write `variants`, which may set lists and mappings"


def page_of(dimension: str) -> str:
    with pytest.raises(SpecError) as error:
        parse_spec(TEXT.format(dimension), Path("s.yaml"))
    return error.value.render()


@pytest.mark.parametrize(
    ("dimension", "told"),
    [
        ("{low: -1e308, high: 1e308}", BOUND),
        ("{low: 0, high: 1e308}", BOUND),
        ("{low: 1e-308, high: 1.0, log: true}", f"the range 1e-308 to 1 {SMALL}"),
        ("{low: 0, high: 5e-324}", f"the range 0 to 4.94066e-324 {SMALL}"),
        ("{low: 1.0, high: 1.0000000000000002}", f"the range 1 to 1 {SMALL}"),
        (
            f"{{type: int, low: 0, high: 1{'0' * 400}}}",
            f"a bound of whole numbers must be between -{2**53} and {2**53}",
        ),
    ],
)
def test_bounds_that_no_sampler_can_compute_with_are_refused_once(dimension: str, told: str) -> None:
    assert page_of(dimension) == f"error: {told}\n  --> s.yaml:4:6 search_space.x"


@pytest.mark.parametrize(
    ("choices", "told"),
    [
        ("[[64, 32]]", ["[64, 32]"]),
        ("[{a: 1}, 3]", ["{'a': 1}"]),
        ("[[64], [32]]", ["[64]", "[32]"]),
    ],
)
def test_lists_and_mappings_are_refused_once_each(choices: str, told: list[str]) -> None:
    errors = [text.splitlines()[0] for text in page_of(f"{{choices: {choices}}}").split("\n\n")]
    expected = "error: expected a string, a finite number, true, false or null, but got "
    assert errors == [f"{expected}{value}{LIST}" for value in told]


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "cmaes", "nsga2"])
def test_null_is_a_choice_like_any_other(sampler: str, tmp_path: Path) -> None:
    space = {
        "x": {"choices": [None, 1]},
        "y": {"low": 0.0, "high": 1.0, "when": {"x": None}},
        "z": {"low": 0.0, "high": 1.0},
    }
    spec = make_spec(sampler, search_space=space)
    tried = _run(tmp_path, spec, 10)
    assert {params["x"] for params in tried} == {None, 1}
    assert all(("y" in params) == (params["x"] is None) for params in tried)
    assert [dict(trial.params) for trial in Ledger.open(tmp_path, "toy").trials()] == tried
    assert "one of null, 1" in describe(spec)


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "nsga2"])
def test_hundreds_of_parameters_and_thousands_of_choices_cause_no_warning(sampler: str, tmp_path: Path) -> None:
    space = {f"p{index}": {"low": 0.0, "high": 1.0} for index in range(100)}
    spec = make_spec(sampler, search_space=space | {"many": {"choices": [f"c{index}" for index in range(5000)]}})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tried = _run(tmp_path, spec, 8)
        text = describe(spec)
    assert len({params["many"] for params in tried}) > 1
    assert "c18, ... c4999 (5000 in all)" in text


def test_cmaes_proposes_many_parameters_without_drawing_until_all_fit(tmp_path: Path) -> None:
    """It used to draw a hundred times, in vain: a minute for one proposal of 500 parameters."""
    spec = make_spec("cmaes", search_space={f"p{index}": {"low": 0.0, "high": 1.0} for index in range(150)})
    tried = _run(tmp_path, spec, 2)
    at_a_bound = [value for params in tried for value in params.values() if value in (0.0, 1.0)]
    assert 3 < len(at_a_bound) < 60, "one draw of 300 numbers, of which 5 % are outside"
    assert any("cmaes takes seconds to propose 150 parameters" in line for line in feasibility_lines(spec, SOUND))
    assert feasibility_lines(make_spec("cmaes"), SOUND) == []


@settings(max_examples=15, deadline=None)
@given(st.data(), st.sampled_from(["tpe", "random", "qmc", "cmaes", "nsga2"]))
def test_every_proposal_is_in_its_dimension_and_none_repeats(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, sampler: str
) -> None:
    low = data.draw(st.floats(-1e6, 1e6))
    width = data.draw(st.floats(1e-3, 1e6))
    count = data.draw(st.integers(2, 9))
    choices = st.lists(st.none() | st.integers() | st.text(), min_size=1, unique_by=repr, max_size=5)
    space = {
        "x": {"low": low, "high": low + width},
        "n": {"type": "int", "low": -count, "high": count, "step": data.draw(st.sampled_from([1, count]))},
        "c": {"choices": data.draw(choices)},
    }
    spec = make_spec(sampler, search_space=space, seed=data.draw(st.integers(0, 10**6)))
    tried = _run(tmp_path_factory.mktemp("study"), spec, 9)
    for params in tried:
        assert params.keys() == space.keys()
        assert all(contains(spec.search_space[path], value) for path, value in params.items())
    assert len({repr(sorted(params.items())) for params in tried}) == len(tried)


def _run(folder: Path, spec: SweepSpec, count: int) -> list[dict[str, object]]:
    ledger, tried = Ledger.create(folder, "toy"), []
    for number in range(count):
        record = ledger.ask(spec)
        ledger.finish(record.id, TrialState.COMPLETE, "", {}, (math.sin(number),))
        tried.append(dict(record.params))
    return tried
