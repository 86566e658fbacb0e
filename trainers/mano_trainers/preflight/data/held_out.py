"""Is the held-out part new, large enough, and of the same kind as what is trained on?"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from mano_trainers.arrays import Array, Integers, evenly
from mano_trainers.data.load import LoadedData
from mano_trainers.evaluation.intervals import interval
from mano_trainers.preflight.permutation import p_value
from mano_trainers.preflight.subject import Subject
from mano_trainers.report import CheckResult, CheckStatus

NEAR_RAD: Final = 0.1
"""Distance over 45 values of theta below which two poses are one: a few millimetres at the fingertips together. The
nearest pose of a sound split is at 0.3 to 0.6 rad."""
MOST_NEAR: Final = 0.05
NEAR_AT_RANDOM: Final = 0.25
MOST_POSES: Final = 4096
FEW: Final = 20
ENOUGH: Final = 60
ENOUGH_TO_CHOOSE: Final = 300
"""Poses from which a handful of held-out ones is a mistake, not a necessity."""
WIDE: Final = 0.15
DRAWS: Final = 199
NARROW: Final = 0.75
STRONG_P: Final = 0.01
LEAST_INSIDE: Final = 6
"""Poses on either side of a choice within recordings, below which it is not looked at."""


def check_held_out(subject: Subject) -> Iterator[CheckResult]:
    """Near copies of training poses, number of poses, their spread against training's."""
    yield _near(subject)
    yield _count(subject)
    yield _spread_of(subject)


def _near(subject: Subject) -> CheckResult:
    """Each validated theta's distance to its nearest training theta, and how near those of training are to others."""
    data = subject.pipeline.data
    train, val = evenly(np.unique(data.train_poses), MOST_POSES), evenly(np.unique(data.val_poses), 512)
    nearest = _nearest(data.labels.theta, val, train, data.labels.group)
    own = _nearest(data.labels.theta, evenly(train, 256), train, data.labels.group)
    near, usual = float((nearest < NEAR_RAD).mean()), float((own < NEAR_RAD).mean())
    says = (
        f"{near:.0%} of validated poses lie within {NEAR_RAD:g} rad of a training pose (median {np.median(nearest):.3f}"
    )
    says += f" rad); of training poses {usual:.0%} do"
    expected = f"at most {MOST_NEAR:.0%}, or as many as in training"
    excess = near - usual
    if near <= MOST_NEAR:
        return CheckResult("split.near_copies", CheckStatus.PASS, says, expected)
    if usual > NEAR_AT_RANDOM and excess < 0.2:
        help = "poses of different groups repeat each other in this set: a group should be a recording or a subject"
        return CheckResult("split.near_copies", CheckStatus.WARN, says, expected, help)
    help = (
        "validation shows training poses again, from another side, from the next frame or with noise: hold out whole "
        "recordings or subjects, so that no score rewards memorising"
    )
    return CheckResult("split.near_copies", CheckStatus.FAIL, says, expected, help)


def _nearest(theta: Array, rows: Integers, others: Integers, group: Integers) -> Array:
    """Distance (n,) of each row's theta to the nearest of another group, or of any other pose for the held out."""
    apart = cdist(theta[rows], theta[others])
    apart[rows[:, None] == others[None]] = np.inf
    if np.isin(rows, others).all():
        apart[(group[rows][:, None] == group[others][None])] = np.inf
    nearest: Array = apart.min(1)
    return nearest


def _count(subject: Subject) -> CheckResult:
    """Poses held out, and how wide the interval of the mean error of a constant pose is on them."""
    pipeline = subject.pipeline
    data, errors_m = pipeline.data, pipeline.reference.constant_pa_m
    count, total = len(np.unique(data.val_poses)), len(data.labels.theta)
    groups = np.unique(data.labels.group[data.val_poses], return_inverse=True)[1].reshape(-1)
    low, high = interval(errors_m, groups)
    half = (high - low) / 2 / max(float(errors_m.mean()), 1e-12)
    says = f"{count} poses are held out of {total}: a mean error is known to within {half:.0%} (95%)"
    expected = f"at least {ENOUGH} poses, {WIDE:.0%}"
    independent = len(np.unique(data.labels.group)) > 200
    if count < FEW and total >= ENOUGH_TO_CHOOSE and independent:
        help = "so few poses cannot tell two configs apart: hold out more (data.val_fraction), or look at the split"
        return CheckResult("split.size", CheckStatus.FAIL, says, expected, help)
    if count < ENOUGH or not half < WIDE:
        help = "too few to tell small differences: read the intervals, hold out more, or collect more poses"
        return CheckResult("split.size", CheckStatus.WARN, says, expected, help)
    return CheckResult("split.size", CheckStatus.PASS, says, expected)


