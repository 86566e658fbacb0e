"""The models of a sweep file: every key it may hold, with its default and its meaning."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from sweeper.conditions import grid_size, listed
from sweeper.search_space import CategoricalDimension, Choice, Dimension, Strict, dimensions_of
from sweeper.trainer_ref import DEFAULT_TRAINER

NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9_-]{0,63}$"
VARIANT_PATTERN: Final = r"^[a-z0-9][a-z0-9._-]{0,63}$"
VARIANT: Final = "variant"
"""The parameter whose value is the name of a variant."""
SEED: Final = "seed"
"""The config's field that `seeds` sets, and the parameter that holds it."""
WARM_TRIALS_PATTERN: Final = r"^(all|best [1-9][0-9]{0,5})$"
TRAINER_PATTERN: Final = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"


def _require_validation(metric: str) -> str:
    if metric.startswith("train/"):
        raise ValueError(f"the objective must be a validation metric, but got {metric}")
    return metric


def _refuse_password(url: str) -> str:
    if re.search(r"://[^/@]*:[^/@]*@|password=", url):
        raise ValueError("a password has no place in a spec, which every record of the study copies")
    return url


class Objective(Strict):
    """What a trial is judged by."""

    metric: Annotated[str, Field(min_length=1), AfterValidator(_require_validation)]
    """Name of a reported validation metric. Not a weighted loss: its weights differ between trials."""
    mode: Literal["min", "max"]
    """Whether small or large values are good."""


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


class SamplerConfig(Strict):
    """How the parameters of the next trial are chosen."""

    name: Literal["tpe", "random", "qmc", "gp", "nsga2", "grid"] = "tpe"
    """`tpe`: learns from the finished trials; `random`: does not; `qmc`: a scrambled Sobol sequence, which fills the
    space more evenly; `gp`: a Gaussian process, for few and costly trials; `nsga2`: evolves a population, for several
    objectives; `grid`: every combination of the listed values once, in written order, the last parameter changing
    fastest."""
    startup_trials: Annotated[int, Field(ge=0)] = 6
    """Random trials before `tpe` or `gp` starts to learn."""
    population: Annotated[int, Field(ge=2)] = 16
    """Trials of one generation of `nsga2`."""


class WarmStart(Strict):
    """An earlier study whose finished trials inform the sampler. They do not count as trials of this one."""

    study: Annotated[str, Field(pattern=NAME_PATTERN)]
    """Name of the earlier study, in the same study home. Only the first start of this study reads it."""
    trials: Annotated[str, Field(pattern=WARM_TRIALS_PATTERN)] = "all"
    """`all`, or `best N`: the N best that ran to their end, by this study's objective."""


class SchedulerConfig(Strict):
    """Which trials are stopped early because others rank higher."""

    name: Literal["asha", "hyperband", "none"] = "asha"
    """`asha`: successive halving without waiting; `hyperband`: the same in several brackets, of which each is `eta`
    times more patient than the one before; `none`: every trial runs to its end."""
    mode: Literal["stop", "promote"] = "stop"
    """What happens to a trial that is not among the best at a rung. `stop`: it ends; `promote`: it waits, and goes on
    from its checkpoint when it is, because others turned out worse."""
    grace_epochs: Annotated[float, Field(gt=0)] = 2
    """Epochs, or a fraction of one, every trial may train before it is first ranked: the first rung."""
    eta: Annotated[int, Field(ge=2)] = 2
    """At each rung one of `eta` trials continues; the next rung is `eta` times later."""
    brackets: Annotated[int, Field(ge=1)] = 3
    """Brackets of `hyperband`: bracket k ranks first after `grace_epochs` times `eta` to the power k."""


class CollapseGuard(Strict):
    """Stops a trial whose predictions have shrunk to one pose."""

    name: str = "collapse"
    """Shown in the reason of every trial this guard stops."""
    kind: Literal["collapse"] = "collapse"
    after_epochs: Annotated[float, Field(ge=0)] = 1.0
    """Evaluations before this epoch do not count: healthy trials dip early and recover."""
    for_evaluations: Annotated[int, Field(ge=1)] = 2
    """Evaluations in a row that must break both thresholds, without theta_var_ratio rising by half over them."""
    var_ratio_below: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Threshold of val/theta_var_ratio."""
    r2_below: Annotated[float, Field(le=1)] = 0.02
    """Threshold of val/theta_r2."""


class ThresholdGuard(Strict):
    """Stops a trial whose metric leaves a range, or is no number any more."""

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
    """Evaluations in a row that must break the threshold."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.below is None and self.above is None and not self.nonfinite:
            raise ValueError("a threshold guard needs `below`, `above` or `nonfinite: true`")
        if self.below is not None and self.above is not None and self.below >= self.above:
            raise ValueError(f"`below` must be less than `above`, but got {self.below:g} and {self.above:g}")
        return self


