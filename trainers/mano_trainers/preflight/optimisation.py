"""Does a step of training do what the config says? Weights, rates and gradients, against our own calculation."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from mano_trainers.config import LossConfig
from mano_trainers.losses.balance import Balance
from mano_trainers.losses.terms import Criterion, Target, loss_terms
from mano_trainers.models import HandNet
from mano_trainers.preflight.rehearsal import Rehearsal
from mano_trainers.preflight.schedule import RATE_TOLERANCE
from mano_trainers.preflight.subject import Subject, verdict, warning
from mano_trainers.report import CheckResult, CheckStatus
from mano_trainers.training.pipeline import training_batch
from mano_trainers.training.steps import learning_rate

BETAS: Final = (0.9, 0.999)
EPS: Final = 1e-8
"""AdamW's, as PyTorch has them."""
GRADIENT_TOLERANCE: Final = 0.05
UPDATE_TOLERANCE: Final = 0.05
LEAST_STATISTIC: Final = 1e-3
CLIPPED: Final = (30.0, 300.0)
"""How many times longer than allowed all gradients may be: a warning above the first, a failure above the second."""
EXPLODED: Final = 5.0
RISEN: Final = 1.05
"""A loss may rise this much in a few steps of a warm-up: each batch has its own statistics and its own augmentation."""


def check_optimisation(subject: Subject, seen: Rehearsal) -> Iterator[CheckResult]:
    """Steps, weights, statistics, rates and gradients of the rehearsed epoch."""
    model = copy.deepcopy(seen.model)
    expected = _gradients(seen, model)
    yield _steps(seen)
    yield _batches(seen)
    yield _moved(seen)
    yield _statistics(seen)
    yield _gradient(seen, expected)
    yield _clipping(seen, expected)
    yield _update(seen)
    yield _descent(seen, model)
    yield _weights(subject)


def _steps(seen: Rehearsal) -> CheckResult:
    made = sum(bool(step.after) for step in seen.steps)
    return verdict(
        "training.steps",
        made == len(seen.order),
        f"{made} steps in an epoch of {len(seen.order)} batches",
        "one of each batch",
        "the loop leaves batches out, or the optimizer is not called for each: look for a break or a slice left in",
    )


def _batches(seen: Rehearsal) -> CheckResult:
    """Pixels that the network was shown, against those of the epoch's order."""
    other = 0
    for number, (step, indices) in enumerate(zip(seen.steps, seen.order, strict=False)):
        images, _ = training_batch(seen.pipeline, indices, number)
        same = images.shape == step.images.shape and torch.allclose(images, step.images.to(images), atol=1e-4)
        other += not same
    return verdict(
        "training.batches",
        other == 0,
        f"{other} of {len(seen.steps)} batches differ from those of the epoch's order",
        "0",
        "the network is shown images that the data path did not make; look at what happens in between",
    )


def _moved(seen: Rehearsal) -> CheckResult:
    """Parameters that have not changed after all steps, although AdamW's steps from their gradients are large enough to
    be visible in float32. The backbone has no gradient in the first step, and the warm-up begins with tiny rates."""
    if not seen.steps or not seen.steps[-1].after:
        return CheckResult(
            "training.weights_move", CheckStatus.FAIL, "no step was made", "all move", "see training.steps"
        )
    names = [name for name, _ in seen.model.named_parameters()]
    first, last = seen.steps[0], seen.steps[-1]
    outside = sum(name not in last.held for name in names)
    still = [name for name in names if torch.equal(first.state[name], last.after[name])]
    unseen = [name for name in still if name in last.held and _too_small_to_see(seen, name)]
    still = [name for name in still if name not in unseen]
    return verdict(
        "training.weights_move",
        not still and not outside and len(unseen) < len(names) / 2,
        f"{len(still)} of {len(names)} tensors of weights do not change in {len(seen.steps)} steps"
        + (f", the first {still[0]}" if still else "")
        + (f", {len(unseen)} more by steps too small for float32" if unseen else "")
        + f"; the optimizer does not hold {outside}",
        "0; 0",
        "the optimizer must hold every parameter of the network, with requires_grad; this trainer does not support "
        "freezing a part on purpose",
    )


def _too_small_to_see(seen: Rehearsal, name: str) -> bool:
    """Whether AdamW's own steps, at the config's rates, leave a tensor as it is. Its gradients must not all be zero."""
    moved = seen.steps[0].state[name].clone()
    slopes = [step.gradients[name] for step in seen.steps if name in step.gradients]
    for step in _adamw_steps(seen):
        if name in step:
            moved -= step[name]
    return any(bool(slope.any()) for slope in slopes) and torch.equal(moved, seen.steps[0].state[name])


