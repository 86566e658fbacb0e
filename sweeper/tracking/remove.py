"""Deletes a study's experiment from MLflow."""

import time

from sweeper.tracking.recorded.find import answering
from sweeper.tracking.schema import TAG_OUTBOX
from sweeper.tracking.store.client import open_client, require_store


def experiment_of_stream(uri: str, study: str, stream: str) -> tuple[str, str] | None:
    """ID and name of the experiment that a study's outbox has made; None: MLflow has none.

    Raises:
        UserError: MLflow does not answer.
    """
    require_store(uri)
    with answering(uri):
        client = open_client(uri)
        for name in (study, f"{study}@{stream[:8]}"):
            experiment = client.get_experiment_by_name(name)
            if experiment is not None and experiment.tags.get(TAG_OUTBOX) == stream:
                return str(experiment.experiment_id), name
    return None


def remove_experiment(uri: str, experiment_id: str, study: str) -> None:
    """Delete an experiment with its runs. It gets another name first: MLflow keeps what is deleted for `mlflow gc`, and
    the next study of this name is to have it.

    Raises:
        UserError: MLflow does not answer.
    """
    with answering(uri):
        client = open_client(uri)
        experiment = client.get_experiment(experiment_id)
        if experiment.lifecycle_stage == "deleted":
            client.restore_experiment(experiment_id)  # otherwise it cannot be renamed
        client.rename_experiment(experiment_id, f"{study} removed {time.strftime('%Y-%m-%d %H:%M:%S')} {experiment_id}")
        client.delete_experiment(experiment_id)