Guard = Annotated[CollapseGuard | ThresholdGuard, Field(discriminator="kind")]


def _require_distinct_names(guards: tuple[Guard, ...]) -> tuple[Guard, ...]:
    names = [guard.name for guard in guards]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise ValueError(f"two guards have the name `{repeated}`")
    return guards


def _require_distinct_seeds(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed is named twice")
    return seeds


def _require_distinct(controls: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(controls)) < len(controls):
        raise ValueError("a control is named twice")
    return controls


class Resources(Strict):
    """What one trial takes, and how many trials run at once."""

    cpus: Annotated[int, Field(ge=1)] = 1
    """CPU cores of one trial."""
    gpus: Annotated[float, Field(ge=0)] = 0.0
    """GPUs of one trial; 0.5 lets two trials share one."""
    concurrent: Annotated[int, Field(ge=1)] = 2
    """Trials at once."""
    retries: Annotated[int, Field(ge=0)] = 2
    """Times a trial whose worker process was lost goes on from its last good checkpoint. An exception of the trainer
    is no such loss: it would come again."""
    heartbeat_s: Annotated[float, Field(gt=0)] = 600.0
    """A worker that neither reports nor uses the processor for this long hangs; it is killed, and counts as lost."""


class Budget(Strict):
    """What the study may use, over all its runs. When a limit is reached the running trials are stopped at once."""

    trials: Annotated[int, Field(ge=1)] | None = None
    """Trials that may be started; those that run go on to their end."""
    wall_clock_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds a driver of the study may run."""
    gpu_seconds: Annotated[float, Field(gt=0)] | None = None
    """Seconds trials may hold a worker, times `resources.gpus`."""
    cpu_seconds: Annotated[float, Field(gt=0)] | None = None
    """Seconds trials may hold a worker, times `resources.cpus`."""
    euros: Annotated[float, Field(gt=0)] | None = None
    """Money for GPU-hours, at `euros_per_gpu_hour`."""
    euros_per_gpu_hour: Annotated[float, Field(gt=0)] | None = None
    """Price of one GPU for an hour."""

    @model_validator(mode="after")
    def _priced(self) -> Self:
        if self.euros is not None and self.euros_per_gpu_hour is None:
            raise ValueError("`euros` needs the price: `euros_per_gpu_hour`")
        return self


def _usable_seeds(seeds: object) -> list[int]:
    """The seeds, if they are what they should be; else none, and the check of the field says what is wrong."""
    listed = list(seeds) if isinstance(seeds, list | tuple) else []
    usable = all(type(seed) is int and seed >= 0 for seed in listed) and len(set(listed)) == len(listed)
    return listed if usable else []


def _names_grid(sampler: object) -> bool:
    return isinstance(sampler, dict) and sampler.get("name") == "grid"


def _count_grid(data: Mapping[str, Any]) -> int:
    """The size of the grid; 1 for one that the checks of the spec refuse."""
    raw, constraints = data.get("search_space"), data.get("constraints", [])
    space = dimensions_of(raw) if isinstance(raw, dict) else {}
    if any(listed(dimension) is None for dimension in space.values()):
        return 1
    try:
        return max(1, grid_size(space, constraints))
    except (ValueError, TypeError):  # of a constraint
        return 1


class SpecFile(Strict):
    """A sweep, as its YAML file says it."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    """Name of the study: its folder, its MLflow experiment, the first part of its trials' IDs."""
    trainer: Annotated[str, Field(pattern=TRAINER_PATTERN)] = DEFAULT_TRAINER
    """The training function, `package.module:function`."""
    base: dict[str, Any] = Field(default_factory=dict)
    """What all trials share: fields of the trainer's config that differ from its defaults."""
    search_space: Annotated[dict[str, Dimension], Field(min_length=1)]
    """What varies: dotted path of a config field -> its dimension. Not together with `variants`."""
    variants: dict[Annotated[str, Field(pattern=VARIANT_PATTERN)], dict[str, Any]] = Field(default_factory=dict)
    """What is compared, instead of a search space: name -> dotted path of a config field -> value. Each is one trial,
    in this order; `trials` may be left out, or be less to try the first ones only."""
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False), AfterValidator(_require_distinct_seeds)
    ] = ()
    """Each variant is trained once with each of these values of the config's `seed`, one after the other. Default:
    once, with the seed of its config."""
    constraints: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Comparisons that the parameters of every trial meet: `loss.lambda_param + loss.lambda_joint >= 0.1`. One that
    names a parameter a trial does not have does not apply to it."""
    enqueue: Annotated[tuple[dict[str, Choice], ...], Field(strict=False)] = ()
    """Known configurations, the first trials of the study: parameter -> value. What an entry leaves out is sampled."""
    warm_start: WarmStart | None = None
    """An earlier study to learn from."""
    objectives: Objectives = Field(alias="objective")
    """What a trial is judged by. Of a list of objectives, the first ranks trials and names the winner; the sampler
    learns from all of them, and the trials that no other beats in every one are shown."""
    trials: Annotated[int, Field(ge=1)]
    """Trials of the study. May be left out where a grid says how many there are."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the sampler."""
    sampler: SamplerConfig = SamplerConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    controls: Annotated[tuple[str, ...], Field(strict=False), AfterValidator(_require_distinct)] | None = None
    """Rulers that run before the candidates and never win. Default: all that the trainer's config offers in its field
    `control`; `[]`: none."""
    guards: Annotated[tuple[Guard, ...], Field(strict=False), AfterValidator(_require_distinct_names)] = (
        CollapseGuard(),
    )
    """Rules that stop a trial whatever its rank. Default: the collapse guard. `[]`: none."""
    ledger: Annotated[str, Field(min_length=1), AfterValidator(_refuse_password)] | None = None
    """Database of the ledger, `sqlite:////srv/ledger.db` or `postgresql://user@host/database`, instead of a file in the
    study's folder. `--ledger` and SWEEPER_LEDGER come first."""
    audit: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the trials stopped by guard or rank that run on to their end, off the books: neither ranks nor sampler
    hear of it, and `sweeper show` tells how many were stopped wrongly."""
    resources: Resources = Resources()
    budget: Budget = Budget()
    replicate_seed: Literal["fixed", "per_trial"] = "fixed"
    """`fixed`: every trial trains with base.seed; `per_trial`: each with its own."""

    @property
    def objective(self) -> Objective:
        """The first objective: it ranks trials and names the winner."""
        return self.objectives[0]

    @model_validator(mode="before")
    @classmethod
    def _count_trials(cls, data: Any) -> Any:
        """All the rest knows variants as a grid of one parameter, whose choices are their names, and seeds as a second
        one; and a grid says how many trials there are."""
        if isinstance(data, dict) and isinstance(names := data.get("variants"), dict) and names:
            space = {VARIANT: {"choices": list(names)}}
            if seeds := _usable_seeds(data.get("seeds")):
                space[SEED] = {"choices": seeds}
            trials = len(names) * max(1, len(seeds))
            data = {"search_space": space, "trials": trials, "sampler": {"name": "grid"}} | data
        elif isinstance(data, dict) and "trials" not in data and _names_grid(data.get("sampler")):
            data = data | {"trials": _count_grid(data)}
        return data

    @model_validator(mode="after")
    def _gpus_for_their_budget(self) -> Self:
        if self.resources.gpus == 0 and (self.budget.gpu_seconds is not None or self.budget.euros is not None):
            raise ValueError("the budget limits GPUs, but resources.gpus is 0, so none would ever be used")
        return self

    @model_validator(mode="after")
    def _check_variants(self) -> Self:
        if self.variants:
            space = {VARIANT: CategoricalDimension(choices=tuple(self.variants))}
            if self.seeds:
                space[SEED] = CategoricalDimension(choices=self.seeds)
            if self.search_space != space:
                raise ValueError("`search_space` and `variants` cannot be used together")
            if self.sampler.name != "grid" or self.constraints or self.enqueue or self.warm_start:
                raise ValueError(
                    "variants come once each, in order: no `sampler`, `constraints`, `enqueue`, `warm_start` with them"
                )
            if self.trials > len(self.variants) * max(1, len(self.seeds)):
                each = f"once with each of {len(self.seeds)} seeds" if self.seeds else "one trial"
                raise ValueError(
                    f"there are {len(self.variants)} variants, and each is {each}; got {self.trials} trials"
                )
        return self

    @model_validator(mode="after")
    def _check_seeds(self) -> Self:
        if self.seeds and not self.variants:
            raise ValueError("`seeds` repeats `variants`; in a search space, make `seed` a parameter")
        if self.seeds and self.replicate_seed == "per_trial":
            raise ValueError("`seeds` says which seeds there are; leave out `replicate_seed: per_trial`")
        return self
