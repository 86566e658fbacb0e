"""Groups of the optimizer, the average of the weights, parts of a batch: each does what its field says, and resumes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mano_trainers import checkpoint
from mano_trainers.config import ModelConfig, OptimConfig, TrainConfig
from mano_trainers.hand.model import load_embedded_hand
from mano_trainers.loop import run_bytes, train
from mano_trainers.models import HandNet, build_model
from mano_trainers.optimizer import WeightAverage, make_optimizer, set_learning_rate
from mano_trainers.report import EpochReport

DATA = {"embedded_count": 24, "image_size": 32, "val_fraction": 0.25}
STRONG = {"weight_decay_on": "weights", "layer_decay": 0.7, "ema_decay": 0.8, "micro_batches": 2}


@pytest.fixture(scope="module", autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINERS_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def network(backbone: str = "resnet_tiny") -> HandNet:
    torch.manual_seed(0)
    return build_model(ModelConfig.model_validate({"backbone": backbone}), 32, load_embedded_hand())


def config(backbone: str = "resnet_tiny", **optim: Any) -> TrainConfig:
    mapping = {"data": DATA, "model": {"backbone": backbone}, "eval": {"mesh_images": 2}, "device": "cpu"}
    return TrainConfig.model_validate(
        mapping | {"optim": {"epochs": 3, "batch_size": 6, "lr": 1e-3, "warmup_steps": 1, **optim}}
    )


def last_weights(run: list[EpochReport]) -> dict[str, torch.Tensor]:
    assert run[-1].checkpoint is not None
    return checkpoint.load(run[-1].checkpoint).weights


@pytest.mark.parametrize("backbone", ["resnet_tiny", "vit_tiny", "resnet18"])
@pytest.mark.parametrize("layer_decay", [1.0, 0.7])
def test_norms_biases_and_positions_do_not_decay(backbone: str, layer_decay: float) -> None:
    model = network(backbone)
    chosen = OptimConfig(weight_decay=0.1, weight_decay_on="weights", layer_decay=layer_decay)
    decay = {
        id(p): group["weight_decay"] for group in make_optimizer(model, chosen).param_groups for p in group["params"]
    }
    assert set(decay) == {id(parameter) for parameter in model.parameters()}, "every weight is learned"
    for name, parameter in model.named_parameters():
        exempt = parameter.ndim <= 1 or name.endswith(("pos_embed", "cls_token"))
        assert decay[id(parameter)] == (0.0 if exempt else 0.1), name


@pytest.mark.parametrize("backbone", ["resnet_tiny", "vit_tiny"])
def test_earlier_layers_learn_more_slowly(backbone: str) -> None:
    model = network(backbone)
    optimizer = make_optimizer(model, OptimConfig(weight_decay_on="weights", layer_decay=0.5))
    set_learning_rate(optimizer, 0.1)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rate[id(model.last_layer.weight)] == pytest.approx(0.1)
    first = next(model.backbone.parameters())
    assert rate[id(first)] <= 0.1 * 0.5**3
    assert len(set(rate.values())) >= 4
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_by_default_all_weights_are_one_group() -> None:
    (group,) = make_optimizer(network(), OptimConfig()).param_groups
    set_learning_rate(optimizer := make_optimizer(network(), OptimConfig()), 0.25)
    assert len(group["params"]) == len(list(network().parameters()))
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_the_average_is_the_mean_of_past_weights_and_leaves_the_model_alone() -> None:
    model = HandNet(nn.Linear(1, 1, bias=False), nn.Identity())  # type: ignore[arg-type]
    model.backbone.weight.data.fill_(0.0)
    average = WeightAverage(model, decay=0.9)
    for step in range(400):
        model.backbone.weight.data.fill_(float(step % 2))
        average.update(model, step)
    assert float(model.backbone.weight) == 1.0
    assert float(average.model.backbone.weight) == pytest.approx(1 / 1.9, abs=1e-4)  # of 0, 1, 0, 1, ... with decay 0.9


def test_the_average_is_what_is_evaluated_and_kept(tmp_path: Path) -> None:
    plain, averaged = (
        list(train(config(**optim), tmp_path / name)) for name, optim in (("a", {}), ("b", {"ema_decay": 0.8}))
    )
    assert plain[-1].metrics["train/loss"] == averaged[-1].metrics["train/loss"], "training itself is the same"
    assert plain[-1].metrics["val/pa_mpjpe_mm"] != averaged[-1].metrics["val/pa_mpjpe_mm"]
    raw = checkpoint.load(averaged[-1].checkpoint).state["raw_weights"]  # type: ignore[arg-type]
    for name, value in last_weights(plain).items():
        assert torch.equal(raw[name], value)
    assert not torch.equal(last_weights(averaged)["backbone.fc.weight"], raw["backbone.fc.weight"])


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_run_with_all_of_these_continues_bit_for_bit(tmp_path: Path, epoch: int) -> None:
    unbroken = list(train(config("vit_tiny", **STRONG), tmp_path / "whole"))
    interrupted = train(config("vit_tiny", **STRONG), tmp_path / "parts")
    before = [next(interrupted) for _ in range(epoch)]
    interrupted.close()
    after = list(train(config("vit_tiny", **STRONG), tmp_path / "parts", resume=before[-1].checkpoint))
    first, second = last_weights(unbroken), last_weights(after)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert unbroken[-1].metrics["val/pa_mpjpe_mm"] == after[-1].metrics["val/pa_mpjpe_mm"]


def test_parts_of_a_batch_have_its_gradient(tmp_path: Path) -> None:
    """In a network without batch normalisation, up to rounding."""
    whole, parts = (
        list(train(config("vit_tiny", micro_batches=parts, epochs=1), tmp_path / str(parts))) for parts in (1, 3)
    )
    assert parts[-1].metrics["train/loss"] == pytest.approx(whole[-1].metrics["train/loss"], rel=1e-4)
    first, second = last_weights(whole), last_weights(parts)
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=5e-4, rtol=0)


def test_checkpoints_with_an_average_are_expected_to_be_larger() -> None:
    assert run_bytes(config(ema_decay=0.9)) * 3 == run_bytes(config()) * 4


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"optim": {"layer_decay": 0.8}}, "needs weight_decay_on: weights"),
        ({"optim": {"micro_batches": 3, "batch_size": 8}}, "micro_batches 3 do not divide batch_size 8"),
        (
            {"optim": {"micro_batches": 2}, "loss": {"balance": "uncertainty", "lambda_joint": 1.0}},
            r"needs loss\.balance: fixed",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig.model_validate(mapping)
