import pytest
from hypothesis import given
from hypothesis import strategies as st
from spec_pages import FILE, GOOD, errors_of, page
from studies import make_spec

from sweeper.analysis.cost import estimate_cost
from sweeper.errors import UserError
from sweeper.reproducibility.drift import spec_differences, with_new_defaults
from sweeper.spec.load import parse_spec
from sweeper.spec.resolve import SweepSpec
from sweeper.spec.run_length import full_epochs_of
from sweeper.views.spec import describe

NO_LENGTH = """\
name: toy
command: python train.py --lr {lr}
search_space: {lr: {low: 0.1, high: 1.0}}
objective: {metric: val/loss, mode: min}
trials: 4
"""


def test_the_length_of_a_run_is_the_most_epochs_that_a_trial_may_get() -> None:
    assert full_epochs_of(make_spec()) == 8
    varied = {"scale": {"low": 0.1, "high": 1.0}, "epochs": {"type": "int", "low": 2, "high": 30}}
    assert full_epochs_of(make_spec(search_space=varied)) == 30


def test_a_trainer_without_epochs_cannot_be_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeper.spec.run_length.resolve", lambda spec, params: {"steps": 100})
    with pytest.raises(UserError, match="no field `epochs`"):
        full_epochs_of(make_spec())


@given(st.integers(1, 40), st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_the_grace_grows_with_the_length_of_a_run(epochs: int, part: float) -> None:
    text = GOOD.replace("epochs: 2", f"epochs: {epochs}") + f"scheduler: {{grace: {part!r}}}\n"
    assert parse_spec(text, FILE).scheduler.grace_epochs == part * epochs


def test_the_grace_is_a_part_of_the_most_epochs_that_a_trial_may_get() -> None:
    varied = "search_space:\n  optim.epochs: {type: int, low: 2, high: 30}"
    spec = parse_spec(GOOD.replace("search_space:", varied) + "scheduler: {grace: 0.1}\n", FILE)
    assert spec.scheduler.grace_epochs == 3


def test_a_whole_number_as_grace_is_a_number_of_epochs() -> None:
    written, known = (parse_spec(GOOD + f"scheduler: {{{key}: 3}}\n", FILE) for key in ("grace", "grace_epochs"))
    assert written.scheduler == known.scheduler
    assert written.effective == known.effective


def test_check_and_plan_show_the_epochs_of_the_grace() -> None:
    spec = parse_spec(GOOD.replace("epochs: 2", "epochs: 12") + "scheduler: {grace: 0.25}\n", FILE)
    assert "asha: ranks after 3 epochs (0.25 of a full run), 1 of 2 continues" in describe(spec)
    assert estimate_cost(spec, full_epochs_of(spec), None, 10**9).rungs == {3: 4, 6: 2, 12: 1}


def test_a_recorded_grace_is_read_as_it_was() -> None:
    text = GOOD + "scheduler: {grace: 0.5}\n"
    spec, longer = (parse_spec(each, FILE) for each in (text, text.replace("epochs: 2", "epochs: 8")))
    recorded = with_new_defaults(spec.effective)
    assert SweepSpec.model_validate(spec.effective, strict=False).scheduler == spec.scheduler
    assert spec_differences(recorded, spec.effective) == []
    assert spec_differences(recorded, longer.effective) == [
        "base.optim.epochs: 2 -> 8",
        "scheduler.grace_epochs: 1.0 -> 4.0",
    ]


def test_the_grace_is_ignored_where_nothing_is_ranked() -> None:
    assert parse_spec(NO_LENGTH + "scheduler: {name: none, grace: 0.5}\n", FILE).scheduler.grace_epochs == 2


@pytest.mark.parametrize(
    ("grace", "hint"), [("0.0", ""), ("1.5", "; write `grace_epochs` for it"), ("-1", ""), ("0", ""), ("half", "")]
)
def test_a_grace_is_a_part_of_a_run_or_a_whole_number(grace: str, hint: str) -> None:
    shown = repr(grace) if grace == "half" else grace
    what = "expected a part of a full run, between 0 and 1, or a whole number of epochs >= 1, but got "
    expected = page(what + shown + hint, "s.yaml:9:20 scheduler.grace")
    assert errors_of(GOOD + f"scheduler: {{grace: {grace}}}\n") == expected


def test_a_grace_is_given_only_once() -> None:
    what = "`grace` and `grace_epochs` both say when trials are first ranked"
    for grace in ("0.5", "1"):
        expected = page(what, "s.yaml:9:20 scheduler.grace", "leave one of them out")
        assert errors_of(GOOD + f"scheduler: {{grace: {grace}, grace_epochs: 2}}\n") == expected


def test_a_part_of_a_run_of_unknown_length_is_refused() -> None:
    what = "`grace: 0.5` is a part of a full run, but cannot tell how long a full run is: the trainer's config has "
    expected = page(
        what + "no field `epochs`", "s.yaml:6:20 scheduler.grace", "say the first rung in epochs: `grace_epochs`"
    )
    assert errors_of(NO_LENGTH + "scheduler: {grace: 0.5}\n") == expected
