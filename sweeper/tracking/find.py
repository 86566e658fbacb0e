"""Finds a trial again from MLflow alone: the study home may be gone."""

import contextlib
import difflib
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from sweeper.errors import UserError
from sweeper.redaction import redact
from sweeper.tracking.client import open_client, require_store
from sweeper.tracking.delivery.runs import KnownRun, experiment_names, known_runs
from sweeper.tracking.schema import (
    CHECKPOINTS,
    PROVENANCE_FILE,
    STUDY_PROVENANCE,
    SYSTEM,
    TAG_OBJECTIVE,
    TAG_OUTBOX,
    TAG_PARENT,
    TAG_ROLE,
    TAG_STATE,
    TAG_STUDY,
    TAG_SUM,
    TAG_TRIAL,
    TAG_WINNER,
    TRIAL_FILE,
    read_trial_yaml,
)

MOST_NAMED = 8
OWN_SCHEMES = ("", "file", "s3")
"""Of places of artifacts that a database may name: a web server would be sent the password of MLflow."""
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
        sums: checkpoint name -> sha256 of its manifest, told when it was stored.
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


def find_trial(uri: str, selector: str) -> RecordedTrial:
    """Read a trial from MLflow.

    Args:
        uri: of the MLflow store.
        selector: a trial's ID, a prefix of it that fits no other, or ``STUDY:best``.

    Raises:
        UserError: no store, no such trial (close matches are named), or several (they are named).
    """
    require_store(uri)
    study, colon, word = selector.partition(":")
    if colon and word != "best":
        raise UserError(f"cannot read the selector `{selector}`", help="give a trial ID, or STUDY:best")
    if "/" in selector or "\\" in selector:
        raise UserError(f"`{selector}` is a path", help="a trial is named by its ID, as in `sweeper show STUDY`")
    with answering(uri):
        client = open_client(uri)
        runs = _trial_runs(client, f"{study}-" if colon else selector) or _trial_runs(client, "")
        if colon:
            selector = _best(client, study, runs)
        return _read(client, runs[_match(selector, list(runs))])


def fetch_checkpoint(uri: str, trial: RecordedTrial, name: str, into: Path) -> Path:
    """Download a checkpoint of a trial into a folder; returns its own folder there. It is not verified.

    Raises:
        UserError: MLflow does not have it, or does not answer.
    """
    from mlflow.exceptions import MlflowException

    into.mkdir(parents=True, exist_ok=True)
    with answering(uri):
        try:
            return Path(open_client(uri).download_artifacts(trial.run_id, f"{CHECKPOINTS}/{name}", str(into)))
        except (MlflowException, OSError) as error:
            what = f"the checkpoint {name} of `{trial.trial_id}` is not among MLflow's artifacts"
            raise UserError(what, help=f"were they moved or cleaned up? {redact(_first_line(error))}") from error


def runs_of(uri: str, study: str, stream: str | None) -> dict[str, KnownRun]:
    """The newest run of each trial, by its ID, and of the study, by its name, deleted ones too, that MLflow has of a
    study; `stream` is the ID of its outbox, None where it has none.

    Raises:
        UserError: no store, or it does not answer.
    """
    require_store(uri)
    with answering(uri):
        client = open_client(uri)
        for name in experiment_names(study, stream) if stream else ():
            experiment = client.get_experiment_by_name(name)
            if experiment is not None and experiment.tags.get(TAG_OUTBOX, stream) == stream:
                return known_runs(client, experiment.experiment_id, str(stream))
    return {}


