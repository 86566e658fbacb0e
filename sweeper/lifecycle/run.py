"""`sweeper run`: open or continue a study, prepare its data, execute it, say how it ended."""

import sys
from contextlib import closing
from pathlib import Path

from sweeper.errors import EXIT_NO_SKILL, EXIT_OK, EXIT_SIGNAL, EXIT_TRIAL_FAILED, LedgerLost
from sweeper.home import command_line
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.storage.location import is_study
from sweeper.ledger.studies import recorded_spec, unretried_failures
from sweeper.ledger.study_lock import study_lock
from sweeper.lifecycle.change import StudyChange, extended_seeds, with_seed_list
from sweeper.lifecycle.options import RunOptions
from sweeper.lifecycle.study_copy import restore
from sweeper.lifecycle.study_run import StudyRun, end_study
from sweeper.reproducibility import drift
from sweeper.reproducibility.drift import spec_drift
from sweeper.reproducibility.growth import additions, refuse_unfit_space
from sweeper.spec.lanes import why_no_lanes, with_usable_lanes
from sweeper.spec.resolve import SweepSpec
from sweeper.study.controller import STOPPED_BY_USER, StudyController
from sweeper.study.controls import final_word
from sweeper.study.next_trial import TrialsToCome
from sweeper.tracking.standing import standing_of
from sweeper.tracking.store.client import tracking_uri
from sweeper.tracking.store.place import refuse_copy_of_home
from sweeper.tracking.study_tracker import refuse_other_ledger
from sweeper.views.preflight import print_preflight
from sweeper.views.study import print_study


def run_study(
    spec: SweepSpec, home: Path, options: RunOptions, *, new: bool = False, ledger_url: str | None = None
) -> int:
    """Run the spec's study to its end; continue it where an earlier run stopped.

    Args:
        spec: the validated spec.
        home: the study home.
        options: how it is run.
        new: if the study exists, start another one beside it (`name-2`).
        ledger_url: the database of the ledger, which takes precedence over the spec's; without both it is a file.

    Returns:
        The exit code: 0 done; 3 the preflight failed or the final word is that the trials have learned nothing,
        otherwise 1 some trial or control failed, otherwise 5 MLflow permanently refused records; 130 interrupted, 143
        terminated.

    Raises:
        UserError: another driver runs it, the spec, code or data have changed since, or the data cannot be prepared.
    """
    home = home.resolve()
    tracking_uri(home)  # refuses a path that MLflow cannot use, before anything is written there
    study = _free_name(home, spec.name) if new else spec.name
    study_dir = home / "studies" / study
    if options.sync_to and not new and not is_study(study_dir) and restore(home, study, options.sync_to):
        print(f"note: the study `{study}` continues from its copy in {options.sync_to}", file=sys.stderr)
    url, modes = ledger_url or spec.ledger, [one.mode for one in spec.objectives]
    with (
        study_lock(study_dir, url),
        closing(Ledger.create(study_dir, study, modes=modes, url=url)) as ledger,
    ):
        refuse_strangers(home, ledger)
        if added := extended_seeds(ledger, spec):
            said = f"the study `{study}` has the seeds that `sweeper extend` added, too: {', '.join(map(str, added))}"
            print(f"note: {said}", file=sys.stderr)
            spec = with_seed_list(spec, [*spec.seeds, *added])
        spec = _with_usable_lanes(spec, options)
        _settle_spec(ledger, spec, options)
        return continue_study(spec, home, ledger, options)


def refuse_strangers(home: Path, ledger: Ledger) -> None:
    """Refuse a ledger that does not match its outbox, and a copy of a study that continues elsewhere, before anything
    is written.

    Raises:
        UserError: says what to do.
    """
    refuse_other_ledger(ledger)
    refuse_copy_of_home(home, ledger.study_dir)


def _settle_spec(ledger: Ledger, spec: SweepSpec, options: RunOptions) -> None:
    """Whether the study can continue with this spec: the one it was started with, or an extension of it; with drift
    accepted, any other that its ledger can hold.

    Raises:
        UserError: it cannot.
    """
    if not (differences := spec_drift(ledger, spec)):
        return
    added, accept = additions(ledger, spec), options.accept_drift
    if added is not None:
        print(f"note: the study `{ledger.study}` continues with a changed spec: {'; '.join(added)}", file=sys.stderr)
    elif accept:
        refuse_unfit_space(ledger, spec)
        drift.refuse_other_objective(ledger, spec)
    drift.refuse_or_record(ledger, "another spec", differences, str(spec.path), accept or added is not None)
    ledger.unfinished(recorded_spec(ledger))  # one that was interrupted while being drawn is from the earlier spec


