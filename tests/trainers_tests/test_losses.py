"""Loss terms: zero at the truth, independent of the batch's size, with finite gradients and the stated units."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from trainers import losses
from trainers.config import LossConfig
from trainers.hand.layer import HandLayer
from trainers.hand.model import load_embedded_hand
from trainers.losses import PosePrior, Target

HAND = load_embedded_hand()
LAYER = HandLayer(HAND, torch.float64)
PRIOR = PosePrior(*(torch.from_numpy(x) for x in (HAND.hands_mean, HAND.hands_components, HAND.hands_std)))
EVERY_TERM = {"lambda_param": 1.0, "lambda_joint": 1.0, "lambda_angular": 1.0, "lambda_pca": 1.0, "lambda_reg": 1.0}


def config(**values: object) -> LossConfig:
    return LossConfig.model_validate({**EVERY_TERM, **values})


def a_batch(size: int, seed: int = 0) -> tuple[torch.Tensor, Target]:
    generator = torch.Generator().manual_seed(seed)
    theta = 0.4 * torch.randn(size, 45, generator=generator, dtype=torch.float64)
    betas = torch.randn(size, 10, generator=generator, dtype=torch.float64)
    predicted = 0.4 * torch.randn(size, 45, generator=generator, dtype=torch.float64)
    return predicted, Target(theta, betas, losses.wrist_joints(LAYER, theta, betas))


@pytest.mark.parametrize("form", ["l2_norm_m", "mse_m2", "l1_mm"])
def test_terms_are_zero_at_the_truth_and_positive_elsewhere(form: str) -> None:
    predicted, target = a_batch(4)
    at_truth = losses.loss_terms(config(joint_form=form), LAYER, PRIOR, target.theta, target)
    elsewhere = losses.loss_terms(config(joint_form=form), LAYER, PRIOR, predicted, target)
    for name in ("param", "joint", "angular"):
        assert at_truth[name].item() < 1e-15
        assert elsewhere[name].item() > 0.0
    at_mean = losses.loss_terms(config(), LAYER, PRIOR, torch.zeros_like(predicted), target)
    assert (at_mean["pca"].item(), at_mean["reg"].item()) == (0.0, 0.0)


@pytest.mark.parametrize("form", ["l2_norm_m", "mse_m2", "l1_mm"])
def test_doubling_the_batch_changes_nothing(form: str) -> None:
    predicted, target = a_batch(3)
    twice = Target(*(x.repeat(2, *[1] * (x.dim() - 1)) for x in (target.theta, target.betas, target.joints_m)))
    once_terms = losses.loss_terms(config(joint_form=form), LAYER, PRIOR, predicted, target)
    twice_terms = losses.loss_terms(config(joint_form=form), LAYER, PRIOR, predicted.repeat(2, 1), twice)
    assert set(once_terms) == {"param", "joint", "angular", "pca", "reg"}
    for name, term in once_terms.items():
        torch.testing.assert_close(twice_terms[name], term, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", ["l2_norm_m", "mse_m2", "l1_mm"])
@pytest.mark.parametrize("where", ["at the truth", "at zero", "elsewhere", "half a turn away"])
def test_gradients_are_finite(form: str, where: str, dtype: torch.dtype) -> None:
    predicted, target = a_batch(3)
    start = {
        "at the truth": target.theta,
        "at zero": torch.zeros_like(target.theta),
        "elsewhere": predicted,
        "half a turn away": target.theta + torch.tensor([torch.pi, 0, 0], dtype=torch.float64).repeat(15),
    }[where]
    layer = HandLayer(HAND, dtype)
    prior = PosePrior(*(x.to(dtype) for x in (PRIOR.mean, PRIOR.components, PRIOR.sigma)))
    cast = Target(*(x.to(dtype) for x in (target.theta, target.betas, target.joints_m)))
    theta = start.to(dtype).clone().requires_grad_()
    for name, term in losses.loss_terms(config(joint_form=form), layer, prior, theta, cast).items():
        (gradient,) = torch.autograd.grad(term, theta, retain_graph=True)
        assert torch.isfinite(gradient).all(), name


def test_units_of_the_joint_forms() -> None:
    true = torch.zeros(2, 21, 3)
    moved = true + torch.tensor([0.003, 0.0, 0.004])  # every joint is 5 mm away
    assert losses.joint_loss(moved, true, "l2_norm_m").item() == pytest.approx(0.005)
    assert losses.joint_loss(moved, true, "mse_m2").item() == pytest.approx(25e-6 / 3)
    assert losses.joint_loss(moved, true, "l1_mm").item() == pytest.approx(7 / 3)


def test_an_unknown_joint_form_is_told() -> None:
    with pytest.raises(ValueError, match="but got 'l2_mm'"):
        losses.joint_loss(torch.zeros(1, 21, 3), torch.zeros(1, 21, 3), "l2_mm")


def test_param_and_reg_are_mean_squares() -> None:
    theta = torch.full((2, 45), 0.5)
    assert losses.param_loss(theta, theta - 0.1).item() == pytest.approx(0.01)
    assert losses.reg_loss(theta).item() == pytest.approx(0.25)


def test_angular_is_scipys_mean_angle_between_full_rotations() -> None:
    predicted, target = a_batch(4)
    first = Rotation.from_rotvec((HAND.hands_mean + predicted.numpy()).reshape(-1, 3))
    second = Rotation.from_rotvec((HAND.hands_mean + target.theta.numpy()).reshape(-1, 3))
    expected = (first.inv() * second).magnitude().mean()
    assert losses.angular_loss(predicted, target.theta, PRIOR.mean).item() == pytest.approx(expected, abs=1e-9)


def test_pca_is_one_for_poses_spread_as_the_prior() -> None:
    rng = np.random.default_rng(0)
    theta = torch.from_numpy((rng.normal(size=(20_000, 45)) * HAND.hands_std) @ HAND.hands_components)
    assert losses.pca_loss(theta, PRIOR, 15).item() == pytest.approx(1.0, abs=0.02)


def test_wrist_joints_do_not_depend_on_where_the_hand_is() -> None:
    _, target = a_batch(2)
    assert not target.joints_m[:, 0].any()
    orient = torch.tensor([[0.3, 0.2, -1.0]] * 2, dtype=torch.float64)
    turned = LAYER.joints(target.theta, target.betas, orient)
    back = Rotation.from_rotvec(orient[0].numpy()).inv().apply((turned - turned[:, :1]).reshape(-1, 3).numpy())
    np.testing.assert_allclose(back.reshape(2, 21, 3), target.joints_m, atol=1e-8)


def test_terms_of_weight_zero_are_left_out() -> None:
    chosen = LossConfig(lambda_param=0.0, lambda_joint=2.0, lambda_reg=0.0)
    assert losses.loss_weights(chosen) == {"joint": 2.0}
    predicted, target = a_batch(2)
    assert set(losses.loss_terms(chosen, LAYER, PRIOR, predicted, target)) == {"joint"}
