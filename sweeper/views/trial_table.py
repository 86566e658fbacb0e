"""The table of a study's trials, as text in cells: of a terminal, of a report, of a file."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sweeper.entrypoint.offers import DEFAULT_OFFERS
from sweeper.ledger.trial import TrialRecord
from sweeper.search_space.dimensions import ParamValue
from sweeper.spec.sections import Objective

VARIANCE: Final = DEFAULT_OFFERS.variance_ratio
"""The metric that tells a collapse."""


def table_columns(names: Mapping[str, str], objectives: Sequence[Objective]) -> list[tuple[str, Any]]:
    """Header and justification of each column of the table of trials."""
    return [
        ("ID", "left"),
        *((name.removeprefix("lambda_") if name.startswith("lambda_") else name, "right") for name in names.values()),
        ("epochs", "right"),
        *((metric.removeprefix("val/"), "right") for metric in shown_metrics(objectives)),
        ("state", "left"),
        ("reason", "left"),
    ]


def table_row(trial: TrialRecord, names: Mapping[str, str], objectives: Sequence[Objective]) -> list[str]:
    """The cells of a trial, in the order of `table_columns`."""
    metrics = trial.metrics
    return [
        trial.id,
        *(_short(trial.params.get(path, "-")) for path in names),
        f"{trial.last.epoch:g}" if trial.last else "0",
        *(_decimals(metric, metrics[metric]) if metric in metrics else "-" for metric in shown_metrics(objectives)),
        trial.state.value,
        trial.reason,
    ]


def shown_metrics(objectives: Sequence[Objective]) -> list[str]:
    """The metrics of a table of trials: the objectives, and the one that tells a collapse."""
    return list(dict.fromkeys([*(objective.metric for objective in objectives), VARIANCE]))


def _decimals(metric: str, value: float) -> str:
    return f"{value:.3f}" if metric == VARIANCE else f"{value:.2f}"


def _short(value: ParamValue) -> str:
    if value is None:
        return "null"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
