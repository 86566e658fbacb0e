"""Do labels move with the pixels? Pictures of three coloured spots go through the batches that training is given, and
where the spots have gone is compared with how the wrist's rotation was turned."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mano_trainers.arrays import Integers, evenly
from mano_trainers.config import AugmentConfig
from mano_trainers.data.augment import HALF_WHITE
from mano_trainers.data.readers.crop import project
from mano_trainers.data.verify import LEAST_ON_MASK
from mano_trainers.preflight.subject import Subject, verdict
from mano_trainers.report import CheckResult
from mano_trainers.training.pipeline import Pipeline, training_batch

SPOTS: Final = ((0.5, 0.3), (0.35, 0.6), (0.7, 0.55))
"""Where the red, green and blue spots are, as shares of the picture's side: no two distances are equal."""
SPOT_RADIUS: Final = 0.08
IMAGES: Final = 64
TOLERANCE_DEG: Final = 3.0
LEAST_SPREAD_DEG: Final = 0.5
CONTRAST: Final = (0.3, 3.0)
LEAST_ROTATION_DEG: Final = 2.0
LEAST_CHANGED: Final = 0.5
"""Of the picture's edge, which is background except for the arm."""
LEAST_APART: Final = 0.1
"""Between the joints on a hand's own mask and on another's."""
GREY_LEVEL: Final = 1.5 / HALF_WHITE
"""Of normalised pixels: rounding, and no more."""


def check_augmentation(subject: Subject) -> Iterator[CheckResult]:
    """Mirrored images, and turns of the pixels that the labels do not make."""
    pipeline = _geometry_only(subject.pipeline)
    chosen = np.sort(pipeline.table[evenly(subject.poses, IMAGES), 0])
    picture = _spots(pipeline.data.images.shape[1])
    # Every image is the one of the spots; a view of it takes no memory.
    everywhere = np.broadcast_to(picture, pipeline.data.images.shape)
    images, target = training_batch(replace(pipeline, images=everywhere), chosen, step=0)
    untouched = pipeline.targets.of(pipeline.data.labels.pose_index[chosen], None)
    assert target.orient is not None
    assert untouched.orient is not None
    before = _places(torch.from_numpy(picture).permute(2, 0, 1)[None].float())
    moved = _linear_part(before, _places(images.cpu().float()))
    yield _mirror(moved)
    yield _turn(moved, (target.orient @ untouched.orient.mT).cpu())
    rotate_deg = pipeline.config.augmentation.rotate_deg
    if pipeline.config.augment and rotate_deg >= LEAST_ROTATION_DEG:
        later = [training_batch(replace(pipeline, images=everywhere), chosen, step=step)[0] for step in (1, 2)]
        yield _varies([_angles(_linear_part(before, _places(each.cpu().float()))) for each in (images, *later)])
        yield _strength(images, picture, moved, rotate_deg)
    if subject.pipeline.config.needs_masks and subject.data.masks is not None:
        first = np.sort(pipeline.table[subject.poses, 0])
        if len(masked := first[subject.data.masks.exact[first]]) > 1:
            yield _background(subject.pipeline, evenly(masked, IMAGES))


def _geometry_only(pipeline: Pipeline) -> Pipeline:
    """Without occluders and changed colours, which the spots would not survive."""
    none = {"colour": 0.0, "grayscale": 0.0, "blur": 0.0, "erase": 0.0, "background": 0.0}
    augmentation = pipeline.config.augmentation.model_copy(update=none)
    return replace(pipeline, config=pipeline.config.model_copy(update={"augmentation": augmentation}))


def _mirror(moved: Tensor) -> CheckResult:
    mirrored = float((torch.linalg.det(moved) < 0).double().mean())
    return verdict(
        "augmentation.mirror",
        mirrored == 0,
        f"{mirrored:.0%} of the pictures of a batch are mirrored",
        "0%",
        "check in this order: a flip in the augmentation (it makes a left hand, which no theta of a right one fits), "
        "or, if pixels.training fails too, what it reports: swapped channels look like this",
    )


def _background(pipeline: Pipeline, chosen: Integers) -> CheckResult:
    """Pictures of one grey level each get other backgrounds: what stays should be where the joints are."""
    levels = np.zeros(len(pipeline.data.images), dtype=np.uint8)
    levels[chosen] = np.linspace(0, 255, len(chosen)).round()
    flat = np.broadcast_to(levels[:, None, None, None], pipeline.data.images.shape)
    off = dict.fromkeys(AugmentConfig.model_fields, 0.0)
    config = pipeline.config.model_copy(update={"augmentation": AugmentConfig(**off | {"background": 1.0})})
    images, _ = training_batch(replace(pipeline, images=flat, config=config), chosen, step=0)
    own = torch.from_numpy(levels[chosen].astype(np.float32)).div_(HALF_WHITE).sub_(1)
    stays = ((images.cpu().float().mean(1) - own.view(-1, 1, 1)).abs() < GREY_LEVEL).numpy()
    size, labels, of = stays.shape[1], pipeline.data.labels, pipeline.data.labels.pose_index[chosen]
    pixels = project(labels.intrinsics[of], labels.joints_m[of]) * size / pipeline.data.sides_px[of, None, None]
    column, row = np.floor(pixels).astype(np.int64).clip(0, size - 1).transpose(2, 0, 1)
    number = np.arange(len(chosen))[:, None]
    on_own, on_other = (float(stays[each, row, column].mean()) for each in (number, (number + 1) % len(chosen)))
    at_edge = np.ones((size, size), dtype=np.bool_)
    at_edge[1:-1, 1:-1] = False
    changed = 1 - float(stays[:, at_edge].mean())
    return verdict(
        "augmentation.background",
        on_own >= LEAST_ON_MASK and on_own - on_other >= LEAST_APART and changed >= LEAST_CHANGED,
        f"with another background {on_own:.0%} of the joints' pixels stay, {on_other:.0%} with another's mask; "
        f"{changed:.0%} of the picture's edge changes",
        f"at least {LEAST_ON_MASK:.0%}, {LEAST_APART:.0%} more than with another's, and {LEAST_CHANGED:.0%}",
        "masks are inverted, or do not belong to the images: training/mask/NNNNNNNN.jpg is of pose NNNNNNNN, and white "
        "where the hand is",
    )


