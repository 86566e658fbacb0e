"""Which trainings can be lanes of one process, and where that pays off. Imports no torch: it is used to check a sweep
file."""

from collections.abc import Sequence
from typing import Any, Final

from mano_trainers.config import PATCH_PX, TrainConfig
from mano_trainers.errors import ConfigError

OWN: Final[dict[str, Any]] = {
    "seed": True,
    "augment": True,
    "augmentation": True,
    "loss": {"balance_lr"},
    "optim": {"lr", "weight_decay", "weight_decay_on", "layer_decay", "ema_decay", "warmup_steps", "clip_norm"},
}
"""What lanes may differ in, besides the weights of the loss terms."""
HELP: Final = "train it in its own process"


def lanes_problem(configs: Sequence[TrainConfig], *, on_gpu: bool) -> str | None:
    """Why trainings should not be lanes of one process, or None.

    Args:
        configs: of the trainings.
        on_gpu: whether they get a GPU.
    """
    try:
        check_lanes(configs)
    except ConfigError as error:
        return error.what
    backbone = configs[0].model.backbone
    if not on_gpu and backbone not in PATCH_PX:
        return f"on a CPU the convolutions of {backbone} take longer in lanes than in sequence"
    return None


def check_lanes(configs: Sequence[TrainConfig]) -> None:
    """Whether trainings can be lanes of one process.

    Raises:
        ConfigError: a config needs a process of its own, or differs from the first one in what lanes share; the message
            says in what.
    """
    if not configs:
        raise ConfigError("there is no config, so no lane")
    first = configs[0]
    for lane, config in enumerate(configs):
        alone = {
            "faults": bool(config.faults),
            "control": config.control is not None,
            "compile": config.compile,
            "loss.balance": config.loss.balance == "gradnorm",
        }
        for key, is_alone in alone.items():
            if is_alone:
                value = config.loss.balance if key == "loss.balance" else getattr(config, key)
                raise ConfigError(f"lane {lane} has {key} {value}, which lanes cannot train", key, HELP)
        if _terms(config) != _terms(first):
            raise ConfigError(f"lane {lane} has different loss terms above 0 from lane 0", "loss", HELP)
        ours, theirs = _shared(config), _shared(first)
        for key in ours:
            if ours[key] != theirs[key]:
                raise ConfigError(
                    f"lanes share {key}, but lane {lane} has {ours[key]}, lane 0 {theirs[key]}", key, HELP
                )


def _terms(config: TrainConfig) -> set[str]:
    """Names of the loss terms that count."""
    return {name for name, weight in config.loss if name.startswith("lambda_") and weight > 0}


def _shared(config: TrainConfig) -> dict[str, Any]:
    """Dotted key -> value of what lanes have in common."""
    found: dict[str, Any] = {"augmentation.background above 0": config.needs_masks}  # the data are loaded once
    for key, value in config.model_dump(mode="json", exclude=OWN).items():
        inner = value if isinstance(value, dict) else {"": value}
        found |= {f"{key}.{name}".rstrip("."): each for name, each in inner.items() if not name.startswith("lambda_")}
    return found
