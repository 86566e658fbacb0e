"""Is every loss term finite, alive, zero where it should be, and a mean? And does one of them drown the others?"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, TypeVar

import torch

from mano_trainers.losses.terms import Target, loss_terms
from mano_trainers.models import Prediction
from mano_trainers.preflight.kinds import Kind, gradient_norms, kinds_of, listed, named
from mano_trainers.preflight.shares import check_shares
from mano_trainers.preflight.subject import Subject, verdict, warning
from mano_trainers.report import CheckResult

Batch = TypeVar("Batch", Prediction, Target)
NOTHING: Final = 1e-3
"""A term is zero at the truth if it is below this share of what it is at the prediction."""
BATCH_TOLERANCE: Final = 0.01
COMPARING_JOINTS: Final = ("param", "joint", "angular", "vertex", "procrustes", "direct")
LEAST_JOINT: Final = 0.005
"""In sound terms it is 5 % or more, of vertices 2 %; without a fingertip its last joint is left with 0.2 %."""
TARGET_TOLERANCE: Final = 1e-4
"""In rad and standard deviations: targets are float32."""


def check_losses(subject: Subject) -> Iterator[CheckResult]:
    """The terms of all corners of the search, on the first batch of training."""
    kinds, left = kinds_of(subject)
    yield _finite(kinds)
    yield _gradient(kinds)
    yield _constant(kinds)
    yield _joints(kinds)
    yield _targets(subject, kinds)
    yield _truth(kinds)
    yield _batch_size(kinds)
    yield _pose_space(subject)
    yield check_shares(kinds, left)


def _finite(kinds: Sequence[Kind]) -> CheckResult:
    values = named(kinds, lambda kind: {name: float(term.detach()) for name, term in kind.terms.items()})
    broken = [name for name, value in values.items() if not abs(value) < float("inf")]
    return verdict(
        "loss.finite",
        not broken,
        f"not finite: {', '.join(broken)}" if broken else listed(values),
        "every term is finite",
        "a division by zero, or a square root or arc cosine at its edge: guard it",
    )


def _gradient(kinds: Sequence[Kind]) -> CheckResult:
    norms = named(kinds, gradient_norms)
    dead = [name for name, norm in norms.items() if not 1e-12 < norm < float("inf")]
    return verdict(
        "loss.gradient",
        not dead,
        f"no gradient, or none that is finite: {', '.join(dead)}" if dead else listed(norms),
        "every term's gradient at the last layer is finite and not zero",
        "the term is cut off from the prediction: a detach, a table of zeros (a pose basis that was never loaded), or "
        "a hinge that is never reached; take it out or fix it, its weight does nothing",
    )


def _constant(kinds: Sequence[Kind]) -> CheckResult:
    """Whether the value of a term answers to another prediction at all."""
    changes = named(kinds, _changes)
    constant = [name for name, change in changes.items() if not change > 1e-6]
    return verdict(
        "loss.constant",
        not constant,
        f"constant: {', '.join(constant)}" if constant else f"{len(changes)} terms change with the prediction",
        "every term changes when the prediction does",
        "the term does not depend on the prediction: the same zeros or constants, whatever is predicted",
    )


def _joints(kinds: Sequence[Kind]) -> CheckResult:
    """The slope of each term that compares hands, by the joint whose rotation it is for."""
    shares = named(kinds, _least_joints)
    deaf = [name for name, share in shares.items() if not share > LEAST_JOINT]
    return verdict(
        "loss.joints",
        not deaf,
        f"effect of the joint that counts least, relative to the one that counts most: {listed(shares, '{:.1%}')}",
        f"over {LEAST_JOINT:.1%} in every term",
        f"a joint has no effect on {', '.join(deaf)}: a mask, a weight of zero or a slice leaves a finger out",
    )


def _least_joints(kind: Kind) -> dict[str, float]:
    """Of each term that compares hands: the smallest norm of the slope by a joint, over the largest. Of joints that are
    predicted themselves, all but the wrist, which is the origin."""
    least = {}
    for name, term in kind.terms.items():
        of = kind.prediction.joints_m if name == "direct" else kind.prediction.theta
        if name not in COMPARING_JOINTS or of is None or not term.requires_grad:
            continue
        slope = torch.autograd.grad(term, of, retain_graph=True, allow_unused=True)[0]
        if slope is None:
            least[name] = 0.0
            continue
        norms = slope.reshape(len(slope), -1, 3).norm(dim=(0, 2))[1 if name == "direct" else 0 :]
        least[name] = float(norms.min() / norms.max().clamp_min(1e-30))
    return least


def _targets(subject: Subject, kinds: Sequence[Kind]) -> CheckResult:
    """Theta and shape that the losses compare with, against the labels of the batch's images."""
    labels, poses = subject.pipeline.data.labels, kinds[0].poses
    target = kinds[0].target
    apart = {
        name: float((found.cpu().double() - torch.from_numpy(true[poses])).abs().max())
        for name, found, true in (("theta", target.theta, labels.theta), ("betas", target.betas, labels.betas))
    }
    return verdict(
        "loss.targets",
        max(apart.values()) < TARGET_TOLERANCE,
        f"targets differ from the labels of their images by at most {listed(apart)}",
        f"below {TARGET_TOLERANCE:g}",
        "between the labels and the loss something changes them: an order of fingers, a mean pose subtracted again, a "
        "unit, or other rows; validation compares with the labels",
    )


