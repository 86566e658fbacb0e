"""The parts of a sweep file: sampler, scheduler, guards, resources and budget."""

import math
import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticKnownError

from sweeper.search_space.dimensions import SpecModel

CALLABLE_PATTERN: Final = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"
NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9_-]{0,63}$"
WARM_TRIALS_PATTERN: Final = r"^(all|best [1-9][0-9]{0,5})$"


def refuse_password(url: str) -> str:
    """A URL, unless it holds a password."""
    if re.search(r"://[^/@]*:[^/@]*@|password=", url):
        raise ValueError("a password must not be in a spec, which every record of the study copies")
    return url


SAMPLERS: Final = ("tpe", "random", "qmc", "gp", "cmaes", "nsga2", "grid")


def _require_sampler(name: str) -> str:
    if name not in SAMPLERS and not re.fullmatch(CALLABLE_PATTERN, name):
        expected = ", ".join(f"'{known}'" for known in SAMPLERS)
        raise PydanticKnownError("literal_error", {"expected": expected})
    return name


class SamplerConfig(SpecModel):
    """How the parameters of the next trial are chosen."""

    model_config = ConfigDict(json_schema_extra={"additionalProperties": True})  # the arguments of a class

    name: Annotated[
        str,
        AfterValidator(_require_sampler),
        WithJsonSchema({"anyOf": [{"enum": list(SAMPLERS)}, {"type": "string", "pattern": CALLABLE_PATTERN}]}),
    ] = "tpe"
    """`tpe`: learns from the finished trials; `random`: does not; `qmc`: a scrambled Sobol sequence, which fills the
    space more evenly; `gp`: a Gaussian process, for few and costly trials; `cmaes`: CMA-ES, for numbers and hundreds of
    trials; `nsga2`: evolves a population, for several objectives; `grid`: every combination of the listed values once,
    in written order, the last parameter changing fastest. `package.module:Class`: a sampler with Optuna's interface;
    the other keys of the section are its arguments."""
    startup_trials: Annotated[int, Field(ge=0)] = 6
    """Random trials before `tpe` or `gp` starts to learn."""
    population: Annotated[int, Field(ge=2)] = 16
    """Trials of one generation of `nsga2`."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Arguments of a sampler that is named by its class; may be written beside `name`."""

    @property
    def is_custom(self) -> bool:
        """Whether it is named by its class."""
        return self.name not in SAMPLERS

    @model_validator(mode="before")
    @classmethod
    def _collect_arguments(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("name"), str) or ":" not in data["name"]:
            return data
        others = {key: value for key, value in data.items() if key not in cls.model_fields}
        return {key: value for key, value in data.items() if key in cls.model_fields} | (
            {"arguments": {**data.get("arguments", {}), **others}} if others else {}
        )

    @model_validator(mode="after")
    def _check_arguments(self) -> Self:
        if self.arguments and not self.is_custom:
            raise ValueError("`arguments` belong to a sampler that is named by its class, `package.module:Class`")
        return self

    @model_serializer(mode="wrap")
    def _without_default(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Studies of earlier versions recorded no arguments, and having none is not a difference."""
        dumped: dict[str, Any] = handler(self)
        return {key: value for key, value in dumped.items() if not (key == "arguments" and not value)}


def _require_part(grace: object) -> object:
    if grace is not None and not (isinstance(grace, float) and 0 < grace < 1):
        what = f"expected a part of a full run, between 0 and 1, or a whole number of epochs >= 1, but got {grace!r}"
        raise ValueError(what + ("; write `grace_epochs` for it" if isinstance(grace, float) and grace >= 1 else ""))
    return grace


Grace = Annotated[
    float,
    WithJsonSchema(
        {"anyOf": [{"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, {"type": "integer", "minimum": 1}]}
    ),
]


class SchedulerConfig(SpecModel):
    """Which trials are stopped early because others rank higher."""

    name: Literal["asha", "hyperband", "none"] = "asha"
    """`asha`: successive halving without waiting; `hyperband`: the same in several brackets, each `eta` times more
    patient than the one before; `none`: every trial runs to its end."""
    mode: Literal["stop", "promote"] = "stop"
    """What happens to a trial that is not among the best at a rung. `stop`: it ends; `promote`: it waits, and resumes
    from its checkpoint once it is, because others turned out worse."""
    grace_epochs: Annotated[float, Field(gt=0)] = 2
    """Epochs, or a fraction of one, every trial may train before it is first ranked: the first rung."""
    grace: Annotated[Grace | None, BeforeValidator(_require_part)] = None
    """The same as a fraction of a full run: `0.25` is a quarter of the epochs of the trainer's config, of the most that
    a trial may have. A whole number means `grace_epochs`."""
    eta: Annotated[int, Field(ge=2)] = 2
    """At each rung one of `eta` trials continues; the next rung is `eta` times later."""
    brackets: Annotated[int, Field(ge=1)] = 3
    """Brackets of `hyperband`: bracket k ranks first after `grace_epochs` times `eta` to the power k."""

    @model_validator(mode="before")
    @classmethod
    def _whole_grace(cls, data: Any) -> Any:
        if not isinstance(data, dict) or type(grace := data.get("grace")) is not int or grace < 1:
            return data
        return {key: value for key, value in data.items() if key != "grace"} | {"grace_epochs": grace}


class CollapseGuard(SpecModel):
    """Stops a trial whose predictions have shrunk to one pose."""

    name: str = "collapse"
    """Shown in the reason of every trial this guard stops."""
    kind: Literal["collapse"] = "collapse"
    after_epochs: Annotated[float, Field(ge=0)] = 1.0
    """Evaluations before this epoch do not count: healthy trials dip early and recover."""
    for_evaluations: Annotated[int, Field(ge=1)] = 2
    """Evaluations in a row that must be below both thresholds, without theta_var_ratio rising by half over them."""
    var_ratio_below: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Threshold of val/theta_var_ratio."""
    r2_below: Annotated[float, Field(le=1)] = 0.02
    """Threshold of val/theta_r2."""


class ThresholdGuard(SpecModel):
    """Stops a trial whose metric leaves a range, or is no longer a number."""

    name: Annotated[str, Field(min_length=1)]
    """Shown in the reason of every trial this guard stops."""
    kind: Literal["threshold"]
    metric: Annotated[str, Field(min_length=1)]
    """The metric that is watched."""
    below: float | None = None
    """Stop when the metric is less than this."""
    above: float | None = None
    """Stop when the metric is more than this."""
    nonfinite: bool = False
    """Stop when the metric is NaN or infinite."""
    after_epochs: Annotated[float, Field(ge=0)] = 0.0
    """Evaluations before this epoch do not count."""
    for_evaluations: Annotated[int, Field(ge=1)] = 1
    """Evaluations in a row that must violate the threshold."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.below is None and self.above is None and not self.nonfinite:
            raise ValueError("a threshold guard needs `below`, `above` or `nonfinite: true`")
        if self.below is not None and self.above is not None and self.below >= self.above:
            raise ValueError(f"`below` must be less than `above`, but got {self.below:g} and {self.above:g}")
        return self


class PlateauGuard(SpecModel):
    """Stops a trial whose metric no longer improves."""

    name: Annotated[str, Field(min_length=1)]
    """Shown in the reason of every trial this guard stops."""
    kind: Literal["plateau"]
    metric: Annotated[str, Field(min_length=1)]
    """The metric that is watched."""
    mode: Literal["min", "max"]
    """Whether small or large values are good."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """What counts as better: a value that beats the best one before by more than this."""
    after_epochs: Annotated[float, Field(ge=0)] = 0.0
    """No trial is stopped before this epoch."""
    for_evaluations: Annotated[int, Field(ge=1)] = 5
    """Evaluations in a row without a better value."""


Guard = Annotated[CollapseGuard | ThresholdGuard | PlateauGuard, Field(discriminator="kind")]


def _distinct_names(guards: tuple[Guard, ...]) -> tuple[Guard, ...]:
    names = [guard.name for guard in guards]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise ValueError(f"two guards have the name `{repeated}`")
    return guards


class Resources(SpecModel):
    """What one trial takes, and how many trials run at once."""

    cpus: Annotated[int, Field(ge=1)] = 1
    """CPU cores of one trial."""
    gpus: Annotated[float, Field(ge=0)] = 0.0
    """GPUs of one trial; 0.5 lets two trials share one, each with half of its memory."""
    concurrent: Annotated[int, Field(ge=1)] | Literal["all"] = 2
    """Trials at once. `all`: as many as the machine, or the cluster as it is at the time, has room for."""
    lanes: Annotated[int, Field(ge=1)] = 1
    """Trials that share a process, its `cpus` and its GPU (`gpus`: 1 or 0): the weights of their networks are stacked,
    and each step trains all of them. Pays off for small networks on a GPU. Trials that cannot be trained this way have
    a process each, and `sweeper check` says why."""
    retries: Annotated[int, Field(ge=0)] = 2
    """How often a trial whose worker process was lost resumes from its last good checkpoint. An exception of the
    trainer is not such a loss: it would recur."""
    heartbeat_s: Annotated[float, Field(gt=0)] = 600.0
    """A worker that neither reports nor uses the processor for this long counts as hung; it is killed, and counts as
    lost."""

    trial_wall_clock_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds one trial may hold its workers, over all attempts; then it is stopped."""

    @model_validator(mode="after")
    def _lanes_filled(self) -> Self:
        if self.concurrent != "all" and self.lanes > self.concurrent:
            raise ValueError(f"`lanes` run at once: set `concurrent` to {self.lanes} or more, or to `all`")
        return self

    @property
    def trial_cpus(self) -> float:
        """CPU cores of a trial, its share where several have them together."""
        return self.cpus / self.lanes

    @property
    def trial_gpus(self) -> float:
        """GPUs of a trial, its share where several have them together."""
        return self.gpus / self.lanes

    def processes(self, trials: int) -> int:
        """Processes in which so many trials run at once."""
        return math.ceil(trials / self.lanes)

    @property
    def at_once_text(self) -> str:
        """`concurrent` as a person reads it."""
        return "as many at once as there is room for" if self.concurrent == "all" else f"{self.concurrent} at once"

    def at_once(self, room: int) -> int:
        """Trials at once where there is `room` for so many."""
        return max(room, 1) if self.concurrent == "all" else self.concurrent


class StopWhen(SpecModel):
    """When the study has found enough. Looks at the candidates that have ended; the running ones are stopped then."""

    target: float | None = None
    """A trial has run to its end with the objective at this value or a better one."""
    no_improvement_trials: Annotated[int, Field(ge=1)] | None = None
    """This many trials have ended since the best one, whatever their end."""


class Budget(SpecModel):
    """What the study may use, over all its runs. When a limit is reached the running trials are stopped at once."""

    trials: Annotated[int, Field(ge=1)] | None = None
    """Trials that may be started; running ones continue to their end."""
    wall_clock_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds a driver of the study may run."""
    gpu_seconds: Annotated[float, Field(gt=0)] | None = None
    """Seconds trials may hold a worker, times `resources.gpus`; lanes share it."""
    cpu_seconds: Annotated[float, Field(gt=0)] | None = None
    """Seconds trials may hold a worker, times `resources.cpus`; lanes share it."""
    euros: Annotated[float, Field(gt=0)] | None = None
    """Money for GPU-hours, at `euros_per_gpu_hour`."""
    euros_per_gpu_hour: Annotated[float, Field(gt=0)] | None = None
    """Price of one GPU for an hour."""

    @model_validator(mode="after")
    def _priced(self) -> Self:
        if self.euros is not None and self.euros_per_gpu_hour is None:
            raise ValueError("`euros` needs the price: `euros_per_gpu_hour`")
        return self


Guards = Annotated[tuple[Guard, ...], Field(strict=False), AfterValidator(_distinct_names)]
