"""The studies of a home: find one, and open its ledger."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from pydantic import ValidationError

from sweeper.errors import UserError
from sweeper.home import command_line, refuse_code_of, require_folder
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.storage.location import is_study, never_started
from sweeper.ledger.study_lock import running_driver
from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.spec.model import SpecFile
from sweeper.spec.resolve import SweepSpec


def study_dirs(home: Path) -> list[Path]:
    """The folders of all studies of a home, by name.

    Raises:
        UserError: they are on a missing disk.
    """
    require_folder(home / "studies")
    return sorted(folder for folder in (home / "studies").glob("*") if is_study(folder))


def open_study(home: Path, study: str) -> tuple[Ledger, SpecFile]:
    """The ledger of a study, for reading, and the spec it was started with.

    Raises:
        UserError: there is no such study (names close ones), it has not begun yet, or another version of the sweeper
            wrote its spec.
    """
    opened = open_if_started(home, study)
    if opened is None:
        driver = running_driver(home / "studies" / study)
        if driver is not None:
            what = f"the study `{study}` is being prepared by {driver} and has no trials yet"
            raise UserError(what, help=f"`{command_line(home, 'watch', study)}` shows how far it is")
        raise never_started(study)
    return opened


def open_if_started(home: Path, study: str) -> tuple[Ledger, SpecFile] | None:
    """As `open_study`; None for a study that has not begun: its data are being made, or its first run was refused."""
    ledger = Ledger.open(study_folder(home, study), study)
    spec = ledger.attributes.spec
    if spec is None:
        return None
    try:
        return ledger, SpecFile.model_validate(spec)
    except ValidationError as error:
        first = error.errors()[0]
        what = f"the study `{study}` was written by another version: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise UserError(what, help="read it with that version; its runs are in MLflow") from None


def study_folder(home: Path, study: str) -> Path:
    """The folder of a study.

    Raises:
        UserError: there is no such study (names close ones).
    """
    names = [path.name for path in study_dirs(home)]
    if study not in names:
        known = f"the studies in {home} are: {', '.join(names)}" if names else f"there are no studies in {home} yet"
        close = get_close_matches(study, names, n=1)
        raise UserError(f"no study `{study}`", help=f"did you mean `{close[0]}`?" if close else known)
    return home / "studies" / study


def find_study(home: Path, study: str) -> tuple[Path, SweepSpec]:
    """The folder of a study, and the spec it was started with.

    Raises:
        UserError: no such study, its recorded spec is not valid, or its trainer would be code from the home.
    """
    ledger, known = open_study(home, study)
    refuse_code_of(home, known.trainer)
    if known.sampler.is_custom:
        refuse_code_of(home, known.sampler.name)
    return ledger.study_dir, recorded_spec(ledger)


def recorded_spec(ledger: Ledger) -> SweepSpec:
    """The spec that a study was started with.

    Raises:
        UserError: it is not valid, perhaps from another version.
    """
    kept = ledger.attributes
    path = Path(kept.spec_path) if kept.spec_path else None
    try:
        return SweepSpec.model_validate((kept.spec or {}) | {"text": kept.spec_text, "path": path}, strict=False)
    except ValidationError as error:
        raise UserError(f"the recorded spec of `{ledger.study}` cannot be used: {error.errors()[0]['msg']}") from None


def open_ledger(study_dir: Path, spec: SweepSpec) -> Ledger:
    """The ledger of a study whose lock is held, for writing."""
    modes = [one.mode for one in spec.objectives]
    return Ledger.create(study_dir, study_dir.name, modes=modes)  # wherever it was started


def planned_trials(ledger: Ledger, spec: SpecFile) -> int:
    """Candidates that the study will have, including those of `sweeper extend` and `sweeper enqueue`."""
    return spec.trials + ledger.attributes.extended + ledger.enqueued


def unretried_failures(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The trials that failed and were not tried again."""
    again = {trial.retry_of for trial in trials}
    return [trial for trial in trials if trial.state is TrialState.FAILED and trial.id not in again]
