"""Which points of a search space the trainer's config accepts: joint points, as trials have them. Pure."""

from collections import Counter
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from sweeper.entrypoint.resolve import config_class
from sweeper.errors import SpecError
from sweeper.search_space.conditions import Params, point
from sweeper.search_space.constraints import all_hold
from sweeper.search_space.dimensions import ParamValue
from sweeper.search_space.grid import grid_points, small_grid
from sweeper.spec.resolve import SweepSpec, resolve

MANY_PARAMETERS: Final = 100
"""With more, CMA-ES, which computes with a square matrix of this size, takes a second or more for each proposal."""
SAMPLES: Final = 1_000
"""Joint points that `sweeper check` tests with the trainer's config."""
LARGEST_LISTED: Final = 10_000
"""A space with more points is never exhausted in practice, and its points are not listed."""


@dataclass(frozen=True)
class Feasibility:
    """What the trainer's config says about points of the search space.

    Attributes:
        points: how many were tried.
        refused: what is wrong -> how many of them were refused for it first, the most frequent first.
        listed: whether these are all points, not a sample.
    """

    points: int
    refused: Mapping[str, int]
    listed: bool

    @property
    def share_refused(self) -> float:
        """Share of the points that the config refuses, 0 to 1."""
        return sum(self.refused.values()) / self.points if self.points else 0.0

    @property
    def accepted(self) -> int:
        """How many points the config accepts."""
        return self.points - sum(self.refused.values())


def refusal(spec: SweepSpec, params: Mapping[str, ParamValue]) -> str | None:
    """Why the trainer's config refuses a trial with these parameters; None: it accepts it."""
    try:
        resolve(spec, params)
    except SpecError as error:
        return refusal_text(error)
    return None


def refusal_text(error: SpecError) -> str:
    """The validator's words in one line, each with the field they are about."""
    said = []
    for problem in error.problems:
        _, found, field = (problem.where or "").rpartition(" base.")
        said.append(f"{field}: {problem.what}" if found else problem.what)
    return "; ".join(said)


def feasibility(spec: SweepSpec, samples: int = SAMPLES) -> Feasibility:
    """Test the points of the search space with the trainer's config: all of a small one, otherwise random ones that
    meet the constraints, always the same."""
    points = small_grid(spec.search_space, spec.constraints, samples)
    listed = points is not None
    if points is None and config_class(spec.trainer) is None:
        points = []  # a trainer without a config model accepts every point
    if points is None:
        random = Random(0)
        drawn = [
            point(spec.search_space, {path: random.random() for path in spec.search_space}, {}) for _ in range(samples)
        ]
        points = [params for params in drawn if all_hold(spec.constraints, params)]
    reasons = Counter(reason for params in points if (reason := refusal(spec, params)) is not None)
    return Feasibility(len(points), dict(reasons.most_common()), listed)


def limit_of(spec: SweepSpec, found: Feasibility) -> int | None:
    """How many trials there can be without repeating one, unless an entry of `enqueue` asks for it; None: no known
    limit. New seeds of `replicate` do not count."""
    endless = spec.sampler.name == "grid" or spec.replicate_seed == "per_trial"
    return found.accepted + _repeated_entries(spec) if found.listed and not endless else None


def _repeated_entries(spec: SweepSpec) -> int:
    """How many entries of `enqueue` leave nothing new to try, in a space that can be listed. An entry of some of the
    parameters is assumed to choose a point that none names in full."""
    untried = small_grid(spec.search_space, spec.constraints, LARGEST_LISTED) or []
    by_freedom = sorted(spec.enqueue, key=lambda entry: sum(_has(params, entry) for params in untried))
    repeated = 0
    for entry in by_freedom:
        fitting = next((params for params in untried if _has(params, entry)), None)
        if fitting is None:
            repeated += 1
        else:
            untried.remove(fitting)
    return repeated


def feasibility_lines(spec: SweepSpec, found: Feasibility) -> list[str]:
    """What people should know about it before they start the study."""
    lines = []
    if found.refused:
        reason, count = next(iter(found.refused.items()))
        points = f"all {found.points} points" if found.listed else f"{found.points} random points"
        share = f"{found.share_refused:.1%} of {points} are rejected by the trainer's config"
        lines.append(f"  infeasible  {share}, {count} of them for: {reason}")
    if spec.sampler.name == "cmaes" and len(spec.search_space) > MANY_PARAMETERS:
        what = f"cmaes takes seconds to propose {len(spec.search_space)} parameters, more with every generation"
        lines.append(f"  slow        {what}: tpe, random and qmc do not")
    limit = limit_of(spec, found)
    if limit is not None and limit < spec.trials:
        known = f"the space has {found.accepted} configurations"
        if again := limit - found.accepted:
            known += f", and `enqueue` asks for {again} of them again"
        if spec.replicate is None:
            then = f"the study ends after {limit} of its {spec.trials} trials"
        else:
            then = f"what is left of its {spec.trials} trials are new seeds of them"
        lines.append(f"  exhausted   {known}: {then}")
    return lines


def key_of(params: Mapping[str, ParamValue]) -> Hashable:
    """Equal for parameters that describe the same trial; `true` is not 1."""
    return frozenset((path, isinstance(value, bool), value) for path, value in params.items())


def next_grid_point(spec: SweepSpec, tried: Collection[Hashable]) -> Params | None:
    """The first point of the spec's grid, in written order, that is none of those tried (their `key_of`); None where
    all are. Not the point of a trial's number: failed trials that are tried again have numbers too."""
    points = grid_points(spec.search_space, spec.constraints)
    return next((params for params in points if key_of(params) not in tried), None)


class UntriedPoints:
    """What is left to try in a search space that can be listed; a space of ranges counts as unlimited.

    Trials that train with seeds of their own repeat no other, so their space is never exhausted either.
    """

    def __init__(self, spec: SweepSpec) -> None:
        self._spec = spec
        self._is_grid = spec.sampler.name == "grid"  # its points come in order, including those that the config refuses
        endless = self._is_grid or spec.replicate_seed == "per_trial"
        self._points = None if endless else small_grid(spec.search_space, spec.constraints, LARGEST_LISTED)

    @property
    def is_listed(self) -> bool:
        """Whether the space is one that can be exhausted."""
        return self._is_grid or self._points is not None

    def are_left(self, tried: Collection[Hashable]) -> bool:
        """Whether a point is left that the config accepts and that is not one of those tried (their `key_of`)."""
        if self._is_grid:
            return next_grid_point(self._spec, tried) is not None
        if self._points is None:
            return True
        while self._points:
            if key_of(self._points[-1]) not in tried and refusal(self._spec, self._points[-1]) is None:
                return True
            self._points.pop()
        return False

    def draw(self, tried: Collection[Hashable], fixed: Mapping[str, ParamValue], seed: int) -> Params | None:
        """A random one of the points that are left with the values of `fixed`; None where there is none."""
        if self._points is None:
            return None
        left = [params for params in self._points if key_of(params) not in tried and _has(params, fixed)]
        Random(seed).shuffle(left)
        return next((params for params in left if refusal(self._spec, params) is None), None)


def _has(params: Mapping[str, ParamValue], fixed: Mapping[str, ParamValue]) -> bool:
    return key_of({path: params[path] for path in fixed if path in params}) == key_of(fixed)
