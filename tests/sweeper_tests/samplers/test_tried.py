"""Which configurations a study has tried."""

from hypothesis import given
from hypothesis import strategies as st

from sweeper.samplers.tried import TriedConfigurations
from sweeper.spec.validation.feasibility import key_of

PARAMS = st.fixed_dictionaries({"a": st.sampled_from([1, 1.0, True, 2]), "b": st.integers(0, 1)})


def test_a_trial_that_moves_on_frees_its_former_configuration() -> None:
    tried = TriedConfigurations()
    tried.note(1, {})
    tried.note(0, {})
    tried.note(0, {"a": 1})
    assert tried.has({}, before=2)
    assert not tried.has({}, before=1)
    tried.note(1, {"a": 2})
    assert not tried.has({}, before=9)


@given(st.lists(PARAMS, max_size=8), PARAMS, st.integers(0, 9))
def test_a_configuration_counts_as_tried_from_its_first_trial_on(trials: list[dict], asked: dict, before: int) -> None:
    tried = TriedConfigurations()
    for number, params in enumerate(trials):
        tried.note(number, {"a": params["a"]})  # cut off while it was sampled
        tried.note(number, params)
    assert tried.has(asked, before) == any(key_of(params) == key_of(asked) for params in trials[:before])
    assert set(tried.keys(before)) == {key_of(params) for params in trials[:before]}
    assert set(tried.keys()) == {key_of(params) for params in trials}
