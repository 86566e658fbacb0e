"""Epochs until the best healthy configuration has been trained to its end, replayed on recorded curves.

Three ways to search the same table, one trial at a time, every configuration once:

    ours    guards, then ASHA among healthy trials, at evaluations inside epochs; TPE that hears of collapse as
            infeasible
    ASHA    Ray Tune's own AsyncHyperBandScheduler at whole epochs, and Optuna's default TPE, told of each stopped trial
            as complete with its last value, as OptunaSearch does; with Ray's default settings, with those that
            search_spaces/loss_balance.yaml once had, and with those that are best for it on this table
    random  every trial to its end, in random order

A proposal becomes the nearest configuration of the table (log scales) that was not tried. What counts is a trial run to
its end within 2 % of the table's best. A search that stops all of those early has to begin anew: the epochs of a method
are those of all its runs over the number of its successes (the expected running time of COCO; Hansen et al., 2021).

    PYTHONPATH=. python tests/benchmarks/epochs_to_best.py
"""

import argparse
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from figures import interval
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from recorded_curves import OBJECTIVE, TABLE, Table, load_table

from sweeper.pruning.asha import Runner, judge, table_of
from sweeper.pruning.guards import check_guards
from sweeper.samplers.proposal import propose
from sweeper.samplers.tried import TriedConfigurations
from sweeper.spec.resolve import SweepSpec
from sweeper.spec.sections import SchedulerConfig

SHIPPED = (SchedulerConfig().grace_epochs, SchedulerConfig().eta)
"""Grace period in epochs and reduction factor that a spec has if it says nothing."""
CHOSEN = (3.0, 3)
"""Those that were best on the first 67 curves of the table: an unbiased number needs the rows from 67 on."""
GRID = [(1, 2), (1, 4), (2, 2), (2, 3), (3, 2), (3, 3), (4, 2)]
"""What `--split` chooses from, for both."""
RAY_SETTINGS = {"its defaults": (1, 4), "grace 2, eta 2": (2, 2), "its best": (4, 2)}


# -- the searches: each returns the epochs it took, and whether it got there


def ours(table: Table, seed: int, setting: tuple[float, int]) -> tuple[float, bool]:
    spec = spec_of(table, seed, setting)
    study = optuna.create_study(direction="minimize")
    unused, runners, epochs = list(range(len(table.curves))), [], 0.0
    while unused:
        handle = study.ask()
        index = table.nearest(propose(handle, spec, TriedConfigurations()), unused)
        study.tell(handle, state=optuna.trial.TrialState.FAIL)  # TPE shall learn from what was run instead
        unused.remove(index)
        step, state = run_ours(table, index, spec, runners)
        epochs += table.curves[index][step - 1].epoch
        if state == "COMPLETE" and index in table.targets:
            return epochs, True
        if state != "COLLAPSED":
            runners.append(runner_of(table, index, step))
        tell(study, table, index, step, state)
    return epochs, False


def spec_of(table: Table, seed: int, setting: tuple[float, int], **changes: Any) -> SweepSpec:
    return SweepSpec.model_validate(
        {
            "name": "replay",
            "search_space": {
                name: {"low": low, "high": high, "log": True} for name, (low, high) in table.space.items()
            },
            "objective": {"metric": OBJECTIVE, "mode": "min"},
            "trials": len(table.curves),
            "seed": seed,
            "scheduler": {"name": "asha", "grace_epochs": setting[0], "eta": setting[1]},
            "controls": [],
        }
        | changes
    )


def runner_of(table: Table, index: int, step: int) -> Runner:
    points = [(point.epoch, point.metrics[OBJECTIVE]) for point in table.curves[index][:step]]
    return Runner(index, points, table.epochs)


