"""Makes a data set of rendered hands in FreiHAND's layout, free of any data licence."""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from mano_trainers.arrays import Array
from mano_trainers.data.pool import started_pool
from mano_trainers.data.rendering.draw import Batch, draw_batch
from mano_trainers.data.rendering.poses import sample_orientations, sample_poses, sample_shapes
from mano_trainers.data.rendering.render import close_wrist, vertex_normals
from mano_trainers.data.rendering.whole import written_whole
from mano_trainers.hand.layer import HandLayer
from mano_trainers.hand.model import HandModel, load_embedded_hand

Progress = Callable[[int, int], None]

VERSIONS: Final = 4
POSES_PER_BATCH: Final = 25
POSES_AT_ONCE: Final = 256
"""Poses whose vertices are computed or written together; limits the memory."""
ROOT: Final = 9
"""The joint that a label's uv_root and scale position, in FreiHAND's order: the middle finger's knuckle."""
DISTANCE_M: Final = (0.5, 0.9)
FILL: Final = (0.6, 0.8)
"""Longer side of the hand's bounding box as a share of the picture's."""
OFF_CENTRE: Final = 0.7
"""How far from the centre the hand may be, as a share of the room its bounding box leaves."""
DECIMALS: Final = 6


@dataclass(frozen=True, eq=False)
class Scenes:
    """Labels of N poses as they are written; everything is consistent to the last digit.

    Attributes:
        mano: (N, 61) global rotation, theta, shape, root uv, scale.
        joints_m: (N, 21, 3) in the camera's frame.
        vertices_m: (N, 778, 3).
        intrinsics: (N, 3, 3).
    """

    mano: Array
    joints_m: Array
    vertices_m: Array
    intrinsics: Array


