"""Stores the outcome of a reproduction as a separate MLflow run below the original."""

import time
from collections.abc import Mapping
from typing import Any

from sweeper.tracking.delivery.run_change import LONGEST_TAG, METRICS_A_CALL
from sweeper.tracking.recorded.recorded_trial import RecordedTrial
from sweeper.tracking.schema import (
    REPRODUCED,
    TAG_CAUSE,
    TAG_PARENT,
    TAG_REPRODUCES,
    TAG_ROLE,
    TAG_VERDICT,
    metric_key,
    metric_value,
)
from sweeper.tracking.store.client import open_client


def record_reproduction(
    uri: str, trial: RecordedTrial, verdict: str, cause: str, rerun: Mapping[int, Mapping[str, float]], summary: str
) -> str:
    """Store a verdict; returns the ID of the new run.

    Args:
        uri: of the MLflow store.
        trial: the original.
        verdict: how close it came, `BIT-EXACT` or other words.
        cause: what most likely explains a difference.
        rerun: step -> metrics of the rerun.
        summary: what was printed, stored as ``reproduction.txt``.
    """
    import mlflow

    client: Any = open_client(uri)
    tags = {TAG_ROLE: "reproduction", TAG_REPRODUCES: trial.trial_id, TAG_VERDICT: verdict, TAG_PARENT: trial.run_id}
    if cause:
        tags[TAG_CAUSE] = cause[:LONGEST_TAG]
    experiment_id = client.get_run(trial.run_id).info.experiment_id
    run_id: str = client.create_run(experiment_id, tags=tags, run_name=f"{trial.trial_id} reproduced").info.run_id
    now_ms = time.time_ns() // 1_000_000
    metrics = [
        mlflow.entities.Metric(metric_key(f"{REPRODUCED}{name}"), metric_value(value), now_ms, step)
        for step, values in rerun.items()
        for name, value in values.items()
    ]
    for start in range(0, len(metrics), METRICS_A_CALL):
        client.log_batch(run_id, metrics=metrics[start : start + METRICS_A_CALL])
    client.log_text(run_id, summary, "reproduction.txt")
    client.set_terminated(run_id, "FINISHED")
    return run_id
