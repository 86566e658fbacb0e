"""Faults that a review planted once the checks existed, and that the checks did not find at first."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from mano_trainers.data.load import LoadedData
from plants.case import Case, two, val_rows

STEPS = "training.steps:train_steps"
RATE = "learning_rate(config.optim, step, steps.total_steps)"


def pictures_of_validation(change: Any, *, stale: bool) -> Any:
    def of(data: LoadedData) -> LoadedData:
        pixels, rows = np.array(data.images), val_rows(data)
        pixels[rows] = change(pixels[rows])
        return replace(data, images=pixels)

    return lambda case: case.data(of, stale=stale)


def gamma(pixels: Any) -> Any:
    return (255 * (pixels / 255.0) ** 2.2).astype(np.uint8)


def grey(pixels: Any) -> Any:
    return np.repeat(pixels.mean(-1, keepdims=True).astype(np.uint8), 3, axis=-1)


def without_index_finger(case: Case) -> None:
    """Its theta is replaced with the truth in every term."""

    def make(original: Any) -> Any:
        def terms(criterion: Any, prediction: Any, target: Any) -> Any:
            counts = torch.ones_like(prediction.theta)
            counts[:, :9] = 0
            theta = prediction.theta * counts + target.theta * (1 - counts)
            return original(criterion, replace(prediction, theta=theta), target)

        return terms

    case.patch("mano_trainers.losses.terms:loss_terms", make)


def without_a_tip(case: Case) -> None:
    def make(original: Any) -> Any:
        def loss(joints_m: Any, true_m: Any, form: str) -> Any:
            return original(joints_m[:, :20], true_m[:, :20], form)

        return loss

    case.patch("mano_trainers.losses.terms:joint_loss", make)


def targets(line: str) -> Any:
    return lambda case: case.edit("batches:make_targets", "betas = torch", f"{line}\n    betas = torch")


def average(change: Any) -> Any:
    """Change how the running average takes in a step."""

    def plant(case: Case) -> None:
        case.spec("optim.ema_decay", 0.99)
        case.patch("mano_trainers.optimizer:WeightAverage.update", lambda f: lambda *args: change(f, *args))

    return plant


def never(original: Any, self: Any, model: Any, step: int) -> None:
    pass


def copies(original: Any, self: Any, model: Any, step: int) -> None:
    self.model.load_state_dict(model.state_dict())


PLANTS = [
    *two(
        "validation's pictures are made differently",
        pictures_of_validation(gamma, stale=True),
        pictures_of_validation(grey, stale=False),
    ),
    *two(
        "the schedule counts differently",
        lambda case: case.edit(STEPS, RATE, "learning_rate(config.optim, step, max(step + 1, config.optim.epochs))"),
        lambda case: case.edit(STEPS, RATE, "learning_rate(config.optim, step, 8 * steps.total_steps)"),
    ),
    *two("a term ignores a joint", without_index_finger, without_a_tip),
    *two(
        "targets in another order of fingers",
        targets("theta = torch.cat([theta[:, 27:36], theta[:, 9:27], theta[:, :9], theta[:, 36:]], dim=1)"),
        targets("theta = theta - hand.mean_pose.to(theta)"),
    ),
    *two(
        "an epoch is not shuffled",
        lambda case: case.edit("batches:epoch_order", "torch.randperm(len(images), generator=generator).numpy()", "slice(None)"),
        lambda case: case.edit("batches:epoch_order", "torch.randperm(len(images), generator=generator)", "torch.randperm(len(images), generator=torch.Generator())"),
    ),
    *two("the running average does not average", average(never), average(copies)),
]  # fmt: skip
