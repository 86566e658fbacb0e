"""Which poses an epoch of a mixture shows, by the weights of its stage."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from mano_trainers.arrays import Array, Integers
from mano_trainers.config.data import VIEWPOINTS, CurriculumStage
from mano_trainers.data.readers.labels import Labels
from mano_trainers.errors import ConfigError


def weights_at(curriculum: Sequence[CurriculumStage], epoch: int) -> Mapping[str, float]:
    """Weights of the stage that an epoch (from 1) belongs to; the last stage does not end."""
    for stage in curriculum[:-1]:
        if stage.until_epoch is not None and epoch <= stage.until_epoch:
            return stage.weights
    return curriculum[-1].weights if curriculum else {}


def epoch_poses(labels: Labels, poses: Integers, weights: Mapping[str, float], generator: torch.Generator) -> Integers:
    """Draw as many poses as there are, in the shares that the weights give.

    Poses are divided by what the weights name, sets or viewpoints or both, and the share of a part is proportional to
    the product of its weights. Within a part no pose is shown again before all have been shown.

    Args:
        labels: of all poses.
        poses: training poses.
        weights: of set names and viewpoint tags; empty: every pose once, and nothing is drawn.
        generator: that of the epoch.

    Raises:
        ConfigError: a part with a share has no poses.
    """
    if not weights:
        return poses
    parts = _parts(labels, poses, weights)
    shares = np.array([share for _, share in parts])
    exact = shares / shares.sum() * len(poses)
    counts = np.floor(exact).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: len(poses) - counts.sum()]] += 1  # the largest remainders
    drawn = []
    for (members, _), count in zip(parts, counts.tolist(), strict=True):
        whole, rest = divmod(count, len(members))
        some = torch.randperm(len(members), generator=generator)[:rest].numpy()
        drawn += [np.tile(members, whole), members[some]]
    chosen: Integers = np.concatenate(drawn)
    return chosen


def check_curriculum(curriculum: Sequence[CurriculumStage], labels: Labels, poses: Integers) -> None:
    """Raise ConfigError now if some stage would have nothing to show later."""
    for stage in curriculum:
        _parts(labels, poses, stage.weights)


def _parts(labels: Labels, poses: Integers, weights: Mapping[str, float]) -> list[tuple[Integers, float]]:
    """Poses of each part with a share above 0, and the product of its weights."""
    factor: Array = np.ones(len(poses))
    part = np.zeros(len(poses), dtype=np.int64)
    for tags, named in (
        (labels.set_name[poses], [name for name in weights if name not in VIEWPOINTS]),
        (labels.viewpoint[poses], [name for name in weights if name in VIEWPOINTS]),
    ):
        for name in named:
            if weights[name] > 0 and not (tags == name).any():
                raise ConfigError(
                    f"no training pose belongs to {name}", "data.curriculum", "give it weight 0, or use other data"
                )
        if named:
            names = np.array(named)
            which = (tags[:, None] == names).argmax(axis=1)
            factor *= np.where(np.isin(tags, names), np.array([weights[name] for name in named])[which], 0.0)
            part = part * len(named) + which
    parts = [(poses[rows], float(factor[rows][0])) for rows in _rows(part, factor > 0)]
    if not parts:
        raise ConfigError(f"no training pose belongs to {' and '.join(weights)}", "data.curriculum", "change weights")
    return parts


def _rows(part: Integers, shown: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[Integers]:
    return [np.flatnonzero(shown & (part == number)) for number in np.unique(part[shown])]