def _statistics(seen: Rehearsal) -> CheckResult:
    """Running statistics of normalisation layers, which evaluation uses."""
    names = [name for name in seen.steps[0].state if name.endswith(("running_mean", "running_var"))]
    first, last = seen.steps[0].state, seen.steps[-1].state
    start = {name: torch.ones_like(first[name]) * name.endswith("var") for name in names}
    still = [
        name
        for name in names
        if float((last[name] - start[name]).norm()) < LEAST_STATISTIC * float(start[name].norm().clamp_min(0.1))
        or (len(seen.steps) > 1 and torch.equal(first[name], last[name]))
    ]
    return verdict(
        "training.statistics",
        not still,
        f"{len(still)} of {len(names)} running statistics of normalisation layers do not move",
        "0",
        "the layers are in evaluation mode or have no momentum while training: evaluation then divides by other "
        "numbers than training did",
    )


def _gradients(seen: Rehearsal, model: HandNet) -> list[dict[str, Tensor]]:
    """Gradients of weight x term, summed up by us, for the images that each step showed; before clipping."""
    config, criterion = seen.pipeline.config, replace(seen.pipeline.criterion, config=seen.pipeline.config.loss)
    found = []
    count = len(seen.steps) if config.loss.balance == "fixed" else 1  # learned weights are those of the config at first
    for number, (step, indices) in enumerate(zip(seen.steps[:count], seen.order, strict=False)):
        _, target = training_batch(seen.pipeline, indices, number)
        loss = _loss(model, step.state, step.images, target, criterion)
        model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        found.append({name: p.grad.detach().clone() for name, p in model.named_parameters() if p.grad is not None})
    return found


def _loss(model: HandNet, state: dict[str, Tensor], images: Tensor, target: Target, criterion: Criterion) -> Tensor:
    """What training should minimise of a batch, with the network in a state."""
    model.load_state_dict(state)
    model.train()
    model.requires_grad_(True)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=images.device.type == "cuda"):
        prediction = model(images)
    terms = loss_terms(criterion, prediction, target)
    return torch.stack([getattr(criterion.config, f"lambda_{name}") * term for name, term in terms.items()]).sum()


def _gradient(seen: Rehearsal, expected: list[dict[str, Tensor]]) -> CheckResult:
    worst, at = 0.0, 0
    for number, (step, own) in enumerate(zip(seen.steps, expected, strict=False)):
        scale = min(1.0, seen.pipeline.config.optim.clip_norm / max(_norm(own), 1e-12))
        apart = _norm({k: step.gradients.get(k, torch.zeros_like(v)) - scale * v for k, v in own.items()})
        difference = apart / max(scale * _norm(own), 1e-12)
        if not difference <= worst:
            worst, at = difference, number
    return verdict(
        "training.gradient",
        worst < GRADIENT_TOLERANCE,
        f"the optimizer's gradient differs by {worst:.1%} from that of weight x term, clipped as configured "
        f"(step {at + 1})",
        f"below {GRADIENT_TOLERANCE:.0%}",
        "check in this order: weights (see training.loss_weights), targets that belong to other images, gradients "
        "that are kept from step to step (zero_grad), a factor on the loss, another clip_norm",
    )


def _norm(values: dict[str, Tensor]) -> float:
    return float(torch.stack([value.double().norm() for value in values.values()]).norm()) if values else 0.0


def _clipping(seen: Rehearsal, expected: list[dict[str, Tensor]]) -> CheckResult:
    clip = seen.pipeline.config.optim.clip_norm
    times = min((_norm(own) / clip for own in expected), default=0.0)
    help = "nearly every gradient is cut to the same length: raise optim.clip_norm, or look at the loss weights"
    make = verdict if times > CLIPPED[1] else warning
    return make(
        "training.clipping",
        times < CLIPPED[0],
        f"gradients are at least {times:.3g} times as long as optim.clip_norm {clip:g}",
        f"some below {CLIPPED[0]:g} times",
        help,
    )


