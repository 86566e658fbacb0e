"""`replicate: auto`: which configuration of a study is run again with a new seed, and when enough is known.

Pure, so that a study that is resumed continues as the uninterrupted one would have.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.noise.model import CREDIBLE, Configuration, StudyNoise, configuration_key, noise_of
from sweeper.noise.words import percent, verdict_sentence
from sweeper.spec.model import SpecFile

SHARE: Final = 0.25
"""Share of the trials that is reserved for new seeds."""
FEWEST_REPEATS: Final = 3
"""With fewer repeated runs the noise is an estimate from the model alone, and nothing is settled."""


def repeats_planned(spec: SpecFile) -> int:
    """How many of the trials are reserved for new seeds."""
    return math.ceil(SHARE * _trials(spec)) if spec.replicate else 0


def is_due(spec: SpecFile, searched: int) -> bool:
    """Whether the next trial is a new seed rather than a new configuration, given the number of trials of the search:
    those that are not repetitions. So a study that is extended continues the search."""
    return spec.replicate is not None and searched >= _trials(spec) - repeats_planned(spec)


def _trials(spec: SpecFile) -> int:
    return spec.trials if spec.budget.trials is None else min(spec.trials, spec.budget.trials)


def next_repeat(spec: SpecFile, trials: Sequence[TrialRecord]) -> tuple[TrialRecord, int] | None:
    """The configuration to run again, by the trial that tried it first, and which repetition that is; None with too few
    configurations that ran to their end for a noise model.

    It is the one for which it is least certain whether it is the best, given the runs that it has or is about to have.
    """
    noise = noise_of(spec, trials)
    if noise is None:
        return None
    started = Counter(configuration_key(trial) for trial in trials if trial.state is not TrialState.INFEASIBLE)

    def worth(candidate: Configuration) -> tuple[float, float, int]:
        runs = started[configuration_key(candidate.trial)]
        doubt = math.sqrt(candidate.p_best * (1 - candidate.p_best))
        return doubt / runs, candidate.p_best, -candidate.trial.number

    chosen = max(noise.candidates, key=worth).trial
    key = configuration_key(chosen)
    return chosen, 1 + max(trial.repeat for trial in trials if configuration_key(trial) == key)


def settled(noise: StudyNoise | None) -> Configuration | None:
    """A configuration that is the best within `good_enough` with probability 0.95, based on measured noise."""
    if noise is None or noise.repeats < FEWEST_REPEATS:
        return None
    best = max(noise.candidates, key=lambda candidate: (candidate.p_good_enough, candidate.p_best))
    return best if best.p_good_enough >= CREDIBLE and len(best.runs) > 1 else None


def conclusion(spec: SpecFile, trials: Sequence[TrialRecord]) -> str | None:
    """What a study with `replicate: auto` has found, in a sentence; None before any configuration was repeated."""
    if spec.replicate is None or not any(trial.repeat for trial in trials):
        return None
    noise = noise_of(spec, trials)
    if noise is None:
        return None
    said = verdict_sentence(noise, spec.objective)
    if settled(noise):
        pruned = sum(trial.state is TrialState.PRUNED for trial in trials)
        not_judged = f"; the {pruned} that were pruned are not judged" if pruned else ""
        return f"{said}; more seeds would change nothing{not_judged}"
    nearest = max(candidate.p_good_enough for candidate in noise.candidates)
    within = spec.objective.format(spec.tolerance or 0.0)
    return f"{said}; not settled: one is within {within} of the best with probability {percent(nearest)}"
