"""How far apart two seeds of a study end, from its runs in MLflow: the yardstick of a rerun that is not the same."""

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from sweeper.spec.model import SEED
from sweeper.tracking.recorded.find import all_runs, answering
from sweeper.tracking.recorded.recorded_trial import RecordedTrial
from sweeper.tracking.schema import TAG_OBJECTIVE, TAG_PARENT, TAG_ROLE, TAG_STATE, metric_key
from sweeper.tracking.store.client import open_client


@dataclass(frozen=True)
class SeedSpread:
    """The spread of runs that differ in nothing but their seed.

    Attributes:
        metric: the study's objective.
        sd: its standard deviation over seeds, pooled over configurations.
        degrees: of freedom of that, at least 1.
    """

    metric: str
    sd: float
    degrees: int

    @property
    def largest(self) -> float:
        """How far apart two seeds are in 19 of 20 pairs: Student's t with the degrees of freedom, since `sd` is not
        known better."""
        from scipy.special import stdtrit

        return math.sqrt(2) * self.sd * float(stdtrit(self.degrees, 0.975))


def seed_spread(uri: str, trial: RecordedTrial) -> SeedSpread | None:
    """The spread over seeds of the trials beside this one that ran to their end; None where no configuration was
    trained with two seeds.

    Raises:
        UserError: MLflow does not answer.
    """
    with answering(uri):
        client: Any = open_client(uri)
        parent = trial.tags.get(TAG_PARENT)
        if parent is None:
            return None
        metric, _, _ = client.get_run(parent).data.tags.get(TAG_OBJECTIVE, "").rpartition(":")
        query = f"tags.`{TAG_PARENT}` = '{parent}' and tags.`{TAG_STATE}` = 'COMPLETE'"
        runs = [run for run in all_runs(client, query) if run.data.tags.get(TAG_ROLE) == "candidate"]
    groups: dict[frozenset[tuple[str, str]], dict[str, float]] = defaultdict(dict)
    for run in runs:
        value = run.data.metrics.get(metric_key(metric), math.nan) if metric else math.nan
        if math.isfinite(value):
            params = dict(run.data.params)
            seed = params.pop(SEED, "")
            groups[frozenset(params.items())][seed] = value
    return _pooled(metric, [list(values.values()) for values in groups.values()])


def _pooled(metric: str, groups: list[list[float]]) -> SeedSpread | None:
    degrees = sum(len(values) - 1 for values in groups)
    if not degrees:
        return None
    means = [sum(values) / len(values) for values in groups]
    squares = sum((value - mean) ** 2 for values, mean in zip(groups, means, strict=True) for value in values)
    return SeedSpread(metric, math.sqrt(squares / degrees), degrees) if squares else None
