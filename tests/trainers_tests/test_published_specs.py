"""The specs for FreiHAND and the official MANO hand train as they are, on a set and a hand in the same layouts."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from mano_pickles import as_official, mano_content, python2_pickle
from safetensors.torch import save_file

from mano_trainers.config import TrainConfig
from mano_trainers.data.rendering.freihand import make_freihand
from mano_trainers.hand.model import load_embedded_hand
from mano_trainers.loop import train
from mano_trainers.models import build_model
from mano_trainers.optimizer import make_optimizer

SPECS = Path(__file__).parents[2] / "search_spaces"


def base_of(name: str) -> dict[str, Any]:
    base: dict[str, Any] = yaml.safe_load((SPECS / f"{name}.yaml").read_text())["base"]
    return base


@pytest.mark.parametrize(("name", "parameters"), [("freihand", 11.2e6), ("freihand_vit", 85.8e6)])
def test_the_network_is_the_published_one_with_all_heads(name: str, parameters: float) -> None:
    config = TrainConfig.model_validate(base_of(name))
    assert config.data.image_size == 224
    with torch.device("meta"):
        model = build_model(config.model, config.data.image_size, load_embedded_hand())
        assert len(make_optimizer(model, config.optim).param_groups) >= 2
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(parameters, rel=0.02)
    assert model.last_layer.out_features == 15 * 6 + 10 + 6


@pytest.mark.slow
def test_the_resnet_trains_from_a_file_of_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINERS_CACHE_DIR", str(tmp_path / "cache"))
    make_freihand(tmp_path / "set", 24, 64, seed=0, workers=1)
    (tmp_path / "MANO_RIGHT.pkl").write_bytes(python2_pickle(mano_content(as_official(load_embedded_hand()))))
    save_file(timm.create_model("resnet18").state_dict(), tmp_path / "resnet18.safetensors")
    base = base_of("freihand")
    base["data"] |= {"root": str(tmp_path / "set"), "hand": str(tmp_path / "MANO_RIGHT.pkl"), "image_size": 64}
    base["model"] |= {"pretrained": str(tmp_path / "resnet18.safetensors")}
    base["optim"] |= {"epochs": 1, "batch_size": 16, "warmup_steps": 1}
    base["loss"] |= {"lambda_angular": 0.1, "lambda_pca": 0.001}
    (report,) = train(TrainConfig.model_validate(base | {"device": "cpu"}), tmp_path / "run")
    assert report.metrics["train/loss"] < 10
    assert report.metrics["val/pa_mpjpe_mm"] < 60
    assert "val/mpjpe_camera_mm" in report.metrics
