"""What a trial is judged by."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from sweeper.search_space.dimensions import SpecModel

Mode = Literal["min", "max"]


def loss_of(value: float, mode: Mode) -> float:
    """The value with the sign that makes less better."""
    return value if mode == "min" else -value


def _require_validation(metric: str) -> str:
    if metric.startswith("train/"):
        raise ValueError(f"the objective must be a validation metric, but got {metric}")
    return metric


class Objective(SpecModel):
    """What a trial is judged by."""

    metric: Annotated[str, Field(min_length=1), AfterValidator(_require_validation)]
    """Name of a reported validation metric. Not a weighted loss: its weights differ between trials."""
    mode: Mode
    """Whether small or large values are good."""

    def loss(self, value: float) -> float:
        """The value with the sign that makes less better: a key to sort by, and to take the `min` of."""
        return loss_of(value, self.mode)

    def is_better(self, value: float, than: float) -> bool:
        """Whether one value is better than another; equal ones are not, nor is NaN."""
        return self.loss(value) < self.loss(than)

    def number(self, value: float) -> str:
        """A value without its unit, as `metric_number`."""
        return metric_number(self.metric, value)

    def format(self, value: float) -> str:
        """A value with its unit."""
        return f"{self.number(value)} mm" if self.metric.endswith("_mm") else self.number(value)


def metric_number(metric: str, value: float) -> str:
    """A metric's value wherever one is shown alone: hundredths of a millimetre, below a tenth of one 2 digits, and 0.00
    for less than 10 nanometres, which are rounding errors; 4 digits of other metrics."""
    if not metric.endswith("_mm"):
        return f"{value:.4g}"
    if abs(value) < 1e-5:
        return "0.00"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


def _listed(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


def _require_distinct_metrics(objectives: tuple[Objective, ...]) -> tuple[Objective, ...]:
    if not objectives:
        raise ValueError("expected at least 1 objective")
    metrics = [objective.metric for objective in objectives]
    repeated = next((metric for metric in metrics if metrics.count(metric) > 1), None)
    if repeated is not None:
        raise ValueError(f"two objectives have the metric `{repeated}`")
    return objectives


def _as_written(objectives: tuple[Objective, ...]) -> object:
    """As the file says it: one objective stands alone."""
    dumped = [objective.model_dump(mode="json") for objective in objectives]
    return dumped[0] if len(dumped) == 1 else dumped


Objectives = Annotated[
    tuple[Objective, ...],
    Field(strict=False),
    BeforeValidator(_listed, json_schema_input_type=Objective | list[Objective]),
    AfterValidator(_require_distinct_metrics),
    PlainSerializer(_as_written),
]
