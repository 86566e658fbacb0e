"""Do validated pictures look like trained ones? Their brightness, contrast, colour and detail."""

from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from mano_trainers.arrays import Array, Integers, evenly
from mano_trainers.data.on_device import gather
from mano_trainers.preflight.data.held_out import FEW, random_splits
from mano_trainers.preflight.permutation import p_value
from mano_trainers.preflight.subject import Subject
from mano_trainers.report import CheckResult, CheckStatus

TRAINED: Final = 256
VALIDATED: Final = 192
STRONG_P: Final = 0.01
APART: Final = 0.5
"""Standard deviations by which the means may differ."""
FEATURES: Final = ("brightness", "red against blue", "green", "contrast", "saturation", "detail")


def check_pictures(subject: Subject) -> CheckResult:
    """Means of simple features over validated and trained pictures, compared with random splits of the same groups."""
    pipeline, data = subject.pipeline, subject.pipeline.data
    poses = evenly(subject.poses, TRAINED)
    trained = pipeline.table[poses, np.arange(len(poses)) % pipeline.table.shape[1]]  # all versions in turn
    validated = pipeline.val_images[evenly(np.arange(len(pipeline.val_images)), VALIDATED)]
    shown = np.concatenate([validated, trained])
    groups = np.unique(data.labels.group[data.labels.pose_index[shown]], return_inverse=True)[1].reshape(-1)
    held = len(np.unique(groups[: len(validated)]))
    features = np.concatenate([_features(subject, images) for images in (validated, trained)])
    features = (features - features.mean(0)) / features[len(validated) :].std(0).clip(1e-6)

    def apart(inside: npt.NDArray[np.bool_]) -> Array:
        difference: Array = features[inside].mean(0) - features[~inside].mean(0)
        return difference

    true = apart(np.arange(len(shown)) < len(validated))
    drawn = [float(np.abs(apart(rows)).max()) for rows in random_splits(groups, held) if 0 < rows.sum() < len(rows)]
    p, most = p_value(float(np.abs(true).max()), drawn), int(np.abs(true).argmax())
    says = (
        f"validated pictures differ most in {FEATURES[most]}, by {true[most]:+.2f} standard deviations of training's "
    )
    says += f"(p = {p:.3f})"
    expected = f"below {APART:g}, or p over {STRONG_P}"
    if p > STRONG_P or not abs(true[most]) > APART:
        return CheckResult("split.pictures", CheckStatus.PASS, says, expected)
    config = subject.pipeline.config.data
    at_random = held >= FEW and config.validate_on == "held_out" and config.dexycb_split is None
    cut_otherwise = config.crop is not None and any(item.format == "freihand" for item in config.all_sets)
    help = "validation's pictures are made differently from training's: decoded, normalised, cropped or resized by "
    help += "separate code"
    if cut_otherwise:
        help += "; or data.crop shows more or less of a validated picture than of a trained one: then split.inside is "
        help += "low, or another factor helps"
    elif not at_random:
        help += "; or it intentionally shows other people and places"
    status = CheckStatus.FAIL if at_random and not cut_otherwise else CheckStatus.WARN
    return CheckResult("split.pictures", status, says, expected, help)


def _features(subject: Subject, indices: Integers) -> Array:
    """The `FEATURES`, (n, 6), of the pictures at `indices`."""
    order = np.argsort(indices, kind="stable")  # the file is read forwards
    images = gather(subject.pipeline.images, indices[order], torch.device("cpu")).double()
    grey = images.mean(-1)
    edges = (grey[:, 1:] - grey[:, :-1]).abs().mean((1, 2)) + (grey[:, :, 1:] - grey[:, :, :-1]).abs().mean((1, 2))
    saturation = (images.amax(-1) - images.amin(-1)).mean((1, 2))
    red, green, blue = images.mean((1, 2)).T
    brightness = grey.mean((1, 2))
    features = [brightness, red - blue, green - brightness, grey.std((1, 2)), saturation, (edges + 1).log()]
    found: Array = torch.stack(features, dim=1)[torch.from_numpy(np.argsort(order))].numpy()
    return found
