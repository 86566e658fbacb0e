"""The winner of a study as a version of a registered model, where those who use models look for it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import quote

from sweeper.errors import UserError
from sweeper.tracking.recorded.artifacts import Inventory
from sweeper.tracking.recorded.find import find_trial
from sweeper.tracking.recorded.recorded_trial import RecordedTrial
from sweeper.tracking.schema import (
    CHECKPOINTS,
    MODEL_LINE,
    MODEL_LINK,
    TAG_NOTE,
    TAG_ROLE,
    TAG_STUDY,
    TAG_TRIAL,
    metric_key,
)
from sweeper.tracking.store.client import open_client

ALIAS: Final = "winner"


@dataclass(frozen=True)
class RegisteredWinner:
    """A model version with the alias `winner`.

    Attributes:
        model: name of the registered model: that of the study.
        version: its number.
        checkpoint: name of the checkpoint it is, ``epoch_008`` say.
        value: the metric there.
    """

    model: str
    version: str
    checkpoint: str
    value: float


def register_winner(
    uri: str, trial_id: str, metric: str, mode: Literal["min", "max"], studies: Sequence[str] = ()
) -> RegisteredWinner:
    """Register a trial's best checkpoint that MLflow holds whole, and give it the alias `winner`.

    Asked again for the same checkpoint, it makes no second version.

    Args:
        uri: of the MLflow store.
        trial_id: of the winner, as for :func:`find_trial`.
        metric: what the best checkpoint is chosen by.
        mode: whether small or large is good.
        studies: whose runs are to link to it, beside that of the trial's study.

    Raises:
        UserError: no such trial, or MLflow holds no whole checkpoint of it with that metric.
    """
    trial = find_trial(uri, trial_id)
    name, value = _best_checkpoint(uri, trial, metric, mode)
    client: Any = open_client(uri)
    source = f"{client.get_run(trial.run_id).info.artifact_uri}/{CHECKPOINTS}/{name}"
    if not client.search_registered_models(f"name = '{trial.study}'"):
        client.create_registered_model(trial.study)
    versions = client.search_model_versions(f"name = '{trial.study}'")
    version = next((each.version for each in versions if each.source == source), None)
    if version is None:
        tags = {TAG_TRIAL: trial.trial_id, "sweeper.checkpoint": name, "sweeper.manifest_sha256": trial.sums[name]}
        said = f"{trial.trial_id}, {name}: {metric} {value:.6g}"
        version = client.create_model_version(trial.study, source, trial.run_id, tags=tags, description=said).version
    client.set_registered_model_alias(trial.study, ALIAS, version)
    for study in (trial.study, *studies):
        _link_from(client, study, trial.study, str(version))
    return RegisteredWinner(trial.study, str(version), name, value)


def _link_from(client: Any, study: str, model: str, version: str) -> None:
    """Let the description of a study's newest run begin with a link to the model."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    query = f"tags.`{TAG_STUDY}` = '{study}' AND tags.`{TAG_ROLE}` = 'study'"
    for run in client.search_runs(experiments, query, order_by=["start_time DESC"], max_results=1):
        note = MODEL_LINE.sub("", run.data.tags.get(TAG_NOTE, ""))
        link = f"{MODEL_LINK}[{model}, version {version}](#/models/{quote(model)}/versions/{version}), alias `{ALIAS}`"
        client.set_tag(run.info.run_id, TAG_NOTE, f"{link}\n\n{note}")


def _best_checkpoint(uri: str, trial: RecordedTrial, metric: str, mode: str) -> tuple[str, float]:
    inventory, sign = Inventory(uri), 1 if mode == "min" else -1
    found = []
    for name, manifest in trial.manifests.items():
        value = trial.metrics.get(manifest["step"], {}).get(metric_key(metric), math.nan)
        stored = inventory.checkpoint(trial.run_id, name)
        whole = all(stored.get(file) == entry["bytes"] for file, entry in manifest["files"].items())
        if whole and name in trial.sums and math.isfinite(value):
            found.append((sign * value, name))
    if not found:
        raise UserError(
            f"MLflow holds no whole checkpoint of `{trial.trial_id}` with a value of {metric}",
            help=f"`sweeper sync {trial.study}` sends what is missing; a trial's `retention` may have kept none",
        )
    value, name = min(found)
    return name, sign * value
