"""Makes a small data set of rendered hands in DexYCB's layout, to try out reader and training without the real one."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
import yaml

from mano_trainers.arrays import Array
from mano_trainers.data.readers.crop import mirror_intrinsics
from mano_trainers.data.rendering.freihand import Progress
from mano_trainers.data.rendering.shots import Shots, draw_nothing, draw_shot, picture_width, take_shots
from mano_trainers.data.rendering.whole import written_whole
from mano_trainers.hand.definitions import DEXYCB_TIPS, DEXYCB_TIPS_LEFT, chain_joints
from mano_trainers.hand.layer import HandLayer
from mano_trainers.hand.mirror import POSITION, mirror_hand, mirror_pose, with_left_fault
from mano_trainers.hand.model import load_embedded_hand

CAMERAS: Final = ("836212060125", "839512060362")
RECORDINGS: Final = (
    ("20200709-subject-01/20200709_141754", "right"),
    ("20200709-subject-01/20200709_142123", "left"),
    ("20200813-subject-02/20200813_145341", "right"),
    ("20200813-subject-02/20200813_145612", "left"),
)


def make_dexycb(out: Path, count: int, size: int, seed: int, progress: Progress | None = None) -> None:
    """Write `count` poses, each seen by two cameras, in recordings of right and left hands of two people.

    Each camera's first frame shows no hand.

    Args:
        out: folder to create; it appears whole or not at all.
        count: poses.
        size: height of a picture in pixels; it is a third wider.
        seed: of everything random.
        progress: called with the number of poses drawn and the total.

    Raises:
        DataError: `out` exists.
    """
    parts = np.array_split(np.arange(count), len(RECORDINGS))
    with written_whole(out) as root:
        done = 0
        for number, ((name, side), poses) in enumerate(zip(RECORDINGS, parts, strict=True)):
            if len(poses):
                _write_recording(root, root / name, side, len(poses), size, [seed, number])
                done += len(poses)
                if progress is not None:
                    progress(done, count)


def _write_recording(root: Path, folder: Path, side: str, count: int, size: int, seed: list[int]) -> None:
    calibration = f"{folder.parent.name}_{side}"
    folder.mkdir(parents=True)
    meta = {"num_frames": count + 1, "serials": list(CAMERAS), "mano_sides": [side], "mano_calib": [calibration]}
    (folder / "meta.yml").write_text(yaml.safe_dump(meta))
    person = np.random.default_rng([*folder.parent.name.encode(), seed[0]])
    betas = person.normal(size=10).clip(-2.0, 2.0).round(6)
    shape_folder = root / "calibration" / f"mano_{calibration}"
    shape_folder.mkdir(parents=True, exist_ok=True)
    (shape_folder / "mano.yml").write_text(yaml.safe_dump({"betas": betas.tolist()}))
    theta = None
    for number, camera in enumerate(CAMERAS):
        shots = take_shots(count, size, np.random.default_rng([*seed, number]), theta, betas)
        theta = shots.theta
        _write_camera(root, folder / camera, _through_one_lens(shots, size), side == "left", size, [*seed, number])


def _through_one_lens(shots: Shots, size: int) -> Shots:
    """The same hands seen by a camera with a fixed matrix: each is moved to where it fills as much of the picture."""
    focal, centre = 1.2 * size, np.array([picture_width(size), size]) / 2
    lens = np.array([[focal, 0.0, centre[0]], [0.0, focal, centre[1]], [0.0, 0.0, 1.0]])
    old_focal = shots.intrinsics[:, 0, 0]
    depth = shots.vertices_m[..., 2].mean(axis=1)
    middle = np.stack([shots.vertices_m.min(axis=1), shots.vertices_m.max(axis=1)]).mean(axis=0)
    wanted = np.zeros_like(middle)
    wanted[:, 2] = depth * focal / old_focal
    move = wanted - middle
    return replace(
        shots,
        shift_m=shots.shift_m + move,
        vertices_m=shots.vertices_m + move[:, None],
        intrinsics=np.tile(lens, (len(depth), 1, 1)),
    )


def _write_camera(root: Path, folder: Path, shots: Shots, left: bool, size: int, seed: list[int]) -> None:
    folder.mkdir()
    pose, joints_m = _labels(shots, left)
    width = picture_width(size)
    matrix = mirror_intrinsics(shots.intrinsics[:1], np.array([width]))[0] if left else shots.intrinsics[0]
    intrinsics = root / "calibration" / "intrinsics" / f"{folder.name}_{width}x{size}.yml"
    intrinsics.parent.mkdir(exist_ok=True)
    names = {"fx": matrix[0, 0], "fy": matrix[1, 1], "ppx": matrix[0, 2], "ppy": matrix[1, 2]}
    intrinsics.write_text(yaml.safe_dump({"color": {key: float(value) for key, value in names.items()}}))
    nobody = np.zeros((1, 51), np.float32), np.full((1, 21, 3), -1.0, np.float32)
    for frame in range(len(pose) + 1):
        generator = np.random.default_rng([*seed, frame])
        picture = draw_shot(shots, frame - 1, size, generator, left) if frame else draw_nothing(size, generator)
        picture.save(folder / f"color_{frame:06d}.jpg", quality=90)
        values = (pose[frame - 1, None], joints_m[frame - 1, None]) if frame else nobody
        np.savez_compressed(folder / f"labels_{frame:06d}.npz", pose_m=values[0], joint_3d=values[1])


def _labels(shots: Shots, left: bool) -> tuple[Array, Array]:
    """pose_m (N, 51) and joint_3d (N, 21, 3) as DexYCB stores them, float32; with `left` those of left hands."""
    hand = load_embedded_hand()
    tips, labelled = (DEXYCB_TIPS_LEFT, with_left_fault(hand)) if left else (DEXYCB_TIPS, hand)
    chain = chain_joints(HandLayer(labelled, torch.float64), shots.theta, shots.betas, shots.orient, tips)
    joints_m, full, orient, shift_m = (
        chain + shots.shift_m[:, None],
        shots.theta + hand.hands_mean,
        shots.orient,
        shots.shift_m,
    )
    if left:
        hand, joints_m, shift_m = mirror_hand(hand), joints_m * POSITION, shift_m * POSITION
        full, orient = mirror_pose(full), mirror_pose(orient)
    coefficients = np.linalg.solve(hand.hands_components.T, (full - hand.hands_mean).T).T
    pose = np.concatenate([orient, coefficients, shift_m], axis=1)
    return pose.astype(np.float32), joints_m.astype(np.float32)
