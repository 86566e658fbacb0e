"""Can one epoch of the base config foretell which loss weights collapse? Gradients are linear in the weights, so the
products of the terms' gradients with each other and with that of the aligned error (the Procrustes term), measured
once, give every mix a score: the cosine of its summed gradient with the metric's.

    PYTHONPATH=.:trainers python tests/benchmarks/screen.py
    PYTHONPATH=.:trainers python tests/benchmarks/screen.py --task transformer

Judged by the 200 recorded curves, or by the table of a transformer, of which hardly any beats the constant pose: there
the worse half, by the mean over seeds, counts as collapsed, and the best quarter as healthy. AUC: the chance that a
configuration that does not collapse (or ends healthy) scores higher than one that does, with a 95 % bootstrap interval
over configurations. Beside it what needs no screen: the share of the pose prior in the weights.
"""

import argparse
import json
import lzma
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record_curves import config_of
from record_table import TRANSFORMER
from recorded_curves import HEALTHY_RATIO, HEALTHY_SKILL, OBJECTIVE, TABLE, load_table
from replays import DATA
from scipy.stats import rankdata, spearmanr

from mano_trainers.config import LossConfig
from mano_trainers.data.load import load_data
from mano_trainers.device import process
from mano_trainers.loop import Run, begin, steps_before, train
from mano_trainers.losses.terms import loss_terms
from mano_trainers.training.pipeline import training_batch
from mano_trainers.training.steps import train_steps

TERMS = ("param", "joint", "angular", "pca", "reg")
METRIC = "procrustes"
BATCHES = 4
DRAWN, STARTUP, STUDIES = 8, 6, 4000
LEARNS = 3e-3
"""Least learning rate at which most configurations learn in 8 epochs: the score knows nothing of it."""


@dataclass(frozen=True)
class Row:
    """A configuration and its end: with one pose for all images, with skill and varied predictions, its error."""

    params: dict[str, float]
    is_collapsed: bool
    is_healthy: bool
    error_mm: float


def row_of(params: dict[str, float], last: Mapping[str, float]) -> Row:
    collapsed = last["val/theta_var_ratio"] <= HEALTHY_RATIO
    return Row(params, collapsed, not collapsed and last["val/skill"] > HEALTHY_SKILL, last[OBJECTIVE])


def recorded() -> list[Row]:
    table = load_table(TABLE)
    return [row_of(params, curve[-1].metrics) for params, curve in zip(table.params, table.curves, strict=True)]


def transformers() -> list[Row]:
    """Of `data/transformer.json.xz`, with the mean over seeds as the end."""
    table = json.loads(lzma.decompress((DATA / "transformer.json.xz").read_bytes()))
    config = config_of(TRANSFORMER).model_copy(update={"control": "constant_pose"})
    with tempfile.TemporaryDirectory() as folder:
        constant_mm = list(train(config, Path(folder)))[-1].metrics[OBJECTIVE]
    ends_mm = [float(np.mean([values[-1] for values in each["runs"]])) for each in table["configs"]]
    print(f"constant pose {constant_mm:.2f} mm, configurations {min(ends_mm):.2f} to {max(ends_mm):.2f}")
    half, quarter = np.quantile(ends_mm, [0.5, 0.25])
    return [
        Row(each["params"], end > half, end <= quarter, end)
        for each, end in zip(table["configs"], ends_mm, strict=True)
    ]


def products(run: Run) -> np.ndarray:
    """(6, 6) products of the gradients of TERMS and METRIC at all weights, on the mean of a few batches of training."""
    pipeline, model = run.pipeline, run.training.model
    weights = LossConfig(**{f"lambda_{name}": 1.0 for name in (*TERMS, METRIC)})
    criterion = replace(pipeline.criterion, config=weights)
    parameters = [each for each in model.parameters() if each.requires_grad]
    sums = torch.zeros(len(TERMS) + 1, sum(each.numel() for each in parameters))
    model.train()
    for indices in steps_before(pipeline, 1).order[:BATCHES]:
        images, target = training_batch(pipeline, indices, 0)
        terms = loss_terms(criterion, model(images), target)
        for row, name in enumerate((*TERMS, METRIC)):
            found = torch.autograd.grad(terms[name], parameters, retain_graph=True, allow_unused=True)
            flat = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
            sums[row] += torch.cat([each.reshape(-1) for each in flat])
    return (sums @ sums.T).double().numpy()


