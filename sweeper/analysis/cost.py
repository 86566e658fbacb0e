"""`sweeper plan`: what a study will cost before it is started, and whether that fits its budget and the disk."""

import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sweeper.analysis.gpu_cost import GpuCost, gpu_costs, gpu_lines
from sweeper.analysis.throughput import Throughput, measured_throughput, recorded_throughput
from sweeper.checkpoints.locate import named_store
from sweeper.executor.monitor import room, this_machine
from sweeper.noise.replication import repeats_planned
from sweeper.pruning.asha import bracket_of, rung_epochs
from sweeper.spec.lanes import lanes_text, with_usable_lanes
from sweeper.spec.model import SpecFile
from sweeper.spec.resolve import SweepSpec
from sweeper.spec.run_length import full_epochs_of
from sweeper.spec.sections import SchedulerConfig
from sweeper.spec.validation.feasibility import feasibility, feasibility_lines, limit_of
from sweeper.study.controls import TRAINED, control_epochs
from sweeper.study.usage.budget import amount_text, duration_text, left, spent


@dataclass(frozen=True)
class CostEstimate:
    """What a study takes, all trials together. None: unknown without a pace.

    `disk_bytes`: of checkpoints on the disk of the study home, in the study's folder and among MLflow's artifacts;
    `store_bytes`: in the object store instead of that folder, 0 without one."""

    epochs: float
    trial_s: float | None
    wall_clock_s: float | None
    gpu_seconds: float | None
    cpu_seconds: float | None
    euros: float | None
    disk_bytes: float | None
    store_bytes: float | None


@dataclass(frozen=True)
class Plan:
    """`rungs`: epoch -> candidates expected to train up to there; the last one is the full length. `control_epochs`:
    what the controls that train take, part of both costs. `share_infeasible`: part of the search space that the
    trainer's config refuses, 0 to 1; `space`: that in words, and whether it has fewer configurations than trials.
    `gpus`: what it would take on GPUs that are not here."""

    trials: int
    full_epochs: float
    rungs: Mapping[float, float]
    control_epochs: float
    expected: CostEstimate
    worst: CostEstimate
    pace: Throughput | None
    free_bytes: int
    problems: tuple[str, ...]
    share_infeasible: float = 0.0
    space: tuple[str, ...] = ()
    gpus: tuple[GpuCost, ...] = ()


def estimate_cost(
    spec: SpecFile,
    full_epochs: float,
    pace: Throughput | None,
    free_bytes: int,
    trained_controls: int = 0,
    configurations: int | None = None,
) -> Plan:
    """The plan of a study. Pure.

    Expected: successive halving if no trial collapses: of those that reach a rung, one in `eta` continues. The trials
    that `replicate` keeps for new seeds run to their end. Worst: every trial runs to its end. Either way each control
    that trains does so until the candidates are ranked.

    Args:
        spec: the study.
        full_epochs: length of a full run.
        pace: how fast a trial goes, where it is known.
        free_bytes: space on the disk of the study home.
        trained_controls: how many controls train.
        configurations: how many there are to try; None: no known limit. Further trials are new seeds, or none.
    """
    trials = spec.trials if spec.budget.trials is None else min(spec.trials, spec.budget.trials)
    repeats = min(repeats_planned(spec), trials)
    if configurations is not None and configurations < trials - repeats:
        configurations = max(configurations, 1)
        trials = trials if spec.replicate else configurations
        repeats = trials - configurations
    rungs = _expected_rungs(spec.scheduler, trials - repeats, full_epochs)
    rungs = {epoch: count + repeats for epoch, count in rungs.items()}  # new seeds of the best, each to its end
    of_controls = trained_controls * min(control_epochs(spec.scheduler), full_epochs)
    expected_epochs, before = of_controls, 0.0
    for end, count in rungs.items():
        expected_epochs += count * (end - before)
        before = end
    worst_epochs = trials * full_epochs + of_controls
    expected, worst = (_cost(spec, epochs, trials, pace) for epochs in (expected_epochs, worst_epochs))
    problems = _problems(spec, expected, free_bytes)
    return Plan(trials, full_epochs, rungs, of_controls, expected, worst, pace, free_bytes, problems)


def _expected_rungs(scheduler: SchedulerConfig, trials: int, full_epochs: float) -> dict[float, float]:
    """Epoch -> trials that train up to there, over all brackets; in each at least one continues."""
    if scheduler.name == "none":
        return {full_epochs: float(trials)}
    in_bracket = Counter(bracket_of(scheduler, number) for number in range(trials))
    ends = {
        bracket: rung_epochs(scheduler.grace_epochs * scheduler.eta**bracket, scheduler.eta, full_epochs)
        for bracket in in_bracket
    }
    return {
        epoch: sum(
            max(1.0, count / scheduler.eta ** sum(end < epoch for end in ends[bracket]))
            for bracket, count in in_bracket.items()
        )
        for epoch in sorted({end for of_bracket in ends.values() for end in of_bracket} | {full_epochs})
    }


