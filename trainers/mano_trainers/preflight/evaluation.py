"""Does the evaluation judge the trained network, in the right way, by the right number?"""

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from scipy.linalg import orthogonal_procrustes
from torch import Tensor

from mano_trainers.arrays import Array
from mano_trainers.data.augment import HALF_WHITE
from mano_trainers.data.readers.labels import joints_in_wrist_frame
from mano_trainers.evaluation.predict import predict
from mano_trainers.hand.layer import HandLayer
from mano_trainers.losses.terms import wrist_joints
from mano_trainers.preflight.rehearsal import Rehearsal
from mano_trainers.preflight.subject import Subject, verdict
from mano_trainers.report import CheckResult

OBJECTIVE_TOLERANCE: Final = 0.002
"""A joint left out of 21 changes a mean by less than 1 %."""
ALONE: Final = 6
REPEATED_TOLERANCE: Final = 0.05
"""Of the predictions' size: in bfloat16 a batch of another size is computed in another order."""
PIXEL_TOLERANCE: Final = 0.02
AVERAGE_TOLERANCE: Final = 0.02


def check_evaluation(subject: Subject, seen: Rehearsal) -> Iterator[CheckResult]:
    """State of the network, its images, repeatability, and the number in the report against known errors."""
    yield _state(seen)
    yield _images(seen)
    yield _repeatable(seen)
    yield _objective(seen)


def _state(seen: Rehearsal) -> CheckResult:
    training, expected = seen.evaluated.training, _expected(seen)
    names = [name for name, value in expected.items() if value.is_floating_point()]
    other = [name for name in names if not _same(seen, name, expected[name])]
    averaged = seen.pipeline.config.optim.ema_decay is not None
    return verdict(
        "evaluation.model",
        not training and not other,
        f"{len(training)} modules are in training mode; {len(other)} of {len(names)} tensors of weights and statistics "
        "are not those that were trained" + (", averaged over the steps" if averaged else ""),
        "0; 0",
        "evaluate in evaluation mode (model.eval()), and the network that the optimizer moves, or its running average: "
        "of weights and statistics, after each step",
    )


def _expected(seen: Rehearsal) -> dict[str, Tensor]:
    """Weights and statistics that should be evaluated: the last ones, or their exponential moving average by hand. Its
    decay rises to the config's with the number of steps."""
    states = [step.after or step.state for step in seen.steps]
    decay = seen.pipeline.config.optim.ema_decay
    if decay is None:
        return states[-1]
    average = states[0]
    for number, state in enumerate(states[1:]):
        kept = min(decay, 1 - (1 + number) ** (-2 / 3))
        average = {
            name: kept * average[name] + (1 - kept) * value if value.is_floating_point() else value
            for name, value in state.items()
        }
    return average


def _same(seen: Rehearsal, name: str, expected: Tensor) -> bool:
    """Whether a tensor that was evaluated is the expected one, bit for bit; of an average, to a share of what the steps
    have moved it by."""
    found = seen.evaluated.state[name]
    if seen.pipeline.config.optim.ema_decay is None:
        return torch.equal(found, expected)
    moved = float((expected - seen.steps[0].state[name]).norm())
    return float((found - expected).norm()) <= AVERAGE_TOLERANCE * moved + 1e-6 * float(expected.norm())


def _images(seen: Rehearsal) -> CheckResult:
    """Pixels that evaluation showed, against the cache's, normalised to -1 ... 1."""
    shown = torch.cat(seen.evaluated.images).float().cpu()
    true = torch.from_numpy(np.asarray(seen.pipeline.data.images[seen.pipeline.val_images])).permute(0, 3, 1, 2)
    true = true.float() / HALF_WHITE - 1
    count = min(len(shown), len(true))
    apart = float((shown[:count] - true[:count]).abs().mean()) if shown.shape[1:] == true.shape[1:] else math.inf
    return verdict(
        "evaluation.images",
        apart < PIXEL_TOLERANCE and len(shown) % len(true) == 0,
        f"{len(shown)} images shown for {len(true)} held out; pixels (-1 to 1) differ by {apart:.3g} from the data's",
        f"a whole multiple; below {PIXEL_TOLERANCE:g}",
        "evaluation must show each held-out image once, in the order of its labels, RGB, normalised as in training",
    )