def _angles(moved: Tensor) -> Tensor:
    """Turn in rad of each (B, 2, 2)."""
    return torch.atan2(moved[:, 1, 0] - moved[:, 0, 1], moved[:, 0, 0] + moved[:, 1, 1])


def _varies(angles: list[Tensor]) -> CheckResult:
    """Turns of one image in a batch, and of the same rows in several steps."""
    within_deg = min(float(each.rad2deg().std()) for each in angles) if len(angles[0]) > 1 else LEAST_SPREAD_DEG
    pairs = [(0, 1), (1, 2), (0, 2)]
    between_deg = min(float((angles[i] - angles[j]).abs().rad2deg().mean()) for i, j in pairs)
    return verdict(
        "augmentation.varies",
        within_deg >= LEAST_SPREAD_DEG and between_deg >= LEAST_SPREAD_DEG,
        f"rotations in a batch spread by {within_deg:.1f} degrees; those of the same row in two steps differ by "
        f"{between_deg:.1f}",
        f"at least {LEAST_SPREAD_DEG:g} degrees each",
        "the same augmentation is repeated: draw it for every sample, from a generator seeded with the step",
    )


def _strength(images: Tensor, picture: npt.NDArray[np.uint8], moved: Tensor, rotate_deg: float) -> CheckResult:
    contrast = float(images.float().std((2, 3)).mean()) / (float(picture.std()) / HALF_WHITE)
    turned_deg = float(_angles(moved).abs().rad2deg().mean())
    return verdict(
        "augmentation.strength",
        CONTRAST[0] < contrast < CONTRAST[1] and turned_deg < rotate_deg,
        f"augmented images have {contrast:.2f} times the contrast and turn by {turned_deg:.1f} degrees on average",
        f"{CONTRAST[0]:g} to {CONTRAST[1]:g} times, below {rotate_deg:g} degrees, the largest turn",
        "the augmentation hides the hand, or rotates hands as no camera sees them: lower its strength",
    )


def _turn(moved: Tensor, labelled: Tensor) -> CheckResult:
    """The turn of the pixels (B, 2, 2) against that of the labels (B, 3, 3), both from x towards y."""
    pixels = _angles(moved)
    labels = _angles(labelled)
    apart = (pixels - labels + torch.pi).remainder(2 * torch.pi) - torch.pi
    difference_deg, turned_deg = (float(angle.abs().rad2deg().mean()) for angle in (apart, pixels))
    return verdict(
        "augmentation.labels",
        difference_deg < TOLERANCE_DEG,
        f"pixels turn by {turned_deg:.1f} degrees, labels are {difference_deg:.1f} degrees off",
        f"below {TOLERANCE_DEG:g} degrees",
        "turn the wrist's rotation and the joints by the pixels' angle (augment.turn_labels), in the same direction; "
        "if pixels.training fails too, look there first",
    )


def _spots(size: int) -> npt.NDArray[np.uint8]:
    """A grey picture (S, S, 3) with a spot in each colour."""
    row, column = np.mgrid[0:size, 0:size] / (size - 1)
    distance = [np.hypot(column - x, row - y) for x, y in SPOTS]
    lit = np.stack([np.exp(-0.5 * np.square(each / SPOT_RADIUS)) for each in distance], axis=-1)
    picture: npt.NDArray[np.uint8] = (127 + 100 * lit).round().astype(np.uint8)
    return picture


def _places(images: Tensor) -> Tensor:
    """Where the spot of each colour is, (B, 3, 2) as x and y in pixels, in images (B, 3, S, S) of any brightness.

    The centroid of what is brighter than half way from the median to the brightest: noise stays below.
    """
    size = images.shape[-1]
    flat = images.flatten(2)
    floor = flat.median(dim=-1, keepdim=True).values
    weight = (flat - 0.5 * (floor + flat.amax(-1, keepdim=True))).clamp_min(0)
    weight = weight / weight.sum(-1, keepdim=True).clamp_min(1e-12)
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    places = torch.stack((column.flatten(), row.flatten()), dim=-1).float()
    return weight @ places


def _linear_part(before: Tensor, after: Tensor) -> Tensor:
    """The (B, 2, 2) that takes the sides of one triangle (1, 3, 2) to those of others (B, 3, 2)."""
    sides, sides_after = ((each[:, 1:] - each[:, :1]).mT for each in (before, after))
    linear: Tensor = sides_after @ torch.linalg.inv(sides)
    return linear
