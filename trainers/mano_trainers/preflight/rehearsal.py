"""A few steps and one evaluation of the real training, watched from outside.

`train_on` runs as it does in a sweep, on few poses. PyTorch's own hooks see what the optimizer is given and does, and
what the network is shown; nothing in the loop knows that it is watched. In the evaluation the network's answers are
replaced by ones whose error is known, so the report that the loop yields must contain that number.
"""

import copy
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from mano_trainers.arrays import Array, Integers, evenly
from mano_trainers.config import TrainConfig
from mano_trainers.data.load import LoadedData
from mano_trainers.loop import train_on
from mano_trainers.models import HandNet
from mano_trainers.preflight.subject import Subject
from mano_trainers.training.faults import read_faultily, split_images
from mano_trainers.training.pipeline import Pipeline
from mano_trainers.training.steps import order_of_epoch

BATCH: Final = 32
STEPS: Final = 4
EVALUATED: Final = 97
"""Validation images, at most: no multiple of a batch size, so the last batch is not full."""
EVAL_BATCH: Final = 40
ERROR_RAD: Final = (0.02, 0.7)
"""Known errors of theta, from the first validated sample to the last: unequal, so that no other mean of them is the
same."""


@dataclass
class Step:
    """One step of the optimizer, as its hooks saw it.

    Attributes:
        images: (B, 3, S, S) that the network was shown.
        state: weights and statistics before the step.
        gradients: by the name of the parameter, as the optimizer is given them.
        held: names of the parameters that the optimizer holds.
        rate: learning rate of its first group.
        after: weights and statistics after the step.
    """

    images: Tensor
    state: dict[str, Tensor]
    gradients: dict[str, Tensor] = field(default_factory=dict)
    held: frozenset[str] = frozenset()
    rate: float = 0.0
    after: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Evaluated:
    """What the evaluation showed the network: images (B, 3, S, S) of its batches, modules in training mode, weights."""

    images: list[Tensor] = field(default_factory=list)
    training: set[str] = field(default_factory=set)
    state: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Rehearsal:
    """What was seen.

    Attributes:
        pipeline: of the few poses: as the subject's, with other poses.
        order: (steps, B) images of the first epoch, as the pipeline says.
        model: as the steps have left it.
        steps: those of the first epoch.
        evaluated: in the evaluation after it.
        theta: (N, 45) predictions that stood in for the network's.
        metrics: of the loop's own report.
        total_steps: of the whole rehearsed run, which the schedule goes over.
    """

    pipeline: Pipeline
    order: Integers
    model: HandNet
    steps: list[Step]
    evaluated: Evaluated
    theta: Array
    metrics: dict[str, float]
    total_steps: int


def rehearse(subject: Subject) -> Rehearsal:
    """Train an epoch of a few steps, and evaluate once, by the loop itself."""
    config = _config(subject.config, len(np.unique(subject.data.train_poses)))
    data = _few_poses(subject.data, config)
    read = read_faultily(data, config.faults) if config.faults else data
    table, val_images, last = split_images(read, config.faults)
    pipeline = replace(
        subject.pipeline, config=config, data=read, table=table, val_images=val_images, last_val_images=last
    )
    order = order_of_epoch(pipeline, 1)
    theta = _known_errors(read.labels.theta[read.labels.pose_index[val_images]])
    watcher = _Watcher(theta)
    with tempfile.TemporaryDirectory() as folder, watcher.hooks():
        report = next(train_on(data, config, subject.device, Path(folder)))
    assert watcher.model is not None, "training showed the network no image"
    return Rehearsal(
        pipeline,
        order,
        watcher.model,
        watcher.steps,
        watcher.evaluated,
        theta,
        dict(report.metrics),
        config.optim.epochs * len(order),
    )


def _config(base: TrainConfig, poses: int) -> TrainConfig:
    """The base config, with batches small enough for a few steps, each in one part, and all weights treated alike."""
    batch = max(1, min(BATCH, base.optim.batch_size, poses // STEPS))
    optim = base.optim.model_copy(
        update={
            "batch_size": batch,
            "epochs": base.optim.epochs + 1,
            "micro_batches": 1,
            "layer_decay": 1.0,
            "weight_decay_on": "all",
        }
    )
    changes = {
        "optim": optim,
        "data": base.data.model_copy(update={"curriculum": ()}),
        "eval": base.eval.model_copy(update={"batch_size": EVAL_BATCH, "mesh_images": 4}),
        "evaluate_every": 1.0,
        "compile": False,
        "cuda_graph": False,  # a replayed step calls no hooks
    }
    return base.model_copy(update=changes)


def _few_poses(data: LoadedData, config: TrainConfig) -> LoadedData:
    versions = max(1, len(data.images) // len(data.labels.theta)) if config.data.versions == "all" else 1
    count = -(-STEPS * config.optim.batch_size // versions)
    train, val = evenly(np.unique(data.train_poses), count), evenly(data.val_poses, EVALUATED)
    return replace(data, train_poses=train, val_poses=val)


def _known_errors(theta: Array) -> Array:
    """Theta (N, 45) with errors that grow from row to row."""
    size = np.geomspace(*ERROR_RAD, len(theta))[:, None]
    noisy: Array = theta + size * np.random.default_rng(7).normal(size=theta.shape) / 2
    return noisy.astype(np.float32).astype(np.float64)


class _Watcher:
    """Collects what hooks tell."""

    def __init__(self, theta: Array) -> None:
        self.theta = torch.from_numpy(theta).float()
        self.model: HandNet | None = None
        self.steps: list[Step] = []
        self.evaluated = Evaluated()
        self.shown = 0
        self.in_step = False

    @contextmanager
    def hooks(self) -> Iterator[None]:
        handles = [
            register_module_forward_hook(self.forward),
            register_optimizer_step_pre_hook(self.before_step),
            register_optimizer_step_post_hook(self.after_step),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def forward(self, module: nn.Module, given: tuple[Any, ...], output: Any) -> Any:
        if not isinstance(module, HandNet):
            return None
        if torch.is_grad_enabled():
            self.model = module
            self.steps.append(Step(given[0].detach().clone(), _state(module)))
            return None
        images = given[0]
        self.evaluated.images.append(images.clone())
        self.evaluated.training |= {name or "the network" for name, each in module.named_modules() if each.training}
        if not self.evaluated.state:
            self.evaluated.state = _state(module)
        rows = (self.shown + np.arange(len(images))) % len(self.theta)
        self.shown += len(images)
        betas = None if output.betas is None else torch.zeros_like(output.betas)
        return replace(output, theta=self.theta[rows].to(output.theta), betas=betas)

    def before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        names = self._names(optimizer)
        if not names or not self.steps:
            return
        step = self.steps[-1]
        step.held = frozenset(names.values())
        step.rate = float(optimizer.param_groups[0]["lr"])
        assert self.model is not None
        step.gradients = {
            name: parameter.grad.detach().clone()
            for name, parameter in self.model.named_parameters()
            if parameter.grad is not None
        }

    def after_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if self._names(optimizer) and self.steps:
            assert self.model is not None
            self.steps[-1].after = _state(self.model)

    def _names(self, optimizer: torch.optim.Optimizer) -> dict[int, str]:
        """Names of the network's parameters that an optimizer holds; that of learned loss weights holds none."""
        if self.model is None:
            return {}
        held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        return {id(p): name for name, p in self.model.named_parameters() if id(p) in held}


def _state(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy({name: value.detach() for name, value in model.state_dict().items()})
