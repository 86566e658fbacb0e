"""Another background behind a hand: its own pixels stay, the others become another image's, nothing else changes."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from mano_trainers.config import TrainConfig
from mano_trainers.data.augment import HALF_WHITE, normalise
from mano_trainers.data.background import Background, Masks, composed, draw_background, put_behind
from mano_trainers.data.load import LoadedData, load_data
from mano_trainers.data.rendering.freihand import make_freihand
from mano_trainers.errors import ConfigError, DataError
from mano_trainers.lane_rules import lanes_problem
from mano_trainers.loop import train
from mano_trainers.training.faults import pipeline_of
from mano_trainers.training.pipeline import Pipeline, training_batch

CPU = torch.device("cpu")
SIZE, COUNT = 16, 6
ROUNDED = 1.6 / HALF_WHITE
"""Half a grey level each, for the paint, for what is painted, and for the result."""


def config(background: float, **changes: Any) -> TrainConfig:
    data = {"embedded_count": 24, "image_size": 32, "val_fraction": 0.25} | changes.pop("data", {})
    augmentation = {"background": background} | changes.pop("augmentation", {})
    whole = {"data": data, "augmentation": augmentation, "eval": {"mesh_images": 4}, "device": "cpu"}
    return TrainConfig.model_validate(whole | changes)


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINERS_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def data() -> LoadedData:
    return load_data(config(0.5).data, with_masks=True)


def drawn(seed: int, share: float) -> tuple[torch.Tensor, Masks, Background]:
    """Random images, the last of which has no mask and the first an inexact one, and what is drawn for all of them."""
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.integers(0, 256, (COUNT, SIZE, SIZE, 3), dtype=np.uint8))
    alpha = rng.choice(np.array([0, 90, 255], dtype=np.uint8), (COUNT, SIZE, SIZE), p=[0.4, 0.2, 0.4])
    row = np.arange(COUNT)
    row[-1] = -1
    masks = Masks(alpha, row, (row > 0))
    return images, masks, draw_background(masks, alpha, np.arange(COUNT), share, torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 2**32 - 1))
def test_the_hand_stays_and_the_rest_comes_from_another_image(seed: int) -> None:
    images, masks, background = drawn(seed, 1.0)
    before, after = normalise(images), put_behind(normalise(images), background)
    assert (background.donor != torch.arange(COUNT)).all()
    alpha = torch.from_numpy(masks.alpha)
    for row in range(COUNT):
        if not masks.exact[row]:
            assert torch.equal(after[row], before[row]), "it is not known to the pixel which ones are the hand's"
            continue
        donor = int(background.donor[row])
        hand, free = alpha[row] == 255, alpha[row] == 0
        assert torch.equal(after[row][:, hand], before[row][:, hand])
        theirs = free if masks.row[donor] < 0 else free & (alpha[donor] == 0)
        assert torch.equal(after[row][:, theirs], before[donor][:, theirs])


@given(seed=st.integers(0, 2**32 - 1))
def test_the_hand_of_the_other_image_is_painted_over(seed: int) -> None:
    images, masks, background = drawn(seed, 1.0)
    after = put_behind(normalise(images), background)
    for row in np.flatnonzero(masks.exact):
        donor = int(background.donor[row])
        if masks.row[donor] < 0:
            continue
        covered = torch.from_numpy((masks.alpha[donor] == 255) & (masks.alpha[row] == 0))
        seen = after[row][:, covered]
        assert (seen - seen[:, :1]).abs().max() < 1e-5, "one colour"
        weight = torch.from_numpy(1 - masks.alpha[donor] / 255)
        mean = (normalise(images)[donor] * weight).sum((1, 2)) / weight.sum()
        torch.testing.assert_close(seen[:, 0], mean.float(), atol=1e-5, rtol=0)


@given(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.0, 0.4, 1.0]))
def test_both_paths_put_the_same_background_behind(seed: int, share: float) -> None:
    images, _, background = drawn(seed, share)
    together = put_behind(normalise(images), background)
    for rows in (slice(None), slice(2, 5)):
        alone = normalise(torch.from_numpy(composed(images.numpy(), np.arange(COUNT), background, rows)))
        torch.testing.assert_close(alone, together[rows], atol=ROUNDED, rtol=0)
        hand = torch.from_numpy(background.alpha.numpy()[rows] == 255) & (background.masked[rows] > 0).view(-1, 1, 1)
        hand = hand.unsqueeze(1).expand_as(alone)
        assert torch.equal(alone[hand], normalise(images)[rows][hand]), "to the last bit"


def pipeline(data: LoadedData, background: float, **changes: Any) -> Pipeline:
    return pipeline_of(data, config(background, **changes), CPU)


def test_share_0_gives_the_same_batches_bit_for_bit_as_without_masks(data: LoadedData) -> None:
    plain, with_masks = (pipeline(each, 0.0) for each in (replace(data, masks=None), data))
    for step in range(3):
        ours, theirs = (training_batch(each, np.arange(8), step)[0].clone() for each in (plain, with_masks))
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("resident", [False, True])
def test_labels_and_other_draws_are_the_same_as_without_backgrounds(data: LoadedData, resident: bool) -> None:
    """On a GPU, images and masks may be kept on the device and read from there."""
    plain, mixed = pipeline(data, 0.0), pipeline(data, 1.0)
    if resident:
        there = {"images": torch.from_numpy(np.array(data.images))}
        plain = replace(plain, **there)
        assert data.masks is not None
        mixed = replace(mixed, **there, masks=torch.from_numpy(np.array(data.masks.alpha)))
    indices = np.array([0, 3, 7, 24, 50])  # the first three are before the green screen
    ours, target = training_batch(plain, indices, 4)
    ours = ours.clone()
    theirs, its_target = training_batch(mixed, indices, 4)
    assert torch.equal(ours[3:], theirs[3:])
    changed = ((ours - theirs).abs() > 0.05).any(1).float().mean((1, 2))[:3]
    assert 0.2 < changed.min() < changed.max() < 0.95, "the hand is turned and shaded as before"
    for name, value in vars(target).items():
        assert value is None or torch.equal(value, getattr(its_target, name)), name


def test_the_share_of_images_is_the_one_asked_for() -> None:
    masks = Masks(np.zeros((1, 1, 1), np.uint8), np.zeros(4000, np.int64), np.ones(4000, np.bool_))
    background = draw_background(masks, masks.alpha, np.arange(4000), 0.3, torch.Generator().manual_seed(0))
    assert 1 - background.kept.mean() == pytest.approx(0.3, abs=0.03)


def test_an_interrupted_training_continues_bit_for_bit(tmp_path: Path) -> None:
    asked = config(0.7, optim={"epochs": 2, "batch_size": 8})
    whole = list(train(asked, tmp_path / "whole"))
    first = next(train(asked, tmp_path / "parts"))
    (second,) = train(asked, tmp_path / "parts", first.checkpoint)
    names = [name for name in whole[1].metrics if name not in ("train/seconds", "train/images_per_s")]
    assert {name: second.metrics[name] for name in names} == {name: whole[1].metrics[name] for name in names}
    assert second.checkpoint is not None
    weights = (second.checkpoint / "weights.safetensors").read_bytes()
    assert weights == (tmp_path / "whole" / "epoch_002" / "weights.safetensors").read_bytes()
    (plain, _) = train(config(0.0, optim={"epochs": 2, "batch_size": 8}), tmp_path / "plain")
    assert plain.metrics["train/loss"] != whole[0].metrics["train/loss"]


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets") / "set"
    make_freihand(root, 12, 32, seed=0, workers=1)
    return root


def test_masks_are_those_of_the_files(on_disk: Path) -> None:
    loaded = load_data(config(0.5, data={"root": str(on_disk)}).data, with_masks=True)
    assert loaded.masks is not None
    assert loaded.masks.row.tolist() == 4 * list(range(12))
    assert loaded.masks.exact.tolist() == [index < 12 for index in range(48)]
    file = np.asarray(Image.open(on_disk / "training" / "mask" / "00000005.jpg"))
    assert (loaded.masks.alpha[5][file > 220] == 255).all()
    assert (loaded.masks.alpha[5][file < 40] == 0).all()
    without = load_data(config(0.0, data={"root": str(on_disk)}).data)
    assert without.masks is None
    assert without.fingerprint != loaded.fingerprint, "training reads them, so a checkpoint knows them"


def test_data_without_masks_are_refused(on_disk: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(on_disk, bare)
    (bare / "training" / "mask" / "00000003.jpg").unlink()
    with pytest.raises(DataError, match=r"00000003\.jpg"):
        load_data(config(0.5, data={"root": str(bare)}).data, with_masks=True)
    asked = config(0.5, data={"root": str(bare)})
    shutil.rmtree(bare / "training" / "mask")
    with pytest.raises(ConfigError, match=r"augmentation\.background: needs masks of hands"):
        load_data(asked.data, with_masks=True)
    with pytest.raises(ValidationError, match=r"bare \(freihand\) has none"):
        config(0.5, data={"root": str(bare)})
    with pytest.raises(ValidationError, match=r"ho3d"):
        config(0.5, data={"root": "/no/such", "format": "ho3d"})
    assert not config(0.5, data={"root": str(bare)}, augment=False).needs_masks, "nothing is augmented"


def test_a_set_without_masks_can_be_mixed_with_one_that_has_some(on_disk: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(on_disk, bare, ignore=shutil.ignore_patterns("mask"))
    sets = [{"name": "bare", "root": str(bare)}, {"name": "masked", "root": str(on_disk)}]
    asked = TrainConfig.model_validate(
        {"data": {"sets": sets, "image_size": 32}, "augmentation": {"background": 1.0}, "device": "cpu"}
    )
    loaded = load_data(asked.data, with_masks=True)
    assert loaded.masks is not None
    assert loaded.masks.row.tolist() == 48 * [-1] + 4 * list(range(12))
    assert np.flatnonzero(loaded.masks.exact).tolist() == list(range(48, 60))


def test_either_all_lanes_have_masks_or_none_do() -> None:
    assert lanes_problem([config(0.2), config(0.9)], on_gpu=True) is None
    problem = lanes_problem([config(0.2), config(0.0)], on_gpu=True)
    assert problem is not None
    assert "augmentation.background" in problem
