"""What the config means for the whole run: is its learning rate reached, when, and how much does weight decay
remove?"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from mano_trainers.preflight.subject import Subject, verdict, warning
from mano_trainers.report import CheckResult
from mano_trainers.training.steps import learning_rate, order_of_epoch

RATE_TOLERANCE: Final = 0.02
SHORT_RUN_STEPS: Final = 50
"""A run with fewer steps may end before any sensible warm-up does."""
SHRUNK: Final = 0.9
"""Share of a weight that decay may take over the whole run, where no gradient holds it."""


def check_schedule(subject: Subject) -> Iterator[CheckResult]:
    """The learning rate and the weight decay over all steps of the run."""
    yield _schedule(subject)
    yield _decay(subject)


def _schedule(subject: Subject) -> CheckResult:
    """The rate over the whole run: does it reach the config's, when, and does it stay there?"""
    config = subject.config.optim
    total = _total_steps(subject)
    steps = np.arange(total) if total <= 2000 else np.unique(np.linspace(0, total - 1, 2000).astype(int))
    rates = np.array([learning_rate(config, int(step), total) for step in steps]) / config.lr
    peak, at = float(rates.max()), float(steps[rates.argmax()] / total)
    mean, end = float(rates.mean()), float(rates[-1])
    falls = bool((np.diff(rates[rates.argmax() :]) <= 1e-9).all())
    sound = abs(peak - 1) < RATE_TOLERANCE * (1 + 50 / total) and at < 0.5 and 0.3 < mean and falls
    make = verdict if total >= SHORT_RUN_STEPS else warning
    return make(
        "training.schedule",
        sound,
        f"over {total} steps the rate reaches {peak:.3g} times optim.lr, {at:.0%} into the run; its mean is "
        f"{mean:.2f}, its end {end:.2g}" + ("" if falls else "; it rises again after its peak"),
        "1 times, before the middle; over 0.3",
        f"warm-up is {config.warmup_steps} steps: shorten it, train longer, or look at how the loop counts steps",
    )


def _total_steps(subject: Subject) -> int:
    return subject.config.optim.epochs * len(order_of_epoch(subject.pipeline, 1))


def _decay(subject: Subject) -> CheckResult:
    config, total = subject.config.optim, _total_steps(subject)
    spent = (
        float(np.sum([learning_rate(config, step, total) for step in range(total)]))
        if total < 10**5
        else config.lr * total / 2
    )
    shrunk = 1 - float(np.exp(-spent * config.weight_decay))
    return verdict(
        "training.decay",
        shrunk < SHRUNK,
        f"weight decay takes {shrunk:.1%} of a weight over the run",
        f"below {SHRUNK:.0%}",
        "the weights are pulled to zero faster than they learn: AdamW's optim.weight_decay is 0.0001 to 0.1",
    )
