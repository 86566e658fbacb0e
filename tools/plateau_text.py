"""The prose and tables of `docs/plateau.md`, with every number taken from the study."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from textwrap import TextWrapper
from typing import Any, Final

import numpy as np

from mano_trainers.arrays import Array
from tools.plateau_variants import BALANCE, FAULTS, LETTERS, Difference, Variant, paired_difference

WRAPPED: Final = TextWrapper(120, break_long_words=False, break_on_hyphens=False)
ITEM: Final = TextWrapper(120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
SAME_MM: Final = 1.0
"""Loss balances whose errors lie within this cannot be told apart: the plateau."""
WHAT_IT_DOES = {
    "mispaired_labels": "Image i is given the label i // 4, as if the four versions of a picture lay side by "
    "side. They lie whole sets apart (i modulo the number of poses), so nearly every picture is taught "
    "another hand's pose. What is left to learn is the mean pose.",
    "misread_theta": "The 61 values of a label begin with the rotation of the wrist. Theta is read from the first "
    "value on instead of from the fourth, so every joint gets the angles of the joint before it, the last is "
    "lost, and the shape is zero.",
    "no_mean_pose": "Theta is an offset from the hand's mean pose. The hand layer does not add it, so the right "
    "theta makes wrong joints; and the pose components were never loaded, so the pose prior is always zero.",
    "mano_joint_order": "The predicted joints come in MANO's order, the labels in FreiHAND's: a knuckle of the "
    "index finger is compared with one of the thumb. The wrist is first in both, so nothing looks wrong.",
    "camera_frame": "The joint term compares metres from the hand's own origin with metres from the camera. The "
    "hand is most of a metre away from it; no theta can reach it, and that distance drowns every other "
    "term.",
    "broken_procrustes": "The alignment before the error is measured scales by 3 / 21 of the right scale and "
    "rotates in the wrong direction. Any prediction shrinks to nearly a point, and what is measured is the size of "
    "the true hand.",
    "unturned_labels": "Pictures are mirrored and rotated by up to 30 degrees, but labels are not. A mirrored right "
    "hand is a left hand with a right hand's label.",
    "leaky_split": "Validation is on other versions of pictures of the training set, and the last evaluation on "
    "training pictures themselves. The number is too good, and nothing was ever held out.",
}


def document(studies: Sequence[str], variants: Sequence[Variant], config: Mapping[str, Any]) -> str:
    """The whole page.

    Args:
        studies: their names.
        variants: of the studies; one without faults gives the baseline, the first with the most faults the plateau.
        config: of any variant, dotted path -> value, for what all share.
    """
    none = next(variant for variant in variants if not variant.faults)
    most = max(variants, key=lambda variant: len(variant.faults))
    alone = [each for each in variants if len(each.faults) == 1 and each.balance == none.balance]
    left_out = [each for each in variants if len(each.faults) == len(most.faults) - 1 > 1]
    with_all = sorted((each for each in variants if each.faults == most.faults), key=_pull)
    with_none = sorted((each for each in variants if not each.faults), key=_pull)
    parts = [
        "# The 47 mm plateau, reproduced and taken apart",
        _introduction(studies, variants, config, none),
        _verdict(with_all, with_none),
        "![Errors by fault, and by loss balance with and without all faults](plateau.svg)",
        "## Every loss balance, with and without the mistakes",
        _balances(with_all, with_none),
        "## Each mistake alone",
        _alone(alone, none),
        "## All but one",
        _left_out(left_out, most),
        "## What each mistake does",
        _mistakes(alone, none),
        "## Made by",
        "```sh\n"
        + "".join(f"sweeper run search_spaces/{study}.yaml\n" for study in studies)
        + f"python -m tools.plateau {' '.join(studies)}\n```",
    ]
    return "\n\n".join(map(_wrapped, parts)) + "\n"


def _wrapped(part: str) -> str:
    """Prose and lists at the width of the other pages; tables, headings, figures and commands as they are."""
    if part.startswith("```"):
        return part
    return "\n".join(_wrapped_line(line) for line in part.split("\n"))


def _wrapped_line(line: str) -> str:
    if line.startswith(("|", "#", "!")):
        return line
    return (ITEM if line.startswith("- ") else WRAPPED).fill(line)


def _introduction(studies: Sequence[str], variants: Sequence[Variant], config: Mapping[str, Any], none: Variant) -> str:
    seeds = len(none.reported_mm)
    named = " and ".join(f"`{study}`" for study in studies)
    return (
        "An earlier study trained image -> MANO theta in six configurations: two architectures, three learning rates, "
        "three balances of the loss. All ended at 47.40 to 47.47 mm, and the balance of the loss was blamed. Its code "
        "shows eight mistakes (A to H). Here each can be switched on by name (`faults:` in the trainer's config), and "
        f"this page is written by `tools/plateau.py` from {named}: {len(variants)} variants with {seeds} "
        f"seeds each, {config['model.backbone']} on {config['data.embedded_count']} poses of the embedded hand at "
        f"{config['data.image_size']} px, {config['optim.epochs']} epochs. It is a small model on a rendered hand, "
        "so its millimetres are not FreiHAND's; the argument is.\n\n"
        "**Reported** is the error (PA-MPJPE) that the pipeline itself measures, mistakes and all. **Honest** is the "
        "error of the same trained model with the right metric, labels, hand and held-out poses. **Constant** is one "
        "pose for every picture, measured as the pipeline measures: with mistakes the mean of the labels as they are "
        "read, without them the best pose there is. Errors are in mm, mean ± standard deviation over seeds; "
        "differences are paired by seed, with their 95 % interval (Student's t)."
    )


def _verdict(with_all: Sequence[Variant], with_none: Sequence[Variant]) -> str:
    """What the study says about the claim, whichever way it comes out."""
    means = [each.reported_mm.mean() for each in with_all]
    spread_mm = max(means) - min(means)
    off_mm = max(abs(each.reported_mm.mean() - each.constant_mm.mean()) for each in with_all)
    sound = [each.reported_mm.mean() for each in with_none]
    same, near = spread_mm < SAME_MM, off_mm < SAME_MM
    honest = [each.honest_mm.mean() for each in with_all]
    lines = [
        f"- With all mistakes, {len(with_all)} balances of the loss report {min(means):.2f} to {max(means):.2f} mm, "
        f"{spread_mm:.2f} mm apart: {'nobody could tell them apart' if same else 'they can still be told apart'}.",
        f"- They lie at most {off_mm:.2f} mm from the constant pose, which scores "
        f"{with_all[0].constant_mm.mean():.2f} mm measured the same way: "
        f"{'the number says nothing about the model' if near else 'the number still says something about the model'}.",
        f"- Another constant pose, the one that the right alignment finds for joints in the wrong order, scores "
        f"{with_all[0].best_constant_mm.mean():.2f} mm measured that way: the number can be improved, but not by being "
        "right.",
        f"- Without mistakes the same balances report {min(sound):.2f} to {max(sound):.2f} mm, "
        f"{max(sound) - min(sound):.2f} mm apart, and the constant pose scores "
        f"{with_none[0].constant_mm.mean():.2f} mm"
        f"{'' if max(sound) - min(sound) >= SAME_MM else ': in so short a training they do not differ on their own'}.",
        f"- {_told_apart(with_none)} of balances without mistakes are further apart than {SAME_MM:g} mm and than their "
        f"seeds are, and {_told_apart(with_all)} with all.",
        f"- The models trained with all mistakes honestly score {min(honest):.2f} to {max(honest):.2f} mm, where the "
        f"best constant pose scores {with_all[0].honest_constant_mm.mean():.2f} mm.",
    ]
    return "## What came out\n\n" + "\n".join(lines)


def _told_apart(variants: Sequence[Variant]) -> str:
    """How many of all pairs differ by more than seeds do: the 95 % interval of their difference leaves zero out."""
    differences = [paired_difference(one.reported_mm, other.reported_mm) for one, other in combinations(variants, 2)]
    apart = sum(abs(difference.mean_mm) > max(SAME_MM, difference.half_width_mm) for difference in differences)
    return f"{apart} of {len(differences)} pairs"


def _balances(with_all: Sequence[Variant], with_none: Sequence[Variant]) -> str:
    first, faulty = with_none[0], {each.balance: each for each in with_all}
    rows = [
        (
            " / ".join(f"{weight:g}" for weight in each.balance),
            _spread(each.reported_mm),
            "" if each is first else _difference(paired_difference(each.reported_mm, first.reported_mm)),
            *_errors(faulty[each.balance]),
        )
        for each in with_none
        if each.balance in faulty
    ]
    head = (" / ".join(BALANCE), "no mistakes", "minus the first", "all: reported", "all: constant", "all: honest")
    return (
        "The joint term is in squared metres, as in that study, so its numbers are small: its weight must be large "
        "to count.\n\n" + _table(head, rows)
    )


def _alone(alone: Sequence[Variant], none: Variant) -> str:
    rows = [("none", *_errors(none), "", "")]
    rows += [
        (
            _called(each),
            *_errors(each),
            _difference(paired_difference(each.reported_mm, none.reported_mm)),
            _difference(paired_difference(each.honest_mm, none.honest_mm)),
        )
        for each in alone
    ]
    head = ("mistake", "reported", "constant", "honest", "reported - none", "honest - none")
    honest = {each: paired_difference(each.honest_mm, none.honest_mm).mean_mm for each in alone}
    worst = sorted(alone, key=lambda each: -honest[each])[:3]
    named = ", ".join(f"{each.letters} (+{honest[each]:.1f} mm)" for each in worst if honest[each] > 0)
    return _table(head, rows) + (f"\n\nWhat costs the model most: {named}." if named else "")


def _left_out(left_out: Sequence[Variant], most: Variant) -> str:
    rows = [("all", *_errors(most), f"{most.constant_mm.mean() - most.reported_mm.mean():+.2f}", "")]
    rows += [
        (
            f"without {_missing(each, most)}",
            *_errors(each),
            f"{each.constant_mm.mean() - each.reported_mm.mean():+.2f}",
            _difference(paired_difference(each.reported_mm, most.reported_mm)),
        )
        for each in left_out
    ]
    head = ("mistakes", "reported", "constant", "honest", "better than constant", "reported - all")
    moved = [each for each in left_out if abs(paired_difference(each.reported_mm, most.reported_mm).mean_mm) >= SAME_MM]
    which = ", ".join(_missing(each, most) for each in moved)
    ending = (
        f"Only fixing {which} moves the reported number by {SAME_MM:g} mm or more."
        if moved
        else f"No single fix moves the reported number by {SAME_MM:g} mm."
    )
    lowest = min((each.reported_mm.mean() for each in left_out), default=float("nan"))
    return _table(head, rows) + f"\n\n{ending} Whichever one is fixed, it stays at {lowest:.1f} mm or above."


def _mistakes(alone: Sequence[Variant], none: Variant) -> str:
    paragraphs = []
    for fault in FAULTS:
        text = f"**{LETTERS[fault]}, `{fault}`.** {WHAT_IT_DOES[fault]}"
        for each in alone:
            if each.faults == (fault,):
                text += (
                    f" Alone it reports {each.reported_mm.mean():.1f} mm where a sound pipeline reports "
                    f"{none.reported_mm.mean():.1f}, and its model honestly scores {each.honest_mm.mean():.1f}."
                )
        paragraphs.append(text)
    return "\n\n".join(paragraphs)


def _pull(variant: Variant) -> float:
    """Share of the joint weight, to sort balances from the parameters' side to the joints'."""
    param, joint, *_ = variant.balance
    return joint / (param + joint)


def _called(variant: Variant) -> str:
    return f"{variant.letters} `{variant.faults[0]}`"


def _missing(variant: Variant, most: Variant) -> str:
    return "".join(letter for letter in most.letters if letter not in variant.letters)


def _errors(variant: Variant) -> tuple[str, str, str]:
    return _spread(variant.reported_mm), f"{variant.constant_mm.mean():.2f}", _spread(variant.honest_mm)


def _spread(values: Array) -> str:
    return f"{values.mean():.2f}" + (f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else "")


def _difference(difference: Difference) -> str:
    width = "" if np.isnan(difference.half_width_mm) else f" ± {difference.half_width_mm:.2f}"
    return f"{difference.mean_mm:+.2f}{width}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join(["---"] + ["---:"] * (len(head) - 1)) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