def screened(seed: int, epochs: Sequence[int], base: Mapping[str, Any]) -> dict[int, np.ndarray]:
    """The products after so many epochs of the base config."""
    config = config_of(dict(base)).model_copy(update={"seed": seed, "evaluate_every": 1.0})
    found = {}
    with process.settings(config) as device:
        run = begin(load_data(config.data), config, device)
        for epoch in range(max(epochs) + 1):
            if epoch:
                train_steps(run.training, run.average, steps_before(run.pipeline, epoch))
            if epoch in epochs:
                found[epoch] = products(run)
    return found


def score(gram: np.ndarray, params: dict[str, float]) -> float:
    """The cosine of the gradient of a mix with that of the metric."""
    default = LossConfig()
    mix = np.array([params.get(f"loss.lambda_{name}", getattr(default, f"lambda_{name}")) for name in TERMS])
    along = mix @ gram[:-1, -1]
    return float(along / np.sqrt((mix @ gram[:-1, :-1] @ mix) * gram[-1, -1]))


def prior_free(params: dict[str, float]) -> float:
    """How little of the weights is the pose prior's: what a person would look at."""
    return -params["loss.lambda_pca"] / sum(value for name, value in params.items() if name.startswith("loss."))


def auc(scores: np.ndarray, healthy: np.ndarray) -> float:
    ranks, good = rankdata(scores), int(healthy.sum())
    return float((ranks[healthy].sum() - good * (good + 1) / 2) / (good * (len(healthy) - good)))


def interval(of: Callable[[np.ndarray], float], rows: int) -> str:
    draw, found = np.random.default_rng(0), []
    for _ in range(2000):
        value = of(draw.integers(0, rows, rows))
        found += [value] if np.isfinite(value) else []
    if not found:
        return "not defined"
    low, high = np.percentile(found, [2.5, 97.5])
    return f"{of(np.arange(rows)):.2f} ({low:.2f} to {high:.2f})"


def startup(scores: np.ndarray, varied: np.ndarray, errors: np.ndarray, drawn: int) -> str:
    """The first trials of a study, each the best score of `drawn` rows: how many collapse, and the best of them."""
    draw, lost, best = np.random.default_rng(1), [], []
    for _ in range(STUDIES):
        rows = draw.permutation(len(scores))[: drawn * STARTUP].reshape(STARTUP, -1)
        chosen = rows[np.arange(STARTUP), scores[rows].argmax(axis=1)]
        lost.append(1 - varied[chosen].mean())
        best.append(errors[chosen].min())
    return f"{np.mean(lost):.0%} of the first {STARTUP} collapse, the best of them ends at {np.mean(best):.2f} mm"


def report(name: str, rows: Sequence[Row], of: Callable[[dict[str, float]], float]) -> None:
    """What a score says of configurations."""
    scores, errors = np.array([of(row.params) for row in rows]), np.array([row.error_mm for row in rows])
    varied, healthy = (np.array(kind) for kind in zip(*((not r.is_collapsed, r.is_healthy) for r in rows), strict=True))
    good = np.flatnonzero(healthy)
    told = [
        interval(lambda i, kind=kind: auc(scores[i], kind[i]) if 0 < kind[i].sum() < len(i) else np.nan, len(rows))
        for kind in (varied, healthy)
    ]
    counts = f"of {len(rows)} configurations {(~varied).sum()} collapse, AUC {told[0]}"
    print(f"  {name}: {counts}; {len(good)} end healthy, AUC {told[1]}")
    for kind, among in (("the healthy", good), ("all", np.arange(len(rows)))):
        if len(among) > 2:
            rho = interval(lambda i, a=among: -spearmanr(scores[a[i]], errors[a[i]]).statistic, len(among))
            print(f"    rho with the error of {kind} {rho}", flush=True)
    drawn = min(DRAWN, len(rows) // STARTUP)  # a small table does not have as many
    if drawn > 2:
        print(f"    startup, the best of {drawn}: {startup(scores, varied, errors, drawn)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="of the screen")
    parser.add_argument("--task", choices=["hand", "transformer"], default="hand")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows, base = (recorded(), {}) if args.task == "hand" else (transformers(), TRANSFORMER)
    tables = {"recorded": rows, f"lr >= {LEARNS:g}": [row for row in rows if row.params["optim.lr"] >= LEARNS]}
    for name, known in tables.items():
        varied, errors = np.array([not row.is_collapsed for row in known]), np.array([row.error_mm for row in known])
        print(f"{name}: startup at random: {startup(np.zeros(len(known)), varied, errors, 1)}")
    print("no screen, the prior's share")
    for name, known in tables.items():
        report(name, known, prior_free)
    for seed in range(args.seeds):
        for epoch, gram in screened(seed, (0, 1, 2), base).items():
            print(f"seed {seed}, after {epoch} epochs")
            for name, known in tables.items():
                report(name, known, partial(score, gram))


if __name__ == "__main__":
    main()
