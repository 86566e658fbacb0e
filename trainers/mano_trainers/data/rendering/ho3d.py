"""Makes a small data set of rendered hands in HO-3D's layout, to try out reader and training without the real one."""

import pickle
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch

from mano_trainers.data.readers.ho3d import FLIP
from mano_trainers.data.rendering.freihand import Progress
from mano_trainers.data.rendering.shots import Shots, draw_nothing, draw_shot, take_shots
from mano_trainers.data.rendering.whole import written_whole
from mano_trainers.hand.definitions import HO3D_TIPS, chain_joints
from mano_trainers.hand.layer import HandLayer, rotation_matrices
from mano_trainers.hand.model import FREIHAND_ORDER, load_embedded_hand

SEQUENCES: Final = ("ABF10", "ABF11", "MC1", "ND2", "SM2")
"""The first two are two cameras of one recording."""


def make_ho3d(
    out: Path,
    count: int,
    size: int,
    seed: int,
    progress: Progress | None = None,
    suffix: Literal["jpg", "png"] = "jpg",
) -> None:
    """Write `count` labelled frames in a few sequences, each of which starts with a frame without labels.

    Args:
        out: folder to create; it appears whole or not at all.
        count: labelled frames.
        size: height of a picture in pixels; it is a third wider.
        seed: of everything random.
        progress: called with the number of frames drawn and the total.
        suffix: `jpg` as in v3, `png` as in v2.

    Raises:
        DataError: `out` exists.
    """
    shots = take_shots(count, size, np.random.default_rng([seed, 0]))
    metas = _metas(shots)
    done = 0
    with written_whole(out) as root:
        for sequence, indices in zip(SEQUENCES, np.array_split(np.arange(count), len(SEQUENCES)), strict=True):
            folder = root / "train" / sequence
            for name in ("rgb", "meta"):
                (folder / name).mkdir(parents=True)
            for frame, index in enumerate([None, *indices.tolist()]):
                generator = np.random.default_rng([seed, 1, *sequence.encode(), frame])
                picture = draw_nothing(size, generator) if index is None else draw_shot(shots, index, size, generator)
                picture.save(folder / "rgb" / f"{frame:04d}.{suffix}")
                meta = dict.fromkeys(metas[0], None) if index is None else metas[index]
                (folder / "meta" / f"{frame:04d}.pkl").write_bytes(pickle.dumps(meta, protocol=2))
                done += index is not None
                if progress is not None:
                    progress(done, count)


def _metas(shots: Shots) -> list[dict[str, Any]]:
    """Labels as HO-3D stores them: OpenGL's frame, mean pose included, MANO's order, the chain's joints.

    A hand rotated by R about its wrist J0 and moved by t is, seen in the flipped frame, rotated by F R and moved by
    F (J0 + t) - J0.
    """
    hand = load_embedded_hand()
    layer = HandLayer(hand, torch.float64)
    chain = chain_joints(layer, shots.theta, shots.betas, shots.orient, HO3D_TIPS)
    wrist = chain[:, 0]  # a rotation about it leaves it where it is
    joints_m = (chain + shots.shift_m[:, None])[:, np.argsort(FREIHAND_ORDER)] * FLIP
    turned = FLIP[:, None] * rotation_matrices(torch.as_tensor(shots.orient)).numpy()
    translation = FLIP * (wrist + shots.shift_m) - wrist
    return [
        {
            "camMat": shots.intrinsics[index],
            "handPose": np.concatenate([_axis_angle(turned[index]), shots.theta[index] + hand.hands_mean]),
            "handBeta": shots.betas[index],
            "handTrans": translation[index],
            "handJoints3D": joints_m[index],
        }
        for index in range(len(turned))
    ]


def _axis_angle(rotation: Any) -> Any:
    """Axis-angle (3,) of a rotation matrix (3, 3), from the axis that it leaves unchanged."""
    values, vectors = np.linalg.eig(rotation)
    axis = vectors[:, np.abs(values - 1).argmin()].real
    twice_sine = np.array(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    )
    return axis * np.arctan2(twice_sine @ axis, np.trace(rotation) - 1)
