"""A trial as MLflow has recorded it: its config, metrics, provenance, and the manifests of its checkpoints."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from sweeper.errors import UserError
from sweeper.redaction import redact
from sweeper.tracking.schema import (
    CHART_FIRST,
    CHECKPOINTS,
    CONTROL,
    PROVENANCE_FILE,
    STUDY_PROVENANCE,
    SYSTEM,
    TAG_PARENT,
    TAG_ROLE,
    TAG_TRIAL,
    TRIAL_FILE,
    checkpoint_sums,
    read_trial_yaml,
)

OWN_SCHEMES = ("", "file", "s3")
"""Artifact locations that a database may name: a web server would be sent MLflow's password."""
ELSEWHERE = "if that is right, name the tracking server of these runs in MLFLOW_TRACKING_URI"


@dataclass(frozen=True)
class RecordedTrial:
    """A trial as MLflow remembers it.

    Attributes:
        study: name of its study.
        trial_id: ``STUDY-0007``.
        run_id: of its MLflow run.
        config: the fully resolved input of the training.
        trainer: the training function, ``package.module:function``.
        metrics: evaluation step -> metric name -> value.
        provenance: what :func:`sweeper.provenance.collect` found then; empty if nothing was recorded.
        tags: the run's tags.
        manifests: checkpoint name (``epoch_003``) -> its ``manifest.json``.
        sums: checkpoint name -> sha256 of its manifest, recorded when it was stored.
    """

    study: str
    trial_id: str
    run_id: str
    config: dict[str, Any]
    trainer: str
    metrics: dict[int, dict[str, float]]
    provenance: dict[str, Any]
    tags: dict[str, str]
    manifests: dict[str, dict[str, Any]]
    sums: dict[str, str]


def read_trial(client: Any, run: Any) -> RecordedTrial:
    """All that is recorded in the run of a trial.

    Raises:
        UserError: its record is missing, damaged, or somewhere that the database of a stranger may not send us.
    """
    if urlsplit(str(run.info.artifact_uri)).scheme not in OWN_SCHEMES and not client.tracking_uri.startswith("http"):
        raise UserError(f"the artifacts of `{run.info.run_name}` are elsewhere, at {_place(run)}", help=ELSEWHERE)
    tags = dict(run.data.tags)
    trial_id = tags[TAG_TRIAL]
    with tempfile.TemporaryDirectory() as scratch:
        text = _artifact(client, run.info.run_id, TRIAL_FILE, scratch)
        if text is None:
            help_text = f"it cannot be run again without it; were the artifacts moved? They belong in {_place(run)}; "
            help_text += f"if the study home was moved, `sweeper sync {trial_id.rpartition('-')[0]}` says where it is"
            raise UserError(f"`{trial_id}` has no {TRIAL_FILE} in MLflow", help=help_text)
        provenance = _provenance(client, run.info.run_id, tags.get(TAG_PARENT), scratch)
        manifests: dict[str, dict[str, Any]] = {}
        for folder in client.list_artifacts(run.info.run_id, CHECKPOINTS):
            manifest = _artifact(client, run.info.run_id, f"{folder.path}/manifest.json", scratch)
            if manifest is not None:
                manifests[Path(folder.path).name] = json.loads(manifest)
    record = _trial_record(trial_id, text)
    return RecordedTrial(
        study=trial_id.rpartition("-")[0],
        trial_id=trial_id,
        run_id=run.info.run_id,
        config=record["config"],
        trainer=record["trainer"],
        metrics=_metrics(client, run),
        provenance=provenance,
        tags=tags,
        manifests=manifests,
        sums=checkpoint_sums(tags),
    )


def _place(run: Any) -> str:
    return redact(str(run.info.artifact_uri))


def _trial_record(trial_id: str, text: str) -> dict[str, Any]:
    try:
        record = read_trial_yaml(text)
        if isinstance(record["config"], dict) and isinstance(record["trainer"], str):
            return record
    except (yaml.YAMLError, AssertionError, KeyError):
        pass
    raise UserError(f"{TRIAL_FILE} of `{trial_id}` in MLflow is damaged", help="reproduce another trial of the study")


def _artifact(client: Any, run_id: str, name: str, scratch: str) -> str | None:
    """The text of an artifact, or None if the run has none of this name."""
    import mlflow

    try:
        return Path(client.download_artifacts(run_id, name, scratch)).read_text()
    except (mlflow.exceptions.MlflowException, OSError):
        return None


def _provenance(client: Any, run_id: str, parent_id: str | None, scratch: str) -> dict[str, Any]:
    """What was recorded about a trial and its study: what all trials share is stored once, in the study's run."""
    text = _artifact(client, run_id, PROVENANCE_FILE, scratch)
    own: dict[str, Any] = json.loads(text) if text else {}
    shared = own.pop(STUDY_PROVENANCE, PROVENANCE_FILE if text is None else None)
    if shared is None or parent_id is None:
        return own
    text = _artifact(client, parent_id, str(shared), scratch)
    return {**(json.loads(text) if text else {}), **own}


def _metrics(client: Any, run: Any) -> dict[int, dict[str, float]]:
    steps: dict[int, dict[str, float]] = {}
    prefix = CONTROL if run.data.tags.get(TAG_ROLE) == "control" else ""
    for name in run.data.metrics:
        is_own = name.startswith((SYSTEM, CHART_FIRST))
        for metric in [] if is_own else client.get_metric_history(run.info.run_id, name):
            steps.setdefault(metric.step, {})[name.removeprefix(prefix)] = metric.value
    return dict(sorted(steps.items()))
