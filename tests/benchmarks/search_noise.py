"""What a search costs and how good its choice truly is, replayed where the truth is known: the mean over seeds that the
search never saw.

The tasks are those of `replays.py`: tables that `record_table.py` recorded, and a simulation. Configurations come in
random order for every method, so that the sampler plays no part.

    all         every configuration with every seed that a search may see
    random      every configuration to its end
    i-epoch     all for i epochs, the best k of them to the end
    median      Optuna's median rule from epoch 1 on
    asha        the sweeper's own: stopped at a rung unless among the best 1/eta there
    hyperband   the same in three brackets
    + winners   and then the best k of them with n new seeds each, chosen by their averages
    ours        ASHA of the sweeper, the last quarter of the trials to `replicate: auto`

Regret: how much worse the truth of the chosen configuration is than the best truth of the replay's configurations, of
which `ours` tries three quarters.

    PYTHONPATH=. python tests/benchmarks/search_noise.py --replays 60
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from figures import interval
from replays import TASKS, Replay

from sweeper.ledger.trial import Report, TrialRecord, TrialState
from sweeper.noise.model import noise_of
from sweeper.noise.replication import is_due, next_repeat, settled
from sweeper.pruning.asha import Runner, judge, table_of
from sweeper.spec.resolve import SweepSpec
from sweeper.spec.sections import SchedulerConfig


@dataclass
class Search:
    """What a search has run: the epochs, and the trials that came to their end, in order."""

    replay: Replay
    epochs: float = 0.0
    runs: list[tuple[int, int]] = field(default_factory=list)
    runners: list[Runner] = field(default_factory=list)

    def final(self, index: int, seed: int) -> float:
        return float(self.replay.curves[index, seed, -1])

    def finish(self, index: int, seed: int = 0) -> None:
        self.epochs += self.replay.epochs[-1]
        self.runs.append((index, seed))

    def asha(self, index: int, config: SchedulerConfig) -> bool:
        """Run a configuration until its rank stops it; whether it came to its end."""
        points: list[tuple[float, float]] = []
        field_of = table_of(config, "min", self.runners)
        for epoch, value in zip(self.replay.epochs, self.replay.curves[index, 0], strict=True):
            points.append((epoch, float(value)))
            found = judge(config, "min", Runner(index, points, self.replay.epochs[-1]), field_of)
            if found is not None and not found.keep:
                break
        self.runners.append(Runner(index, points, self.replay.epochs[-1]))
        self.epochs += points[-1][0]
        if points[-1][0] < self.replay.epochs[-1]:
            return False
        self.runs.append((index, 0))
        return True

    def choose(self) -> int:
        """The best single run; among configurations that were run again the best average of new seeds."""
        again = {index for index, seed in self.runs if seed}
        if again:
            fresh = {i: [self.final(*run) for run in self.runs if run[0] == i and run[1]] for i in again}
            return min(again, key=lambda i: float(np.mean(fresh[i])))
        return min(self.runs, key=lambda run: self.final(*run))[0]


Method = Callable[[Replay], tuple[float, int, bool]]
"""Epochs, the chosen configuration, and whether the study said that it was settled."""


def search(run: Callable[[Search], None], top: int = 0, seeds: int = 0) -> Method:
    """A search, and then the best `top` with so many new seeds."""

    def method(replay: Replay) -> tuple[float, int, bool]:
        done = Search(replay)
        run(done)
        best = sorted(done.runs, key=lambda each: done.final(*each))[:top]
        for index, _ in best if len(best) > 1 else ():
            for seed in range(1, seeds + 1):
                done.finish(index, seed)
        return done.epochs, done.choose(), False

    return method


def random_search(done: Search) -> None:
    for index in range(len(done.replay.params)):
        done.finish(index)


def all_seeds(done: Search) -> None:
    for index in range(len(done.replay.params)):
        for seed in range(done.replay.curves.shape[1]):
            done.finish(index, seed)


def i_epoch(epochs: float, keep: int) -> Callable[[Search], None]:
    def run(done: Search) -> None:
        step = done.replay.epochs.index(epochs)
        first = done.replay.curves[:, 0, step]
        done.epochs += epochs * (len(first) - keep)
        for index in np.argsort(first)[:keep].tolist():
            done.finish(index)

    return run


def median_rule(done: Search) -> None:
    curves: list[np.ndarray] = []
    for index, curve in enumerate(done.replay.curves[:, 0]):
        stop = len(curve)
        for step in range(1, len(curve)):
            others = [other[step] for other in curves if len(other) > step]
            if len(others) >= 5 and curve[: step + 1].min() > np.median(others):
                stop = step + 1
                break
        curves.append(curve[:stop])
        done.epochs += done.replay.epochs[stop - 1]
        if stop == len(curve):
            done.runs.append((index, 0))


def asha(grace: float, eta: int, name: str = "asha") -> Callable[[Search], None]:
    config = SchedulerConfig(name=name, grace_epochs=grace, eta=eta)  # type: ignore[arg-type]

    def run(done: Search) -> None:
        for index in range(len(done.replay.params)):
            done.asha(index, config)

    return run


def ours(grace: float, eta: int) -> Method:
    config = SchedulerConfig(name="asha", grace_epochs=grace, eta=eta)

    def method(replay: Replay) -> tuple[float, int, bool]:
        spec = spec_of(replay, len(replay.params))
        done, trials, upcoming, is_settled = Search(replay), [], 0, False
        while len(trials) < len(replay.params) and not is_settled:
            again = next_repeat(spec, trials) if is_due(spec, upcoming) else None
            if again and again[1] < replay.curves.shape[1]:
                index = int(again[0].params["index"])
                done.finish(index, again[1])
                trials.append(record(replay, len(trials), index, again[1], TrialState.COMPLETE))
            elif again:
                break
            else:
                state = TrialState.COMPLETE if done.asha(upcoming, config) else TrialState.PRUNED
                trials.append(record(replay, len(trials), upcoming, 0, state))
                upcoming += 1
            is_settled = any(trial.repeat for trial in trials) and settled(noise_of(spec, trials)) is not None
        noise = noise_of(spec, trials)
        if noise is None:
            return done.epochs, done.choose(), False
        best = settled(noise) or max(noise.candidates, key=lambda each: each.p_best)
        return done.epochs, int(best.trial.params["index"]), is_settled

    return method


def spec_of(replay: Replay, trials: int) -> SweepSpec:
    return SweepSpec.model_validate(
        {
            "name": "replay",
            "search_space": {n: {"low": low, "high": high, "log": True} for n, (low, high) in replay.space.items()},
            "objective": {"metric": replay.metric, "mode": "min"},
            "trials": trials,
            "controls": [],
            "replicate": "auto",
            "good_enough": replay.good_enough,
        }
    )


def record(replay: Replay, number: int, index: int, repeat: int, state: TrialState) -> TrialRecord:
    report = Report(1, replay.epochs[-1], {replay.metric: float(replay.curves[index, repeat, -1])}, None, 1)
    params = {**replay.params[index], "index": index}
    return TrialRecord(f"replay-{number:04d}", number, params, state, reports=(report,), repeat=repeat)


SETTINGS = ((1, 2), (1, 3), (2, 2), (2, 3), (2, 4), (3, 3), (4, 2), (4, 3))
"""Grace and eta of ASHA."""
WITH_WINNERS = ((1, 2), (2, 2), (2, 3), (4, 2))
SHIPPED = "asha 2/2"


def methods(new_seeds: int) -> dict[str, Method]:
    """The searches that need no more than so many new seeds of a configuration."""
    winners = [each for each in ((2, 1), (3, 1), (3, 2), (3, 5), (5, 3)) if each[1] <= new_seeds]
    return {
        "all": search(all_seeds),
        "random": search(random_search),
        "i-epoch (1, 4)": search(i_epoch(1.0, 4)),
        "i-epoch (2, 4)": search(i_epoch(2.0, 4)),
        "median": search(median_rule),
        "hyperband 1/2": search(asha(1.0, 2, "hyperband")),
        **{f"asha {grace}/{eta}": search(asha(grace, eta)) for grace, eta in SETTINGS},
        **{
            f"asha {grace}/{eta} + winners {top}x{seeds}": search(asha(grace, eta), top, seeds)
            for grace, eta in WITH_WINNERS
            for top, seeds in winners
        },
        "ours 1/2": ours(1.0, 2),
        "ours 2/2": ours(2.0, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replays", type=int, default=60)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--task", choices=TASKS, action="append")
    args = parser.parse_args()
    for task in args.task or TASKS:
        problems = [TASKS[task](np.random.default_rng(seed), args.trials) for seed in range(args.replays)]
        results: dict[str, np.ndarray] = {}
        for name, method in methods(problems[0].curves.shape[1] - 1).items():
            rows = []
            for replay in problems:
                epochs, chosen, is_settled = method(replay)
                best = replay.truth.min()  # for `ours` too, which tries fewer: what it does not try is its loss
                rows.append((epochs, replay.truth[chosen] - best, is_settled, replay.good_enough))
            results[name] = np.array(rows, float)
            print(f"{task}: {name} replayed", file=sys.stderr, flush=True)
        report(task, results)


def report(task: str, results: dict[str, np.ndarray]) -> None:
    count = len(next(iter(results.values())))
    print(f"\n{task}, {count} replays")
    for name, rows in results.items():
        low, high = interval(lambda d, r=rows: float(r[d, 1].mean()), count)
        line = f"{name:32} {rows[:, 0].mean():6.1f} epochs  regret {rows[:, 1].mean():.4f} ({low:.4f} to {high:.4f})"
        line += f"  {(rows[:, 1] > rows[:, 3]).mean():4.0%} miss what is good enough"
        if name.startswith("ours"):
            stopped = rows[rows[:, 2] > 0]
            wrong = int((stopped[:, 1] > stopped[:, 3]).sum())
            line += f"; settled in {len(stopped)}, of which {wrong} chose worse than good enough"
        print(line, flush=True)
    shipped = results[SHIPPED]
    for name in (f"asha {grace}/{eta}" for grace, eta in SETTINGS):
        rows = results[name]
        low, high = interval(lambda d, r=rows: float((r[d, 1] - shipped[d, 1]).mean()), count)
        cost, worse = rows[:, 0].mean() / shipped[:, 0].mean(), (rows[:, 1] - shipped[:, 1]).mean()
        print(f"{name}: {cost:.2f} times the epochs of {SHIPPED}, regret {worse:+.4f} ({low:+.4f} to {high:+.4f})")
    for name in (name for name in results if name.startswith("ours")):
        mine = results[name]
        rivals = {n: r for n, r in results.items() if "winners" in n and r[:, 1].mean() <= mine[:, 1].mean()}
        if not rivals:
            print(f"{name}: no ASHA + winners reaches its regret")
            continue
        rival = min(rivals, key=lambda n: float(rivals[n][:, 0].mean()))
        theirs = rivals[rival]
        low, high = interval(lambda d, t=theirs, m=mine: float(t[d, 0].mean() / m[d, 0].mean()), count)
        ratio = theirs[:, 0].mean() / mine[:, 0].mean()
        verdict = "met" if low >= 1.5 else "not shown" if ratio >= 1.5 else "MISSED"
        print(f"{name}: the cheapest ASHA + winners of no more regret, {rival}, takes {ratio:.2f} times its epochs "
              f"({low:.2f} to {high:.2f}; target 1.5: {verdict})")  # fmt: skip


if __name__ == "__main__":
    main()