def _spread_of(subject: Subject) -> CheckResult:
    """Variance of the validated theta against training's, and the distance of both distributions, against random
    splits of the same groups; and the same of the validated poses of a group against those that nothing shows."""
    data = subject.pipeline.data
    train, val = evenly(np.unique(data.train_poses), 500), evenly(np.unique(data.val_poses), 200)
    theta, both = data.labels.theta, np.concatenate([val, train])
    groups = np.unique(data.labels.group[both], return_inverse=True)[1].reshape(-1)
    held = len(np.unique(data.labels.group[val]))
    ratio, p = _other_kind(theta[both], np.arange(len(both)) < len(val), random_splits(groups, held))
    again, usual = (_repeated(theta[poses]) for poses in (data.val_poses, data.train_poses))
    says = f"validated theta has {ratio:.2f} times the variance of training's; a random split differs as much with p = "
    says += f"{p:.3f}"
    says += f"; {again:.0%} of the validated poses are repeated, of training's {usual:.0%}"
    expected = f"over {NARROW:g} times, or p over {STRONG_P}; repeated no more than in training"
    chosen, inside = _chosen_inside(data)
    says += inside
    few = held < FEW
    if again > usual + 0.05 or chosen or (_strong(ratio, p) and not few):
        help = "validation shows a different kind of poses from training (easy ones, one gesture): draw it at random"
        return CheckResult("split.spread", CheckStatus.FAIL, says, expected, help)
    if p <= STRONG_P or (few and not 0.5 <= ratio <= 2):
        help = "validation may be of a different kind from training" + (", too few groups to tell" if few else "")
        return CheckResult("split.spread", CheckStatus.WARN, says, expected, help)
    return CheckResult("split.spread", CheckStatus.PASS, says, expected)


def _chosen_inside(data: LoadedData) -> tuple[bool, str]:
    """Whether the validated poses of recordings are of another kind than those of the same recordings that are neither
    trained nor validated on, and what is said of it: a few recordings tell that, where they are too few to say whether
    they are like others. Of two cameras that see the same hand, it counts once."""
    labels = data.labels
    rows = np.flatnonzero(np.isin(labels.group, labels.group[data.val_poses]))
    _, first, of_row = np.unique(labels.theta[rows].round(4), axis=0, return_index=True, return_inverse=True)
    trained, validated = (
        np.isin(np.arange(len(first)), of_row.reshape(-1)[np.isin(rows, poses)])
        for poses in (data.train_poses, data.val_poses)
    )
    order = np.argsort(first)  # of recording
    kept = order[~(trained & ~validated)[order]]
    kept = kept[evenly(np.arange(len(kept)), 700)]
    inside = validated[kept]
    if min(inside.sum(), (~inside).sum()) < LEAST_INSIDE:
        return False, ""
    theta, groups = labels.theta[rows[first[kept]]], labels.group[rows[first[kept]]]
    ratio, p = _other_kind(theta, inside, _moved_inside(groups, inside))
    says = f"; in their own recordings they have {ratio:.2f} times the variance of those left out (p = {p:.3f})"
    return _strong(ratio, p), says


def _other_kind(
    theta: Array, inside: npt.NDArray[np.bool_], drawn: Iterator[npt.NDArray[np.bool_]]
) -> tuple[float, float]:
    """Variance of some rows of theta over that of the others, and the p-value of variance and distribution against
    other choices of rows."""
    chosen = np.array([inside, *(rows for rows in drawn if 0 < rows.sum() < len(rows))])
    energy, *of_drawn = _energies(cdist(theta, theta), chosen)
    width, *as_wide = [_width(theta, rows) for rows in chosen]
    widths = [abs(value) for value in as_wide]
    p = min(1.0, 2 * min(p_value(energy, of_drawn), p_value(abs(width), widths)))  # one of two questions
    return float(np.exp(width)), p


def _strong(ratio: float, p: float) -> bool:
    return p <= STRONG_P and not NARROW <= ratio <= 1 / NARROW


def _repeated(theta: Array) -> float:
    """Share of poses that stand there already: of two cameras that see the same hand, one half."""
    return 1 - len(np.unique(theta.round(4), axis=0)) / len(theta)


def random_splits(groups: Integers, held: int) -> Iterator[npt.NDArray[np.bool_]]:
    """Rows (N,) that would be held out if as many of the groups (N,) were drawn at random, again and again."""
    random = np.random.default_rng(0)
    for _ in range(DRAWS):
        yield np.isin(groups, random.permutation(groups.max() + 1)[:held])


def _moved_inside(groups: Integers, inside: npt.NDArray[np.bool_]) -> Iterator[npt.NDArray[np.bool_]]:
    """Rows that would be chosen if the runs of chosen rows, each with the gap after it, came in another order and from
    another row on in their group: neighbours in a recording are alike, and a run of them is one choice."""
    random = np.random.default_rng(0)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    for _ in range(DRAWS):
        moved = inside.copy()
        for rows in members:
            starts = np.flatnonzero(inside[rows] & ~np.roll(inside[rows], 1))
            if len(starts):
                runs = np.split(np.roll(inside[rows], -starts[0]), starts[1:] - starts[0])
                mixed = np.concatenate([runs[index] for index in random.permutation(len(runs))])
                moved[rows] = np.roll(mixed, random.integers(len(rows)))
        yield moved


def _width(theta: Array, rows: npt.NDArray[np.bool_]) -> float:
    """Variance of some rows of theta over that of the others, as a logarithm."""
    inside, outside = (max(float(theta[part].var(0).sum()), 1e-12) for part in (rows, ~rows))
    return float(np.log(inside / outside))


def _energies(distances: Array, inside: npt.NDArray[np.bool_]) -> list[float]:
    """Energy distance of two samples from all their distances (Szekely and Rizzo, 2013), for each division (k, N)."""
    counts = inside.sum(1, keepdims=True)
    weight = np.where(inside, 1 / counts, -1 / (inside.shape[1] - counts))
    return [float(value) for value in -((weight @ distances) * weight).sum(1)]
