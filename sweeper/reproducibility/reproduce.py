"""`sweeper reproduce`: run a trial again from its record in MLflow, and say how close the rerun comes."""

import contextlib
import json
import math
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sweeper.checkpoints.manifest import damage
from sweeper.errors import EXIT_DIFFERS, EXIT_INTERRUPTED, EXIT_OK, EXIT_SIGNAL, UserError
from sweeper.files import sha256_of
from sweeper.home import refuse_code_of
from sweeper.redaction import redact
from sweeper.reproducibility.environment_diff import EnvironmentDifference, drift, drift_table, likely_cause
from sweeper.reproducibility.git import recorded_tree, top_of
from sweeper.reproducibility.metric_diff import Deviation, deviation_table, deviations, is_timing
from sweeper.reproducibility.provenance import code_folder
from sweeper.reproducibility.rerun import Rerun, run_again
from sweeper.reproducibility.verdict import AS_SEEDS, BIT_EXACT, DID_NOT_FINISH, DIFFERS, judge, place_of
from sweeper.tracking import RecordedTrial, fetch_checkpoint, find_trial, tracking_uri
from sweeper.tracking.recorded.seed_spread import SeedSpread, seed_spread
from sweeper.tracking.schema import TAG_LANES


@dataclass(frozen=True)
class ReproductionOutcome:
    """How a rerun compares with the record.

    Attributes:
        verdict: BIT-EXACT, WITHIN TOLERANCE, AS FAR APART AS TWO SEEDS, DIFFERS or THE RERUN DID NOT FINISH, and where.
        cause: what most likely explains a difference; empty where there is none.
        rows: what the two stand on.
        found: the values that are not bit for bit equal.
        values: how many were compared.
        evaluations: in how many evaluations.
        equal_until: the last epoch before the first value that is not equal; None if that is in the first evaluation.
    """

    verdict: str
    cause: str
    rows: Sequence[EnvironmentDifference]
    found: Sequence[Deviation]
    values: int
    evaluations: int
    equal_until: str | None


def reproduce(
    selector: str,
    home: Path,
    until: float | None = None,
    *,
    from_checkpoint: float | None = None,
    at_commit: Callable[[str], bool] | None = None,
    as_json: bool = False,
) -> int:
    """Run a recorded trial again in a fresh process, compare it with the record, print and store the verdict.

    The rerun has the recorded config, seeds and number of threads, and stops at the step the trial had reached.

    Args:
        selector: the trial's ID, a prefix of it that fits no other, or ``STUDY:best``.
        home: the study home.
        until: stop at this epoch, for a cheap check.
        from_checkpoint: resume from the recorded checkpoint of this epoch, and compare what follows.
        at_commit: run the code of the recorded commit, with the changes that were not committed, if this answers
            True to a warning that says whose code that is.
        as_json: print one JSON object instead of text.

    Returns:
        0 if the verdict is BIT-EXACT or WITHIN TOLERANCE, 4 if it is another; 130 if recorded code was not to be run.

    Raises:
        UserError: no such trial, nothing recorded to compare with, no such checkpoint or commit, or the training does
            not start.
    """
    uri = tracking_uri(home)
    trial = find_trial(uri, selector)
    refuse_code_of(home, trial.trainer)
    start = 0 if from_checkpoint is None else _step_of(trial, from_checkpoint)
    if not any(step > start for step in trial.metrics):
        after = f" after epoch {from_checkpoint:g}" if from_checkpoint is not None else ""
        raise UserError(f"`{trial.trial_id}` reported nothing{after}, so there is nothing to compare a rerun with")
    first = f"{trial.trial_id}: {len(trial.metrics)} recorded evaluations, trainer {trial.trainer}"
    print(first, file=sys.stderr if as_json else sys.stdout, flush=True)
    if at_commit and not at_commit(_code_warning(uri, trial.provenance.get("code") or {})):
        return EXIT_INTERRUPTED
    rerun = _rerun(uri, trial, home, start, until, at_commit=at_commit is not None)
    outcome = _compare(trial, rerun, start, until, seed_spread(uri, trial))
    text = "\n".join(_summary(outcome, rerun))
    print(json.dumps(_as_json(trial, outcome, rerun), indent=2) if as_json else text, flush=True)
    _store(uri, trial, outcome, rerun, text)
    return EXIT_DIFFERS if outcome.verdict.startswith((DIFFERS, AS_SEEDS, DID_NOT_FINISH)) else EXIT_OK


def _code_warning(uri: str, code: Mapping[str, Any]) -> str:
    """Whose code `--at-commit` runs: whoever writes to the MLflow store names it."""
    commit = str(code.get("commit") or "unknown")[:12]
    changes = "uncommitted changes" if code.get("diff") else ""
    files = f"{len(code['untracked'])} new files" if code.get("untracked") else ""
    beside = " and ".join(filter(None, (changes, files)))
    what = f"the code of commit {commit}{f' with its recorded {beside}' if beside else ''}"
    return f"--at-commit runs {what} on this machine, as {redact(uri)} names them; run only what you trust"


def _rerun(uri: str, trial: RecordedTrial, home: Path, start: int, until: float | None, *, at_commit: bool) -> Rerun:
    """Train again, from the checkpoint of step `start` if that is not 0, in a folder that is deleted afterwards."""
    home.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        # SIGTERM must end the training and clean up, and it does so only as an exception.
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_SIGNAL + signal.SIGTERM))
        stack.callback(signal.signal, signal.SIGTERM, before)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reproduce-", dir=home)))
        code = trial.provenance.get("code") or {}
        tree = stack.enter_context(recorded_tree(top_of(code_folder()), code)) if at_commit else None
        resume = _checkpoint(uri, trial, _name_of(trial, start), scratch) if start else None

        def fetch(name: str) -> Path:
            return _checkpoint(uri, trial, name, scratch)

        rerun = run_again(trial, home, scratch, fetch, until=until, resume=resume, tree=tree)
    if not rerun.metrics:
        raise UserError(f"the training of `{trial.trial_id}` does not start", help=rerun.failure)
    return rerun


