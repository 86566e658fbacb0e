"""A study's noise model: objective = f(parameters) + what the seed makes of it. Pure, from the trials alone.

It knows the candidates that ran to their end. Those that a guard stopped, or that ended no better than a constant
prediction or far from all others, are left out: they say where not to search, and nothing of the noise among the good
ones. Imports scipy only when there is something to compute.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sweeper.entrypoint.offers import DEFAULT_OFFERS
from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.noise.places import places_of
from sweeper.spec.model import SEED, SpecFile

if TYPE_CHECKING:
    from sweeper.noise.gaussian_process import Posterior

FEWEST: Final = 5
"""Fewest configurations for any statement."""
MOST: Final = 100
"""Configurations that are modelled, the best ones: the time goes with the cube of their number."""
FAR: Final = 4.0
"""Values are limited to this many times the distance from the best to the end of the best quarter."""
CREDIBLE: Final = 0.95


@dataclass(frozen=True)
class Configuration:
    """A configuration, whatever its seeds.

    Attributes:
        trial: the trial that tried it first.
        runs: that ran to their end.
        average: of the objective over them.
        low: lower end of the 95 % interval of its mean over seeds.
        high: upper end.
        mean: expected mean over seeds: its average, drawn towards the results of similar configurations.
        p_best: probability that no other one has a better mean over seeds.
        p_good_enough: probability that no other one is better by more than the spec's `good_enough`.
    """

    trial: TrialRecord
    runs: tuple[TrialRecord, ...]
    average: float
    low: float
    high: float
    mean: float
    p_best: float
    p_good_enough: float


@dataclass(frozen=True)
class StudyNoise:
    """What a study knows of its noise.

    Attributes:
        candidates: the most probable best first.
        sd: standard deviation between runs of one configuration.
        repeats: runs beyond the first of each configuration; 0: the noise is fitted, not measured.
    """

    candidates: tuple[Configuration, ...]
    sd: float
    repeats: int

    @property
    def could_be_best(self) -> list[Configuration]:
        """The fewest configurations of which one is the best with probability 0.95, the most probable first."""
        found: list[Configuration] = []
        for candidate in self.candidates:
            if sum(each.p_best for each in found) >= CREDIBLE:
                break
            found.append(candidate)
        return found

    @property
    def by_trial(self) -> Mapping[str, Configuration]:
        """ID of each run -> its configuration."""
        return {run.id: candidate for candidate in self.candidates for run in candidate.runs}


def configuration_key(trial: TrialRecord) -> str:
    """Equal for trials that differ in nothing but the seed."""
    return repr(sorted((path, value) for path, value in trial.params.items() if path != SEED))


def noise_of(spec: SpecFile, trials: Sequence[TrialRecord]) -> StudyNoise | None:
    """What the candidates that ran to their end say; None for fewer than five configurations, several objectives or
    variants, which `sweeper ablate` compares seed by seed."""
    if spec.variants or len(spec.objectives) > 1:
        return None
    groups = _groups(spec, trials)
    if len(groups) < FEWEST:
        return None
    objective = spec.objective
    losses = [[objective.loss(trial.value(objective.metric) or 0.0) for trial in group] for group in groups]
    averages = [sum(own) / len(own) for own in losses]
    within = sum((loss - mean) ** 2 for own, mean in zip(losses, averages, strict=True) for loss in own)
    runs = tuple(map(len, groups))
    if max(averages) == min(averages) and within == 0.0:
        return None
    places = places_of(spec.search_space, [dict(group[0].params) for group in groups])
    drawn = _posterior(places, tuple(averages), runs, within)
    candidates = _candidates(spec, groups, averages, drawn)
    return StudyNoise(candidates, float(_median(drawn.noise_sd)), sum(runs) - len(runs))


def _groups(spec: SpecFile, trials: Sequence[TrialRecord]) -> list[list[TrialRecord]]:
    """The runs of each configuration that is modelled, in the order of their numbers."""
    objective, skill = spec.objective, DEFAULT_OFFERS.skill
    found: dict[str, list[TrialRecord]] = {}
    unsteady = {configuration_key(trial) for trial in trials if trial.state is TrialState.COLLAPSED}
    for trial in trials:
        is_over = trial.state is TrialState.COMPLETE and trial.role == "candidate"
        key = configuration_key(trial)
        if is_over and trial.value(objective.metric) is not None and trial.metrics.get(skill, 1.0) > 0:
            found.setdefault(key, []).append(trial)

    def average(group: Sequence[TrialRecord]) -> float:
        return sum(objective.loss(trial.value(objective.metric) or 0.0) for trial in group) / len(group)

    ranked = sorted((average(group), group[0].number, group) for key, group in found.items() if key not in unsteady)
    if len(ranked) > FEWEST:
        best, quarter = ranked[0][0], ranked[max(FEWEST - 1, len(ranked) // 4)][0]
        ranked = [entry for entry in ranked if entry[0] <= best + FAR * (quarter - best)]
    return [group for _, _, group in ranked[:MOST]]


@lru_cache(maxsize=8)
def _posterior(
    places: tuple[tuple[float, ...], ...], averages: tuple[float, ...], runs: tuple[int, ...], within: float
) -> "Posterior":
    """Several pages ask the same about one study."""
    import numpy as np

    from sweeper.noise.gaussian_process import posterior

    return posterior(np.array(places), np.array(averages), np.array(runs, float), within)


def _candidates(
    spec: SpecFile, groups: Sequence[Sequence[TrialRecord]], averages: Sequence[float], drawn: "Posterior"
) -> tuple[Configuration, ...]:
    import numpy as np

    losses = drawn.means
    best = losses.min(axis=1, keepdims=True)
    p_best = np.bincount(losses.argmin(axis=1), minlength=len(groups)) / len(losses)
    good_enough = (losses - best <= spec.tolerance).mean(axis=0) if spec.tolerance is not None else p_best
    ends = np.percentile(losses, [2.5, 97.5], axis=0)
    sign = spec.objective.loss(1.0)
    found = [
        Configuration(
            trial=group[0],
            runs=tuple(group),
            average=sign * averages[index],
            low=float(min(sign * ends[:, index])),
            high=float(max(sign * ends[:, index])),
            mean=float(sign * losses[:, index].mean()),
            p_best=float(p_best[index]),
            p_good_enough=float(good_enough[index]),
        )
        for index, group in enumerate(groups)
    ]
    return tuple(sorted(found, key=lambda each: (-each.p_best, spec.objective.loss(each.mean), each.trial.number)))


def _median(values: Any) -> float:
    import numpy as np

    return float(np.median(values))