def run_ours(table: Table, index: int, spec: SweepSpec, others: list[Runner]) -> tuple[int, str]:
    """Evaluations of a trial, and how it ends."""
    curve = table.curves[index]
    field = table_of(spec.scheduler, "min", others)
    for step in range(1, len(curve) + 1):
        if check_guards(spec.guards, curve[:step]):
            return step, "COLLAPSED"
        rung = judge(spec.scheduler, "min", runner_of(table, index, step), field)
        if rung is not None and not rung.keep:
            return step, "PRUNED"
    return len(curve), "COMPLETE"


def tell(study: optuna.Study, table: Table, index: int, step: int, state: str) -> None:
    """As the ledger tells the sampler: PRUNED with what it reached, COLLAPSED as infeasible."""
    values = {number: table.value(index, number - 1) for number in range(1, step + 1)}
    running = optuna.trial.create_trial(
        state=optuna.trial.TrialState.RUNNING,
        params=table.params[index],
        distributions=distributions(table),
        intermediate_values={number: value for number, value in values.items() if math.isfinite(value)},
    )
    study.add_trial(running)
    number = len(study.get_trials(deepcopy=False)) - 1
    if state == "COLLAPSED":
        trial_id = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
        optuna.trial.Trial(study, trial_id).set_constraint("collapsed", 1.0)
    if state == "COMPLETE":
        study.tell(number, values[step])
    else:
        study.tell(number, state=optuna.trial.TrialState.PRUNED)


def distributions(table: Table) -> dict[str, optuna.distributions.BaseDistribution]:
    return {
        name: optuna.distributions.FloatDistribution(low, high, log=True) for name, (low, high) in table.space.items()
    }


def ray_asha(table: Table, seed: int, grace_epochs: int, eta: int) -> tuple[float, bool]:
    study = optuna.create_study(direction="minimize", sampler=optuna.samplers.TPESampler(seed=seed))
    scheduler = AsyncHyperBandScheduler(
        time_attr="epoch",
        metric=OBJECTIVE,
        mode="min",
        max_t=int(table.epochs),
        grace_period=grace_epochs,
        reduction_factor=eta,
    )
    unused, epochs = list(range(len(table.curves))), 0.0
    while unused:
        handle = study.ask(distributions(table))
        index = table.nearest(handle.params, unused)
        study.tell(handle, state=optuna.trial.TrialState.FAIL)
        unused.remove(index)
        trial = SimpleNamespace(trial_id=str(index))
        scheduler.on_trial_add(None, trial)
        for point in (point for point in table.curves[index] if point.epoch == int(point.epoch)):
            result = {"epoch": int(point.epoch), OBJECTIVE: point.metrics[OBJECTIVE]}
            if scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP:
                break
        scheduler.on_trial_complete(None, trial, result)
        epochs += point.epoch
        if point.epoch == table.epochs and index in table.targets:
            return epochs, True
        if math.isfinite(value := point.metrics[OBJECTIVE]):
            told = optuna.trial.create_trial(
                value=value, params=table.params[index], distributions=distributions(table)
            )
            study.add_trial(told)
    return epochs, False


def random_search(table: Table, seed: int) -> tuple[float, bool]:
    order = np.random.default_rng(seed).permutation(len(table.curves))
    first = next(place for place, index in enumerate(order.tolist()) if index in table.targets)
    return sum(table.curves[index][-1].epoch for index in order[: first + 1]), True


# -- what is reported


def expected_epochs(runs: np.ndarray) -> float:
    """All epochs (first column) over the number of successes (second), of which there is counted at least one: where a
    method never succeeds this is a lower bound."""
    return float(runs[:, 0].sum() / max(1.0, runs[:, 1].sum()))


