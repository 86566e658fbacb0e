"""The verbs that continue a study without its file, extend it, and retry what failed."""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pydantic import ValidationError

from sweeper.errors import UserError
from sweeper.home import command_line
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.studies import find_study, open_ledger, unretried_failures
from sweeper.ledger.study_lock import study_lock
from sweeper.lifecycle.change import StudyChange, interrupted_extension, interrupted_seeds, with_seed_list
from sweeper.lifecycle.options import RunOptions
from sweeper.lifecycle.run import continue_study, extended, refuse_strangers
from sweeper.lifecycle.study_copy import restore
from sweeper.spec.resolve import SweepSpec
from sweeper.study.next_trial import TrialsToCome


@contextmanager
def _driven(home: Path, study: str) -> Iterator[tuple[Ledger, SweepSpec]]:
    """The ledger of a study, for writing, and the spec it was started with, while its lock is held."""
    study_dir, spec = find_study(home, study)
    with study_lock(study_dir), closing(open_ledger(study_dir, spec)) as ledger:
        refuse_strangers(home.resolve(), ledger)
        yield ledger, spec


def resume(home: Path, study: str, options: RunOptions, copy: str | None = None) -> int:
    """Continue a study that was interrupted, paused or stopped; returns the exit code of `run`.

    `copy`: where a copy of it is, from which it continues in this home.

    Raises:
        UserError: no such study, another driver runs it, or code or data have changed since.
    """
    if copy and not restore(home, study, copy):
        raise UserError(f"there is no copy of a study `{study}`", copy, "is it the folder given to --sync-to?")
    with _driven(home, study) as (ledger, spec):
        return continue_study(spec, home.resolve(), ledger, options, StudyChange())


def extend(home: Path, study: str, trials: int, options: RunOptions) -> int:
    """Add trials to a study, and run them. Repeated after an interruption, it continues.

    Raises:
        UserError: as `resume`; or the study's grid has no more points.
    """
    with _driven(home, study) as (ledger, spec):
        if interrupted_extension(ledger, extended(spec, ledger)) == trials:
            print(
                f"the extension of `{study}` by {trials} trials was interrupted; it is completed now", file=sys.stderr
            )
            return continue_study(spec, home.resolve(), ledger, options, StudyChange())
        if TrialsToCome(spec, ledger).is_exhausted:
            what = f"the study `{study}` cannot be extended: every configuration of its search space was tried"
            raise UserError(what, help="add values to its file, and `sweeper run` it again")
        total = spec.trials + ledger.attributes.extended + trials
        try:
            SweepSpec.model_validate(spec.effective | {"trials": total})
        except ValidationError as error:
            said = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise UserError(f"the study `{study}` cannot be extended: {said}", help="add fewer trials") from error
        return continue_study(spec, home.resolve(), ledger, options, StudyChange(trials=trials))


def extend_seeds(home: Path, study: str, seeds: int, options: RunOptions) -> int:
    """Train each variant of a study with more seeds. Repeated after an interruption, it continues.

    Raises:
        UserError: as `resume`; or the study does not repeat variants by seed.
    """
    with _driven(home, study) as (ledger, spec):
        if interrupted_seeds(ledger, spec) == seeds:
            print(f"the extension of `{study}` by {seeds} seeds was interrupted, and continues", file=sys.stderr)
            return continue_study(spec, home.resolve(), ledger, options, StudyChange())
        return continue_study(with_seeds(spec, seeds), home.resolve(), ledger, options, StudyChange(seeds=seeds))


def with_seeds(spec: SweepSpec, count: int) -> SweepSpec:
    """The spec with this many more seeds for each variant, the next ones above those it has.

    Raises:
        UserError: it has no seeds.
    """
    if not spec.seeds:
        what = f"the study `{spec.name}` does not repeat its trials by `seeds`"
        help = (
            "`sweeper winners` trains the best of a search with several; for variants, write `seeds` and run with --new"
        )
        raise UserError(what, help=help if spec.variants else help.partition(";")[0])
    first = max(spec.seeds) + 1
    return with_seed_list(spec, [*spec.seeds, *range(first, first + count)])


def retry_failed(home: Path, study: str, options: RunOptions) -> int:
    """Try every failed trial and control again, each as a new trial; what failed stays in the record. Repeated after an
    interruption, it continues.

    Raises:
        UserError: as `resume`; or the study still has trials to run, or none that failed.
    """
    with _driven(home, study) as (ledger, spec):
        if not TrialsToCome(extended(spec, ledger), ledger).has_all_candidates:
            raise UserError(
                f"the study `{study}` still has trials to run",
                help=f"run `{command_line(home, 'resume', study)}` first",
            )
        failed = [*unretried_failures(ledger.controls()), *unretried_failures(ledger.trials())]
        is_retrying = any(trial.retry_of and not trial.state.is_finished for trial in ledger.all_trials())
        if not failed and not is_retrying:
            raise UserError(f"no trial of the study `{study}` has failed")
        return continue_study(spec, home.resolve(), ledger, options, StudyChange(retried=failed))
