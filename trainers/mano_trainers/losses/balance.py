"""How loss terms are weighted against each other: by fixed weights, or by weights that are learned during training.

The configured weights are where learning starts. Only terms that compare with the truth take part: a prior or a hinge
has no error to be measured by, and a learned weight would make a regulariser as strong as the data.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mano_trainers.config import BALANCED_TERMS, LossConfig
from mano_trainers.losses.terms import loss_weights

LEAST_FACTOR = 1e-3
"""GradNorm's weights stay above this: its steps could turn them negative, and then a term would be maximised."""
LEAST_LOSS = 1e-12


class Balance:
    """Weights the terms of one training run, and keeps what is learned about it.

    `fixed`: the weighted sum. `uncertainty`: each term is divided by a learned variance, whose logarithm is added:
    Kendall et al., "Multi-Task Learning Using Uncertainty to Weigh Losses", 2018 (twice its likelihood, so that the
    start is the weighted sum). `gradnorm`: factors of mean 1 are learned so that the terms' gradients at the last
    layer become equally large, larger for terms that have fallen less: Chen et al., "GradNorm", 2018.

    Attributes:
        learned: terms whose weight is learned.
    """

    def __init__(self, config: LossConfig, device: torch.device) -> None:
        self.config = config
        self.fixed = loss_weights(config)
        self.learned = [name for name in self.fixed if name in BALANCED_TERMS] if config.balance != "fixed" else []
        # Logarithms of the variances, or the factors.
        start = 1.0 if config.balance == "gradnorm" else 0.0
        self.values = torch.full((len(self.learned),), start, device=device, requires_grad=bool(self.learned))
        self.first_losses = torch.full((len(self.learned),), math.nan, device=device)
        self.optimizer = None
        if self.learned:  # on a GPU with its count of steps there, so that a step can be recorded
            self.optimizer = torch.optim.Adam([self.values], config.balance_lr, capturable=device.type == "cuda")

    def total(self, terms: Mapping[str, Tensor], last_layer: nn.Linear) -> Tensor:
        """What training minimises, and for `gradnorm` the slope of its factors.

        Args:
            terms: unweighted, of a batch.
            last_layer: the last one that every term reaches.
        """
        match self.config.balance:
            case "uncertainty":
                factors, extra = (-self.values).exp(), [self.values.sum()]
            case "gradnorm":
                factors, extra = self.values.detach(), []
                self.values.grad = self._gradnorm_slope(terms, last_layer)
            case "fixed":
                factors, extra = self.values, []
        weights: dict[str, Any] = dict(self.fixed)
        for name, factor in zip(self.learned, factors.unbind(), strict=True):
            weights[name] = self.fixed[name] * factor
        return torch.stack([weights[name] * term for name, term in terms.items()] + extra).sum()

    def zero_grad(self) -> None:
        """Forget what an unfinished step has left."""
        self.values.grad = None

    def step(self) -> None:
        """Learn from the gradients of the last `total`, after its `backward`."""
        if self.optimizer is None:
            return
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.config.balance == "gradnorm":
            with torch.no_grad():
                self.values.clamp_min_(LEAST_FACTOR)
                self.values.mul_(len(self.values) / self.values.sum())

    def weights(self) -> dict[str, float]:
        """The weight of each term as it is now."""
        factors = (-self.values).exp() if self.config.balance == "uncertainty" else self.values
        learned = dict(zip(self.learned, factors.tolist(), strict=True))
        return {name: weight * learned.get(name, 1.0) for name, weight in self.fixed.items()}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs; empty for fixed weights."""
        if self.optimizer is None:
            return {}
        values, optimizer = self.values.detach().clone(), self.optimizer.state_dict()
        return {"values": values, "first_losses": self.first_losses.clone(), "optimizer": optimizer}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict`."""
        if self.optimizer is not None:
            with torch.no_grad():
                self.values.copy_(state["values"])
            self.first_losses.copy_(state["first_losses"])
            groups = self.optimizer.state_dict()["param_groups"]  # settings are the config's, not the checkpoint's
            self.optimizer.load_state_dict({"state": state["optimizer"]["state"], "param_groups": groups})

    def _gradnorm_slope(self, terms: Mapping[str, Tensor], last_layer: nn.Linear) -> Tensor:
        """Gradient of GradNorm's own loss, the sum over terms of |factor * norm - wanted|, with respect to the factors.

        The norms are those of the gradients of the weighted terms at the last layer; a factor only scales its norm, so
        no second derivative of the network is needed.
        """
        losses = torch.stack([terms[name].detach() for name in self.learned])
        self.first_losses.copy_(torch.where(self.first_losses.isnan(), losses, self.first_losses))
        norms = torch.stack(
            [
                torch.autograd.grad(self.fixed[name] * terms[name], last_layer.weight, retain_graph=True)[0].norm()
                for name in self.learned
            ]
        )
        rates = losses / self.first_losses.clamp_min(LEAST_LOSS)
        rates = rates / rates.mean().clamp_min(LEAST_LOSS)
        current = self.values.detach() * norms
        wanted = current.mean() * rates**self.config.gradnorm_alpha
        return (current - wanted).sign() * norms


def totals_of(balances: Sequence[Balance]) -> Callable[[Tensor], Tensor]:
    """`Balance.total` of several runs at once: a few operations, instead of some for each run and term.

    Args:
        balances: with the same terms and the same of them learned, none by `gradnorm`.

    Returns:
        From the unweighted terms (runs, terms) what the training of each run minimises (runs,).
    """
    first = balances[0]
    device = first.values.device
    fixed = torch.tensor([list(each.fixed.values()) for each in balances], dtype=torch.float64, device=device)
    learned = torch.tensor([list(first.fixed).index(name) for name in first.learned], dtype=torch.int64, device=device)
    start = fixed[:, learned].to(first.values.dtype)

    def totals(terms: Tensor) -> Tensor:
        weights = fixed.to(terms.dtype)
        if not first.learned:
            return (weights * terms).sum(1)
        variances = torch.stack([each.values for each in balances])  # their logarithms
        weights = weights.index_copy(1, learned, (start * (-variances).exp()).to(terms.dtype))
        return (weights * terms).sum(1) + variances.sum(1)

    return totals
