"""What several operations do to one run, as one change: MLflow accepts 1000 values per call as quickly as one."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sweeper.tracking.delivery.operations import Finish, LogMetrics, Operation, RejectedError, Start, Tag
from sweeper.tracking.schema import TAG_ALIAS, metric_keys, metric_value

METRICS_A_CALL: Final = 800
"""With the params and tags beside them no more than the 1000 that MLflow allows."""
PARAMS_A_CALL: Final = 100
TAGS_A_CALL: Final = 100
LONGEST_TAG: Final = 8000
LONGEST_PARAM: Final = 6000
LONGEST_DIGEST: Final = 36


@dataclass
class RunChange:
    """The sum of operations on one run.

    Attributes:
        metrics: reports, oldest first.
        params: name -> text.
        tags: name -> text; the latest one.
        artifacts: file name -> text; the latest one.
        datasets: name -> digest.
        status: FINISHED, FAILED or KILLED where the run has ended, else None.
        ended_ms: when.
        reopened: whether the run was started, or started again, among these operations.
    """

    metrics: list[LogMetrics] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)
    datasets: dict[str, str] = field(default_factory=dict)
    status: str | None = None
    ended_ms: int = 0
    reopened: bool = False

    @classmethod
    def of(cls, operations: Sequence[Operation]) -> "RunChange":
        """Add operations up, in their order.

        Raises:
            RejectedError: they give one param twice, with different values: MLflow keeps the first.
        """
        change = cls()
        for operation in operations:
            match operation:
                case LogMetrics():
                    change.metrics.append(operation)
                case Tag():
                    change.tags |= operation.tags
                case Start():
                    change._start(operation)
                case Finish():
                    change.tags |= operation.tags
                    change.artifacts |= operation.artifacts
                    change.status, change.ended_ms = operation.status, operation.ms
                case _:
                    raise AssertionError(f"{operation.op} changes no values of a run")
        return change

    def _start(self, start: Start) -> None:
        self.tags |= start.tags
        self.artifacts |= start.artifacts
        if any(self.params.get(name, value) != value for name, value in start.params.items()):
            raise RejectedError("a param was recorded with another value before")
        self.params |= start.params
        self.datasets |= start.datasets
        if not start.restored:
            self.reopened, self.status = True, None


def entities(
    reports: Sequence[LogMetrics], params: Mapping[str, str], tags: Mapping[str, str]
) -> Iterator[dict[str, list[Any]]]:
    """The arguments of as few calls of `log_batch` as MLflow allows."""
    import mlflow

    kinds = mlflow.entities
    points: list[Any] = []
    aliases: dict[str, str] = {}
    for report in reports:
        keys = metric_keys(report.metrics)
        aliases |= {key: name for name, key in keys.items() if key != name}
        points += [
            kinds.Metric(keys[name], metric_value(value), report.ms, report.step)
            for name, value in report.metrics.items()
        ]
    keys = metric_keys(params)
    aliases |= {key: name for name, key in keys.items() if key != name}
    texts = [kinds.Param(keys[name], value[:LONGEST_PARAM]) for name, value in params.items()]
    tags = {**tags, **{f"{TAG_ALIAS}{key}": name for key, name in aliases.items()}}
    words = [kinds.RunTag(name, value[:LONGEST_TAG]) for name, value in tags.items()]
    while points or texts or words:
        yield {
            "metrics": points[:METRICS_A_CALL],
            "params": texts[:PARAMS_A_CALL],
            "tags": words[:TAGS_A_CALL],
        }
        points, texts, words = points[METRICS_A_CALL:], texts[PARAMS_A_CALL:], words[TAGS_A_CALL:]


def input_datasets(datasets: Mapping[str, str]) -> list[Any]:
    """What is trained on, for the UI's column of data sets. Digests are cut off: the whole one is in the source."""
    import mlflow

    kinds = mlflow.entities
    context = [kinds.InputTag("mlflow.data.context", "training")]
    return [
        kinds.DatasetInput(
            kinds.Dataset(name, digest[:LONGEST_DIGEST], "sweeper", json.dumps({"sha256": digest})), context
        )
        for name, digest in datasets.items()
    ]
