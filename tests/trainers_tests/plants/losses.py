"""Faults in loss terms, their weights and their targets."""

from dataclasses import replace
from typing import Any

import torch

from plants.case import two

TERMS = "losses.terms:"


def weights(change: Any) -> Any:
    """Change the weights that training uses, not the config's."""

    def make(original: Any) -> Any:
        return lambda config: change(original(config))

    return lambda case: case.patch("mano_trainers.losses.terms:loss_weights", make)


def total(change: Any) -> Any:
    """Change the terms that are summed up."""

    def make(original: Any) -> Any:
        return lambda self, terms, last: original(self, change(dict(terms), self.fixed), last)

    return lambda case: case.patch("mano_trainers.losses.balance:Balance.total", make)


def swapped(values: Any) -> Any:
    return (
        {**values, "param": values["joint"], "joint": values["param"]} if {"param", "joint"} <= set(values) else values
    )


def swapped_others(values: Any) -> Any:
    return {**values, "pca": values["reg"], "reg": values["pca"]} if {"pca", "reg"} <= set(values) else values


def twice(terms: Any, fixed: Any) -> Any:
    return {name: fixed[name] * term for name, term in terms.items()}


def one_twice(terms: Any, fixed: Any) -> Any:
    return {**terms, "joint": fixed["joint"] * terms["joint"]}


def without(name: str) -> Any:
    return lambda terms, fixed: {**terms, name: 0.0 * terms[name]}


def times(name: str, factor: float) -> Any:
    return lambda terms, fixed: {**terms, name: factor * terms[name]}


def term(name: str, function: Any) -> Any:
    return lambda case: case.patch(f"mano_trainers.losses.terms:{name}", lambda original: function(original))


def batch(change: Any) -> Any:
    """Change the targets that a step is given, after the images were drawn."""

    def make(original: Any) -> Any:
        def augmented(*args: Any, **kw: Any) -> Any:
            images, target = original(*args, **kw)
            return images, change(target)

        return augmented

    return lambda case: case.patch("mano_trainers.training.pipeline:augmented", make)


def in_the_loop(new: str) -> Any:
    return lambda case: case.edit(
        "training.steps:Training.step", "prediction, target.part(rows))", f"prediction, {new}.part(rows))"
    )


PLANTS = [
    *two("a weight applied twice", total(one_twice), total(twice)),
    *two("two weights swapped", weights(swapped), weights(swapped_others)),
    *two("a weight times 100", total(times("pca", 100.0)), weights(lambda w: {**w, "angular": 100 * w["angular"]} if "angular" in w else w)),
    *two("a term left out of the sum", total(without("angular")), total(without("param"))),
    *two(
        "a term is a sum",
        term("param_loss", lambda f: lambda theta, true: (theta - true).square().sum()),
        term("reg_loss", lambda f: lambda theta: theta.square().sum(0).mean()),
    ),
    *two(
        "a term without gradient",
        term("param_loss", lambda f: lambda theta, true: f(theta.detach(), true) + 0.0 * theta.sum()),
        term("angular_loss", lambda f: lambda theta, true, mean: f(theta.detach(), true, mean) + 0.0 * theta.sum()),
    ),
    *two(
        "a term that is not finite",
        term("angular_loss", lambda f: lambda a, b, mean: torch.acos(torch.cos(a - b) + 1.0).mean()),
        term("pca_loss", lambda f: lambda *args: f(*args) / 0.0),
    ),
    *two(
        "joints compared in different frames",
        lambda case: case.spec("faults", ["camera_frame"]),
        term("wrist_joints", lambda f: lambda hand, theta, betas: hand.joints(theta, betas) + 0.1),
    ),
    *two("the loss has other targets than the batch", in_the_loop("replace(target, theta=target.theta.roll(1, 0))"),
         batch(lambda target: replace(target, theta=target.theta.roll(1, 0), joints_m=target.joints_m.roll(1, 0)))),
    *two(
        "targets keep the mean pose's offset",
        batch(lambda target: replace(target, theta=target.theta + 0.1)),
        batch(lambda target: replace(target, theta=0.5 * target.theta)),
    ),
]  # fmt: skip
for plant in PLANTS:  # the loop has no `replace` of its own
    if plant.variant == "a" and plant.kind == "the loss has other targets than the batch":
        import mano_trainers.training.steps

        mano_trainers.training.steps.replace = replace  # type: ignore[attr-defined]
