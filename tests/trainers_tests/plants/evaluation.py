"""Faults in the model's state during evaluation, in its inputs, and in the objective's own line."""

import copy
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from plants.case import Case, two

EVALUATE = "evaluation.evaluate:evaluate"
PA_MM = "pa_mm = 1000.0 * float(distances_m.mean())"


def objective(new: str) -> Any:
    return lambda case: case.edit(EVALUATE, PA_MM, f"pa_mm = {new}")


def predict(old: str, new: str) -> Any:
    return lambda case: case.edit("evaluation.predict:predict", old, new)


def norms_of_the_batch(case: Case) -> None:
    def make(original: Any) -> Any:
        def eval_(self: Any) -> Any:
            original(self)
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.train()
            return self

        return eval_

    case.patch("torch.nn:Module.eval", make)


def forward(change: Any) -> Any:
    """Change the forward pass of the network: `change(self, images, original)`."""

    def make(original: Any) -> Any:
        return lambda self, images: change(self, images, lambda given: original(self, given))

    return lambda case: case.patch("mano_trainers.models:HandNet.forward", make)


def dropout(self: Any, images: Any, original: Any) -> Any:
    return original(F.dropout(images, 0.2, training=True))


def noisy_features(self: Any, images: Any, original: Any) -> Any:
    return original(images + 0.3 * torch.randn_like(images))


def centred_in_the_batch(self: Any, images: Any, original: Any) -> Any:
    return original(images - images.mean(0, keepdim=True))


def aligned(change: Any) -> Any:
    return lambda case: case.patch(
        "mano_trainers.evaluation.procrustes:similarity", lambda f: lambda p, t: change(*f(p, t))
    )


def of_batches(size: int) -> str:
    return f"1000.0 * float(np.mean([distances_m[i : i + {size}].mean() for i in range(0, len(distances_m), {size})]))"


def outputs(change: Any) -> Any:
    """Change the rows of what evaluation predicts."""

    def make(original: Any) -> Any:
        return lambda parts: change(original(parts))

    return lambda case: case.patch("mano_trainers.evaluation.predict:_join", make)


def old_weights(fresh: bool) -> Any:
    """Evaluation looks at a copy of the model as it was at first."""

    def plant(case: Case) -> None:
        kept: dict[int, Any] = {}

        def make(original: Any) -> Any:
            def validate(pipeline: Any, model: Any, last: bool) -> Any:
                first = kept.setdefault(id(pipeline), copy.deepcopy(model))
                if fresh:
                    for parameter in first.parameters():
                        torch.nn.init.normal_(parameter, std=0.02) if parameter.dim() > 1 else None
                else:
                    first.last_layer.weight.data.mul_(0.5)
                return original(pipeline, first, last)

            return validate

        case.patch("mano_trainers.training.pipeline:validate", make)

    return plant


PLANTS = [
    *two("model left in train mode", predict("model.eval()", "pass"), predict("model.eval()", "model.train()")),
    *two("dropout in evaluation", forward(dropout), forward(noisy_features)),
    *two("statistics of the batch in evaluation", norms_of_the_batch, forward(centred_in_the_batch)),
    *two("objective in another unit", objective("100.0 * float(distances_m.mean())"), objective("float(distances_m.mean())")),
    *two(
        "objective is the median",
        objective("1000.0 * float(np.median(distances_m))"),
        objective("1000.0 * float(np.sort(distances_m, axis=None)[: int(0.9 * distances_m.size)].mean())"),
    ),
    *two(
        "objective is the root mean square",
        objective("1000.0 * float(np.sqrt(np.square(distances_m).mean()))"),
        objective("1000.0 * float(np.sqrt(np.square(distances_m).mean(1)).mean())"),
    ),
    *two(
        "objective leaves joints out",
        objective("1000.0 * float(distances_m[:, [i for i in range(21) if i % 4 or i == 0]].mean())"),
        objective("1000.0 * float(distances_m[:, 1:].mean())"),
    ),
    *two("mean of unequal batches", objective(of_batches(96)), objective(of_batches(64))),
    *two(
        "one scale for all samples",
        aligned(lambda scale, rotation: (np.broadcast_to(scale.mean(), scale.shape), rotation)),
        aligned(lambda scale, rotation: (np.broadcast_to(np.median(scale), scale.shape), rotation)),
    ),
    *two(
        "alignment is not the best one",
        aligned(lambda scale, rotation: (np.ones_like(scale), rotation)),
        aligned(lambda scale, rotation: (scale, rotation.transpose(0, 2, 1))),
    ),
    *two(
        "evaluation's images are normalised differently",
        predict("predicted.append(model(batch))", "predicted.append(model((batch + 1) / 2))"),
        predict("predicted.append(model(batch))", "predicted.append(model(batch.flip(1)))"),
    ),
    *two("predictions in another order", outputs(lambda rows: rows[::-1].copy()), outputs(lambda rows: np.roll(rows, 1, axis=0))),
    *two("evaluation of another model", old_weights(True), old_weights(False)),
    *two(
        "the worst samples are left out",
        objective("1000.0 * float(np.sort(distances_m.mean(1))[: max(1, len(distances_m) * 3 // 4)].mean())"),
        objective("1000.0 * float(distances_m[: max(1, len(distances_m) // 2)].mean())"),
    ),
    *two(
        "the largest joint errors are cut",
        objective("1000.0 * float(np.sort(distances_m, axis=1)[:, :20].mean())"),
        objective("1000.0 * float(np.minimum(distances_m, 0.01).mean())"),
    ),
]  # fmt: skip