def continue_study(
    spec: SweepSpec, home: Path, ledger: Ledger, options: RunOptions, change: StudyChange | None = None
) -> int:
    """Run what is left of a study whose lock is held and whose spec is settled. Otherwise as `run_study`.

    `change`: what the verb changes in the study; None: nothing, so a stopped one stays stopped.
    """
    spec = _with_usable_lanes(spec, options)
    study, spec = ledger.study, extended(spec, ledger, change.trials if change else 0)
    if ledger.attributes.stopped and change is None:
        end_study(spec, home, ledger, STOPPED_BY_USER)
        print(f"the study `{study}` was stopped; `{command_line(home, 'resume', study)}` continues it", file=sys.stderr)
        interrupted = 0
    elif (opened := StudyController(spec, ledger, [])).is_done and not (change and change.retried):
        if change and ledger.attributes.stopped:
            ledger.attributes.stopped = False
        ending = "is complete" if opened.has_all_trials else "has used up its budget"
        end_study(spec, home, ledger, f"the study {ending}")
        print(f"the study `{study}` {ending}; --new starts another one beside it", file=sys.stderr)
        interrupted = 0
    else:
        try:
            ended = StudyRun(spec, home, ledger, options, change).execute()
        except KeyboardInterrupt:  # before it handled signals
            if ledger.attributes.spec is not None:
                print(_continues(home, study), file=sys.stderr)
            raise
        if ended.refused:
            print_preflight(ended.refused)
            return EXIT_NO_SKILL
        interrupted = ended.interrupted
    try:
        print_study(home, study)
    except LedgerLost as lost:  # just now: the results of the trials are known anyway
        print(lost.render(), file=sys.stderr)
    if not interrupted and (reason := exhausted(spec, ledger)):
        print(reason, file=sys.stderr)
    if interrupted:
        print(_continues(home, study), file=sys.stderr)
    lacking = standing_of(ledger.study_dir)
    if lacking.sentence:
        print(lacking.sentence, file=sys.stderr)
    return EXIT_SIGNAL + interrupted if interrupted else lacking.code(_exit_code(spec, ledger))


def _continues(home: Path, study: str) -> str:
    return f"interrupted: `{command_line(home, 'resume', study)}` continues it"


def _with_usable_lanes(spec: SweepSpec, options: RunOptions) -> SweepSpec:
    """The spec, with a process for each trial if lanes are not possible, which is reported."""
    on_cluster = options.address is not None
    if reason := why_no_lanes(spec, on_cluster=on_cluster):
        print(f"note: no lanes, each trial trains in its own process: {reason}", file=sys.stderr)
    return with_usable_lanes(spec, on_cluster=on_cluster)


def _exit_code(spec: SweepSpec, ledger: Ledger) -> int:
    """The results of the trials."""
    trials, controls = ledger.trials(), ledger.controls()
    if final_word(trials, controls, spec.objective).no_skill:
        return EXIT_NO_SKILL  # checked before failed trials: it makes every other trial worthless too
    failed = unretried_failures(trials) or unretried_failures(controls)
    return EXIT_TRIAL_FAILED if failed else EXIT_OK


def exhausted(spec: SweepSpec, ledger: Ledger) -> str | None:
    """Why a study has ended with fewer trials than planned: nothing is left to try. None: that is not so."""
    tried = ledger.count - ledger.retries - ledger.enqueued
    if tried >= spec.trials or not TrialsToCome(spec, ledger).is_exhausted:
        return None
    return f"every configuration of the search space was tried, with {tried} of {spec.trials} trials"


def extended(spec: SweepSpec, ledger: Ledger, added: int = 0) -> SweepSpec:
    """The spec with the trials that `sweeper extend` has added or is about to add."""
    more = ledger.attributes.extended + added
    return spec.model_copy(update={"trials": spec.trials + more}) if more else spec


def _free_name(home: Path, name: str) -> str:
    studies = home / "studies"
    if not (studies / name).exists():
        return name
    number = 2
    while (studies / f"{name}-{number}").exists():
        number += 1
    return f"{name}-{number}"
