"""Do images and labels belong together? A permutation test on a probe that is solved in closed form.

Frozen features of the pixels predict the labels by ridge regression, scored on images left out. If the pairs are right
they do so better than after shuffling the labels; the share of shufflings that do as well is the p-value. No network is
trained, so a loss or an optimiser that fails has no say in it.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.batches import Integers, gather
from trainers.data.labels import Array
from trainers.preflight.permutation import p_value, permutations
from trainers.preflight.subject import Subject, spread, verdict
from trainers.report import CheckResult

SHUFFLES = 199
LARGEST_P = 0.01
MOST_VERSIONS = 4
SIDE, CELLS, DIRECTIONS = 32, 8, 8
RIDGE = 0.3
"""Weight of the ridge, as a share of the kernel's mean diagonal."""
COMPONENTS = 10
"""Leading components of theta that are predicted: the rest is mostly noise."""


def check_pairing(subject: Subject) -> Iterator[CheckResult]:
    """Each image version of the poses by itself: where only one is paired rightly, the others show it."""
    table, labels = subject.pipeline.table, subject.pipeline.data.labels
    columns = spread(np.arange(table.shape[1]), MOST_VERSIONS)
    explained: list[float] = []
    chance: list[float] = []
    p_values: list[float] = []
    for column in columns:
        chosen = table[subject.poses, column]
        true, shuffled = _probe(_features(subject, chosen), labels.theta[labels.pose_index[chosen]])
        explained.append(true)
        chance.append(float(np.mean(shuffled)))
        p_values.append(p_value(true, shuffled))
    worst = int(np.argmax(p_values))
    which = f"image version {columns[worst]}" if len(columns) > 1 else "the images"
    yield verdict(
        "pairing.permutation",
        p_values[worst] <= LARGEST_P,
        f"a linear probe of {which} explains {explained[worst]:.1%} of theta, {chance[worst]:.1%} of shuffled theta "
        f"(p = {p_values[worst]:.3f})",
        f"more than shuffled in each version, p at most {LARGEST_P}",
        "images do not belong to their labels: check how an image's number becomes its label's; in FreiHAND it is "
        "number modulo 32560, not number / 4",
    )


def _probe(features: Array, theta: Array) -> tuple[float, list[float]]:
    """Explained share of theta by a ridge regression on features, each image predicted by the others; and of shuffled.

    Leaving one out needs no refitting: its residual is that of the whole fit divided by 1 - leverage.
    """
    centred = theta - theta.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    target = centred @ directions[:COMPONENTS].T
    kernel = features @ features.T
    count = len(kernel)
    hat = np.linalg.solve(kernel + RIDGE * np.trace(kernel) / count * np.eye(count), kernel).T + 1 / count
    residual_of = (np.eye(count) - hat) / (1 - np.diag(hat))[:, None]
    total = np.square(target).sum()

    orders = np.stack([np.arange(count), *permutations(count, SHUFFLES)], axis=1)  # (n, 1 + SHUFFLES)
    residuals = residual_of @ target[orders].reshape(count, -1)
    true, *shuffled = 1 - np.square(residuals).reshape(count, -1, target.shape[1]).sum(axis=(0, 2)) / total
    return float(true), [float(each) for each in shuffled]


def _features(subject: Subject, indices: Integers) -> Array:
    """Frozen features (n, F) of images, centred and of one size: where which edges lie, and a coarse picture.

    Edges as in Dalal and Triggs, "Histograms of oriented gradients", 2005: strength by direction, in cells, each cell's
    divided by their norm.
    """
    order = np.argsort(indices)  # read forwards
    images = gather(subject.pipeline.data.images, indices[order], torch.device("cpu"))
    images = images[torch.from_numpy(np.argsort(order))].permute(0, 3, 1, 2).double() / 255
    small = F.interpolate(images, (SIDE, SIDE), mode="area")
    histograms = _edge_histograms(small.mean(1, keepdim=True))
    coarse = F.interpolate(small, (CELLS, CELLS), mode="area").flatten(1)
    parts = [part - part.mean(0) for part in (histograms, coarse)]
    joined: Array = torch.cat([part / part.norm(dim=1).mean().clamp_min(1e-12) for part in parts], dim=1).numpy()
    return joined


def _edge_histograms(grey: Tensor) -> Tensor:
    """(n, DIRECTIONS * CELLS * CELLS) from grey images (n, 1, SIDE, SIDE)."""
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    across = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    strength = (across.square() + down.square()).sqrt()
    bins = (torch.atan2(down, across) / torch.pi * DIRECTIONS).floor().long() % DIRECTIONS  # of lines: by half a turn
    layers = torch.zeros(len(grey), DIRECTIONS, SIDE, SIDE, dtype=grey.dtype).scatter_(1, bins, strength)
    cells = F.avg_pool2d(layers, SIDE // CELLS)
    return (cells / (cells.norm(dim=1, keepdim=True) + 0.01)).flatten(1)
