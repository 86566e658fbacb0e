"""Learned weights of loss terms: where they start, where they settle, and what they are made of."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from mano_trainers.config import LossConfig
from mano_trainers.losses.balance import Balance

CPU = torch.device("cpu")
Terms = dict[str, Tensor]


def config(balance: str, **values: float) -> LossConfig:
    weights = {"lambda_param": 2.0, "lambda_joint": 0.5, "lambda_reg": 0.1}
    return LossConfig.model_validate(weights | {"balance": balance} | values)


def a_layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2, bias=False)


def constant_terms(layer: nn.Linear) -> Terms:
    """Terms of constant value with a slope at the layer."""
    flat = layer.weight.sum() - layer.weight.sum().detach()
    return {"param": 4.0 + flat, "joint": 0.25 + 10 * flat, "reg": 1.0 + flat}


def falling_terms(step: int, layer: nn.Linear) -> Terms:
    flat = layer.weight.sum() - layer.weight.sum().detach()
    return {"param": 4.0 / step + flat, "joint": 1.0 + flat / step, "reg": 1.0 + flat}


def learn(balance: Balance, layer: nn.Linear, make_terms: Callable[[nn.Linear], Terms], steps: int) -> None:
    for _ in range(steps):
        balance.total(make_terms(layer), layer).backward()
        balance.step()


@pytest.mark.parametrize("kind", ["fixed", "uncertainty", "gradnorm"])
def test_learning_starts_at_the_weighted_sum(kind: str) -> None:
    layer = a_layer()
    balance = Balance(config(kind), CPU)
    assert balance.total(constant_terms(layer), layer).item() == pytest.approx(2.0 * 4.0 + 0.5 * 0.25 + 0.1)
    assert balance.weights() == pytest.approx({"param": 2.0, "joint": 0.5, "reg": 0.1})


@pytest.mark.parametrize("kind", ["fixed", "uncertainty", "gradnorm"])
def test_gradient_of_the_network_is_that_of_the_reported_weights(kind: str) -> None:
    layer = a_layer()
    balance = Balance(config(kind), CPU)
    learn(balance, layer, constant_terms, 5)
    told = balance.weights()
    layer.zero_grad()
    balance.total(constant_terms(layer), layer).backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad[0, 0].item() == pytest.approx(told["param"] + 10 * told["joint"] + told["reg"])


def test_fixed_weights_stay() -> None:
    layer = a_layer()
    balance = Balance(config("fixed"), CPU)
    learn(balance, layer, constant_terms, 3)
    assert balance.weights() == {"param": 2.0, "joint": 0.5, "reg": 0.1}
    assert balance.state_dict() == {}


def test_uncertainty_settles_where_every_weighted_term_is_one() -> None:
    """The variance that makes weight * loss + log(variance) smallest is the weighted loss itself."""
    layer = a_layer()
    balance = Balance(config("uncertainty", balance_lr=0.05), CPU)
    learn(balance, layer, constant_terms, 400)
    assert balance.weights() == pytest.approx({"param": 1 / 4.0, "joint": 1 / 0.25, "reg": 0.1}, rel=1e-2)


def test_gradnorm_makes_gradients_equal_and_keeps_the_mean_factor() -> None:
    """The joint term pulls 2.5 times as hard at first; with alpha 0 both end up pulling the same."""
    layer = a_layer()
    balance = Balance(config("gradnorm", gradnorm_alpha=0.0, balance_lr=0.005), CPU)
    learn(balance, layer, constant_terms, 400)
    weights = balance.weights()
    assert 10 * weights["joint"] == pytest.approx(weights["param"], rel=0.05)
    assert weights["param"] / 2.0 + weights["joint"] / 0.5 == pytest.approx(2.0)
    assert weights["reg"] == 0.1


def test_gradnorm_pulls_the_term_that_has_fallen_less() -> None:
    layer = a_layer()
    balance = Balance(config("gradnorm", lambda_param=1.0, lambda_joint=1.0, gradnorm_alpha=1.0), CPU)

    def terms(param: float, joint: float) -> Callable[[nn.Linear], Terms]:
        def make(layer: nn.Linear) -> Terms:
            flat = layer.weight.sum() - layer.weight.sum().detach()
            return {"param": param + flat, "joint": joint + flat, "reg": 1.0 + flat}

        return make

    learn(balance, layer, terms(1.0, 1.0), 1)
    assert balance.weights()["param"] == pytest.approx(balance.weights()["joint"])
    learn(balance, layer, terms(0.9, 0.3), 200)
    weights = balance.weights()
    assert weights["param"] / weights["joint"] == pytest.approx(3.0, rel=0.1)


def test_gradnorms_slope_is_that_of_its_own_loss() -> None:
    layer = a_layer()
    balance = Balance(config("gradnorm"), CPU)
    images = torch.randn(4, 3)
    terms = {"param": layer(images).square().mean(), "joint": layer(images).abs().mean(), "reg": layer.weight.sum()}
    balance.total(terms, layer)
    norms = torch.stack(
        [
            torch.autograd.grad(weight * terms[name], layer.weight, retain_graph=True)[0].norm()
            for name, weight in (("param", 2.0), ("joint", 0.5))
        ]
    )
    factors = torch.ones(2, requires_grad=True)
    own_loss = (factors * norms - norms.mean()).abs().sum()  # all losses are the first ones: equal rates
    (slope,) = torch.autograd.grad(own_loss, factors)
    torch.testing.assert_close(balance.values.grad, slope)


@pytest.mark.parametrize("kind", ["uncertainty", "gradnorm"])
def test_state_continues_bit_for_bit_and_all_of_it_is_needed(kind: str) -> None:
    def run(steps: int, start: dict[str, object] | None = None) -> Balance:
        layer = a_layer()
        balance = Balance(config(kind), CPU)
        if start is not None:
            balance.load_state_dict(start)
        first = 0 if start is None else 3

        for step in range(first + 1, steps + 1):
            learn(balance, layer, partial(falling_terms, step), 1)
        return balance

    unbroken, saved = run(6), run(3).state_dict()
    assert run(6, saved).weights() == unbroken.weights()
    fresh = Balance(config(kind), CPU).state_dict()
    needed = ["values", "optimizer"] + (["first_losses"] if kind == "gradnorm" else [])
    for part in needed:
        assert run(6, saved | {part: fresh[part]}).weights() != unbroken.weights(), part


def test_one_term_alone_cannot_be_balanced() -> None:
    with pytest.raises(ValidationError, match="balance gradnorm needs at least two of param, joint"):
        LossConfig(lambda_pca=1.0, balance="gradnorm")