def _repeatable(seen: Rehearsal) -> CheckResult:
    """The same images in one batch, alone, and in one batch again."""
    pipeline, chosen = seen.pipeline, seen.pipeline.val_images[:ALONE]

    def of(size: int) -> Array:
        return predict(seen.model, pipeline.images, chosen, size, pipeline.device).theta

    together, alone, again = of(len(chosen)), of(1), of(len(chosen))
    scale = max(float(np.abs(together).mean()), 1e-12)
    apart, twice = float(np.abs(together - alone).max()) / scale, float(np.abs(together - again).max()) / scale
    varies = float(together.std(0).max()) / scale if len(together) > 1 else 1.0
    return verdict(
        "evaluation.repeatable",
        max(apart, twice) < REPEATED_TOLERANCE and varies > 1e-6,
        f"an image predicted alone differs by {apart:.2%} from the same one in a batch, and by {twice:.2%} when "
        f"repeated; predictions of different images differ by {varies:.2%}",
        f"below {REPEATED_TOLERANCE:.0%}; below {REPEATED_TOLERANCE:.0%}; over 0%",
        "check in this order: dropout or noise that is active, statistics of the batch instead of running ones, "
        "anything taken over a batch, or an input that is cut off",
    )


def _objective(seen: Rehearsal) -> CheckResult:
    """Predictions with errors of known size stood in for the network's: the report must name that size."""
    expected = _scores(seen)
    found = {name: seen.metrics.get(f"val/{name}", math.nan) for name in expected}
    wrong = [
        name
        for name, value in expected.items()
        if not abs(found[name] - value) <= OBJECTIVE_TOLERANCE * max(abs(value), 0.05)
    ]
    listed = ", ".join(f"{name} {found[name]:.4g} where {expected[name]:.4g} was put in" for name in wrong or expected)
    return verdict(
        "evaluation.objective",
        not wrong,
        listed,
        f"what was put in, to {OBJECTIVE_TOLERANCE:.1%}",
        "check in this order: unit (m, cm, mm), the mean (median, root mean square, mean of batches of unequal size), "
        "joints or samples left out, one alignment for all, predictions in another order than their labels",
    )


def _scores(seen: Rehearsal) -> dict[str, float]:
    """Metrics of the predictions put in, by a second implementation: sample by sample, alignment by SciPy."""
    data = seen.pipeline.data
    poses = data.labels.pose_index[seen.pipeline.val_images]
    betas = np.zeros((len(poses), 10))
    with torch.no_grad():
        hand = HandLayer(data.hand, torch.float64)
        predicted = wrist_joints(hand, torch.from_numpy(seen.theta), torch.from_numpy(betas)).numpy()
    true = joints_in_wrist_frame(data.labels)[poses]
    distances_m = np.stack([_aligned(*pair) for pair in zip(predicted, true, strict=True)])
    theta = data.labels.theta[poses]
    thresholds_m = np.linspace(0, 0.05, 100)
    within = [(distances_m <= threshold).mean() for threshold in thresholds_m]
    off = np.square(seen.theta - theta).sum()
    return {
        "pa_mpjpe_mm": float(1000 * distances_m.mean()),
        "mpjpe_mm": float(1000 * np.linalg.norm(predicted - true, axis=-1).mean()),
        "auc": float(np.trapezoid(within, thresholds_m) / 0.05),
        "theta_r2": float(1 - off / np.square(theta - theta.mean(0)).sum()),
    }


def _aligned(predicted: Array, true: Array) -> Array:
    """Distances (21,) of a hand (21, 3) from another after the best shift, turn and scaling."""
    centred, centred_true = predicted - predicted.mean(0), true - true.mean(0)
    rotation, singular = orthogonal_procrustes(centred, centred_true)
    aligned = centred @ rotation * singular / np.square(centred).sum()
    distances: Array = np.linalg.norm(aligned - centred_true, axis=-1)
    return distances
