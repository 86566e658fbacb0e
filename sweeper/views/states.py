"""The states of trials for people: one that no driver runs any longer is waiting."""

from collections import Counter
from collections.abc import Iterable

from sweeper.ledger.trial import WAITING, TrialRecord, TrialState


def shown_state(trial: TrialRecord, is_driven: bool) -> str:
    """The state of a trial; `is_driven`: whether a driver runs its study now."""
    return WAITING if trial.state is TrialState.RUNNING and not is_driven else trial.state.value


def state_counts(trials: Iterable[TrialRecord], is_driven: bool) -> dict[str, int]:
    """State -> how many trials have it, of those that some have."""
    counts = Counter(shown_state(trial, is_driven) for trial in trials)
    return {state: counts[state] for state in (WAITING, *TrialState) if counts[state]}


def counts_text(trials: Iterable[TrialRecord], is_driven: bool) -> str:
    """`2 RUNNING, 3 COMPLETE`."""
    return ", ".join(f"{count} {state}" for state, count in state_counts(trials, is_driven).items())
