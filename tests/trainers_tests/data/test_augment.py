"""Augmentation turns labels with pixels: augment, project, compare."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mano_trainers.data import augment
from mano_trainers.data.augment import Draw

SIZE = 64
Path = Callable[[torch.Tensor, Draw], torch.Tensor]


def project(points_m: torch.Tensor, intrinsics: torch.Tensor) -> torch.Tensor:
    pixels = points_m @ intrinsics.mT
    return pixels[..., :2] / pixels[..., 2:]


def whole_batch(images: torch.Tensor, drawn: Draw) -> torch.Tensor:
    """As on a GPU."""
    return augment.augment(augment.normalise(images), drawn)


def one_by_one(images: torch.Tensor, drawn: Draw) -> torch.Tensor:
    """As on a CPU, in memory that held something else before."""
    count, size = images.shape[:2]
    out = torch.full((count, size, size, 3), torch.nan).permute(0, 3, 1, 2)
    augment.fill_augmented(out, images.numpy(), np.arange(count), drawn)
    return out


PATHS = pytest.mark.parametrize("path", [whole_batch, one_by_one])


def smooth_images(count: int, seed: int) -> torch.Tensor:
    """Random uint8 images from black to white, without edges that a shift of a hundredth of a pixel would show."""
    coarse = torch.rand(count, 3, 9, 9, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bicubic", align_corners=True).clamp(0, 1)
    return fine.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def only_turned(angle: torch.Tensor) -> Draw:
    zeros = torch.zeros_like(angle)
    return Draw(angle, zeros + 1, zeros, zeros, torch.zeros(1, 3, SIZE, SIZE))


@PATHS
@settings(max_examples=30)
@given(
    degrees=st.floats(-180, 180),
    x=st.floats(18, 45),
    y=st.floats(18, 45),
    focal=st.floats(40, 400),
    aspect=st.floats(0.8, 1.25),
    shift=st.floats(-20, 20),
)
def test_a_turned_point_is_drawn_where_its_turned_label_projects(
    path: Path, degrees: float, x: float, y: float, focal: float, aspect: float, shift: float
) -> None:
    intrinsics = torch.tensor([[[focal, 0, 31.5 + shift], [0, focal * aspect, 30.0 - shift], [0, 0, 1]]])
    depth = 0.7
    pixel = torch.tensor([[[x, y, 1.0]]])
    joints_m = depth * pixel @ torch.linalg.inv(intrinsics).mT
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    blob = torch.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8.0)
    image = (255 * blob).round().to(torch.uint8)[None, :, :, None].expand(1, SIZE, SIZE, 3)

    angle = torch.tensor([math.radians(degrees)])
    turned = path(image.contiguous(), only_turned(angle))[0, 0] + 1
    # The border of the source turns grey, which weighs nothing once the blob alone is looked at.
    turned = torch.where(turned > 1.05, turned - 1, torch.zeros(()))
    orientation = torch.zeros(1, 3)
    _, new_joints, new_intrinsics = augment.turn_labels(angle, orientation, joints_m, intrinsics, SIZE)
    expected = project(new_joints, new_intrinsics)[0, 0]

    centre = torch.stack(((turned * columns).sum(), (turned * rows).sum())) / turned.sum()
    assert (centre - expected).norm() < 0.35
    assert new_joints[0, 0, 2].item() == joints_m[0, 0, 2].item()


@given(seed=st.integers(0, 2**32 - 1))
def test_labels_stay_consistent_with_each_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    local, orient = rng.normal(size=(4, 21, 3)), rng.normal(size=(4, 3))
    place = [0, 0, 9.0]
    joints_m = np.stack([Rotation.from_rotvec(o).apply(x) + place for o, x in zip(orient, local, strict=True)])
    intrinsics = np.tile([[300.0, 0, 100], [0, 280, 90], [0, 0, 1]], (4, 1, 1))
    angle = torch.from_numpy(rng.uniform(-np.pi, np.pi, size=4))
    new_orient, new_joints, new_intrinsics = augment.turn_labels(
        angle, torch.from_numpy(orient), torch.from_numpy(joints_m), torch.from_numpy(intrinsics), 224
    )
    for i in range(4):
        turned = Rotation.from_rotvec(new_orient[i].numpy())
        expected = turned.apply(local[i]) - turned.apply(local[i, 0])
        np.testing.assert_allclose(new_joints[i] - new_joints[i, 0], expected, atol=1e-9)
    # The camera still maps to the turned pixels, exactly.
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack((cos, -sin, sin, cos), -1).view(4, 1, 2, 2)
    before = project(torch.from_numpy(joints_m), torch.from_numpy(intrinsics)) - 111.5
    expected_pixels = (turn @ before.unsqueeze(-1)).squeeze(-1) + 111.5
    torch.testing.assert_close(project(new_joints, new_intrinsics), expected_pixels, atol=1e-8, rtol=0)


@PATHS
def test_no_draw_changes_nothing(path: Path) -> None:
    images = torch.randint(0, 256, (2, SIZE, SIZE, 3), dtype=torch.uint8)
    turned = path(images, only_turned(torch.zeros(2)))
    torch.testing.assert_close(turned, augment.normalise(images), atol=2e-5, rtol=0)


@given(seed=st.integers(0, 2**32 - 1), angle=st.floats(-math.pi, math.pi))
def test_both_paths_give_the_same_images(seed: int, angle: float) -> None:
    images, generator = smooth_images(3, seed), torch.Generator().manual_seed(seed)
    drawn = augment.draw(3, SIZE, generator, torch.device("cpu"))
    drawn = replace(drawn, angle=torch.tensor([angle, 0.0, drawn.angle[2].item()]))
    # Half a grey level from rounding, and half of one because there is no byte for grey, times the largest contrast.
    tolerance = (0.5 + 0.5) / augment.HALF_WHITE * 1.25 + 1e-4
    torch.testing.assert_close(one_by_one(images, drawn), whole_batch(images, drawn), atol=tolerance, rtol=0)


@PATHS
@pytest.mark.parametrize("value", [0, 255])
def test_what_comes_from_outside_is_grey(path: Path, value: int) -> None:
    images = torch.full((1, SIZE, SIZE, 3), value, dtype=torch.uint8)
    turned = path(images, only_turned(torch.tensor([math.radians(15)])))
    assert turned[0, :, 0, 0].abs().max() < 0.005
    assert (turned[0, :, SIZE // 2, SIZE // 2] - (value / 127.5 - 1)).abs().max() < 1e-6


def test_normalise_spans_minus_one_to_one_in_channels_last() -> None:
    images = augment.normalise(torch.tensor([0, 255, 51], dtype=torch.uint8).expand(2, 8, 8, 3))
    assert images.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(images[0, :, 3, 3], torch.tensor([-1.0, 1.0, -0.6]))


def test_filling_normalised_gives_the_same_bits_as_normalise() -> None:
    images = torch.randint(0, 256, (5, 8, 8, 3), dtype=torch.uint8)
    rows = np.array([3, 0, 3])
    out = torch.full((3, 8, 8, 3), torch.nan).permute(0, 3, 1, 2)
    augment.fill_normalised(out, images.numpy(), rows)
    assert torch.equal(out, augment.normalise(images[rows]))


@PATHS
def test_brightness_contrast_and_noise_do_what_they_say(path: Path) -> None:
    images = torch.full((3, SIZE, SIZE, 3), 153, dtype=torch.uint8)  # 0.2
    zeros = torch.zeros(3)
    pattern = torch.full((1, 3, SIZE, SIZE), 1.0)
    drawn = Draw(zeros, torch.tensor([2.0, 1, 1]), torch.tensor([0, 0.1, 0]), torch.tensor([0, 0, 0.01]), pattern)
    middle = path(images, drawn)[:, 0, SIZE // 2, SIZE // 2]
    torch.testing.assert_close(middle, torch.tensor([0.4, 0.4, 0.22]))


def test_draws_are_within_bounds_and_repeat() -> None:
    def drawn() -> Draw:
        return augment.draw(256, 8, torch.Generator().manual_seed(1), torch.device("cpu"))

    first, second = drawn(), drawn()
    assert torch.equal(first.angle, second.angle)
    assert torch.equal(first.pattern, second.pattern)
    assert math.radians(13) < first.angle.abs().max() <= math.radians(15)
    assert first.contrast.min() >= 0.75
    assert first.brightness.abs().max() <= 0.15
