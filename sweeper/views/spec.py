"""What a spec says, in words, for `sweeper check`."""

from collections.abc import Mapping, Sequence
from typing import Final

from mano_trainers.report import TrainerOffers
from sweeper.entrypoint.offers import offers_of
from sweeper.noise.replication import repeats_planned
from sweeper.search_space.dimensions import AnyDimension, CategoricalDimension, FloatDimension, ParamValue
from sweeper.search_space.grid import grid_size
from sweeper.search_space.paths import short_names
from sweeper.spec.design import Ablation, defining_words, factors_of
from sweeper.spec.lanes import lanes_text
from sweeper.spec.objective import Objective
from sweeper.spec.reading.messages import show
from sweeper.spec.resolve import SweepSpec
from sweeper.spec.sections import Budget, CollapseGuard, Guard, PlateauGuard
from sweeper.spec.validation.feasibility import feasibility, feasibility_lines
from sweeper.study.usage.budget import amount_text

MOST_CHOICES: Final = 20
"""Of a dimension, that are written out."""


def describe(spec: SweepSpec) -> str:
    """A short summary: what runs, what is varied, how it is judged, and what stops a trial."""
    names = short_names(spec.search_space)
    width = max(map(len, names.values()))
    lines = [
        f"{spec.path or spec.name}: valid",
        f"  study       {spec.name}: {spec.trials} trials of {spec.trainer}, {spec.resources.at_once_text}",
        f"  objective   {', then '.join(_objective(objective) for objective in spec.objectives)}",
        f"  ablation    {_ablation(spec.ablation)}" if spec.ablation else "",
        f"  sampler     {_sampler(spec)}",
        f"  scheduler   {_scheduler(spec)}",
        *(f"  guard       {guard.name}: {_guard(guard, offers_of(spec.trainer))}" for guard in spec.guards),
        "  guard       none" if not spec.guards else "",
        f"  replicate   {_replicate(spec)}" if spec.replicate else "",
        f"  audit       {spec.audit:.0%} of stopped trials run on as an audit, without affecting results"
        if spec.audit
        else "",
        f"  controls    {', '.join(spec.control_names) or 'none'}",
        f"  resources   {spec.resources.cpus} CPU, {spec.resources.gpus:g} GPU per trial",
        f"  lanes       {lanes}" if (lanes := lanes_text(spec)) else "",
        f"  budget      {', '.join(limits)}" if (limits := _budget_limits(spec.budget)) else "",
        f"  ledger      {spec.ledger}" if spec.ledger else "",
        f"  varies      {len(names)} parameters",
        *(f"    {names[path]:<{width}}  {dimension_text(dimension)}" for path, dimension in spec.search_space.items()),
        *feasibility_lines(spec, feasibility(spec)),
        *(f"  constraint  {text}" for text in spec.constraints),
        *(f"  {'enqueue' if index == 0 else '':<10}  {_entry(entry)}" for index, entry in enumerate(spec.enqueue)),
    ]
    return "\n".join(line for line in lines if line)


def _sampler(spec: SweepSpec) -> str:
    if spec.variants:
        return f"none: each variant once{' with each seed' if spec.seeds else ''}, in the order of the file"
    if spec.sampler.name == "grid":
        points = grid_size(spec.search_space, spec.constraints)
        return f"grid of {points} points, in written order, the last parameter changing fastest"
    match spec.sampler.name:
        case "tpe" | "gp":
            how = f", the first {spec.sampler.startup_trials} at random"
        case _ if spec.sampler.is_custom:
            said = ", ".join(f"{key}={value!r}" for key, value in spec.sampler.arguments.items())
            how = f"({said})"
        case "nsga2":
            how = f", generations of {spec.sampler.population}"
        case _:
            how = ""
    warm = f", after {spec.warm_start.trials} trials of {spec.warm_start.study}" if spec.warm_start else ""
    return f"{spec.sampler.name}{how}{warm}, seed {spec.seed}"


def _replicate(spec: SweepSpec) -> str:
    enough = f"a configuration is within {spec.objective.format(spec.tolerance or 0.0)} of the best"
    return f"the last {repeats_planned(spec)} trials are new seeds, until {enough}"