def _changes(kind: Kind) -> dict[str, float]:
    """By how much each term changes, as a share, when the prediction moves half way to the truth."""
    half = _mixed(kind, 0.5)
    with torch.no_grad():
        moved = loss_terms(kind.criterion, half, kind.target)
    return {
        name: float((moved[name] - term.detach()).abs() / term.detach().abs().clamp_min(1e-30))
        for name, term in kind.terms.items()
    }


def _truth(kinds: Sequence[Kind]) -> CheckResult:
    """Terms that compare with the truth at the truth; priors of theta at theta zero."""
    shares = named(kinds, _shares_at_truth)
    left = {name: share for name, share in shares.items() if not share < NOTHING}
    worst = max(shares.values(), default=0.0)
    return verdict(
        "loss.truth",
        not left,
        "left at the truth: " + listed(left, "{:.1%}") if left else f"at most {worst:.2%} is left",
        f"below {NOTHING:.1%} of what the term is at the start",
        "no prediction can bring the term to zero: both sides must be in one frame (root-centred, wrist or camera), "
        "one unit, one joint order, and from one hand",
    )


def _shares_at_truth(kind: Kind) -> dict[str, float]:
    zero = replace(kind.prediction, theta=torch.zeros_like(kind.prediction.theta))
    with torch.no_grad():
        at_truth = loss_terms(kind.criterion, _mixed(kind, 1.0), kind.target)
        at_zero = loss_terms(kind.criterion, zero, kind.target)
    lowest = {name: at_zero[name] if name in ("pca", "reg") else at_truth[name] for name in at_truth}
    return {name: float(lowest[name] / term.detach().clamp_min(1e-12)) for name, term in kind.terms.items()}


def _batch_size(kinds: Sequence[Kind]) -> CheckResult:
    """A batch twice as large, of the same images, has the same mean."""
    ratios = named(kinds, _twice_as_large)
    grown = {name: ratio for name, ratio in ratios.items() if not abs(ratio - 1) < BATCH_TOLERANCE}
    worst = max((abs(ratio - 1) for ratio in ratios.values()), default=0.0)
    return verdict(
        "loss.batch_size",
        not grown,
        "a batch twice as large has " + listed(grown, "{:.2f} times the value")
        if grown
        else f"a batch twice as large changes terms by at most {worst:.2%}",
        "the same value",
        "take the mean over batch and dimensions, not the sum: otherwise each weight means something else at "
        "another batch size",
    )


def _twice_as_large(kind: Kind) -> dict[str, float]:
    prediction, target = _doubled(kind.prediction), _doubled(kind.target)
    with torch.no_grad():
        doubled = loss_terms(kind.criterion, prediction, target)
    # The tiny number keeps a term that is zero, which other checks report, from being reported here.
    return {name: float((doubled[name] + 1e-12) / (term.detach() + 1e-12)) for name, term in kind.terms.items()}


def _doubled(batch: Batch) -> Batch:
    return replace(
        batch, **{name: torch.cat((value, value)) for name, value in vars(batch).items() if value is not None}
    )


def _pose_space(subject: Subject) -> CheckResult:
    """Mean pose, components and their spread, as the prior and the pca head use them, against the labels."""
    prior, config = subject.pipeline.criterion.prior, subject.pipeline.config.loss
    rows = prior.components[: config.pca_components]
    off = float((rows @ rows.T - torch.eye(len(rows), device=rows.device)).abs().max())
    theta = torch.from_numpy(subject.pipeline.data.labels.theta[subject.poses]).to(rows)
    z = theta @ rows.T / prior.sigma[: config.pca_components]
    size = float(z.square().mean())
    used = any(corner.loss.lambda_pca > 0 or corner.model.head == "pca" for corner in subject.corners)
    says = f"components are {off:.2g} from orthonormal; labels have z2 / sigma2 {size:.3g}"
    expected = "below 0.01; 0.02 to 50"
    help = "hands_components or their standard deviations were not loaded, or belong to another hand"
    sound = off < 0.01 and 0.02 < size < 50
    return (verdict if used else warning)("loss.pose_space", sound, says, expected, help)


def _mixed(kind: Kind, share: float) -> Prediction:
    """The prediction, moved by a share of the way to the truth; rotations are those of the truth."""
    predicted, true = kind.prediction, kind.target
    return Prediction(
        theta=torch.lerp(predicted.theta.detach(), true.theta, share),
        betas=None if predicted.betas is None else torch.lerp(predicted.betas.detach(), true.betas, share),
        orient=None if predicted.orient is None else true.orient,
        joints_m=None if predicted.joints_m is None else torch.lerp(predicted.joints_m.detach(), true.joints_m, share),
    )
