"""`sweeper reproduce`: run a trial again from its record in MLflow, and say how close the rerun comes."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeper import provenance
from sweeper.comparison import Deviation, Drift, deviation_table, deviations, drift, drift_table, is_timing
from sweeper.errors import EXIT_DIFFERS, EXIT_OK, UserError
from sweeper.tracking import RecordedTrial, find_trial, tracking_uri
from sweeper.tracking.record import metric_key, metric_value

LOG_LINES = 15


@dataclass
class Rerun:
    """What the rerun has yielded so far.

    Attributes:
        fingerprints: of the data, as the trainer's `prepare` says.
        metrics: step -> metric -> value.
        epochs: step -> epochs of training done.
        weights_equal: step -> whether the weights have the recorded checksum, where one is recorded.
        failure: why the rerun ended before its last step.
    """

    fingerprints: dict[str, str] = field(default_factory=dict)
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)
    epochs: dict[int, float] = field(default_factory=dict)
    weights_equal: dict[int, bool] = field(default_factory=dict)
    failure: str | None = None


def reproduce(selector: str, home: Path, until: float | None = None) -> int:
    """Run a recorded trial again in a fresh process, compare it with the record, print and store the verdict.

    The rerun has the recorded config, seeds and number of threads, and stops at the step the trial had reached.

    Args:
        selector: the trial's ID, a prefix of it that fits no other, or ``STUDY:best``.
        home: the study home.
        until: stop at this epoch, for a cheap check.

    Returns:
        0 if the verdict is BIT-EXACT or WITHIN TOLERANCE, 4 if it is DIFFERS.

    Raises:
        UserError: no such trial, nothing recorded to compare with, or the training does not start.
    """
    uri = tracking_uri(home)
    trial = find_trial(uri, selector)
    if not trial.metrics:
        raise UserError(f"`{trial.trial_id}` reported nothing, so there is nothing to compare a rerun with")
    print(f"{trial.trial_id}: {len(trial.metrics)} recorded evaluations, trainer {trial.trainer}", flush=True)
    now = provenance.collect()
    rerun = _run_again(trial, home, until)
    if not rerun.metrics:
        raise UserError(f"the training of `{trial.trial_id}` does not start", help=rerun.failure)
    rows = drift(trial.provenance, {**now, "data": rerun.fingerprints})
    # Cut short on request, the later steps are no concern; cut short by a failure, they are missing.
    stop = max(trial.metrics) if until is None or rerun.failure else max(rerun.metrics)
    recorded = {step: values for step, values in trial.metrics.items() if step <= stop}
    found = deviations(recorded, rerun.metrics)
    verdict = judge(found, rerun)
    compared = sum(not is_timing(metric) for values in recorded.values() for metric in values)
    rows_text = drift_table(rows) if rows else "  nothing was recorded to compare"
    summary = "\n".join(
        [
            f"Then and now:\n{rows_text}",
            *_explain(rows, found, rerun, verdict),
            f"{compared} values of {len(recorded)} evaluations compared",
            f"verdict: {verdict}",
        ]
    )
    print(summary, flush=True)
    _store(uri, trial, verdict, rerun, summary)
    return EXIT_DIFFERS if verdict.startswith("DIFFERS") else EXIT_OK


def judge(found: Sequence[Deviation], rerun: Rerun) -> str:
    """The verdict: BIT-EXACT, WITHIN TOLERANCE or DIFFERS, with the place of the largest or the first deviation."""
    beyond = next((deviation for deviation in found if not deviation.is_tolerable), None)
    if beyond is not None:
        epoch = rerun.epochs.get(beyond.step)
        place = f"epoch {epoch:g}" if epoch is not None else f"step {beyond.step}"
        return f"DIFFERS from {place} ({beyond.metric})"
    if found:
        worst = max(found, key=lambda deviation: deviation.relative)
        return (
            f"WITHIN TOLERANCE (largest relative deviation {worst.relative:.2g}, {worst.metric} at step {worst.step})"
        )
    unequal = [step for step, equal in rerun.weights_equal.items() if not equal]
    if unequal:
        return f"WITHIN TOLERANCE (every metric is equal, the weights differ from step {min(unequal)})"
    return "BIT-EXACT"


def _run_again(trial: RecordedTrial, home: Path, until: float | None) -> Rerun:
    """Train in a subprocess, and take in its lines as they come."""
    home.mkdir(parents=True, exist_ok=True)
    rerun = Rerun()
    with tempfile.TemporaryDirectory(prefix="reproduce-", dir=home) as scratch:
        workdir = Path(scratch) / "work"
        workdir.mkdir()
        job = {
            "trainer": trial.trainer,
            "config": trial.config,
            "workdir": str(workdir),
            "last_step": max(trial.metrics),
            "until": until,
        }
        job_file, log = Path(scratch) / "job.json", Path(scratch) / "log.txt"
        job_file.write_text(json.dumps(job))
        with _child(trial, home, job_file, log) as child:
            assert child.stdout is not None
            for line in child.stdout:
                _take(rerun, json.loads(line), trial)
            code = child.wait()
        if code != 0:
            tail = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
            rerun.failure = "\n".join([f"it ended with exit code {code}:", *tail])
    return rerun


@contextlib.contextmanager
def _child(trial: RecordedTrial, home: Path, job_file: Path, log: Path) -> Iterator[subprocess.Popen[str]]:
    environment = dict(os.environ)
    environment["TRAINERS_CACHE_DIR"] = str(home.resolve() / "data")
    environment["OMP_NUM_THREADS"] = str(trial.config.get("threads", 1))
    if trial.tags.get("sweeper.gpus") in {"0", "0.0"}:
        environment["CUDA_VISIBLE_DEVICES"] = ""  # it ran without, though `device: auto` would take one
    command = [sys.executable, "-m", "sweeper.rerun", str(job_file)]
    with log.open("w") as errors:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()


def _take(rerun: Rerun, line: dict[str, Any], trial: RecordedTrial) -> None:
    """Add one line of the child to `rerun`; its checkpoint is compared and removed, since all of them may be much."""
    if "fingerprints" in line:
        rerun.fingerprints = line["fingerprints"]
        return
    step = line["step"]
    metrics = {metric_key(name): metric_value(value) for name, value in line["metrics"].items()}
    rerun.metrics[step] = {"epoch": line["epoch"], **metrics}
    rerun.epochs[step] = line["epoch"]
    if line["checkpoint"]:
        folder = Path(line["checkpoint"])
        equal = _weights_equal(folder, trial.manifests.get(folder.name))
        if equal is not None:
            rerun.weights_equal[step] = equal
        shutil.rmtree(folder)
    print(f"  rerun: evaluation {step} of {max(trial.metrics)}", file=sys.stderr, flush=True)


def _weights_equal(folder: Path, manifest: dict[str, Any] | None) -> bool | None:
    """Whether all weights files of a checkpoint have the sha256 that the recorded manifest gives; None: none given."""
    files = (manifest or {}).get("files", {})
    recorded = {name: entry["sha256"] for name, entry in files.items() if name.endswith(".safetensors")}
    if not recorded:
        return None
    return all(
        (folder / name).is_file() and hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256
        for name, sha256 in recorded.items()
    )


def _explain(rows: Sequence[Drift], found: Sequence[Deviation], rerun: Rerun, verdict: str) -> Iterator[str]:
    """The paragraphs between the drift table and the verdict."""
    if found:
        yield deviation_table(found)
    if rerun.weights_equal:
        equal = sum(rerun.weights_equal.values())
        yield f"weights: {equal} of {len(rerun.weights_equal)} checkpoints bit for bit equal"
    if rerun.failure:
        yield f"the rerun stopped early; {rerun.failure}"
    changed = [row.what for row in rows if not row.same]
    if verdict != "BIT-EXACT" and changed:
        yield f"likely cause: what differs between then and now ({', '.join(changed)})"


def _store(uri: str, trial: RecordedTrial, verdict: str, rerun: Rerun, summary: str) -> None:
    """Store the verdict in MLflow; a store that takes nothing more must not cost the verdict itself."""
    from sweeper.tracking.verdict import record_reproduction

    try:
        record_reproduction(uri, trial, verdict, rerun.metrics, summary)
    except Exception as error:
        print(f"warning: the verdict is not in MLflow: {provenance.redact(str(error))[:300]}", file=sys.stderr)
