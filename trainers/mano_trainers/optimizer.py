"""How weights learn: groups of AdamW, and the running average of the weights."""

from collections.abc import Mapping
from typing import Any

import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from timm.utils import ModelEmaV3
from torch import Tensor

from mano_trainers.config import OptimConfig
from mano_trainers.models import HandNet


def make_optimizer(model: HandNet, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW on all weights of a model; a group's `lr_scale` says what its learning rate is multiplied by.

    With `weight_decay_on: weights` neither norms nor biases, nor what the backbone itself names (a transformer's
    positions), decay. With `layer_decay` below 1 the last layer learns at the full rate, and each layer before it at
    this fraction of the next one's (Bao et al., "BEiT", 2022); which layers there are is timm's own grouping of the
    backbone.
    """
    backbone: Any = model.backbone
    exempt = backbone.no_weight_decay() if hasattr(backbone, "no_weight_decay") else ()
    groups: Any
    if config.layer_decay < 1:
        groups = param_groups_layer_decay(
            backbone, config.weight_decay, no_weight_decay_list=exempt, layer_decay=config.layer_decay
        )
        groups = sorted(groups, key=lambda group: -group["lr_scale"])  # the first one's rate is the config's
    elif config.weight_decay_on == "weights":
        groups = param_groups_weight_decay(backbone, config.weight_decay, no_weight_decay_list=exempt)
    else:
        groups = model.parameters()
    device = model.last_layer.weight.device
    settings: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    settings["fused"] = device.type in ("cpu", "cuda")  # not where there are no values
    optimizer = torch.optim.AdamW(groups, **settings, capturable=device.type == "cuda")
    if device.type == "cuda":  # where a step is recorded, and then replayed at another rate
        for group in optimizer.param_groups:
            group["lr"] = torch.tensor(config.lr, device=device)
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of every group, by its scale."""
    for group in optimizer.param_groups:
        scaled = rate * group.get("lr_scale", 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(scaled)
        else:
            group["lr"] = scaled


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What a checkpoint needs; the same on every device."""
    state = optimizer.state_dict()
    return state | {"param_groups": [group | {"lr": float(group["lr"])} for group in state["param_groups"]]}


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Continue from an `optimizer_state`, of this device or another: settings stay as they were made.

    Moments are laid out in memory as the weights are, which fused steps take for granted: those of convolutions may
    have been saved in another order.
    """
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state["state"], "param_groups": groups})
    for weight, moments in optimizer.state.items():
        for name, value in moments.items():
            if value.shape == weight.shape and value.stride() != weight.stride():
                moments[name] = torch.empty_like(weight).copy_(value)


class WeightAverage:
    """The exponential moving average of a model's weights and of its normalisation's statistics.

    Early on the average is over fewer steps than `decay` says, so that it does not begin with random weights.

    Attributes:
        model: has the averaged weights; evaluated, exported and written as the weights of a checkpoint.
    """

    def __init__(self, model: HandNet, decay: float) -> None:
        self.average = ModelEmaV3(model, decay=decay, use_warmup=True)
        self.model: HandNet = self.average.module

    def update(self, model: HandNet, step: int) -> None:
        """Take in the weights after a step of training, counted from 0."""
        self.average.update(model, step=step)


def raw_weights(model: HandNet, average: WeightAverage | None) -> dict[str, Tensor]:
    """What a checkpoint needs beside its weights to continue training: those that are not averaged, if others are."""
    return {} if average is None else dict(model.state_dict())
