"""Finds a trial again from MLflow alone: the study home may be gone."""

import contextlib
import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sweeper.errors import UserError
from sweeper.redaction import redact
from sweeper.tracking.delivery.runs import KnownRun, experiment_names, known_runs
from sweeper.tracking.recorded.recorded_trial import RecordedTrial, read_trial
from sweeper.tracking.schema import (
    CHECKPOINTS,
    TAG_OBJECTIVE,
    TAG_OUTBOX,
    TAG_PARENT,
    TAG_ROLE,
    TAG_STATE,
    TAG_STUDY,
    TAG_TRIAL,
    TAG_WINNER,
)
from sweeper.tracking.store.client import open_client, require_store

MOST_NAMED = 8


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
        return read_trial(client, runs[_match(selector, list(runs))])


def fetch_checkpoint(uri: str, trial: RecordedTrial, name: str, into: Path) -> Path:
    """Download a checkpoint of a trial into a folder; returns its own folder there. It is not verified.

    Raises:
        UserError: MLflow does not have it, or does not answer.
    """
    import mlflow

    into.mkdir(parents=True, exist_ok=True)
    with answering(uri):
        try:
            return Path(open_client(uri).download_artifacts(trial.run_id, f"{CHECKPOINTS}/{name}", str(into)))
        except (mlflow.exceptions.MlflowException, OSError) as error:
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
    """The newest run of every trial ID that starts like this; a study run again under the same name hides the old
    one."""
    runs: dict[str, Any] = {}
    pattern = re.sub(r"[^\w.-]", "_", prefix)  # `_` fits any character: too much is found, never too little
    for run in all_runs(client, f"tags.`{TAG_TRIAL}` LIKE '{pattern}%'"):
        runs.setdefault(run.data.tags[TAG_TRIAL], run)
    return runs


def all_runs(client: Any, query: str) -> list[Any]:
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
    help_text = f"did you mean {' or '.join(near)}?" if near else f"it has {_some(sorted(known)) or 'none'}"
    raise UserError(f"no trial `{selector}` in MLflow", help=help_text)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _best(client: Any, study: str, runs: dict[str, Any]) -> str:
    """The ID of the study's winner; before one was named, the best of the complete trials by the objective."""
    parents = all_runs(client, f"tags.`{TAG_STUDY}` LIKE '%'")
    named = {parent.data.tags[TAG_STUDY]: parent for parent in reversed(parents)}
    if study not in named:
        near = difflib.get_close_matches(study, named, n=3, cutoff=0.5)
        there = f"it has {_some(sorted(named)) or 'none'}; if it is in this home, `sweeper sync {study}` sends it"
        help_text = f"did you mean {' or '.join(near)}?" if near else there
        raise UserError(f"no study `{study}` in MLflow", help=help_text)
    parent = named[study]
    if (winner := parent.data.tags.get(TAG_WINNER)) in runs:
        return str(winner)
    if winner:  # a kill came while it was delivered, or somebody has deleted it
        raise UserError(f"{winner}, the best trial, has no run in MLflow", help=f"`sweeper sync {study}` sends it")
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