def make_freihand(
    out: Path, count: int, size: int, seed: int, progress: Progress | None = None, workers: int | None = None
) -> None:
    """Render `count` poses in 4 versions each, and a tenth as many other poses for evaluation.

    Writes `training/rgb`, `training/mask`, `evaluation/rgb` and `{training,evaluation}_{K,mano,xyz,verts,scale}.json`
    into a hidden folder beside `out`, renamed to `out` at the end. The same seed gives the same files on one machine
    whatever the number of workers.

    Args:
        out: folder to create.
        count: poses for training.
        size: side of a picture in pixels.
        seed: of everything random.
        progress: called with the number of poses drawn and the total.
        workers: processes; by default one per core. With 1 everything is drawn in this process.

    Raises:
        DataError: `out` exists.
    """
    with written_whole(out) as partial:
        batches: list[Batch] = []
        splits = (("training", count, VERSIONS), ("evaluation", max(8, count // 10), 1))
        for number, (split, poses, versions) in enumerate(splits):
            (partial / split / "rgb").mkdir(parents=True)
            scenes = sample_scenes(poses, size, np.random.default_rng([seed, number]))
            _write_labels(partial, split, scenes)
            batches += _batches(scenes, partial / split, versions, size, (seed, number))
        (partial / "training" / "mask").mkdir()
        _draw(batches, progress, workers or os.cpu_count() or 1)


def sample_scenes(count: int, size: int, generator: np.random.Generator) -> Scenes:
    """Hands in front of a camera: poses, shapes, views, and the lens that makes them fill the picture.

    Parameters are rounded before use, so that labels derived from the stored numbers are the stored labels.
    """
    orientation = sample_orientations(count, generator).round(DECIMALS)
    theta = sample_poses(count, generator).round(DECIMALS)
    betas = sample_shapes(count, generator).round(DECIMALS)
    joints, vertices = forward(load_embedded_hand(), theta, betas, orientation)
    vertices, joints = vertices - joints[:, ROOT, None], joints - joints[:, ROOT, None]

    distance = generator.uniform(*DISTANCE_M, count)
    flat = vertices[..., :2] / (vertices[..., 2:] + distance[:, None, None])  # seen with a focal length of 1
    low, high = flat.min(axis=1), flat.max(axis=1)
    longest = (high - low).max(axis=1)
    focal = (generator.uniform(*FILL, count) * size / longest).round(DECIMALS)
    principal = size / 2 * (1 + generator.uniform(-0.02, 0.02, (count, 2))).round(DECIMALS)
    room = (size - focal[:, None] * (high - low)) / 2
    centre = size / 2 + OFF_CENTRE * room * generator.uniform(-1, 1, (count, 2))
    uv_root = (centre - focal[:, None] * (low + high) / 2).round(DECIMALS)
    scale = (focal / distance).round(DECIMALS)

    intrinsics = np.zeros((count, 3, 3))
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal
    intrinsics[:, :2, 2] = principal
    intrinsics[:, 2, 2] = 1.0
    # FreiHAND's rule, exact perspective for one focal length: u = px + f x / z with z = f / scale
    root = np.concatenate([uv_root - principal, focal[:, None]], axis=1) / scale[:, None]
    mano = np.concatenate([orientation, theta, betas, uv_root, scale[:, None]], axis=1)
    return Scenes(mano, joints + root[:, None], vertices + root[:, None], intrinsics)


def forward(hand: HandModel, theta: Array, betas: Array, orientation: Array) -> tuple[Array, Array]:
    """Joints (N, 21, 3) and vertices (N, 778, 3) in double precision."""
    layer = HandLayer(hand, torch.float64)
    joints, vertices = [], []
    with torch.no_grad():
        for start in range(0, len(theta), POSES_AT_ONCE):
            part = [torch.as_tensor(values[start : start + POSES_AT_ONCE]) for values in (theta, betas, orientation)]
            joints.append(layer.joints(*part).numpy())
            vertices.append(layer.vertices(*part).numpy())
    return np.concatenate(joints), np.concatenate(vertices)


def _write_labels(root: Path, split: str, scenes: Scenes) -> None:
    small = {
        "K": scenes.intrinsics,
        "mano": scenes.mano[:, None],
        "xyz": scenes.joints_m.round(DECIMALS + 2),
        "scale": np.linalg.norm(scenes.joints_m[:, 9] - scenes.joints_m[:, 10], axis=1),
    }
    for name, values in small.items():
        (root / f"{split}_{name}.json").write_text(json.dumps(values.tolist()))
    with (root / f"{split}_verts.json").open("wb") as file:
        for start in range(0, len(scenes.vertices_m), POSES_AT_ONCE):
            file.write((b"," if start else b"[") + _points_json(scenes.vertices_m[start : start + POSES_AT_ONCE]))
        file.write(b"]")


def _points_json(points_m: Array) -> bytes:
    """JSON of (N, V, 3) coordinates below 10 m, to the micrometre, without the outermost brackets.

    This is by far the largest file, and setting all digits at once takes a tenth of the time that `json.dumps` takes.
    """
    blank = np.frombuffer(b"[ 0.000000, 0.000000, 0.000000],", dtype=np.uint8)  # a space where a sign may be
    text = np.tile(blank, (*points_m.shape[:2], 1))
    micrometres = np.abs(points_m * 1e6).round().astype(np.int32)
    for axis, start in enumerate((1, 11, 21)):
        text[..., start][points_m[..., axis] < 0] = ord("-")
        rest = micrometres[..., axis]
        for place in (8, 7, 6, 5, 4, 3, 1):
            rest, digit = np.divmod(rest, 10)
            text[..., start + place] += digit.astype(np.uint8)
    return b",".join(b"[" + row.tobytes()[:-1] + b"]" for row in text)


def _batches(scenes: Scenes, folder: Path, versions: int, size: int, seed: tuple[int, ...]) -> Iterator[Batch]:
    hand = load_embedded_hand()
    faces, palm_share = close_wrist(hand.f), palm_share_of(hand)
    for first in range(0, len(scenes.mano), POSES_PER_BATCH):
        part = slice(first, first + POSES_PER_BATCH)
        yield Batch(
            folder=folder,
            first=first,
            count=len(scenes.mano),
            versions=versions,
            seed=seed,
            size=size,
            vertices_m=scenes.vertices_m[part],
            intrinsics=scenes.intrinsics[part],
            faces=faces,
            palm_share=palm_share,
        )


def palm_share_of(hand: HandModel) -> Array:
    """(V,) how much of each vertex is palm: from its normal at rest, where the palm faces -y."""
    share: Array = (0.5 - vertex_normals(hand.v_template, hand.f)[:, 1]).clip(0.0, 1.0)
    return share


def _draw(batches: list[Batch], progress: Progress | None, workers: int) -> None:
    total = sum(len(batch.vertices_m) for batch in batches)
    done = 0
    for drawn in map(draw_batch, batches) if workers == 1 else _draw_in_processes(batches, workers):
        done += drawn
        if progress is not None:
            progress(done, total)


def _draw_in_processes(batches: list[Batch], workers: int) -> Iterator[int]:
    with started_pool(min(workers, len(batches))) as pool:
        for future in as_completed([pool.submit(draw_batch, batch) for batch in batches]):
            yield future.result()
