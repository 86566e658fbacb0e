"""Whether the noise model keeps what it promises, on simulated studies whose truth is known.

The truths are bowls, cones with ripples, and bowls in which each configuration has something to itself, over 2 to 5
parameters; 8 to 39 configurations ran to their end, half of the studies repeat their best four twice; the noise is 0.05
to 1 of the truths' standard deviation. Reported: how often the 95 % intervals hold the truth, of all configurations and
of the three that look best; how often the noise's interval does; and among all statements `P(best) = p` how many were
true.

    PYTHONPATH=. python tests/benchmarks/noise_model.py --studies 400
"""

import argparse
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sweeper.noise.gaussian_process import posterior

GOOD_ENOUGH = 0.2
BINS = (0.0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 1.001)


@dataclass(frozen=True)
class Simulated:
    """A study: where its configurations lie, their true means, and what their runs came to, as `posterior` wants it."""

    places: np.ndarray
    truth: np.ndarray
    averages: np.ndarray
    runs: np.ndarray
    within: float
    noise_sd: float


def simulate(rng: np.random.Generator, most: int = 40) -> Simulated:
    dimensions, count = int(rng.integers(2, 6)), int(rng.integers(8, most))
    places = rng.random((count, dimensions))
    truth = ((places - rng.random(dimensions)) ** 2) @ rng.exponential(1, dimensions)
    match rng.integers(3):
        case 1:
            truth = np.sqrt(truth) + 0.2 * np.sin(6 * places[:, 0] + 3 * places[:, 1])
        case 2:
            truth = truth + 0.15 * truth.std() * rng.standard_normal(count)
    truth = truth / truth.std()
    noise_sd = float(np.exp(rng.uniform(np.log(0.05), 0.0)))
    averages, runs, within = truth + noise_sd * rng.standard_normal(count), np.ones(count), 0.0
    for index in np.argsort(averages)[: 4 * int(rng.integers(2))]:
        own = np.append(averages[index], truth[index] + noise_sd * rng.standard_normal(2))
        averages[index], runs[index], within = own.mean(), 3, within + ((own - own.mean()) ** 2).sum()
    return Simulated(places, truth, averages, runs, within, noise_sd)


@dataclass
class Score:
    """Of many studies. `inside`, `inside_best`, `noise_inside`: shares of intervals that hold the truth; `said`,
    `true`: each P(best) and whether it was the best; `stops`: whether those said to be good enough with 0.95 were."""

    inside: list[float]
    inside_best: list[float]
    noise_inside: list[float]
    said: list[float]
    true: list[bool]
    stops: list[bool]


def score_of(studies: int, seed: int, most: int = 40) -> Score:
    rng, score = np.random.default_rng(seed), Score([], [], [], [], [], [])
    for _ in range(studies):
        case = simulate(rng, most)
        found = posterior(case.places, case.averages, case.runs, case.within)
        low, high = np.percentile(found.means, [2.5, 97.5], axis=0)
        holds = (low <= case.truth) & (case.truth <= high)
        score.inside.append(float(holds.mean()))
        score.inside_best.append(float(holds[np.argsort(case.averages)[:3]].mean()))
        low, high = np.percentile(found.noise_sd, [2.5, 97.5])
        score.noise_inside.append(float(low <= case.noise_sd <= high))
        best = case.truth.argmin()
        chances = np.bincount(found.means.argmin(axis=1), minlength=len(case.truth)) / len(found.means)
        score.said += chances.tolist()
        score.true += (np.arange(len(chances)) == best).tolist()
        near = (found.means - found.means.min(axis=1, keepdims=True) <= GOOD_ENOUGH).mean(axis=0)
        if near.max() >= 0.95:
            score.stops.append(bool(case.truth[near.argmax()] - case.truth[best] <= GOOD_ENOUGH))
    return score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    score = score_of(args.studies, args.seed)
    for name, shares in (("of all", score.inside), ("of the best three", score.inside_best)):
        mean, error = np.mean(shares), np.std(shares) / len(shares) ** 0.5
        verdict = "met" if 0.90 <= mean <= 0.98 else "MISSED"
        print(f"95 % intervals {name} hold {mean:.1%} +- {1.96 * error:.1%} of the truths (target 90-98 %: {verdict})")
    print(f"95 % intervals of the noise hold it in {np.mean(score.noise_inside):.1%} of the studies")
    said, true = np.array(score.said), np.array(score.true)
    for low, high in pairwise(BINS):
        there = (said >= low) & (said < high)
        if there.any():
            print(f"P(best) {low:.2f}-{min(high, 1):.2f}: said {said[there].mean():.3f}, true {true[there].mean():.3f}"
                  f" ({there.sum()} configurations)")  # fmt: skip
    wrong = sum(not right for right in score.stops)
    print(f"good enough with 0.95: said of {len(score.stops)} studies, wrong in {wrong}")


if __name__ == "__main__":
    main()
