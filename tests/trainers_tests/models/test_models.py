"""Every backbone and head maps images to a hand, starts from the mean pose, and trains."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.spatial.transform import Rotation

from mano_trainers.config import ModelConfig, TrainConfig
from mano_trainers.errors import ConfigError
from mano_trainers.hand.layer import HandLayer
from mano_trainers.hand.model import load_embedded_hand
from mano_trainers.losses.terms import wrist_joints
from mano_trainers.models import HandNet, build_model
from mano_trainers.models.heads import Head

HAND = load_embedded_hand()
BACKBONES = ("resnet_tiny", "resnet18", "vit_tiny", "handformer_small", "handformer_full")
LARGE = ("resnet34", "resnet50", "vit_s16", "vit_b16")
HEADS = ("theta", "rot6d", "pca", "joints")
EVERYTHING = {"predict_shape": True, "predict_orient": True}


def network(image_size: int = 32, **values: object) -> HandNet:
    return build_model(ModelConfig.model_validate(values), image_size, HAND)


def head(**values: object) -> Head:
    return Head(ModelConfig.model_validate(values), HAND)


@pytest.mark.parametrize("backbone", [*BACKBONES, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)])
def test_backbone_gives_the_mean_pose_first_and_has_a_gradient(backbone: str) -> None:
    model = network(backbone=backbone)
    prediction = model(torch.randn(2, 3, 32, 32))
    assert prediction.theta.shape == (2, 45)
    assert not prediction.theta.any()
    assert (prediction.betas, prediction.orient, prediction.joints_m) == (None, None, None)
    (prediction.theta - 1).square().mean().backward()
    gradient = model.last_layer.weight.grad
    assert gradient is not None
    assert gradient.norm() > 0


@pytest.mark.parametrize(
    ("backbone", "millions"),
    [("resnet_tiny", 0.31), ("resnet18", 11.2), ("handformer_small", 3.4), ("handformer_full", 11.0)],
)
def test_number_of_parameters(backbone: str, millions: float) -> None:
    parameters = sum(parameter.numel() for parameter in network(64, backbone=backbone).parameters())
    assert parameters / 1e6 == pytest.approx(millions, rel=0.05)


@pytest.mark.parametrize(("backbone", "layers", "heads"), [("handformer_small", 4, 8), ("handformer_full", 6, 12)])
def test_handformers_have_the_layers_heads_and_patches_of_their_names(backbone: str, layers: int, heads: int) -> None:
    model = network(64, backbone=backbone).backbone
    assert len(model.blocks) == layers
    assert {block.attn.num_heads for block in model.blocks} == {heads}
    assert model.patch_embed.patch_size == (16, 16)


def test_weights_derive_from_the_seed() -> None:
    def first_weight(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return next(network().parameters())

    assert torch.equal(first_weight(0), first_weight(0))
    assert not torch.equal(first_weight(0), first_weight(1))


def test_an_image_that_patches_do_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match="vit_b16 needs a multiple of 16 px"):
        network(56, backbone="vit_b16")
    with pytest.raises(ValidationError, match=r"do not divide data\.image_size 56; use 48"):
        TrainConfig.model_validate({"model": {"backbone": "vit_b16"}, "data": {"image_size": 56}})


@pytest.mark.parametrize("kind", HEADS)
def test_heads_start_from_the_mean_hand_facing_the_camera_as_stored(kind: str) -> None:
    prediction = network(head=kind, **EVERYTHING)(torch.randn(2, 3, 32, 32))
    torch.testing.assert_close(prediction.theta, torch.zeros(2, 45), atol=1e-5, rtol=0)
    assert torch.equal(prediction.betas, torch.zeros(2, 10))
    assert torch.equal(prediction.orient, torch.eye(3).expand(2, 3, 3))
    if kind == "joints":
        layer = HandLayer(HAND)
        expected = wrist_joints(layer, torch.zeros(2, 45), torch.zeros(2, 10))
        torch.testing.assert_close(prediction.joints_m, expected, atol=1e-7, rtol=0)
    else:
        assert prediction.joints_m is None


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("others", [{}, {"predict_shape": True}, {"predict_orient": True}, EVERYTHING])
def test_shapes_and_finite_gradients_of_every_output(kind: str, others: dict[str, bool]) -> None:
    module = head(head=kind, **others)
    for scale in (0.0, 1.0, 30.0):
        outputs = (scale * torch.randn(3, module.outputs)).requires_grad_()
        prediction = module(outputs)
        shapes = {"theta": (3, 45), "betas": (3, 10), "orient": (3, 3, 3), "joints_m": (3, 21, 3)}
        expected = {"theta"} | ({"joints_m"} if kind == "joints" else set())
        expected |= {name for name, key in (("betas", "shape"), ("orient", "orient")) if f"predict_{key}" in others}
        given_values = {name: value for name in shapes if (value := getattr(prediction, name)) is not None}
        assert set(given_values) == expected
        for name, value in given_values.items():
            assert value.shape == shapes[name]
        torch.stack([value.square().sum() for value in given_values.values()]).sum().backward()
        assert outputs.grad is not None
        assert torch.isfinite(outputs.grad).all()


@given(seed=st.integers(0, 10_000))
def test_six_values_of_the_full_pose_give_its_theta(seed: int) -> None:
    module = head(head="rot6d")
    full = np.random.default_rng(seed).uniform(-1.5, 1.5, size=(15, 3))
    columns = Rotation.from_rotvec(full).as_matrix()[:, :, :2].transpose(0, 2, 1).reshape(15, 6)
    outputs = torch.from_numpy(columns).float() - module.mean_six
    theta = module(outputs.view(1, 90)).theta[0].numpy()
    np.testing.assert_allclose(theta, full.reshape(45) - HAND.hands_mean, atol=1e-4)


def test_pca_coefficients_are_in_standard_deviations() -> None:
    module = head(head="pca", pca_components=4)
    theta = module(torch.tensor([[0.0, 0.0, 2.0, 0.0]])).theta[0].numpy()
    np.testing.assert_allclose(theta, 2 * HAND.hands_std[2] * HAND.hands_components[2], atol=1e-6)


def test_direct_joints_are_centred_on_the_wrist() -> None:
    joints_m = head(head="joints")(torch.randn(4, 108)).joints_m
    assert not joints_m[:, 0].any()
    assert 0.05 < joints_m.norm(dim=-1).mean() < 0.5


def test_heads_compute_in_float32_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        prediction = network(head="rot6d", **EVERYTHING)(torch.randn(2, 3, 32, 32))
    assert {prediction.theta.dtype, prediction.betas.dtype, prediction.orient.dtype} == {torch.float32}
