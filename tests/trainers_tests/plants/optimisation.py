"""Faults in the optimizer, the schedule and the step."""

from collections import defaultdict
from typing import Any

from torch import nn

from plants.case import Case, two

STEPS = "training.steps:train_steps"


def optimizer(**changes: Any) -> Any:
    def make(original: Any) -> Any:
        return lambda parameters, **settings: original(parameters, **(settings | changes))

    return lambda case: case.patch("torch.optim:AdamW", make)


def last_layer_only(case: Case) -> None:
    def make(original: Any) -> Any:
        def of_the_last(parameters: Any, **settings: Any) -> Any:
            given = list(parameters)
            each = [value for item in given for value in (item["params"] if isinstance(item, dict) else [item])]
            return original(each[-2:], **settings)

        return of_the_last

    case.patch("torch.optim:AdamW", make)


def backbone_frozen(case: Case) -> None:
    case.patch("mano_trainers.models:build_model", lambda original: lambda *args: frozen(original(*args)))


def frozen(model: Any) -> Any:
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in model.last_layer.parameters():
        parameter.requires_grad_(True)
    return model


def norms_in_evaluation_mode(case: Case) -> None:
    def make(original: Any) -> Any:
        def train(self: Any, mode: bool = True) -> Any:
            original(self, mode)
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    original(module, False)
            return self

        return train

    case.patch("torch.nn:Module.train", make)


def norms_without_momentum(case: Case) -> None:
    def make(original: Any) -> Any:
        def build(*args: Any) -> Any:
            model = original(*args)
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.momentum = 0.0
            return model

        return build

    case.patch("mano_trainers.models:build_model", make)


def step(change: Any) -> Any:
    def make(original: Any) -> Any:
        def stepped(self: Any, *args: Any, **kw: Any) -> Any:
            return change(self, lambda: original(self, *args, **kw))

        return stepped

    return lambda case: case.patch("torch.optim:AdamW.step", make)


def forgetful(self: Any, original: Any) -> Any:
    self.state.clear()
    return original()


def every_second(self: Any, original: Any) -> Any:
    self.calls = getattr(self, "calls", 0) + 1
    return original() if self.calls % 2 else None


def first_only(self: Any, original: Any) -> Any:
    self.calls = getattr(self, "calls", 0) + 1
    return original() if self.calls == 1 else None


def forgets_moments(self: Any, original: Any) -> Any:
    result = original()
    self.state = defaultdict(dict)
    return result


def no_zero_grad(case: Case) -> None:
    case.patch("torch.optim:AdamW.zero_grad", lambda original: lambda self, *args, **kw: None)


def zero_grad_at_times(case: Case) -> None:
    def make(original: Any) -> Any:
        def zero(self: Any, *args: Any, **kw: Any) -> None:
            self.zeroed = getattr(self, "zeroed", 0) + 1
            if self.zeroed % 4 == 1:
                original(self, *args, **kw)

        return zero

    case.patch("torch.optim:AdamW.zero_grad", make)


def total_times(factor: float) -> Any:
    def make(original: Any) -> Any:
        return lambda *args, **kw: factor * original(*args, **kw)

    return lambda case: case.patch("mano_trainers.losses.balance:Balance.total", make)


def features_cut_off(case: Case) -> None:
    case.edit(
        "models:HandNet.forward", "self.head(self.backbone(images))", "self.head(self.backbone(images.detach()*0))"
    )


def batch_averaged(case: Case) -> None:
    """Every image of a batch gets the same prediction."""
    case.edit(
        "models:HandNet.forward",
        "self.head(self.backbone(images))",
        "self.head(self.backbone(images).mean(0, keepdim=True).expand(len(images), -1))",
    )


def rate(change: Any) -> Any:
    def make(original: Any) -> Any:
        return lambda config, step, total: change(original, config, step, total)

    return lambda case: case.patch("mano_trainers.training.steps:learning_rate", make)


PLANTS = [
    *two("optimizer holds the last layer only", last_layer_only, backbone_frozen),
    *two("BatchNorm statistics frozen", norms_in_evaluation_mode, norms_without_momentum),
    *two(
        "learning rate never applied",
        lambda case: case.edit(STEPS, "set_learning_rate(optimizer,", "(lambda *_: None)(optimizer,"),
        rate(lambda original, config, step, total: 1e-3 * original(config, step, total)),
    ),
    *two(
        "warm-up fifty times too long",
        lambda case: case.spec("optim.warmup_steps", 1000),
        rate(lambda f, config, step, total: f(config.model_copy(update={"warmup_steps": 1000}), step, total)),
    ),
    *two(
        "clipping at 1e-3",
        lambda case: case.spec("optim.clip_norm", 1e-3),
        lambda case: case.edit(
            "training.steps:_clip_gradients", "parameters = [", "clip_norm = 1e-3 * clip_norm; parameters = ["
        ),
    ),
    *two("hard weight decay", lambda case: case.spec("optim.weight_decay", 20.0), optimizer(weight_decay=5.0)),
    *two("gradients add up over steps", no_zero_grad, zero_grad_at_times),
    *two("optimizer forgets its moments", step(forgetful), step(forgets_moments)),
    *two(
        "learning rate far too large",
        lambda case: case.spec("optim.lr", 3.0),
        rate(lambda original, config, step, total: 300 * original(config, step, total)),
    ),
    *two("optimizer skips steps", step(every_second), step(first_only)),
    *two("loss is maximised", optimizer(maximize=True), total_times(-1.0)),
    *two(
        "schedule ends early",
        rate(lambda original, config, step, total: original(config, min(step, total // 8), max(1, total // 8))),
        rate(lambda original, config, step, total: original(config, step % (total // 8), total // 8)),
    ),
    *two("loss scaled to nothing", total_times(1e-7), total_times(3e-8)),
    *two("predictions do not read the image", features_cut_off, batch_averaged),
    *two("optimizer of another kind", optimizer(betas=(0.0, 0.0)), optimizer(betas=(0.9999, 0.999))),
]
