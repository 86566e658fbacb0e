"""Weights from elsewhere: they arrive in the backbone, or the run says why not."""

from pathlib import Path

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file

from mano_trainers.config import ModelConfig, TrainConfig
from mano_trainers.errors import ConfigError
from mano_trainers.hand.model import load_embedded_hand
from mano_trainers.loop import prepare, train
from mano_trainers.models import HandNet, build_model
from mano_trainers.models.pretrained import load_pretrained


def network(seed: int, image_size: int = 32, backbone: str = "resnet_tiny") -> HandNet:
    torch.manual_seed(seed)
    return build_model(ModelConfig.model_validate({"backbone": backbone}), image_size, load_embedded_hand())


def with_another_last_layer(model: HandNet) -> dict[str, torch.Tensor]:
    """A state dict like that of a classifier with 1000 classes."""
    last = next(name for name, module in model.backbone.named_modules() if module is model.last_layer)
    state = dict(model.backbone.state_dict())
    return state | {f"{last}.weight": torch.ones(1000, model.last_layer.in_features), f"{last}.bias": torch.ones(1000)}


@pytest.mark.parametrize("backbone", ["resnet_tiny", "vit_tiny"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_all_but_the_last_layer_is_loaded(tmp_path: Path, backbone: str, suffix: str) -> None:
    source, model = network(1, backbone=backbone), network(2, backbone=backbone)
    path = tmp_path / f"weights{suffix}"
    state = {key: value.contiguous() for key, value in with_another_last_layer(source).items()}
    save_file(state, path) if suffix == ".safetensors" else torch.save({"state_dict": state}, path)
    load_pretrained(model, str(path))
    for key, value in model.backbone.state_dict().items():
        expected = source.backbone.state_dict()[key]
        assert torch.equal(value, expected), key
    assert not model.last_layer.weight.any()


def test_weights_of_our_own_checkpoint_are_loaded(tmp_path: Path) -> None:
    source, model = network(1), network(2)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    load_pretrained(model, str(tmp_path / "weights.safetensors"))
    assert torch.equal(model.backbone.conv1[0].weight, source.backbone.conv1[0].weight)


def test_positions_of_patches_are_resampled_to_the_image(tmp_path: Path) -> None:
    save_file(network(1, 64, "vit_tiny").backbone.state_dict(), tmp_path / "weights.safetensors")
    model = network(2, 32, "vit_tiny")
    load_pretrained(model, str(tmp_path / "weights.safetensors"))
    assert model.backbone.pos_embed.shape[1] == 17


def test_weights_with_timms_names_are_accepted(tmp_path: Path) -> None:
    theirs = timm.create_model("resnet18").state_dict()
    save_file(theirs, tmp_path / "resnet18.safetensors")
    model = network(1, backbone="resnet18")
    load_pretrained(model, str(tmp_path / "resnet18.safetensors"))
    ours = model.backbone.state_dict()
    shared = [name for name in theirs if not name.startswith("fc.")]
    assert len(shared) > 100
    assert all(torch.equal(ours[name], theirs[name]) for name in shared)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file(network(1, backbone="vit_tiny").backbone.state_dict(), tmp_path / "weights.safetensors")
    before = network(2).state_dict()
    model = network(2)
    with pytest.raises(ConfigError, match=r"does not belong to model\.backbone"):
        load_pretrained(model, str(tmp_path / "weights.safetensors"))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> object:
        return Path.touch, (self.target,)


def test_files_that_are_not_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.pth cannot be read: no such file"):
        load_pretrained(network(1), str(tmp_path / "absent.pth"))
    (tmp_path / "damaged.safetensors").write_bytes(b"no header")
    with pytest.raises(ConfigError, match="damaged"):
        load_pretrained(network(1), str(tmp_path / "damaged.safetensors"))
    torch.save({"state_dict": Malicious(tmp_path / "ran")}, tmp_path / "code.pth")
    with pytest.raises(ConfigError, match="contains more than tensors"):
        load_pretrained(network(1), str(tmp_path / "code.pth"))
    assert not (tmp_path / "ran").exists()


def test_a_hub_that_is_out_of_reach_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match="may be out of reach") as raised:
        load_pretrained(network(1, backbone="resnet18"), "hub:timm/resnet18.a1_in1k")
    assert raised.value.help is not None
    assert "path of the file" in raised.value.help


def test_a_run_starts_from_pretrained_weights_and_records_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINERS_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "weights.safetensors"
    save_file(network(7).state_dict(), path)
    mapping = {
        "data": {"embedded_count": 16, "image_size": 32},
        "optim": {"epochs": 2, "batch_size": 8},
        "eval": {"mesh_images": 2},
        "device": "cpu",
    }
    random = TrainConfig.model_validate(mapping)
    chosen = TrainConfig.model_validate(mapping | {"model": {"pretrained": str(path)}})
    assert len(prepare(chosen)["pretrained"]) == 64
    reports = list(train(chosen, tmp_path / "out"))
    others = list(train(random, tmp_path / "other"))
    assert reports[1].metrics["train/loss"] != others[1].metrics["train/loss"]
    path.unlink()  # a resumed run does not need them
    (last,) = train(chosen, tmp_path / "out", resume=reports[0].checkpoint)
    assert last.metrics["train/loss"] == reports[1].metrics["train/loss"]
    with pytest.raises(ConfigError, match=r"model\.pretrained: .* cannot be read"):
        next(train(chosen, tmp_path / "again"))
    with pytest.raises(ConfigError, match="cannot be read"):
        prepare(chosen)
