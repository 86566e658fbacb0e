"""A study at one moment, for those who watch it while it runs. Pure except for what `snapshot` reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.pruning.asha import bracket_of, rung_epochs
from sweeper.spec.model import SpecFile
from sweeper.spec.objective import Objective
from sweeper.study.controls import control_values
from sweeper.study.pareto import best_of
from sweeper.study.usage.accounting import used_now
from sweeper.study.usage.budget import Spent, saved_s

WINDOW_S: Final = 300.0
"""How far back a rate looks, or three evaluations if those take longer."""
IMAGES_PER_S: Final = "train/images_per_s"
EARLY: Final = (TrialState.PRUNED, TrialState.COLLAPSED)
"""The ends that save something: by rank, and by a guard. What failed has saved nothing."""
OUT: Final = (TrialState.COLLAPSED, TrialState.FAILED, TrialState.INFEASIBLE)


@dataclass(frozen=True)
class Snapshot:
    """The state of a study.

    Attributes:
        trials: its candidates.
        controls: objective of each control that has finished.
        planned: candidates it will have.
        used: what it has used up to now.
        rungs: epoch of each rung -> how many candidates reached it, and how many of them continued.
        epochs_per_minute: of all trials together, over the last minutes in which they ran.
        eta_s: seconds to its end at the pace of the trials that have ended; None before one has.
        saved_s: seconds of a worker that stopping trials early has saved.
    """

    trials: tuple[TrialRecord, ...]
    controls: Mapping[str, float]
    planned: int
    used: Spent
    rungs: Mapping[float, tuple[int, int]]
    epochs_per_minute: float
    eta_s: float | None
    saved_s: float

    @property
    def open(self) -> list[TrialRecord]:
        """The trials that have not ended."""
        return [trial for trial in self.trials if not trial.state.is_finished]


def snapshot(ledger: Ledger, spec: SpecFile, planned: int, now_s: float) -> Snapshot:
    """The state of the study at `now_s` (seconds since 1970), with `planned` candidates in total."""
    trials = tuple(ledger.trials())
    at_once = spec.resources.at_once(sum(not trial.state.is_finished for trial in trials))
    return Snapshot(
        trials=trials,
        controls=control_values(ledger.controls(), spec.objective),
        planned=planned,
        used=used_now(ledger, spec.budget, spec.resources),
        rungs=rungs_reached(spec, trials),
        epochs_per_minute=epochs_per_minute(trials, now_s),
        eta_s=eta_s(trials, planned, at_once),
        saved_s=saved_by_stopping_s(trials),
    )


def leader(trials: Sequence[TrialRecord], objective: Objective) -> TrialRecord | None:
    """The best so far, whether it has ended or not; what collapsed or failed does not count."""
    return best_of([trial for trial in trials if trial.state not in OUT], objective)


def saved_by_stopping_s(trials: Sequence[TrialRecord]) -> float:
    """Seconds of a worker that pruning and guards have saved: each trial would have continued to the length of a full
    run at its own pace."""
    ends = [trial.last.epoch for trial in trials if trial.last and trial.state is TrialState.COMPLETE]
    stopped = [(trial.seconds, trial.last.epoch) for trial in trials if trial.last and trial.state in EARLY]
    return saved_s(stopped, max(ends, default=0.0))


def epochs_per_minute(trials: Sequence[TrialRecord], now_s: float) -> float:
    """Epochs per minute of all trials together, over the time in which they ran: a study that is a minute old is not
    five minutes slow, and a pause between two runs is not slowness either."""
    spans = [
        (report.timestamp_ms / 1000 - report.seconds, report.timestamp_ms / 1000, report.epoch - before)
        for trial in trials
        for before, report in zip((0.0, *(earlier.epoch for earlier in trial.reports)), trial.reports, strict=False)
    ]
    longest_s = max((end_s - start_s for start_s, end_s, _ in spans[-20:]), default=0.0)
    from_s = now_s - max(WINDOW_S, 3 * longest_s)
    recent = [span for span in spans if span[1] > from_s]
    if not recent:
        return 0.0
    epochs = sum(
        each * (min(1.0, (end_s - from_s) / (end_s - start_s)) if end_s > start_s else 1.0)
        for start_s, end_s, each in recent
    )
    since_s = max(from_s, min(start_s for start_s, _, _ in recent))
    return 60 * epochs / (now_s - since_s) if now_s > since_s else 0.0


def rungs_reached(spec: SpecFile, trials: Sequence[TrialRecord]) -> dict[float, tuple[int, int]]:
    """Epoch of each rung -> how many healthy candidates reached it, and how many of them continued. Pure."""
    scheduler = spec.scheduler
    lengths = [report.total_epochs for trial in trials for report in trial.reports[-1:] if report.total_epochs]
    if scheduler.name == "none" or not lengths:
        return {}
    counts: dict[float, tuple[int, int]] = {}
    for trial in trials:
        grace = scheduler.grace_epochs * scheduler.eta ** bracket_of(scheduler, trial.number)
        for rung in rung_epochs(grace, scheduler.eta, max(lengths)):
            reached, on = counts.get(rung, (0, 0))
            if trial.last and trial.last.epoch >= rung and trial.state is not TrialState.COLLAPSED:
                stopped = trial.state in (TrialState.PRUNED, TrialState.PAUSED)
                after = next(report.epoch for report in trial.reports if report.epoch >= rung) < trial.last.epoch
                reached, on = reached + 1, on + (after or not stopped)
            counts[rung] = reached, on
    return dict(sorted(counts.items()))


def eta_s(trials: Sequence[TrialRecord], planned: int, concurrent: int) -> float | None:
    """Seconds to the end of a study if its other trials take as long as those that have ended, on average. Pure."""
    ended = [trial.seconds for trial in trials if trial.state.is_finished]
    if not ended:
        return None
    mean_s = sum(ended) / len(ended)
    open_s = sum(max(0.0, mean_s - trial.seconds) for trial in trials if not trial.state.is_finished)
    return (open_s + mean_s * max(0, planned - len(trials))) / concurrent
