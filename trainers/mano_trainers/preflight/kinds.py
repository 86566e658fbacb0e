"""The kinds of models and losses that the corners of a search have, and what their terms do with one batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from mano_trainers.arrays import Integers
from mano_trainers.config import LossConfig, TrainConfig
from mano_trainers.losses.terms import Criterion, Target, loss_terms
from mano_trainers.models import HandNet, Prediction, build_model
from mano_trainers.preflight.subject import Subject, used_terms
from mano_trainers.training.pipeline import training_batch
from mano_trainers.training.steps import order_of_epoch

BATCH: Final = 16
MOST_KINDS: Final = 4
"""Different models or forms of losses whose terms are looked at."""
SPREAD_RAD: Final = 0.1
"""How far predictions are moved off the mean pose, where the priors have no slope."""


@dataclass(frozen=True)
class Kind:
    """Corners that differ in weights, rates and seeds only, and what their terms do with one batch.

    Attributes:
        corners: their configs.
        criterion: with weight 1 for every term that one of them uses.
        poses: of the batch.
        target: labels of the batch.
        prediction: of a new model, moved a little off the mean pose.
        model: it.
        terms: of the prediction.
    """

    corners: tuple[TrainConfig, ...]
    criterion: Criterion
    poses: Integers
    target: Target
    prediction: Prediction
    model: HandNet
    terms: Mapping[str, Tensor]


def kinds_of(subject: Subject) -> tuple[list[Kind], int]:
    """The kinds of corners looked at, and how many corners are left out."""
    groups: dict[str, list[TrainConfig]] = {}
    for corner in subject.corners:
        if corner.data.image_size == subject.pipeline.config.data.image_size:
            groups.setdefault(_key(corner), []).append(corner)
    chosen = list(groups.values())[:MOST_KINDS]
    indices = order_of_epoch(subject.pipeline, 1)[0][:BATCH]
    images, target = training_batch(subject.pipeline, indices, step=0)
    poses = subject.pipeline.data.labels.pose_index[indices]
    kinds = [_kind(subject, corners, images, poses, target) for corners in chosen]
    return kinds, len(subject.corners) - sum(map(len, chosen))


def _key(config: TrainConfig) -> str:
    """Equal for configs that differ only in what a gradient's direction does not depend on."""
    weights = {name: 0.0 for name in LossConfig.model_fields if name.startswith("lambda_")}
    mapping = config.model_dump_json(include={"model", "loss", "data"})
    loss = config.loss.model_copy(update=weights).model_dump_json()
    return mapping.replace(config.loss.model_dump_json(), loss)


def _kind(subject: Subject, corners: Sequence[TrainConfig], images: Tensor, poses: Integers, target: Target) -> Kind:
    config = corners[0]
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = build_model(config.model, images.shape[-1], subject.pipeline.data.hand)
        torch.nn.init.normal_(model.last_layer.weight)
    model = model.to(subject.device).to(memory_format=torch.channels_last)
    model.train()
    with torch.no_grad():
        model.last_layer.weight *= SPREAD_RAD / model(images).theta.std().clamp_min(1e-6)
    criterion = replace(subject.pipeline.criterion, config=used_terms(corners))
    prediction = model(images)
    return Kind(tuple(corners), criterion, poses, target, prediction, model, loss_terms(criterion, prediction, target))


def gradient_norms(kind: Kind) -> dict[str, float]:
    last = kind.model.last_layer.weight
    norms = {}
    for name, term in kind.terms.items():
        slope = torch.autograd.grad(term, last, retain_graph=True, allow_unused=True)[0] if term.requires_grad else None
        norms[name] = 0.0 if slope is None else float(slope.norm())
    return norms


def named(kinds: Sequence[Kind], values: Callable[[Kind], Mapping[str, float]]) -> dict[str, float]:
    """Values of all kinds' terms by name; where there are several kinds, the name says which model's."""
    if len(kinds) == 1:
        return dict(values(kinds[0]))
    return {
        f"{name} ({number}: {kind.corners[0].model.backbone})": value
        for number, kind in enumerate(kinds, start=1)
        for name, value in values(kind).items()
    }


def listed(values: Mapping[str, float], form: str = "{:.3g}") -> str:
    return ", ".join(f"{name} {form.format(value)}" for name, value in values.items())
