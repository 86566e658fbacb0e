"""Which configurations a study has tried, kept up to date trial by trial: making a key for each of thousands of trials
took longer than the rest of a proposal."""

from collections.abc import Collection, Hashable, Mapping

from sweeper.search_space.dimensions import ParamValue
from sweeper.spec.validation.feasibility import key_of


class TriedConfigurations:
    """The configurations of a study's candidates, each with the number of the first that has it."""

    def __init__(self) -> None:
        self._of_trial: dict[int, Hashable] = {}
        self._first: dict[Hashable, int] = {}

    def note(self, number: int, params: Mapping[str, ParamValue]) -> None:
        """The trial of this number has these parameters: more than before if it was interrupted while being sampled."""
        key, former = key_of(params), self._of_trial.get(number)
        if key == former:
            return
        self._of_trial[number] = key
        if self._first.get(former) == number:
            del self._first[former]
            if others := [other for other, its_key in self._of_trial.items() if its_key == former]:
                self._first[former] = min(others)
        self._first[key] = min(number, self._first.get(key, number))

    def has(self, params: Mapping[str, ParamValue], before: int) -> bool:
        """Whether a trial before the one of that number has these parameters."""
        return self._first.get(key_of(params), before) < before

    def keys(self, before: int | None = None) -> Collection[Hashable]:
        """The `key_of` of every configuration, or of those of the trials before one."""
        if before is None:
            return self._first.keys()
        return {key for key, first in self._first.items() if first < before}
