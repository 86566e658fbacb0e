"""Does one term of the loss drown the others?"""

from collections.abc import Mapping, Sequence
from statistics import geometric_mean
from typing import Final

from mano_trainers.config import BALANCED_TERMS
from mano_trainers.losses.terms import loss_weights
from mano_trainers.preflight.kinds import Kind, gradient_norms, listed, named
from mano_trainers.preflight.subject import warning
from mano_trainers.report import CheckResult

DOMINANT: Final = 0.95


def check_shares(kinds: Sequence[Kind], left: int) -> CheckResult:
    """Whether one weighted term drowns others at the last layer: in how many corners, and in the middle of them.

    Ranges of a search have ends at which a term drowns the others, which is what a search is for. In the middle it is a
    mistake, most often of a unit.
    """
    dominated: list[tuple[float, str]] = []
    middle: list[str] = []
    for kind in kinds:
        norms = gradient_norms(kind)
        weights = [loss_weights(corner.loss) for corner in kind.corners]
        found = [_drowning({name: weight * norms[name] for name, weight in each.items()}) for each in weights]
        dominated += [each for each in found if each is not None]
        of_middle = _drowning({name: weight * norms[name] for name, weight in _middle(weights).items()})
        middle += [of_middle[1]] if of_middle is not None else []
    count = sum(len(kind.corners) for kind in kinds)
    share, name = max(dominated, default=(0.0, ""))
    says = f"in {len(dominated)} of {count} corners one term has over {DOMINANT:.0%} of the gradient"
    says += f" (most: {name} {share:.1%})" if dominated else ""
    says += f", and {' and '.join(sorted(set(middle)))} in the middle of them" if middle else ""
    says += f"; {left} corners not looked at" if left else ""
    return warning(
        "loss.shares",
        not middle,
        says,
        "not in the middle",
        "there the other terms hardly count: narrow the range of that weight, or keep it on purpose; per unit of "
        f"weight the gradients are {listed(named(kinds, gradient_norms))}",
    )


def _middle(weights: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Geometric mean of each term's weights over the corners that have it."""
    names = {name for each in weights for name in each}
    return {name: geometric_mean([each[name] for each in weights if name in each]) for name in names}


def _drowning(weighted: Mapping[str, float]) -> tuple[float, str] | None:
    """The term that drowns others, and its share; None if there is none.

    A prior or hinge drowns what compares with the truth; a term that compares with the truth drowns others of its kind.
    It should outweigh a prior.
    """
    compared = {name: size for name, size in weighted.items() if name in BALANCED_TERMS}
    largest = max(weighted, key=lambda term: weighted[term])
    rivals = weighted if largest not in BALANCED_TERMS else compared
    total = sum(rivals.values())
    if len(rivals) < 2 or not weighted[largest] > DOMINANT * total > 0:
        return None
    return weighted[largest] / total, largest
