"""What a study's noise means, in sentences."""

import math
from typing import Final

from sweeper.noise.model import Configuration, StudyNoise
from sweeper.spec.objective import Objective

TYPICAL: Final = 2 / math.sqrt(math.pi)
"""Expected difference of two runs, in standard deviations of one."""
TOLD_APART: Final = 1.96 * math.sqrt(2)
"""Difference of two single runs that the seed alone exceeds once in 20 times, in standard deviations of one."""
MOST_NAMED: Final = 5


def floor_sentence(noise: StudyNoise, objective: Objective) -> str:
    """The noise floor: how much two runs of one configuration differ, and which differences mean nothing."""
    typical, least = objective.format(TYPICAL * noise.sd), objective.format(TOLD_APART * noise.sd)
    runs = f"{noise.repeats} repeated run{'s' if noise.repeats != 1 else ''}"
    known = f"measured on {runs}" if noise.repeats else "as estimated, since no configuration was repeated"
    return (
        f"noise: two runs of one configuration differ by {typical} ({known}); "
        f"differences below {least} between single runs mean nothing"
    )


def verdict_sentence(noise: StudyNoise, objective: Objective) -> str:
    """Which configuration is the best, or which few could be."""
    could = noise.could_be_best
    named = [could[0].trial.id, *(each.trial.folder for each in could[1:MOST_NAMED])]
    if len(could) == 1:
        return f"{named[0]} is the best with probability {percent(could[0].p_best)}"
    said = " or ".join(named) + (f" or {len(could) - MOST_NAMED} more" if len(could) > MOST_NAMED else "")
    means = [each.mean for each in could]
    return f"{said}; {objective.format(max(means) - min(means))} apart"


def percent(probability: float) -> str:
    """A probability as a table shows it."""
    if probability < 0.01:
        return "<1%"
    return ">99%" if probability > 0.99 else f"{probability:.0%}"


def interval_of(candidate: Configuration, objective: Objective) -> str:
    """The 95 % interval of a configuration's mean over seeds, without a unit."""
    return f"{objective.number(candidate.low)} to {objective.number(candidate.high)}"
