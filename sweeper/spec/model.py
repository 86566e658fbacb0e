"""The models of a sweep file: every key it may hold, with its default and its meaning."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from sweeper.entrypoint.resolve import DEFAULT_TRAINER
from sweeper.search_space.dimensions import CategoricalDimension, Choice, Dimension, SpecModel, dimensions_of
from sweeper.search_space.grid import grid_size
from sweeper.search_space.unit import listed
from sweeper.spec.command import COMMAND, COMMAND_TRAINER, WORKDIR, ScriptReports
from sweeper.spec.design import Ablation
from sweeper.spec.objective import Objective, Objectives
from sweeper.spec.sections import (
    NAME_PATTERN,
    Budget,
    CollapseGuard,
    Guards,
    Resources,
    SamplerConfig,
    SchedulerConfig,
    StopWhen,
    refuse_password,
)
from sweeper.spec.warm_start import WarmStart

VARIANT_PATTERN: Final = r"^[a-z0-9][a-z0-9._-]{0,63}$"
STORE_PATTERN: Final = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_.=-]+)*/?$"
VARIANT: Final = "variant"
"""The parameter whose value is the name of a variant."""
SEED: Final = "seed"
"""The config's field that `seeds` sets, and the parameter that holds it."""
GOOD_ENOUGH_MM: Final = 0.2
"""Millimetres of the objective that do not matter, if the spec says nothing else."""
TRAINER_PATTERN: Final = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"


