"""What a verb changes in a study before it continues it. It is written only once nothing can refuse the run any longer:
a refused or interrupted verb has changed nothing, and repeating the command does what it would have done once."""

from collections.abc import Sequence
from dataclasses import dataclass

from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import TrialRecord
from sweeper.spec.resolve import SweepSpec


@dataclass(frozen=True)
class StudyChange:
    """What `resume`, `extend` and `retry` write before the first trial is started. Each lets a stopped study continue.

    Attributes:
        trials: candidates to add.
        seeds: how many seeds the spec now has for each variant; the spec itself is stored after this.
        retried: failed candidates and controls to try again.
    """

    trials: int = 0
    seeds: int = 0
    retried: Sequence[TrialRecord] = ()

    def apply(self, ledger: Ledger, spec: SweepSpec) -> None:
        """Write it. A kill in between leaves what the same command completes."""
        if self.trials:
            total = ledger.attributes.extended + self.trials
            ledger.attributes.extension = {"trials": self.trials, "total": total}  # first: see `interrupted_extension`
            ledger.attributes.extended = total
        if self.seeds:
            ledger.attributes.extension = {"seeds": self.seeds, "total": len(spec.seeds)}
        for failed in self.retried:
            if failed.control is not None:
                ledger.add_control(failed.control, failed)
            else:
                ledger.add_retry(failed, spec)
        if ledger.attributes.stopped:
            ledger.attributes.stopped = False


def interrupted_extension(ledger: Ledger, spec: SweepSpec) -> int:
    """How many trials the last `extend` added to a study that has not ended since; 0 if it has.

    Args:
        ledger: of the study.
        spec: of the study, with the trials that were added.
    """
    last = ledger.attributes.extension
    if last is None or "trials" not in last or last["total"] != ledger.attributes.extended:
        return 0
    planned = [trial for trial in ledger.all_trials() if not (trial.enqueued or trial.retry_of)]
    has_ended = all(trial.state.is_finished for trial in planned)
    return 0 if has_ended and ledger.count - ledger.retries - ledger.enqueued >= spec.trials else last["trials"]


def interrupted_seeds(ledger: Ledger, spec: SweepSpec) -> int:
    """As `interrupted_extension`, for seeds."""
    last = ledger.attributes.extension
    if last is None or "seeds" not in last or last["total"] != len(spec.seeds):
        return 0
    has_ended = all(trial.state.is_finished for trial in ledger.all_trials())
    return 0 if has_ended and ledger.count - ledger.retries - ledger.enqueued >= spec.trials else last["seeds"]


def with_seed_list(spec: SweepSpec, seeds: Sequence[int]) -> SweepSpec:
    """The spec with a longer list of seeds for each of its variants."""
    data = spec.effective | {"seeds": list(seeds)}
    del data["search_space"]  # derived from variants and seeds
    data["trials"] = spec.trials + (len(seeds) - len(spec.seeds)) * len(spec.variants)
    return SweepSpec.model_validate(data | {"text": spec.text, "path": spec.path}, strict=False)


def extended_seeds(ledger: Ledger, spec: SweepSpec) -> list[int]:
    """The seeds that `sweeper extend` has added to the study since its file was written; empty if it added none."""
    last, known = ledger.attributes.extension, (ledger.attributes.spec or {}).get("seeds") or []
    is_shorter = 0 < len(spec.seeds) < len(known) and list(spec.seeds) == known[: len(spec.seeds)]
    return known[len(spec.seeds) :] if last and "seeds" in last and is_shorter else []
