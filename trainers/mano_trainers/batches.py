"""Which images a step shows, and what belongs to them. All order and randomness derive from (seed, epoch) or (seed,
step).

Shapes: N poses, V image versions of a pose, B batch, S side of the images in pixels.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mano_trainers.arrays import Integers, Pixels
from mano_trainers.data.augment import Draw, augment, camera_roll, fill_augmented, fill_normalised, normalise
from mano_trainers.data.background import composed
from mano_trainers.data.on_device import forget, gather, to_device
from mano_trainers.data.readers.labels import Labels
from mano_trainers.hand.layer import HandLayer
from mano_trainers.losses.terms import Target, wrist_joints
from mano_trainers.rotations import matrix_from_axis_angle


def seeded(seed: int, purpose: str, index: int) -> torch.Generator:
    """A separate generator for each purpose and index, so that no draw depends on what was drawn before it."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def image_table(pose_index: Integers) -> Integers:
    """Images (N, V) of each pose, in the order of their versions, from the pose index (M,) of each image.

    V is the least common multiple of the poses' numbers of versions. Poses of another set may have fewer; theirs are
    repeated, equally often.
    """
    versions = np.bincount(pose_index)
    most = int(np.lcm.reduce(np.unique(versions)))
    first = np.cumsum(versions) - versions
    table: Integers = np.argsort(pose_index, kind="stable")[first[:, None] + np.arange(most) % versions[:, None]]
    return table


def epoch_order(
    table: Integers, poses: Integers, versions: Literal["all", "one"], batch_size: int, generator: torch.Generator
) -> Integers:
    """Images (steps, B) of one epoch. Those of a step are sorted: reading a file forwards is faster.

    A last batch that is not full is left out; the next epoch leaves out other images. Fewer images than a batch are one
    batch.

    Args:
        table: (N, V) from `image_table`.
        poses: training poses.
        versions: `one` shows each pose in one version, drawn each time; `all` in all of them.
        batch_size: B.
        generator: that of the epoch.
    """
    if versions == "one":
        drawn = torch.randint(table.shape[1], (len(poses),), generator=generator).numpy()
        images = table[poses, drawn]
    else:
        images = table[poses].reshape(-1)
    shuffled = images[torch.randperm(len(images), generator=generator).numpy()]
    batch_size = min(batch_size, len(images))
    steps = len(images) // batch_size
    order: Integers = np.sort(shuffled[: steps * batch_size].reshape(steps, batch_size), axis=1)
    return order


def batch_memory(images: Pixels | Tensor, count: int, device: torch.device) -> Tensor | None:
    """Memory for `make_batch` of up to `count` images, to be reused where that saves time: on a CPU.

    There, fresh memory for large images costs more than their augmentation.
    """
    size = images.shape[1]
    return torch.empty(count, size, size, 3).permute(0, 3, 1, 2) if device.type == "cpu" else None


def make_batch(
    images: Pixels | Tensor,
    indices: Integers,
    device: torch.device,
    drawn: Draw | None = None,
    memory: Tensor | None = None,
    gathered: Tensor | None = None,
) -> Tensor:
    """Normalised images (B, 3, S, S) in channels_last on the device, augmented as drawn.

    Args:
        images: (M, S, S, 3) uint8, as they are or from `on_device`.
        indices: (B,) rows of `images`.
        device: where the batch is wanted.
        drawn: augmentation of the batch; None for none.
        memory: from `batch_memory`; the batch lies in it until the next one does.
        gathered: these images on the device, if they were copied ahead.
    """
    if device.type == "cpu" and not isinstance(images, Tensor):
        memory = batch_memory(images, len(indices), device) if memory is None else memory
        assert memory is not None, "a CPU has some"
        batch = memory[: len(indices)]
        _fill(batch, images, indices, drawn)
        forget(images)
        return batch
    batch = normalise(gather(images, indices, device) if gathered is None else gathered)
    return batch if drawn is None else augment(batch, drawn)


def _fill(batch: Tensor, images: Pixels, indices: Integers, drawn: Draw | None) -> None:
    """Images of a batch do not depend on each other, so each of torch's threads takes some."""

    def fill(rows: slice) -> None:
        if drawn is None:
            fill_normalised(batch[rows], images, indices[rows])
        elif drawn.background is None:
            fill_augmented(batch[rows], images, indices[rows], drawn.part(rows))
        else:
            shown = composed(images, indices, drawn.background, rows)
            fill_augmented(batch[rows], shown, np.arange(len(shown)), drawn.part(rows))

    threads = torch.get_num_threads()
    if threads == 1:
        fill(slice(None))
        return
    share = -(-len(indices) // threads)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, [slice(first, first + share) for first in range(0, len(indices), share)]))


@dataclass(frozen=True)
class Targets:
    """Labels of all poses on the device.

    Attributes:
        theta: (N, 45) rad.
        betas: (N, 10).
        joints_m: (N, 21, 3) in the wrist's frame.
        orient: (N, 3, 3) rotation of the wrist in the camera's frame, where a loss term needs it.
        intrinsics: (N, 3, 3) camera matrices, to turn `orient` with the image.
    """

    theta: Tensor
    betas: Tensor
    joints_m: Tensor
    orient: Tensor | None
    intrinsics: Tensor

    def of(self, poses: Integers | Tensor, angle: Tensor | None) -> Target:
        """Those of a batch of poses (B,), whose images were turned by `angle` (B,) rad, if at all."""
        index = to_device(poses, self.theta.device)
        orient = None
        if self.orient is not None:
            orient = self.orient[index]
            if angle is not None:
                rolled = camera_roll(angle, self.intrinsics[index]) @ orient[:, :2]
                orient = torch.cat((rolled, orient[:, 2:]), dim=1)
        return Target(self.theta[index], self.betas[index], self.joints_m[index], orient)


def make_targets(hand: HandLayer, labels: Labels, device: torch.device, with_orient: bool) -> Targets:
    """Labels as the losses need them, float32. The true joints are computed by the hand itself, once instead of every
    step."""
    theta = torch.from_numpy(labels.theta).to(device, torch.float32)
    betas = torch.from_numpy(labels.betas).to(device, torch.float32)
    orient = matrix_from_axis_angle(torch.from_numpy(labels.global_orient)).to(device, torch.float32)
    intrinsics = torch.from_numpy(labels.intrinsics).to(device, torch.float32)
    with torch.no_grad():
        pairs = zip(torch.split(theta, 1024), torch.split(betas, 1024), strict=True)
        joints_m = torch.cat([wrist_joints(hand, *pair) for pair in pairs])
    return Targets(theta, betas, joints_m, orient if with_orient else None, intrinsics)