def _require_distinct_seeds(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed is named twice")
    return seeds


def _require_distinct(controls: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(controls)) < len(controls):
        raise ValueError("a control is named twice")
    return controls


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


class SpecFile(SpecModel):
    """A sweep, as its YAML file describes it."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    """Name of the study: its folder, its MLflow experiment, the first part of its trials' IDs."""
    kind: Literal["sweep", "ablation"] = "sweep"
    """`sweep`: a search for the best; `ablation`: what each part contributes, as `ablation` says."""
    trainer: Annotated[str, Field(pattern=TRAINER_PATTERN)] = DEFAULT_TRAINER
    """The training function, `package.module:function`."""
    command: Annotated[str, Field(min_length=1)] | None = None
    """Instead of a trainer, a script that is run once for each trial: `python train.py --lr {lr}`. `{args}` stands for
    `--key=value` of every parameter, `{overrides}` for `key=value`; see the guide for the others."""
    report: ScriptReports | None = None
    """Where the reports of the command come from. Default: it calls `sweeper.report`."""
    base: dict[str, Any] = Field(default_factory=dict)
    """What all trials share: fields of the trainer's config that differ from its defaults."""
    search_space: Annotated[dict[str, Dimension], Field(min_length=1)]
    """What varies: dotted path of a config field -> its dimension. Not together with `variants`."""
    variants: dict[Annotated[str, Field(pattern=VARIANT_PATTERN)], dict[str, Any]] = Field(default_factory=dict)
    """What is compared, instead of a search space: name -> dotted path of a config field -> value. Each is one trial,
    in this order; `trials` may be left out, or be smaller to run only the first ones."""
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False), AfterValidator(_require_distinct_seeds)
    ] = ()
    """Each variant is trained once with each of these values of the config's `seed`, one after the other. Default:
    once, with the seed of its config."""
    ablation: Ablation | None = None
    """Factors and a design, which stand for `variants`."""
    constraints: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Comparisons that the parameters of every trial satisfy: `loss.lambda_param + loss.lambda_joint >= 0.1`. One that
    names a parameter does not apply to trials without that parameter."""
    enqueue: Annotated[tuple[dict[str, Choice], ...], Field(strict=False)] = ()
    """Known configurations, the first trials of the study: parameter -> value. What an entry leaves out is sampled."""
    warm_start: WarmStart | None = None
    """An earlier study to learn from."""
    objectives: Objectives = Field(alias="objective")
    """What a trial is judged by. In a list of objectives, the first decides the winner; the sampler learns from all of
    them, and the Pareto front is shown. At a rung trials rank by all: first those that no other dominates, then those
    that only these dominate, and so on; among equals the ends of the front and the least crowded first, as in NSGA-II.
    A trial that has not reported all of them by then is not ranked there."""
    trials: Annotated[int, Field(ge=1)]
    """Number of trials of the study. May be left out where a grid determines it."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the sampler."""
    sampler: SamplerConfig = SamplerConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    controls: Annotated[tuple[str, ...], Field(strict=False), AfterValidator(_require_distinct)] | None = None
    """Reference points that run before the candidates and never win. Default: all that the trainer's config offers in
    its field `control`; `[]`: none."""
    guards: Guards = (CollapseGuard(),)
    """Rules that stop a trial whatever its rank. Default: the collapse guard. `[]`: none."""
    ledger: Annotated[str, Field(min_length=1), AfterValidator(refuse_password)] | None = None
    """Database of the ledger, `sqlite:////srv/ledger.db` or `postgresql://user@host/database`, instead of a file in the
    study's folder. `--ledger` and SWEEPER_LEDGER take precedence."""
    checkpoints: Annotated[str, Field(pattern=STORE_PATTERN)] | None = None
    """`s3://bucket/prefix`: an S3-compatible store that trials write their checkpoints to, for machines that do not
    share the study home. Its address and credentials are AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and so on, set on each
    machine. SWEEPER_CHECKPOINTS takes precedence. Default: the study's folder."""
    audit: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the trials stopped by guard or rank that run on to their end, hidden from ranks and sampler;
    `sweeper show` reports how many were stopped wrongly."""
    retention: Literal["all", "best", "rungs", "last"] = "all"
    """Checkpoints of each trial that are kept whole: `all`; the one with the `best` objective; those at which the trial
    was ranked (`rungs`) and the last; or the `last`. Of the others MLflow keeps the manifest, with the checksums that a
    rerun is compared with, and `sweeper gc` deletes them from the study's folder when the trial has ended. Other files
    that a trial leaves in its folder go to MLflow: with `all` every one, otherwise those of up to 1 MiB."""
    resources: Resources = Resources()
    budget: Budget = Budget()
    stop_when: StopWhen = StopWhen()
    max_failures: Annotated[int, Field(ge=1)] | None = 3
    """Trials of one run that fail before their first report, all with the same error, before the study is stopped."""
    replicate_seed: Literal["fixed", "per_trial"] = "fixed"
    """`fixed`: every trial trains with base.seed; `per_trial`: each with its own."""
    replicate: Literal["auto"] | None = None
    """`auto`: the last quarter of the trials goes to new seeds of the few configurations that could still be the best,
    instead of new ones, until one is within `good_enough` of the best with probability 0.95; the study ends then.
    Default: one run per configuration."""
    good_enough: Annotated[float, Field(gt=0)] | None = None
    """For `replicate`: a difference of the objective that does not matter, in its unit. Default: 0.2 where that is
    millimetres; other objectives have none."""

    @property
    def objective(self) -> Objective:
        """The first objective: it names the winner, and ranks trials where it is the only one."""
        return self.objectives[0]

    @property
    def tolerance(self) -> float | None:
        """`good_enough` or its default; None where there is none."""
        if self.good_enough is not None:
            return self.good_enough
        return GOOD_ENOUGH_MM if self.objective.metric.endswith("_mm") else None

    @model_validator(mode="before")
    @classmethod
    def _count_trials(cls, data: Any) -> Any:
        """Everything else sees variants as a grid of one parameter, whose choices are their names, and seeds as a
        second one; and a grid determines the number of trials."""
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
    def _one_way_to_train(self) -> Self:
        if self.command is not None and self.trainer != COMMAND_TRAINER:
            raise ValueError("`command` and `trainer` cannot be used together: each says what trains")
        if self.command is None and self.report is not None:
            raise ValueError("`report` says where the reports of a `command` come from; a trainer yields its own")
        if self.command is not None and any(key.split(".")[0] == COMMAND for key in (*self.base, *self.search_space)):
            raise ValueError("a parameter of a command cannot be called `command`")
        return self

    @model_validator(mode="after")
    def _a_place_for_each_trial(self) -> Self:
        places = (self.report.rows, self.report.tensorboard) if self.report and self.resources.concurrent != 1 else ()
        for place in places:
            if place is not None and WORKDIR not in place:
                raise ValueError(
                    f"trials that run at once would all write to `{place}`: put it into the trial's own folder, "
                    f"`{WORKDIR}/{place.rsplit('/', 1)[-1]}`, or set `resources: {{concurrent: 1}}`"
                )
        return self

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

    @model_validator(mode="after")
    def _check_replicate(self) -> Self:
        if self.replicate is None:
            if self.good_enough is not None:
                raise ValueError("`good_enough` belongs to `replicate: auto`, which this spec does not have")
            return self
        if self.variants or self.sampler.name == "grid":
            raise ValueError("`replicate` repeats the best of a search: for variants or a grid, name `seeds`")
        if len(self.objectives) > 1:
            raise ValueError("`replicate` needs one objective: of several there is no single best")
        if SEED in self.search_space:
            raise ValueError("`replicate` gives trials new seeds: take `seed` out of `search_space`")
        if self.tolerance is None:
            what = f"`replicate` needs `good_enough`, a difference of {self.objective.metric} that does not matter"
            raise ValueError(what)
        return self