def _compare(
    trial: RecordedTrial, rerun: Rerun, start: int, until: float | None, spread: SeedSpread | None
) -> ReproductionOutcome:
    # Cut short on request, the later steps do not count; cut short by a failure, they are missing.
    stop = max(trial.metrics) if until is None or rerun.failure else max(rerun.metrics)
    recorded = {step: values for step, values in trial.metrics.items() if start < step <= stop}
    found = deviations(recorded, rerun.metrics)
    rows = drift(trial.provenance, rerun.stands_on)
    verdict = judge(found, rerun, trial, spread)
    values = sum(not is_timing(metric) for metrics in recorded.values() for metric in metrics)
    equal = [step for step in recorded if found and step < found[0].step]
    return ReproductionOutcome(
        verdict,
        cause=""
        if verdict == BIT_EXACT
        else likely_cause(rows, reuses_process=rerun.reuses_process, among_lanes=TAG_LANES in trial.tags),
        rows=rows,
        found=found,
        values=values,
        evaluations=len(recorded),
        equal_until=place_of(trial, equal[-1]) if equal else None,
    )


def _step_of(trial: RecordedTrial, epoch: float) -> int:
    """The step of the checkpoint of an epoch."""
    epochs = {float(manifest.get("epoch", math.nan)): manifest["step"] for manifest in trial.manifests.values()}
    if epoch not in epochs:
        there = ", ".join(f"{each:g}" for each in sorted(epochs)) or "none"
        what = f"MLflow has no checkpoint of epoch {epoch:g} of `{trial.trial_id}`"
        raise UserError(what, "--from-checkpoint", f"it has those of epochs {there}")
    return int(epochs[epoch])


def _name_of(trial: RecordedTrial, step: int) -> str:
    return next(name for name, manifest in trial.manifests.items() if manifest["step"] == step)


def _checkpoint(uri: str, trial: RecordedTrial, name: str, scratch: Path) -> Path:
    """Download a recorded checkpoint and verify its checksums; a UserError if it is gone or damaged."""
    folder = fetch_checkpoint(uri, trial, name, scratch / "recorded")
    manifest = folder / "manifest.json"
    if [path.name for path in folder.iterdir()] == [manifest.name]:  # the spec's `retention:`
        what = f"MLflow keeps only the checksums of the checkpoint {name} of `{trial.trial_id}`"
        raise UserError(what, help="reproduce it from the start, or from the last checkpoint or the best")
    problem = damage(folder) or (None if manifest.is_file() else "no manifest")
    known = trial.sums.get(name)
    if problem is None and known is not None and sha256_of(manifest) != known:
        problem = "its manifest is not the one that was recorded"
    if problem is not None:
        help = "reproduce it from the start, or from another checkpoint"
        raise UserError(f"the checkpoint {name} of `{trial.trial_id}` is damaged in MLflow: {problem}", help=help)
    return folder


def _summary(outcome: ReproductionOutcome, rerun: Rerun) -> Iterator[str]:
    """Everything from the drift table to the verdict, which is the last line."""
    yield f"Then and now:\n{drift_table(outcome.rows)}"
    if outcome.found:
        yield deviation_table(outcome.found)
    if outcome.equal_until:
        yield f"bit for bit equal up to {outcome.equal_until}"
    if rerun.weights_equal:
        equal = sum(rerun.weights_equal.values())
        yield f"weights: {equal} of {len(rerun.weights_equal)} checkpoints bit for bit equal"
    if rerun.weights is not None and rerun.weights.problem:
        yield f"weights: checksums differ from step {rerun.weights.step} on; {rerun.weights.problem}"
    elif rerun.weights is not None:
        yield (
            f"weights: from step {rerun.weights.step}; there {rerun.weights.tensor} differs by up to "
            f"{rerun.weights.absolute:.3g} ({rerun.weights.relative:.2g} of its largest value)"
        )
    if rerun.failure:
        yield f"the rerun stopped early; {rerun.failure}"
    yield f"{outcome.values} values of {outcome.evaluations} evaluations compared"
    if outcome.cause:
        yield f"likely cause: {outcome.cause}"
    elif changed := [row.what for row in outcome.rows if not row.same]:
        yield f"it made no difference that these differ: {', '.join(changed)}"
    yield f"verdict: {outcome.verdict}"


def _as_json(trial: RecordedTrial, outcome: ReproductionOutcome, rerun: Rerun) -> dict[str, Any]:
    return {
        "trial": trial.trial_id,
        "mlflow_run_id": trial.run_id,
        "verdict": outcome.verdict,
        "likely_cause": outcome.cause,
        "drift": [asdict(row) for row in outcome.rows],
        "deviations": [asdict(deviation) for deviation in outcome.found],
        "weights_equal": rerun.weights_equal,
        "compared": {"values": outcome.values, "evaluations": outcome.evaluations},
        "failure": rerun.failure,
    }


def _store(uri: str, trial: RecordedTrial, outcome: ReproductionOutcome, rerun: Rerun, summary: str) -> None:
    """Store the verdict in MLflow; a store that accepts nothing must not cost the verdict itself."""
    from sweeper.tracking.recorded.reproduction import record_reproduction

    try:
        record_reproduction(uri, trial, outcome.verdict, outcome.cause, rerun.metrics, redact(summary))
    except Exception as error:
        print(f"warning: the verdict is not in MLflow: {redact(str(error))[:300]}", file=sys.stderr)
