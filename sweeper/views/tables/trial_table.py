"""The table of a study's trials, as text in columns: of a terminal, of a report, of a file."""

from collections.abc import Mapping, Sequence
from typing import Final

from sweeper.entrypoint.offers import DEFAULT_OFFERS
from sweeper.ledger.trial import TrialRecord
from sweeper.noise.model import StudyNoise
from sweeper.noise.words import interval_of, percent
from sweeper.spec.objective import Objective
from sweeper.views.tables.columns import Column
from sweeper.views.tables.digits import ABSENT, metric_texts, param_texts

VARIANCE: Final = DEFAULT_OFFERS.variance_ratio
"""The metric that shows a collapse."""
MOST_OTHER_METRICS: Final = 3
NOT_RESULTS: Final = ("train/", "system/", "time/", "epoch")
"""Prefixes of metrics that say how a trial was trained, not its results."""
SHORTEST_REASON: Final = 24
CHANCE: Final = "P(best)"
INTERVAL: Final = "mean over seeds"
LEAST_NEEDED: Final = 1_000
"""Of a column that goes before all others where a terminal is narrow."""


def trial_columns(
    trials: Sequence[TrialRecord],
    names: Mapping[str, str],
    metrics: Sequence[str],
    states: Sequence[str] = (),
    noise: Sequence[Column] = (),
) -> list[Column]:
    """The columns of a table of trials, a row per trial.

    Args:
        trials: in the order of the rows.
        names: path -> head of each parameter.
        metrics: see `shown_metrics`.
        states: what is shown as each trial's state; default: what the ledger has.
        noise: see `noise_columns`.
    """
    first = len(metrics)  # parameters go before the metrics beside the objective do
    return [
        Column("ID", tuple(trial.id for trial in trials), "left", short_cells=tuple(trial.folder for trial in trials)),
        *(
            Column(
                name,
                param_texts([trial.params.get(path, ABSENT) for trial in trials]),
                dropped=first + place,
            )
            for place, (path, name) in enumerate(names.items())
        ),
        Column("epochs", tuple(_epochs(trial) for trial in trials), dropped=first + len(names)),
        *(_metric_column(trials, metric, dropped=place) for place, metric in enumerate(metrics)),
        *noise,
        Column("state", tuple(states or (trial.state.value for trial in trials)), "left"),
        Column(
            "reason",
            tuple(" ".join(trial.reason.split()) for trial in trials),
            "left",
            shrinks_to=SHORTEST_REASON,
            dropped=first + len(names) + 1,
        ),
    ]


def noise_columns(trials: Sequence[TrialRecord], noise: StudyNoise | None, objective: Objective) -> list[Column]:
    """For each trial the probability that its configuration is the best, and the interval of that one's mean over
    seeds; no columns where the study has no noise model."""
    if noise is None:
        return []
    known = [noise.by_trial.get(trial.id) for trial in trials]
    chances = tuple(percent(each.p_best) if each else ABSENT for each in known)
    intervals = tuple(interval_of(each, objective) if each else ABSENT for each in known)
    return [Column(CHANCE, chances, dropped=1), Column(INTERVAL, intervals, dropped=LEAST_NEEDED)]


def _metric_column(trials: Sequence[TrialRecord], metric: str, dropped: int) -> Column:
    head = metric.removeprefix("val/")
    values = [trial.metrics.get(metric) for trial in trials]
    cells = metric_texts(values, unit_decimals(metric))
    return Column(head, cells, short_head=head.removesuffix("_mm").removeprefix("theta_"), dropped=dropped)


def unit_decimals(metric: str) -> int | None:
    """Decimals that a metric is read with; None: as its values need."""
    return 3 if metric == VARIANCE else 2 if metric.endswith("_mm") else None


def shown_metrics(objectives: Sequence[Objective], trials: Sequence[TrialRecord]) -> list[str]:
    """The metrics of a table of trials: the objectives, and the one that tells a collapse; of trials that do not report
    that one, the first others that are a trial's results."""
    reported = dict.fromkeys(name for trial in trials for name in trial.metrics)
    others = [name for name in reported if not name.startswith(NOT_RESULTS)]
    wanted = [objective.metric for objective in objectives]
    if VARIANCE in reported:
        return list(dict.fromkeys([*wanted, VARIANCE]))
    return [*wanted, *[name for name in others if name not in wanted][:MOST_OTHER_METRICS]]


def _epochs(trial: TrialRecord) -> str:
    return f"{trial.last.epoch:g}" if trial.last else "0"