def _ablation(ablation: Ablation) -> str:
    factors = [f"{name} ({', '.join(factor.levels)})" for name, factor in factors_of(ablation.factors).items()]
    said = ablation.design.replace("_", " ") + (f": {'; '.join(factors)}" if factors else "")
    if not ablation.generators:
        return said
    words = ["".join(sorted(word.letters)) for word in defining_words(ablation.generators)]
    return f"{said}; {', '.join(ablation.generators)}, so I = {' = '.join(words)}: resolution {len(words[0])}"


def _objective(objective: Objective) -> str:
    return f"{'lowest' if objective.mode == 'min' else 'highest'} {objective.metric}"


def _scheduler(spec: SweepSpec) -> str:
    scheduler = spec.scheduler
    if scheduler.name == "none":
        return "none: every trial runs to its end"
    brackets = f" and later in {scheduler.brackets} brackets" if scheduler.name == "hyperband" else ""
    others = "the others end" if scheduler.mode == "stop" else "the others wait to be promoted"
    by = " by all objectives" if len(spec.objectives) > 1 else ""
    part = f" ({scheduler.grace:.3g} of a full run)" if scheduler.grace is not None else ""
    return (
        f"{scheduler.name}: ranks{by} after {scheduler.grace_epochs:g} epochs{part}{brackets}, "
        f"1 of {scheduler.eta} continues, {others}"
    )


def _budget_limits(budget: Budget) -> list[str]:
    limits = {name: getattr(budget, name) for name in ("trials", "wall_clock_s", "gpu_seconds", "cpu_seconds", "euros")}
    return [amount_text(name, limit) for name, limit in limits.items() if limit is not None]


def _guard(guard: Guard, offers: TrainerOffers) -> str:
    if isinstance(guard, CollapseGuard):
        low, blind = guard.var_ratio_below, guard.r2_below
        rule = f"{offers.variance_ratio} < {low:g} and {offers.explained} < {blind:g}"
    elif isinstance(guard, PlateauGuard):
        rule = f"{guard.metric} ({guard.mode}) no better by more than {guard.min_delta:g}"
    else:
        limits = [f"{guard.metric} {sign} {limit:g}" for sign, limit in _limits(guard.below, guard.above)]
        rule = " or ".join([*limits, *([f"{guard.metric} not finite"] if guard.nonfinite else [])])
    return f"{rule}, {guard.for_evaluations} times in a row from epoch {guard.after_epochs:g} on"


def _limits(below: float | None, above: float | None) -> list[tuple[str, float]]:
    return [(sign, limit) for sign, limit in (("<", below), (">", above)) if limit is not None]


def _entry(entry: Mapping[str, ParamValue]) -> str:
    return ", ".join(f"{path}: {show(value).strip('`')}" for path, value in entry.items()) or "all sampled"


def dimension_text(dimension: AnyDimension) -> str:
    """The values of a dimension, and when a trial has it, in words."""
    only = [f"{parent} is {_choices(allowed)}" for parent, allowed in dimension.when.items()]
    return _values(dimension) + _prior(dimension) + (f"; only if {' and '.join(only)}" if only else "")


def _prior(dimension: AnyDimension) -> str:
    if isinstance(dimension, CategoricalDimension) or dimension.prior is None:
        return ""
    spread = f"a factor of {dimension.prior.spread:g}" if dimension.log else f"{dimension.prior.spread:g}"
    return f", at first around {dimension.prior.center:g} (spread {spread})"


def _values(dimension: AnyDimension) -> str:
    if isinstance(dimension, CategoricalDimension):
        return f"one of {_choices(dimension.choices)}"
    if isinstance(dimension, FloatDimension) and dimension.values:
        return f"one of {_choices(dimension.values)}"
    log = ", log scale" if dimension.log else ""
    step = f", step {dimension.step:g}" if dimension.step not in (None, 1) else ""
    kind = ", whole" if dimension.type == "int" else ""
    return f"{dimension.low:g} to {dimension.high:g}{kind}{step}{log}"


def _choices(choices: Sequence[ParamValue]) -> str:
    texts = ["null" if choice is None else show(choice).strip("`") for choice in choices]
    if len(texts) > MOST_CHOICES:
        texts = [*texts[: MOST_CHOICES - 1], f"... {texts[-1]} ({len(texts)} in all)"]
    return ", ".join(texts)