def _cost(spec: SpecFile, epochs: float, trials: int, pace: Throughput | None) -> CostEstimate:
    if pace is None:
        return CostEstimate(epochs, None, None, None, None, None, None, None)
    trial_s = epochs * pace.seconds_per_epoch
    at_once = spec.resources.at_once(room(spec.resources, [this_machine()]))
    wall_clock_s = trial_s / min(at_once, trials)
    used = spent(spec.budget, spec.resources, trials, trial_s, wall_clock_s)
    once = epochs * pace.checkpoints_per_epoch * pace.checkpoint_bytes
    disk, store = (once, once) if named_store(spec) else (2 * once, 0.0)
    return CostEstimate(epochs, trial_s, wall_clock_s, used.gpu_seconds, used.cpu_seconds, used.euros, disk, store)


def _problems(spec: SpecFile, expected: CostEstimate, free_bytes: int) -> tuple[str, ...]:
    """What does not fit even if trials are stopped early as expected."""
    problems = []
    limits = left(spec.budget, spent(spec.budget, spec.resources, 0, 0.0, 0.0))
    for name, limit in limits.items():
        cost = getattr(expected, name, None)
        if cost is not None and cost > limit:
            fit = int(spec.trials * limit / cost)
            problems.append(
                f"expected {amount_text(name, cost)}, but the budget is {amount_text(name, limit)}: "
                f"about {fit} trials fit"
            )
    if expected.disk_bytes is not None and expected.disk_bytes > free_bytes:
        problems.append(f"expected {_bytes(expected.disk_bytes)} of checkpoints, but {_bytes(free_bytes)} are free")
    return tuple(problems)


def plan_study(
    spec: SweepSpec, home: Path, *, measure: bool = False, prices: Mapping[str, float] | None = None
) -> Plan:
    """The plan of a spec in a home; `measure`: train a little if no earlier trial shows the pace; `prices`: euros for
    an hour of a GPU, by its name.

    Raises:
        UserError: the length of a run is unknown, or the trainer fails.
    """
    lanes = lanes_text(spec)
    spec = with_usable_lanes(spec)
    pace = recorded_throughput(spec, home)
    if pace is None and measure:
        pace = measured_throughput(spec, home)
        if (count := spec.resources.lanes) > 1:  # only a run shows what they save
            seconds, source = pace.seconds_per_epoch * count, f"{pace.source}; {count} lanes as if in sequence"
            pace = replace(pace, seconds_per_epoch=seconds, source=source)
    existing = next(folder for folder in (home.resolve(), *home.resolve().parents) if folder.exists())
    trained = sum(name in TRAINED for name in spec.control_names)
    found = feasibility(spec)
    free_bytes = shutil.disk_usage(existing).free
    plan = estimate_cost(spec, full_epochs_of(spec), pace, free_bytes, trained, limit_of(spec, found))
    space = (*([f"  lanes       {lanes}"] if lanes else []), *feasibility_lines(spec, found))
    gpus = gpu_costs(spec, plan.expected.epochs, plan.worst.epochs, prices or {})
    return replace(plan, share_infeasible=found.share_refused, space=space, gpus=gpus)


def plan_text(spec: SpecFile, plan: Plan) -> str:
    """The plan as people read it."""
    rungs = ", ".join(f"{count:.3g} to epoch {epoch:g}" for epoch, count in plan.rungs.items())
    lines = [f"{spec.name}: {plan.trials} trials, {spec.resources.at_once_text}", f"  trains      {rungs}"]
    if plan.control_epochs:
        lines.append(f"  controls    {plan.control_epochs:g} epochs, part of what follows")
    for name, cost in (("expected", plan.expected), ("worst case", plan.worst)):
        lines.append(f"  {name:<11} {cost.epochs:.4g} epochs{_device_text(cost)}")
    if plan.pace is None:
        lines.append("  pace        unknown: no earlier trial of this shape in this home; --measure times one epoch")
    else:
        lines.append(f"  pace        {duration_text(plan.pace.seconds_per_epoch)} per epoch ({plan.pace.source})")
        disk = [_bytes(cost.disk_bytes or 0) for cost in (plan.expected, plan.worst)]
        store = [_bytes(cost.store_bytes or 0) for cost in (plan.expected, plan.worst)]
        here = "MLflow's copies here" if plan.worst.store_bytes else "with MLflow's copies"
        in_store = f"{store[0]}, at most {store[1]}, in the store; " if plan.worst.store_bytes else ""
        lines.append(f"  checkpoints {in_store}{disk[0]}, at most {disk[1]}, {here}; {_bytes(plan.free_bytes)} free")
    lines += gpu_lines(plan.gpus)
    limits = left(spec.budget, spent(spec.budget, spec.resources, 0, 0.0, 0.0))
    lines += plan.space
    lines.append("  budget      " + (", ".join(amount_text(*limit) for limit in limits.items()) or "none"))
    return "\n".join(lines)


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan as a script reads it."""
    return asdict(plan) | {"rungs": [{"epoch": epoch, "trials": count} for epoch, count in plan.rungs.items()]}


def _device_text(cost: CostEstimate) -> str:
    if cost.wall_clock_s is None:
        return ""
    device = "gpu_seconds" if cost.gpu_seconds else "cpu_seconds"
    text = f", {amount_text(device, getattr(cost, device))}, {duration_text(cost.wall_clock_s)}"
    return text + (f", {cost.euros:.2f} euros" if cost.euros is not None else "")


def _bytes(amount: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"
