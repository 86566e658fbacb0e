"""Does each image belong to its label? Decided sample by sample, with stick figures of the labels laid on the pictures.

A figure drawn from a label's joints separates the colours of its own picture better than those of others, and better
than its mirror image does. Nothing is learned, so few samples are enough, and a share of wrong pairs can be estimated:
ranks of wrong pairs are uniform, those of right ones are not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from mano_trainers.arrays import Array, Integers, evenly
from mano_trainers.preflight.data.images import SIDE, Pictures, draw_figures, show
from mano_trainers.preflight.subject import Subject
from mano_trainers.report import CheckResult, CheckStatus

POSES: Final = 384
HELD_OUT: Final = 192
VERSIONS: Final = 4
TOP: Final = 0.05
WRONG: Final = 0.05
"""Share of wrong pairs that is allowed. Sound rendered sets show 0 to 2 %."""
LEAST_SAMPLES: Final = 12
SURE: Final = 3.0
"""Standard errors by which a share must be above what is allowed."""
FLAT: Final = 0.5
"""Ranks of wrong pairs lie as often in the last third as in the one before; those of a picture that shows little, less
often."""
BLOCKS: Final = 8
BLOCK_WRONG: Final = 0.35
FIT: Final = 5
"""Figures of others that tell how clear a picture is: those that separate it best."""
FEWEST: Final = 60
"""Of fewer samples all are judged, clear or not."""
LEFT: Final = 0.2
"""Of pairs that are shuffled, too, some fit a mirror image."""
HELP: Final = (
    "images do not belong to their labels; check in this order: a shuffled or shifted list, an image's number to "
    "label rule (FreiHAND: modulo 32560), a camera matrix or crop of other pictures"
)


@dataclass(frozen=True)
class Ranks:
    """Of each sample, in the order of recording: the share of other images on which its figure does better than on its
    own, over all versions and in each; whether its pictures are among the clearer half; and by how much its figure does
    better than its mirror image."""

    all: Array
    clear: npt.NDArray[np.bool_]
    of_version: list[Array]
    unmirrored: Array


def check_pairs(subject: Subject) -> Iterator[CheckResult]:
    """Share of wrong pairs in training, in each version, in each part of the recording, and in validation."""
    train = _ranks(subject, evenly(subject.poses, POSES))
    yield _share("pairing.figures", train, "training samples")
    yield _versions(train)
    yield _blocks(train.all)
    val = _ranks(subject, evenly(np.unique(subject.pipeline.data.val_poses), HELD_OUT))
    yield _share("pairing.validation", val, "validation samples")
    yield _mirrored(train.unmirrored)


def _ranks(subject: Subject, poses: Integers) -> Ranks:
    table = subject.pipeline.table
    columns = evenly(np.arange(table.shape[1]), VERSIONS)
    scores, margins, parted = [], [], []
    drawn = np.empty(0)
    for column in columns:
        shown = show(subject, table[poses, column])
        pictures = Pictures(shown.images)
        if not np.array_equal(drawn, shown.pixels):  # versions differ in their background only, if all is right
            figures, mirrored = draw_figures(shown.pixels), draw_figures(shown.pixels * [-1, 1] + [SIDE, 0])
            drawn = shown.pixels
        parted.append(np.log(pictures.separations(figures) + 1e-3))
        scores.append(_standard(parted[-1]))
        margins.append(np.log(pictures.separation(figures) + 1e-3) - np.log(pictures.separation(mirrored) + 1e-3))
    ranks = [_rank(score) for score in scores]
    return Ranks(_rank(np.mean(scores, axis=0)), _clear(np.mean(parted, axis=0)), ranks, np.mean(margins, axis=0))


def _clear(parted: Array) -> npt.NDArray[np.bool_]:
    """The half of the pictures that figures of other samples part best, or FEWEST. A hand that hardly differs from its
    surroundings fits no figure, its own neither: its rank is as uniform as that of a wrong pair, whose picture does fit
    some figure."""
    count = len(parted)
    others = np.where(np.eye(count, dtype=bool), -np.inf, parted)
    best = np.sort(others, axis=1)[:, -FIT:].mean(axis=1)
    clear = np.zeros(count, dtype=bool)
    clear[np.argsort(-best, kind="stable")[: max(count // 2, FEWEST)]] = True
    return clear


def _standard(score: Array) -> Array:
    """Scores (pictures, figures) without what is of the picture or of the figure alone: some part anything well."""
    standard: Array = (score - score.mean(1, keepdims=True)) / score.std(1, keepdims=True).clip(1e-9)
    standard -= standard.mean(0)
    return standard


def _rank(score: Array) -> Array:
    own = np.diag(score)
    count = max(1, len(own) - 1)
    ranks: Array = ((score > own).sum(0) + (score > own[:, None]).sum(1)) / (2 * count)
    return ranks


def _wrong(ranks: Array) -> tuple[float, float]:
    """Estimated share of wrong pairs, whose ranks are uniform, and its standard error.

    Storey, "A direct approach to false discovery rates", 2002.
    """
    upper = float((ranks > 0.4).mean())
    return min(1.0, upper / 0.6), (max(upper, 1 / len(ranks)) * (1 - min(upper, 0.99)) / len(ranks)) ** 0.5 / 0.6


def _share(name: str, of_samples: Ranks, what: str) -> CheckResult:
    ranks = of_samples.all[of_samples.clear]
    wrong, error = _wrong(ranks)
    top = float((ranks <= TOP).mean())
    count = len(of_samples.all)
    clearest = f"{count}" if of_samples.clear.all() else f"the {len(ranks)} clearest of {count}"
    says = f"about {wrong:.0%} of {clearest} {what} are mispaired; "
    says += f"{top:.0%} fit their own image better than 95% of others"
    expected = f"at most {WRONG:.0%}"
    if len(ranks) < LEAST_SAMPLES:
        return CheckResult(
            name, CheckStatus.WARN, says, expected, f"fewer than {LEAST_SAMPLES} samples: too few to tell"
        )
    if wrong - SURE * error <= WRONG and wrong <= 2 * WRONG:
        return CheckResult(name, CheckStatus.PASS, says, expected)
    middle, last = float(((ranks > 0.4) & (ranks <= 0.7)).mean()), float((ranks > 0.7).mean())
    if wrong - SURE * error <= WRONG or (last < FLAT * middle and top < 0.5):
        return CheckResult(
            name, CheckStatus.WARN, says, expected, "pictures too unclear, or too few, to tell: look at some"
        )
    return CheckResult(name, CheckStatus.FAIL, says, expected, HELP)


def _versions(ranks: Ranks) -> CheckResult:
    """A version that is paired worse than the others."""
    shares = [_wrong(each) for each in ranks.of_version]
    worst = max(range(len(shares)), key=lambda index: shares[index][0])
    best = min(share for share, _ in shares)
    wrong, error = shares[worst]
    found = len(ranks.all) >= LEAST_SAMPLES and wrong - best > 0.3 and wrong - SURE * error > best
    return CheckResult(
        "pairing.versions",
        CheckStatus.FAIL if found else CheckStatus.PASS,
        f"about {wrong:.0%} of image version {worst} are mispaired, {best:.0%} of the best one",
        "at most 30% more",
        f"in one image version {HELP}" if found else "",
    )


def _blocks(ranks: Array) -> CheckResult:
    """The part of the recording, an eighth of it, that is paired worst."""
    width = max(1, len(ranks) // BLOCKS)
    starts = range(0, len(ranks) - width + 1, max(1, width // 4))
    shares = {start: _wrong(ranks[start : start + width]) for start in starts}
    start = max(shares, key=lambda each: shares[each][0])
    wrong, error = shares[start]
    says = f"in the worst eighth of the recording, from {start / len(ranks):.0%} on, about {wrong:.0%} are mispaired"
    few = width < LEAST_SAMPLES
    found = wrong > BLOCK_WRONG and wrong - SURE * error > WRONG
    status = CheckStatus.FAIL if found and not few else CheckStatus.PASS
    return CheckResult(
        "pairing.blocks",
        status,
        says + (", too few to tell" if few else ""),
        f"at most {BLOCK_WRONG:.0%}",
        f"from there on {HELP}" if status is CheckStatus.FAIL else "",
    )


def _mirrored(margins: Array) -> CheckResult:
    """Of the half of samples that tell most clearly, those whose mirror image fits better."""
    clear = np.sort(np.abs(margins))[len(margins) // 2]
    sure: npt.NDArray[np.bool_] = np.abs(margins) >= clear
    mirrored = float((margins[sure] < 0).mean())
    error = (max(mirrored, 1 / sure.sum()) / sure.sum()) ** 0.5
    found = mirrored > LEFT and mirrored - SURE * error > WRONG
    return CheckResult(
        "images.left_hands",
        CheckStatus.FAIL if found else CheckStatus.PASS,
        f"{mirrored:.0%} of the {sure.sum()} clearest samples fit the mirror image of their label",
        f"at most {LEFT:.0%}",
        "some pictures show left hands, or are flipped: mirror those images, or leave them out" if found else "",
    )
