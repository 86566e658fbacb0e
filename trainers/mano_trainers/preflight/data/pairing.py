"""Do images and labels belong together? A permutation test on a probe that is solved in closed form.

Frozen features of the pixels predict the labels by ridge regression, scored on images left out. If the pairs are right
they do so better than after shuffling the labels; the share of shufflings that do as well is the p-value. No network is
trained, so a loss or an optimiser that fails does not affect it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mano_trainers.arrays import Array, Integers, evenly
from mano_trainers.data.on_device import gather
from mano_trainers.preflight.permutation import p_value, permutations
from mano_trainers.preflight.subject import Subject, verdict, warning
from mano_trainers.report import CheckResult, CheckStatus
from mano_trainers.rotations import matrix_from_axis_angle

SHUFFLES = 199
LARGEST_P = 0.01
MOST_VERSIONS = 4
SIDE, CELLS, DIRECTIONS = 32, 8, 8
DOUBTFUL_P = 0.1
"""Fingers are small in a small picture: of few poses the probe may be unsure about theta, but not about the wrist."""
FEW = 150
"""Poses from which the probe tells sound pairs from wrong ones: of 60 it cannot be sure."""
MOST_POSES = 384
RIDGE = 3.0
"""Weight of the ridge, as a share of the kernel's mean diagonal."""
COMPONENTS = 10
"""Leading components of the labels that are predicted: the rest is mostly noise."""
HELP = (
    "images do not belong to their labels: check how an image's number becomes its label's; in FreiHAND it is number "
    "modulo 32560, not number / 4"
)


@dataclass(frozen=True)
class Probe:
    """Explained share of the labels, that of shuffled ones, and the p-value of the difference."""

    explained: float
    chance: float
    p: float

    def says(self, what: str) -> str:
        return f"{self.explained:.1%} of {what}, {self.chance:.1%} when shuffled (p = {self.p:.3f})"


def check_pairing(subject: Subject) -> Iterator[CheckResult]:
    """The wrist's rotation, which a probe sees well, from each image version by itself: where only one of them is
    paired rightly, the others show it. And theta, which is trained, from all versions together."""
    table, labels = subject.pipeline.table, subject.pipeline.data.labels
    poses = evenly(subject.poses, MOST_POSES)
    columns = evenly(np.arange(table.shape[1]), MOST_VERSIONS)
    features = [_features(subject, table[poses, column]) for column in columns]
    shown = [labels.pose_index[table[poses, column]] for column in columns]
    rotations = matrix_from_axis_angle(torch.from_numpy(labels.global_orient)).flatten(1).numpy()
    probes = [_probe(*pair) for pair in zip(features, [rotations[each] for each in shown], strict=True)]
    worst = int(np.argmax([probe.p for probe in probes]))
    which = f"image version {columns[worst]}" if len(columns) > 1 else "the images"
    few = len(poses) < FEW
    make = warning if few else verdict
    unsure = f"{len(poses)} poses are too few for a probe to tell; pairing.figures needs fewer" if few else HELP
    yield make(
        "pairing.rotation",
        probes[worst].p <= LARGEST_P,
        f"from {which} a probe explains {probes[worst].says('the wrist rotation')}",
        f"more than of shuffled ones in each version, p at most {LARGEST_P}",
        unsure,
    )
    # Backgrounds differ between the versions of a pose, and average out.
    probe = _probe(np.mean(features, axis=0), labels.theta[shown[0]])
    doubtful = CheckStatus.WARN if few or probe.p <= DOUBTFUL_P else CheckStatus.FAIL
    status = CheckStatus.PASS if probe.p <= LARGEST_P else doubtful
    yield CheckResult(
        "pairing.theta",
        status,
        f"from all versions of an image a probe explains {probe.says('theta')}",
        f"more than of shuffled ones, p at most {LARGEST_P}",
        "" if status is CheckStatus.PASS else unsure,
    )


def _probe(features: Array, labels: Array) -> Probe:
    """Explained share of labels by a ridge regression on features, each image predicted by the others; and of shuffled.

    Leaving one out needs no refitting: its residual is that of the whole fit divided by 1 - leverage.
    """
    centred = labels - labels.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    target = centred @ directions[:COMPONENTS].T
    kernel = features @ features.T
    count = len(kernel)
    ridge = max(RIDGE * np.trace(kernel) / count, 1e-12)  # equal pictures have features of zero
    hat = np.linalg.solve(kernel + ridge * np.eye(count), kernel).T + 1 / count
    residual_of = (np.eye(count) - hat) / (1 - np.diag(hat))[:, None]
    orders = np.stack([np.arange(count), *permutations(count, SHUFFLES)], axis=1)  # (n, 1 + SHUFFLES)
    residuals = (residual_of @ target[orders].reshape(count, -1)).reshape(count, -1, target.shape[1])
    true, *shuffled = (1 - np.square(residuals).sum(axis=(0, 2)) / np.square(target).sum()).tolist()
    return Probe(true, float(np.mean(shuffled)), p_value(true, shuffled))


def _features(subject: Subject, indices: Integers) -> Array:
    """Frozen features (n, F) of images, centred and of one size: where which edges lie, and a coarse picture.

    Edges as in Dalal and Triggs, "Histograms of oriented gradients", 2005: strength by direction, in cells, each cell's
    divided by their norm.
    """
    order = np.argsort(indices)  # read forwards
    images = gather(subject.pipeline.images, indices[order], torch.device("cpu"))
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
    histograms: Tensor = (cells / (cells.norm(dim=1, keepdim=True) + 0.01)).flatten(1)
    return histograms