def _adamw_steps(seen: Rehearsal) -> Iterator[dict[str, Tensor]]:
    """What AdamW by hand takes off each weight in each step that was made, from the gradients that the optimizer was
    given and the config's rates."""
    config = seen.pipeline.config.optim
    moments: dict[str, tuple[Tensor, Tensor]] = {}
    for number, step in enumerate(step for step in seen.steps if step.after):
        rate = learning_rate(config, number, seen.total_steps)
        taken = {}
        for name, slope in step.gradients.items():
            mean, square = moments.get(name, (torch.zeros_like(slope), torch.zeros_like(slope)))
            mean, square = (
                b * m + (1 - b) * v for b, m, v in zip(BETAS, (mean, square), (slope, slope**2), strict=True)
            )
            moments[name] = mean, square
            corrected = mean / (1 - BETAS[0] ** (number + 1)), square / (1 - BETAS[1] ** (number + 1))
            taken[name] = rate * (corrected[0] / (corrected[1].sqrt() + EPS) + config.weight_decay * step.state[name])
        yield taken


def _update(seen: Rehearsal) -> CheckResult:
    """Each step, and its rate, against AdamW by hand."""
    config, made = seen.pipeline.config.optim, [step for step in seen.steps if step.after]
    worst, rates = 0.0, []
    for number, (step, taken) in enumerate(zip(made, _adamw_steps(seen), strict=True)):
        rate = learning_rate(config, number, seen.total_steps)
        rates.append(step.rate / rate if rate else 1.0)
        apart = sum(float((step.after[n] - step.state[n] + off).double().square().sum()) for n, off in taken.items())
        size = sum(float(off.double().square().sum()) for off in taken.values())
        worst = max(worst, (apart / max(size, 1e-30)) ** 0.5)
    sound = worst < UPDATE_TOLERANCE and bool(rates) and max(abs(np.array(rates) - 1)) < RATE_TOLERANCE
    says = f"{min(rates):.3g} to {max(rates):.3g}" if rates else "none"
    return verdict(
        "training.update",
        sound,
        f"steps differ by {worst:.1%} from AdamW's with the config's rates; the learning rate is {says} times the "
        "schedule's",
        f"below {UPDATE_TOLERANCE:.0%}; 1",
        "check in this order: the learning rate is not set before each step, another weight decay or beta, moments "
        "that are lost between steps, steps that are skipped, a sign",
    )


def _descent(seen: Rehearsal, model: HandNet) -> CheckResult:
    """Loss of the first batch before and after all steps."""
    criterion = replace(seen.pipeline.criterion, config=seen.pipeline.config.loss)
    _, target = training_batch(seen.pipeline, seen.order[0], 0)
    images, last = seen.steps[0].images, seen.steps[-1]
    with torch.no_grad():
        before, after = (
            float(_loss(model, state, images, target, criterion))
            for state in (seen.steps[0].state, last.after or last.state)
        )
    fell = after < RISEN * before
    exploded = not after < EXPLODED * max(before, 1e-12)
    help = (
        "the learning rate is far too large: lower optim.lr, or lengthen the warm-up"
        if exploded
        else "a step does not lower the loss of its own images: a sign, a rate of next to nothing, or one too large"
    )
    says = f"the loss of the first batch goes from {before:.4g} to {after:.4g} in {len(seen.steps)} steps"
    status = CheckStatus.PASS if fell else CheckStatus.FAIL if exploded else CheckStatus.WARN
    return CheckResult(
        "training.descent", status, says, f"it falls, or rises by less than {RISEN - 1:.0%}", "" if fell else help
    )


def _weights(subject: Subject) -> CheckResult:
    """The sum of random terms that training uses, against weight x term."""
    random = torch.Generator().manual_seed(0)
    wrong: dict[str, float] = {}
    used = [name for name in LossConfig.model_fields if name.startswith("lambda_")]
    for _ in range(3):
        values = {name: float(0.1 + 9 * torch.rand((), generator=random)) for name in used}
        config = subject.config.loss.model_copy(update=values | {"balance": "fixed"})
        balance = Balance(config, torch.device("cpu"))
        for name in used:
            terms = {each.removeprefix("lambda_"): torch.tensor(float(each == name)) for each in used}
            total = float(balance.total(terms, nn.Linear(1, 1)))
            if not abs(total / values[name] - 1) < 1e-4:
                wrong[name] = total / values[name]
    listed = ", ".join(f"{name} {ratio:.3g} times" for name, ratio in list(wrong.items())[:3])
    return verdict(
        "training.loss_weights",
        not wrong,
        f"{len(wrong)} of {len(used)} weights count differently: {listed}"
        if wrong
        else f"all {len(used)} weights count once",
        "each once",
        "a weight is applied twice, swapped with another, or scaled: the loss is the sum of weight x term",
    )
