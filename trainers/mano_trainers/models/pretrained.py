"""Starting a backbone from weights trained elsewhere, only where the config says so."""

import hashlib
import pickle
from pathlib import Path
from typing import Final

import timm
import torch
from safetensors import SafetensorError
from timm.models import load_state_dict
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor

from mano_trainers.errors import ConfigError
from mano_trainers.models import HandNet

HUB: Final = "hub:"
KEY: Final = "model.pretrained"


def load_pretrained(model: HandNet, source: str) -> None:
    """Put weights into the backbone, all but its last layer, which stays as it is.

    The position embedding of a vision transformer is resampled to the model's image size.

    Args:
        model: whose backbone is of the same architecture.
        source: `hub:NAME` for timm's model NAME on the Hugging Face hub, or the path of a state dict, safetensors or
            torch's format: of a timm model, or the `weights.safetensors` of a checkpoint written here.

    Raises:
        ConfigError: the file or the hub cannot be read, or the weights belong to another architecture.
    """
    state = _from_hub(source.removeprefix(HUB)) if source.startswith(HUB) else _from_file(source)
    backbone = model.backbone
    if all(key.startswith("backbone.") for key in state):
        state = {key.removeprefix("backbone."): value for key, value in state.items()}
    if isinstance(backbone, VisionTransformer):
        state = checkpoint_filter_fn(state, backbone)
    last = next(name for name, module in backbone.named_modules() if module is model.last_layer)
    own = {key: value for key, value in backbone.state_dict().items() if not key.startswith(f"{last}.")}
    state = {key: value for key, value in state.items() if not key.startswith(f"{last}.")}
    different = [
        key for key in (*own, *state) if key not in own or key not in state or own[key].shape != state[key].shape
    ]
    if different:
        raise ConfigError(
            f"{source} does not belong to model.backbone: {len(set(different))} of its arrays do not fit, "
            f"{different[0]} first",
            KEY,
            "choose weights of the same architecture",
        )
    backbone.load_state_dict(state, strict=False)


def pretrained_fingerprint(source: str) -> str:
    """What says whether the weights are still the same: the SHA-256 of the file, or the name on the hub."""
    if source.startswith(HUB):
        return source
    try:
        with open(Path(source).expanduser(), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(source, error) from None


def _from_file(source: str) -> dict[str, Tensor]:
    try:
        state = load_state_dict(str(Path(source).expanduser()), device="cpu", weights_only=True)
    except OSError as error:
        raise _unreadable(source, error) from None
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError):
        raise ConfigError(
            f"{source} is damaged, or contains more than tensors", KEY, "save the state dict alone, best as safetensors"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ConfigError(f"{source} is not a state dict", KEY, "save the state dict alone")
    return dict(state)


def _from_hub(name: str) -> dict[str, Tensor]:
    try:
        return dict(timm.create_model(f"hf-hub:{name}", pretrained=True).state_dict())
    except Exception as error:  # the client of the hub raises what its HTTP library does, among others
        raise ConfigError(
            f"{name} cannot be fetched from the hub, which may be out of reach: {error}",
            KEY,
            "download the weights where there is network access, and give the path of the file",
        ) from error


def _unreadable(source: str, error: OSError) -> ConfigError:
    return ConfigError(f"{source} cannot be read: {error.strerror or 'no such file'}", KEY)