@contextlib.contextmanager
def answering(uri: str) -> Iterator[None]:
    """What MLflow and its libraries raise as an error a person can act on."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"MLflow does not answer: {_first_line(error)}".replace(uri, redact(uri)),
            where=redact(uri),
            help="is the server running, and is MLFLOW_TRACKING_URI right?",
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _trial_runs(client: Any, prefix: str) -> dict[str, Any]:
    """The newest run of every trial ID that begins so; a study run anew under the same name hides the old one."""
    runs: dict[str, Any] = {}
    pattern = re.sub(r"[^\w.-]", "_", prefix)  # `_` fits any character: too much is found, never too little
    for run in _all_runs(client, f"tags.`{TAG_TRIAL}` LIKE '{pattern}%'"):
        runs.setdefault(run.data.tags[TAG_TRIAL], run)
    return runs


def _all_runs(client: Any, query: str) -> list[Any]:
    """All runs that fit the query, the newest first."""
    experiments = [experiment.experiment_id for experiment in _pages(client.search_experiments)]

    def search(page_token: str | None) -> Any:
        return client.search_runs(experiments, query, order_by=["start_time DESC"], page_token=page_token)

    return _pages(search)


def _pages(fetch: Callable[..., Any]) -> list[Any]:
    found: list[Any] = []
    token = None
    while True:
        page = fetch(page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            return found


def _match(selector: str, known: Sequence[str]) -> str:
    """The one known trial ID that is the selector or begins with it."""
    if selector in known:
        return selector
    matches = [trial_id for trial_id in known if selector and trial_id.startswith(selector)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise UserError(f"`{selector}` matches {len(matches)} trials", help=f"one of {_some(sorted(matches))}")
    near = difflib.get_close_matches(selector, known, n=3, cutoff=0.5)
    help_text = f"did you mean {' or '.join(near)}?" if near else f"there are {_some(sorted(known)) or 'none'}"
    raise UserError(f"no trial `{selector}` in MLflow", help=help_text)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _best(client: Any, study: str, runs: dict[str, Any]) -> str:
    """The ID of the study's winner; before one was named, the best of the complete trials by the objective."""
    parents = _all_runs(client, f"tags.`{TAG_STUDY}` LIKE '%'")
    named = {parent.data.tags[TAG_STUDY]: parent for parent in reversed(parents)}
    if study not in named:
        near = difflib.get_close_matches(study, named, n=3, cutoff=0.5)
        help_text = f"did you mean {' or '.join(near)}?" if near else f"there are {_some(sorted(named)) or 'none'}"
        raise UserError(f"no study `{study}` in MLflow", help=help_text)
    parent = named[study]
    winner = parent.data.tags.get(TAG_WINNER)
    if winner:
        return str(winner)
    metric, _, mode = parent.data.tags.get(TAG_OBJECTIVE, "").rpartition(":")
    values = {
        trial_id: run.data.metrics[metric]
        for trial_id, run in runs.items()
        if run.data.tags.get(TAG_PARENT) == parent.info.run_id
        and run.data.tags.get(TAG_STATE) == "COMPLETE"
        and run.data.tags.get(TAG_ROLE) == "candidate"
        and run.data.metrics.get(metric, float("nan")) == run.data.metrics.get(metric)
    }
    if not values:
        raise UserError(f"the study `{study}` has no complete trial yet", help="name a trial by its ID")
    return (max if mode == "max" else min)(values, key=values.__getitem__)


def _read(client: Any, run: Any) -> RecordedTrial:
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
        sums={name.removeprefix(TAG_SUM): value for name, value in tags.items() if name.startswith(TAG_SUM)},
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
    from mlflow.exceptions import MlflowException

    try:
        return Path(client.download_artifacts(run_id, name, scratch)).read_text()
    except (MlflowException, OSError):
        return None


def _provenance(client: Any, run_id: str, parent_id: str | None, scratch: str) -> dict[str, Any]:
    """What was recorded of a trial, and of its study: what all trials share lies once in the study's run."""
    text = _artifact(client, run_id, PROVENANCE_FILE, scratch)
    own: dict[str, Any] = json.loads(text) if text else {}
    shared = own.pop(STUDY_PROVENANCE, PROVENANCE_FILE if text is None else None)
    if shared is None or parent_id is None:
        return own
    text = _artifact(client, parent_id, str(shared), scratch)
    return {**(json.loads(text) if text else {}), **own}


def _metrics(client: Any, run: Any) -> dict[int, dict[str, float]]:
    steps: dict[int, dict[str, float]] = {}
    for name in run.data.metrics:
        if name.startswith(SYSTEM):
            continue  # of the machine, not of the training
        for metric in client.get_metric_history(run.info.run_id, name):
            steps.setdefault(metric.step, {})[name] = metric.value
    return dict(sorted(steps.items()))