def report_guards(table: Table, spec: SweepSpec) -> float:
    """What the guards of a spec do to every curve of the table; returns the share of false kills."""
    steps = [
        next((step for step in range(1, len(curve) + 1) if check_guards(spec.guards, curve[:step])), None)
        for curve in table.curves
    ]
    killed = np.array([step is not None for step in steps])
    useless = np.array([curve[-1].metrics["val/skill"] <= 0 for curve in table.curves])
    epochs = [curve[step - 1].epoch for curve, step in zip(table.curves, steps, strict=True) if step is not None]
    false = float((killed & table.healthy).sum() / table.healthy.sum())
    print(
        f"{len(killed)} curves of {table.epochs:g} epochs: {useless.mean():.0%} end no better than the constant pose, "
        f"{table.healthy.mean():.0%} healthy, {len(table.targets)} within 2 % of the best"
    )
    print(
        f"guards stop {killed.mean():.0%} of all and {(killed & useless).sum() / useless.sum():.0%} of the useless, "
        f"after {np.median(epochs):g} epochs (median); false kills {(killed & table.healthy).sum()} of "
        f"{table.healthy.sum()} healthy, {false:.1%} (target 1%: {'met' if false <= 0.01 else 'MISSED'})"
    )
    return false


Method = Callable[[Table, int], tuple[float, bool]]


def our_method(setting: tuple[float, int]) -> Method:
    return lambda table, seed: ours(table, seed, setting)


def ray_method(setting: tuple[int, int]) -> Method:
    return lambda table, seed: ray_asha(table, seed, *setting)


def run_all(table: Table, methods: Mapping[str, Method], seeds: int) -> dict[str, np.ndarray]:
    return {name: np.array([method(table, seed) for seed in range(seeds)]) for name, method in methods.items()}


def chosen_on(table: Table, seeds: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The settings of the grid that find the best soonest: ours, and Ray's."""
    found = []
    for method in (our_method, ray_method):
        runs = run_all(table, {str(place): method(setting) for place, setting in enumerate(GRID)}, seeds)
        found.append(GRID[int(min(runs, key=lambda place: expected_epochs(runs[place])))])
    return found[0], found[1]


def report(runs: Mapping[str, np.ndarray], seeds: int) -> None:
    """Print each method's epochs, and how many times ours, the first, they are."""
    mine = next(iter(runs.values()))
    for name, of_method in runs.items():
        low, high = interval(lambda drawn, r=of_method: expected_epochs(r[drawn]), seeds)
        ratio = expected_epochs(of_method) / expected_epochs(mine)
        low_ratio, high_ratio = interval(
            lambda drawn, r=of_method: expected_epochs(r[drawn]) / expected_epochs(mine[drawn]), seeds
        )
        verdict = f", target 4: {'met' if ratio >= 4 else 'MISSED'}" if name.startswith("Ray") else ""
        print(
            f"{name}: found by {of_method[:, 1].sum():.0f} of {seeds} runs, "
            f"{expected_epochs(of_method):.0f} epochs ({low:.0f} to {high:.0f}); "
            f"{ratio:.1f} times ours ({low_ratio:.1f} to {high_ratio:.1f}){verdict}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--first", type=int, default=0, help="leave out the configurations before this one")
    parser.add_argument("--split", action="store_true", help="choose settings on the even rows, report the odd ones")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore")
    table = load_table(args.table, slice(1, None, 2) if args.split else slice(args.first, None))
    report_guards(table, spec_of(table, 0, SHIPPED))
    methods: dict[str, Method] = {"ours, as shipped (grace {:g}, eta {})".format(*SHIPPED): our_method(SHIPPED)}
    if args.split:
        mine, rays = chosen_on(load_table(args.table, slice(0, None, 2)), args.seeds)
        methods[f"ours, chosen on the other half {mine}"] = our_method(mine)
        settings = {"its defaults": RAY_SETTINGS["its defaults"], "chosen on the other half": rays}
    else:
        methods["ours (grace {:g}, eta {})".format(*CHOSEN)] = our_method(CHOSEN)
        settings = RAY_SETTINGS
    methods["random"] = random_search
    for name, (grace, eta) in settings.items():
        methods[f"Ray ASHA, {name} (grace {grace}, eta {eta})"] = ray_method((grace, eta))
    report(run_all(table, methods, args.seeds), args.seeds)


if __name__ == "__main__":
    main()
