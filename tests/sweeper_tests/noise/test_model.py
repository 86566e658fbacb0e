"""What a study knows about its noise: on simulated truths, and from the trials of a ledger."""

import sys
from pathlib import Path

import numpy as np
import pytest
from studies import OBJECTIVE, make_spec

from sweeper.ledger.trial import Report, TrialRecord, TrialState
from sweeper.noise.model import StudyNoise, noise_of
from sweeper.noise.words import floor_sentence, interval_of, percent, verdict_sentence
from sweeper.search_space.dimensions import ParamValue

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SPACE = {"lr": {"low": 1e-4, "high": 1.0, "log": True}, "seed": {"low": 0, "high": 99, "type": "int"}}


def trial(
    number: int, value: float, params: dict[str, ParamValue], state: TrialState = TrialState.COMPLETE, **others: float
) -> TrialRecord:
    metrics = {OBJECTIVE: value} | {f"val/{name}": other for name, other in others.items()}
    return TrialRecord(f"toy-{number:04d}", number, params, state, reports=(Report(1, 8.0, metrics, None, 1),))


def study(values: list[float], seeds: int = 1, **changes: object) -> StudyNoise | None:
    """Configurations side by side on the log scale; each run of one is 0.1 worse than the one before."""
    trials = [
        trial(10 * index + seed, value + 0.1 * seed, {"lr": 10 ** (-3 + index / 5), "seed": seed})
        for index, value in enumerate(values)
        for seed in range(seeds)
    ]
    return noise_of(make_spec(search_space=SPACE, **changes), trials)


def test_intervals_and_probabilities_are_calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from noise_model import score_of

    score = score_of(studies=12, seed=3, most=14)
    assert 0.85 <= np.mean(score.inside) <= 1.0
    said, true = np.array(score.said), np.array(score.true)
    assert true[said < 0.05].mean() < 0.1, "what is said to be hardly the best hardly ever is"
    assert abs(said[said > 0.3].mean() - true[said > 0.3].mean()) < 0.35
    sys.modules.pop("noise_model")


def test_the_noise_is_measured_between_runs_of_one_configuration() -> None:
    noise = study([20.0, 24.0, 21.0, 26.0, 23.0, 25.0, 22.0], seeds=3)
    assert noise is not None
    assert noise.repeats == 14
    assert noise.sd == pytest.approx(0.1, rel=0.3)
    [best] = noise.could_be_best
    assert (best.trial.id, len(best.runs)) == ("toy-0000", 3)
    assert best.low < best.average < best.high
    assert best.average == pytest.approx(20.1)
    assert set(noise.by_trial) >= {"toy-0000", "toy-0001", "toy-0002"}


def test_runs_that_differ_by_less_than_the_noise_could_all_be_the_best() -> None:
    noise = study([20.0, 20.1, 20.05, 20.12, 20.02, 20.08])
    assert noise is not None
    assert len(noise.could_be_best) > 2
    assert sum(each.p_best for each in noise.candidates) == pytest.approx(1.0)
    assert all(each.p_best < 0.9 for each in noise.candidates)


def test_the_same_trials_give_the_same_result_in_every_process() -> None:
    noise = study([20.0, 21.0, 22.0, 23.0, 24.0])
    from sweeper.noise import model

    model._posterior.cache_clear()
    again = study([20.0, 21.0, 22.0, 23.0, 24.0])
    assert noise == again


def test_large_values_can_be_the_better_ones() -> None:
    objective = {"metric": "val/accuracy", "mode": "max"}
    trials = [
        TrialRecord(
            f"toy-{index:04d}",
            index,
            {"lr": 10 ** (-3 + index / 5)},
            TrialState.COMPLETE,
            reports=(Report(1, 8.0, {"val/accuracy": 0.5 + 0.05 * index}, None, 1),),
        )
        for index in range(8)
    ]
    noise = noise_of(make_spec(search_space={"lr": SPACE["lr"]}, objective=objective), trials)
    assert noise is not None
    assert noise.candidates[0].trial.id == "toy-0007"
    assert noise.candidates[0].low < 0.85 < noise.candidates[0].high + 0.05


@pytest.mark.parametrize("params", [{"lr": 0.5}, {"lr": 0.4}])
def test_a_configuration_that_collapsed_or_has_no_skill_is_not_a_candidate(params: dict[str, ParamValue]) -> None:
    good = [trial(index, 20.0 + index, {"lr": 10 ** (-3 + index / 5)}) for index in range(6)]
    bad = [
        trial(7, 18.0, params, skill=-0.1),
        trial(8, 18.0, params),
        trial(9, 47.0, params, TrialState.COLLAPSED),
        trial(10, 19.0, {"lr": 0.3}, TrialState.PRUNED),
    ]
    noise = noise_of(make_spec(search_space={"lr": SPACE["lr"]}), [*good, *bad])
    assert noise is not None
    assert not {"toy-0007", "toy-0008", "toy-0009", "toy-0010"} & set(noise.by_trial)


def test_a_few_trials_that_failed_to_learn_do_not_hide_the_noise_of_the_others() -> None:
    noise = study([20.0, 20.5, 21.0, 20.2, 20.8, 47.0, 47.0, 47.0, 20.4, 20.9])
    assert noise is not None
    assert len(noise.candidates) == 7
    assert noise.sd > 0.02


@pytest.mark.parametrize(
    ("values", "changes"),
    [
        ([20.0, 21.0, 22.0, 23.0], {}),
        ([20.0] * 6, {}),
        ([20.0, 21.0, 22.0, 23.0, 24.0], {"objective": [{"metric": name, "mode": "min"} for name in (OBJECTIVE, "b")]}),
    ],
)
def test_there_is_no_estimate_where_none_is_possible(values: list[float], changes: dict[str, object]) -> None:
    assert study(values, **changes) is None


def test_every_kind_of_parameter_is_handled() -> None:
    space = {
        "size": {"choices": ["small", "large", None, True, 7]},
        "depth": {"low": 1, "high": 9, "type": "int", "when": {"size": ["large"]}},
        "rate": {"values": [0.1, 0.2, 0.9]},
    }
    choices: list[ParamValue] = ["small", "large", None, True, 7, "small"]
    trials = [
        trial(index, 20.0 + 0.3 * index, {"size": size, "rate": 0.2} | ({"depth": 3} if size == "large" else {}))
        for index, size in enumerate(choices)
    ]
    noise = noise_of(make_spec(search_space=space), trials)
    assert noise is not None
    assert len(noise.candidates) == 5, "the two small ones are one configuration"
    assert noise.repeats == 1


def test_the_noise_is_described_in_words() -> None:
    noise, objective = study([20.0, 20.1, 22.0, 20.05, 23.0, 20.2], seeds=2), make_spec().objective
    assert noise is not None
    words = floor_sentence(noise, objective)
    assert words.startswith("noise: two runs of one configuration differ by 0.")
    assert "(measured on 6 repeated runs); differences below 0." in words
    assert words.endswith(" mm between single runs mean nothing")
    assert " or 00" in verdict_sentence(noise, objective)
    assert " to 2" in interval_of(noise.candidates[0], objective)
    assert [percent(p) for p in (0.001, 0.5, 0.999)] == ["<1%", "50%", ">99%"]
