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

from mano_trainers.config import AugmentConfig
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
    """Random uint8 images from black to white, without edges that would show a shift of a hundredth of a pixel."""
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
    # The border of the source turns grey, which has no weight once only the blob is kept.
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
def test_a_neutral_draw_changes_nothing(path: Path) -> None:
    images = torch.randint(0, 256, (2, SIZE, SIZE, 3), dtype=torch.uint8)
    turned = path(images, only_turned(torch.zeros(2)))
    torch.testing.assert_close(turned, augment.normalise(images), atol=2e-5, rtol=0)


@PATHS
@settings(max_examples=30)
@given(
    degrees=st.floats(-180, 180),
    zoom=st.floats(0.7, 1.4),
    shift=st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1)),
    x=st.floats(24, 40),
    y=st.floats(24, 40),
    aspect=st.floats(0.8, 1.25),
)
def test_zoom_and_shift_move_pixels_to_where_the_labels_project(
    path: Path, degrees: float, zoom: float, shift: tuple[float, float], x: float, y: float, aspect: float
) -> None:
    intrinsics = torch.tensor([[[90.0, 0, 30], [0, 90 * aspect, 33], [0, 0, 1]]])
    joints_m = 0.7 * torch.tensor([[[x, y, 1.0]]]) @ torch.linalg.inv(intrinsics).mT
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    image = (255 * torch.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8.0)).round().to(torch.uint8)
    angle, factor, move = torch.tensor([math.radians(degrees)]), torch.tensor([zoom]), torch.tensor([shift])
    drawn = replace(only_turned(angle), zoom=factor, shift=move)
    moved = path(image[None, :, :, None].expand(1, SIZE, SIZE, 3).contiguous(), drawn)[0, 0] + 1
    moved = torch.where(moved > 1.05, moved - 1, torch.zeros(()))
    _, new_joints, new_intrinsics = augment.turn_labels(
        angle, torch.zeros(1, 3), joints_m, intrinsics, SIZE, factor, move
    )
    expected = project(new_joints, new_intrinsics)[0, 0]
    centre = torch.stack(((moved * columns).sum(), (moved * rows).sum())) / moved.sum()
    assert (centre - expected).norm() < 0.35


STRONG = AugmentConfig(rotate_deg=40, zoom=0.25, shift=0.1, colour=0.4, grayscale=0.3, blur=0.03, erase=0.5)


@given(seed=st.integers(0, 2**32 - 1))
def test_both_paths_give_the_same_images_with_every_augmentation(seed: int) -> None:
    images, generator = smooth_images(6, seed), torch.Generator().manual_seed(seed)
    drawn = augment.draw(6, SIZE, generator, torch.device("cpu"), STRONG)
    # As below, times the largest row sum of a colour matrix of that strength, which is under 2; the bilinear weights of
    # OpenCV have 5 bits, which shows where the border between the image and the grey around it is zoomed.
    tolerance = 2 * ((0.5 + 0.5) / augment.HALF_WHITE * 1.25) + 0.06
    difference = (one_by_one(images, drawn) - whole_batch(images, drawn)).abs()
    assert difference.max() < tolerance
    assert difference.mean() < 0.01


def test_asking_for_more_leaves_the_other_draws_as_they_are() -> None:
    few, more = (
        augment.draw(64, 8, torch.Generator().manual_seed(3), torch.device("cpu"), strengths)
        for strengths in (AugmentConfig(), STRONG)
    )
    torch.testing.assert_close(more.angle, few.angle * 40 / 15)
    for name in ("contrast", "brightness", "noise", "pattern"):
        assert torch.equal(getattr(few, name), getattr(more, name)), name
    assert (few.zoom, few.shift, few.appearance) == (None, None, None)
    assert more.zoom is not None
    assert more.shift is not None
    assert 1 / 1.25 <= more.zoom.min() < 0.9 < 1.1 < more.zoom.max() <= 1.25
    assert 0.08 < more.shift.abs().max() <= 0.1


@PATHS
def test_colours_blur_and_occluders_do_what_they_say(path: Path) -> None:
    def looks(**asked: float) -> torch.Tensor:
        off = {"rotate_deg": 0.0, "brightness": 0.0, "contrast": 0.0, "noise": 0.0}
        strengths = AugmentConfig.model_validate(off | asked)
        return path(images, augment.draw(8, SIZE, torch.Generator().manual_seed(1), torch.device("cpu"), strengths))

    images = torch.randint(0, 256, (8, SIZE, SIZE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plain = augment.normalise(images)
    grey = looks(grayscale=1.0)
    luma = torch.einsum("c,bcyx->byx", torch.tensor([0.299, 0.587, 0.114]), plain)
    torch.testing.assert_close(grey, luma[:, None].expand(8, 3, SIZE, SIZE), atol=1e-3, rtol=0)
    coloured = looks(colour=0.5)
    assert (coloured - plain).abs().mean() > 0.02
    blurred = looks(blur=0.05)
    assert (blurred.var((1, 2, 3)) < 0.9 * plain.var((1, 2, 3))).sum() >= 6
    torch.testing.assert_close(blurred.mean((1, 2, 3)), plain.mean((1, 2, 3)), atol=0.02, rtol=0)
    erased = ((looks(erase=1.0) - plain).abs() > 0.01).any(1).float().mean((1, 2))
    assert 0.15**2 * 0.9 < erased.min() < erased.max() < 0.45**2 * 1.1
    greys = torch.full((8, SIZE, SIZE, 3), 90, dtype=torch.uint8)
    images = greys
    torch.testing.assert_close(looks(colour=1.0), augment.normalise(greys), atol=1e-5, rtol=0)


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
def test_pixels_from_outside_the_image_are_grey(path: Path, value: int) -> None:
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


def test_draws_are_within_bounds_and_repeatable() -> None:
    def drawn() -> Draw:
        return augment.draw(256, 8, torch.Generator().manual_seed(1), torch.device("cpu"))

    first, second = drawn(), drawn()
    assert torch.equal(first.angle, second.angle)
    assert torch.equal(first.pattern, second.pattern)
    assert math.radians(13) < first.angle.abs().max() <= math.radians(15)
    assert first.contrast.min() >= 0.75
    assert first.brightness.abs().max() <= 0.15
