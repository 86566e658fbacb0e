"""Loss terms: zero at the truth, independent of the batch's size, with finite gradients and the stated units."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.spatial.transform import Rotation

from mano_trainers.config import LossConfig, TrainConfig
from mano_trainers.hand.layer import HandLayer
from mano_trainers.hand.model import load_embedded_hand
from mano_trainers.losses import terms as losses
from mano_trainers.losses.diversity import PoseCodes
from mano_trainers.losses.terms import Criterion, PosePrior, Target
from mano_trainers.models import Prediction
from mano_trainers.rotations import matrix_from_axis_angle

HAND = load_embedded_hand()
PRIOR = [torch.from_numpy(x) for x in (HAND.hands_mean, HAND.hands_components, HAND.hands_std)]
LAYER = HandLayer(HAND, torch.float64)
ANY_POSE = ("pca", "reg")
"""Terms that do not compare with the truth, and so are not zero there."""
EVERY_TERM = "param joint angular vertex procrustes direct shape orient variance entropy".split() + list(ANY_POSE)
FORMS = ("l2_norm_m", "mse_m2", "l1_mm")


def criterion(dtype: torch.dtype = torch.float64, **values: object) -> Criterion:
    config = LossConfig.model_validate({f"lambda_{name}": 1.0 for name in EVERY_TERM} | values)
    prior = PosePrior(*(x.to(dtype) for x in PRIOR))
    return Criterion(config, HandLayer(HAND, dtype), prior, PoseCodes(hands(6, 0).theta, spread_rad2=2.0))


def hands(size: int, seed: int, spread: float = 0.4, dtype: torch.dtype = torch.float64) -> Prediction:
    """Random hands with every output."""
    generator = torch.Generator().manual_seed(seed)
    theta, betas, orient = (
        scale * torch.randn(size, count, generator=generator, dtype=torch.float64)
        for scale, count in ((spread, 45), (1.0, 10), (1.0, 3))
    )
    joints_m = losses.wrist_joints(LAYER, theta, betas)
    values = (theta, betas, matrix_from_axis_angle(orient), joints_m)
    return Prediction(*(value.to(dtype) for value in values))


def truth(prediction: Prediction) -> Target:
    return Target(prediction.theta, prediction.betas, prediction.joints_m, prediction.orient)


def a_batch(size: int, dtype: torch.dtype = torch.float64) -> tuple[Prediction, Target]:
    """Predictions that spread too little for the diversity terms, and labels."""
    return hands(size, 1, spread=0.05, dtype=dtype), truth(hands(size, 0, dtype=dtype))


@pytest.mark.parametrize("frame", ["wrist", "camera"])
@pytest.mark.parametrize("form", FORMS)
def test_terms_are_zero_at_the_truth_and_positive_elsewhere(form: str, frame: str) -> None:
    predicted, target = a_batch(6)
    chosen = criterion(joint_form=form, joint_frame=frame)
    at_truth = losses.loss_terms(chosen, hands(6, 0), target)
    elsewhere = losses.loss_terms(chosen, predicted, target)
    assert set(at_truth) == set(elsewhere) == set(EVERY_TERM)
    for name in set(EVERY_TERM) - set(ANY_POSE):
        assert at_truth[name].item() < 1e-12, name
        assert elsewhere[name].item() > 1e-6, name
    at_mean = losses.loss_terms(chosen, Prediction(*(torch.zeros_like(x) for x in vars(predicted).values())), target)
    assert (at_mean["pca"].item(), at_mean["reg"].item()) == (0.0, 0.0)


@pytest.mark.parametrize("frame", ["wrist", "camera"])
@pytest.mark.parametrize("form", FORMS)
def test_doubling_the_batch_changes_nothing(form: str, frame: str) -> None:
    predicted, target = a_batch(3)
    chosen = criterion(joint_form=form, joint_frame=frame)
    twice = [
        [None if x is None else x.repeat(2, *[1] * (x.dim() - 1)) for x in vars(each).values()]
        for each in (predicted, target)
    ]
    once_terms = losses.loss_terms(chosen, predicted, target)
    twice_terms = losses.loss_terms(chosen, Prediction(*twice[0]), Target(*twice[1]))
    assert set(once_terms) == set(EVERY_TERM)
    for name, term in once_terms.items():
        torch.testing.assert_close(twice_terms[name], term, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("where", ["at the truth", "at zero", "elsewhere", "half a turn away", "one image"])
def test_gradients_are_finite(form: str, where: str, dtype: torch.dtype) -> None:
    count = 1 if where == "one image" else 3
    predicted, target = a_batch(count, dtype)
    half_a_turn = torch.tensor([torch.pi, 0, 0], dtype=dtype)
    start = {
        "at the truth": (target.theta, target.betas, target.orient, target.joints_m),
        "at zero": (0 * target.theta, 0 * target.betas, target.orient, 0 * target.joints_m),
        "elsewhere": vars(predicted).values(),
        "one image": vars(predicted).values(),
        "half a turn away": (
            target.theta + half_a_turn.repeat(15),
            target.betas,
            target.orient @ matrix_from_axis_angle(half_a_turn),
            target.joints_m,
        ),
    }[where]
    leaves = [value.clone().requires_grad_() for value in start]
    terms = losses.loss_terms(criterion(dtype, joint_form=form), Prediction(*leaves), target)
    for name, term in terms.items():
        assert torch.isfinite(term), name
        gradients = torch.autograd.grad(term, leaves, retain_graph=True, allow_unused=True)
        assert any(gradient is not None for gradient in gradients), name
        assert all(torch.isfinite(gradient).all() for gradient in gradients if gradient is not None), name


def test_the_camera_frame_without_a_predicted_rotation_has_an_error_no_theta_removes() -> None:
    target = truth(hands(6, 0))
    blind = Prediction(target.theta)
    weights = {f"lambda_{name}": 0.0 for name in EVERY_TERM if name != "joint"}
    terms = [losses.loss_terms(criterion(joint_frame=frame, **weights), blind, target) for frame in ("wrist", "camera")]
    assert terms[0]["joint"].item() < 1e-15
    assert terms[1]["joint"].item() > 0.05


def test_a_predicted_shape_is_used_or_else_the_true_one_on_both_sides() -> None:
    target = truth(hands(4, 0))
    only_joints = criterion(**{f"lambda_{name}": 0.0 for name in EVERY_TERM if name != "joint"})
    assert losses.loss_terms(only_joints, Prediction(target.theta), target)["joint"].item() < 1e-15
    wrong = Prediction(target.theta, target.betas + 1)
    assert losses.loss_terms(only_joints, wrong, target)["joint"].item() > 1e-3


def test_units_of_shape_orient_vertex_and_direct() -> None:
    target = truth(hands(2, 0))
    turn = matrix_from_axis_angle(torch.tensor([0.0, 0.3, 0.0], dtype=torch.float64))
    moved = target.joints_m + torch.tensor([0.003, 0.0, 0.004], dtype=torch.float64)
    predicted = Prediction(target.theta, target.betas + 0.5, target.orient @ turn, moved)
    terms = losses.loss_terms(criterion(), predicted, target)
    assert terms["shape"].item() == pytest.approx(0.25)
    assert terms["orient"].item() == pytest.approx(0.3)
    assert terms["direct"].item() == pytest.approx(0.005)
    expected = losses.wrist_vertices(LAYER, target.theta, target.betas + 0.5) - losses.wrist_vertices(
        LAYER, target.theta, target.betas
    )
    assert terms["vertex"].item() == pytest.approx(expected.norm(dim=-1).mean().item())


@pytest.mark.parametrize(
    ("model", "loss", "match"),
    [
        ({}, {"lambda_direct": 1.0}, "lambda_direct needs model.head: joints"),
        ({}, {"lambda_shape": 1.0}, "lambda_shape needs model.predict_shape"),
        ({}, {"lambda_orient": 1.0}, "lambda_orient needs model.predict_orient"),
        ({"head": "joints"}, {}, "learns nothing without loss.lambda_direct"),
    ],
)
def test_terms_and_outputs_that_do_not_match_are_refused(
    model: dict[str, object], loss: dict[str, float], match: str
) -> None:
    with pytest.raises(ValidationError, match=match):
        TrainConfig.model_validate({"model": model, "loss": loss})


def test_units_of_the_joint_forms() -> None:
    true = torch.zeros(2, 21, 3)
    moved = true + torch.tensor([0.003, 0.0, 0.004])  # every joint is 5 mm away
    assert losses.joint_loss(moved, true, "l2_norm_m").item() == pytest.approx(0.005)
    assert losses.joint_loss(moved, true, "mse_m2").item() == pytest.approx(25e-6 / 3)
    assert losses.joint_loss(moved, true, "l1_mm").item() == pytest.approx(7 / 3)


def test_an_unknown_joint_form_is_refused() -> None:
    with pytest.raises(ValueError, match="but got 'l2_mm'"):
        losses.joint_loss(torch.zeros(1, 21, 3), torch.zeros(1, 21, 3), "l2_mm")


def test_param_and_reg_are_mean_squares() -> None:
    theta = torch.full((2, 45), 0.5)
    assert losses.param_loss(theta, theta - 0.1).item() == pytest.approx(0.01)
    assert losses.reg_loss(theta).item() == pytest.approx(0.25)


def test_angular_is_scipys_mean_angle_between_full_rotations() -> None:
    predicted, target = a_batch(4)
    first = Rotation.from_rotvec((HAND.hands_mean + predicted.theta.numpy()).reshape(-1, 3))
    second = Rotation.from_rotvec((HAND.hands_mean + target.theta.numpy()).reshape(-1, 3))
    expected = (first.inv() * second).magnitude().mean()
    assert losses.angular_loss(predicted.theta, target.theta, PRIOR[0]).item() == pytest.approx(expected, abs=1e-9)


def test_pca_is_one_for_poses_spread_like_the_prior() -> None:
    rng = np.random.default_rng(0)
    theta = torch.from_numpy((rng.normal(size=(20_000, 45)) * HAND.hands_std) @ HAND.hands_components)
    assert losses.pca_loss(theta, PosePrior(*PRIOR), 15).item() == pytest.approx(1.0, abs=0.02)


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
    assert set(losses.loss_terms(Criterion(chosen, LAYER, PosePrior(*PRIOR)), predicted, target)) == {"joint"}
