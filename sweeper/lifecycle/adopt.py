"""Takes over a study whose home is lost: its ledger, on a server, is all that the study needs to continue. Or one whose
home was copied: the copy continues it instead of the original, or becomes a separate study.

The new home gets the outbox's ID from the ledger, so MLflow recognises the study. What its outbox never had, the whole
study, is handed over when the study is run or synced, and stored once (see `tracking.store`).
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sweeper.checkpoints.locate import last_good, restore_manifests
from sweeper.errors import UserError
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.ownership import FILE
from sweeper.ledger.storage.location import JOURNAL, recorded_url
from sweeper.ledger.studies import study_folder
from sweeper.ledger.study_lock import study_lock
from sweeper.tracking.outbox import Outbox, forget_outbox
from sweeper.tracking.store.place import go_on_here, original_of


@dataclass(frozen=True)
class Adopted:
    """What was taken over.

    Attributes:
        study: its name.
        place: its former home, as `HOME on HOST`.
        ended: trials and controls that have ended.
        resumed: IDs of those that resume from a checkpoint that this home can reach.
        anew: IDs of those that start over, having none.
        same_runs: whether MLflow will recognise the study.
    """

    study: str
    place: str
    ended: int
    resumed: Sequence[str]
    anew: Sequence[str]
    same_runs: bool

    def sentence(self) -> str:
        """For people."""
        lines = [f"{self.study}: taken over from {self.place}; {self.ended} trials and controls had finished"]
        if self.resumed:
            lines.append(f"resumed from their checkpoints: {', '.join(self.resumed)}")
        if self.anew:
            lines.append(f"restarted, because no checkpoint can be reached from here: {', '.join(self.anew)}")
        if not self.same_runs:
            lines.append("its ledger does not name its MLflow runs, so MLflow gets a second experiment for it")
        return "\n".join(lines)


def adopt(home: Path, study: str, url: str | None) -> Adopted:
    """Make a study this home's.

    Args:
        home: the study home; saved checkpoints may be in `studies/STUDY/trials` already.
        study: its name.
        url: of the ledger; None: the one this home had it in.

    Raises:
        UserError: the ledger is a file, or holds no such study; another driver runs it.
    """
    study_dir = home.resolve() / "studies" / study
    original = original_of(study_dir)
    if (study_dir / JOURNAL).exists() and original is None:
        raise UserError(f"the ledger of the study `{study}` is a file in this home: there is nothing to adopt")
    if original is not None:
        _take_over(study_dir, original)
    if (study_dir / JOURNAL).exists():
        with closing(Ledger.open(study_dir, study)) as ledger:
            return _adopted(ledger, str(original), ledger.attributes.stream)
    url = url or recorded_url(study_dir)
    if url is None:
        help = "name it: --ledger postgresql://user@host/database"
        raise UserError("which database contains the ledger?", "--adopt", help)
    with study_lock(study_dir, url), closing(Ledger.adopt(study_dir, study, url)) as ledger:
        stream = ledger.attributes.stream
        if stream:
            _seed_outbox(study_dir, stream)
        return _adopted(ledger, ledger.adopted_from, stream)


def fork(home: Path, study: str) -> str:
    """Make the copy of a study a separate study: its runs are recorded again, in another MLflow experiment.

    Raises:
        UserError: it is not a copy, or its ledger is in a database, of which there is only one.
    """
    study_dir = study_folder(home.resolve(), study)
    original = original_of(study_dir)
    if original is None:
        raise UserError(f"the study `{study}` is not a copy: it continues here", help=f"`sweeper resume {study}`")
    if url := recorded_url(study_dir):
        help = f"take it over with `sweeper resume {study} --adopt`, or start another study with --new"
        raise UserError(f"the copy shares its ledger with its original: {url}", help=help)
    with study_lock(study_dir), closing(Ledger.create(study_dir, study)) as ledger:
        forget_outbox(study_dir)
        ledger.attributes.stream = None
        go_on_here(study_dir, None)
    return f"{study}: now a separate study from the one in {original}; MLflow gets a second experiment for it"


def _take_over(study_dir: Path, original: Path) -> None:
    """Let a copy continue the study; the original, which no driver may run, is refused from now on."""
    with study_lock(study_dir), study_lock(original):
        (study_dir / FILE).unlink(missing_ok=True)  # the copy is another home, to a database too
        go_on_here(study_dir, original)


def _adopted(ledger: Ledger, place: str, stream: str | None) -> Adopted:
    restore_manifests(ledger)
    going_on = [trial for trial in ledger.all_trials() if not trial.state.is_finished]
    stored = ledger.attributes.store_url is not None
    resumed = [trial.id for trial in going_on if last_good(ledger.study_dir, trial, stored=stored)[0]]
    return Adopted(
        study=ledger.study,
        place=place,
        ended=len(ledger.controls()) + ledger.count - len(going_on),
        resumed=resumed,
        anew=[trial.id for trial in going_on if trial.reports and trial.id not in resumed],
        same_runs=bool(stream),
    )


def _seed_outbox(study_dir: Path, stream: str) -> None:
    """A new outbox with the same ID; an existing one, in a home that takes its study back, already has it."""
    with closing(Outbox(study_dir)) as outbox:
        if next(outbox.operations(), None) is None:
            outbox.append({"op": "open", "stream": stream})
