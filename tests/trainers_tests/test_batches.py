"""Order of the data: what an epoch shows, and that it depends on seed and epoch alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mano_trainers.batches import (
    batch_memory,
    epoch_order,
    gather,
    image_table,
    make_batch,
    make_targets,
    seeded,
)
from mano_trainers.data.augment import draw, turn_labels
from mano_trainers.data.on_device import on_device
from mano_trainers.data.readers.labels import Labels
from mano_trainers.hand.layer import HandLayer
from mano_trainers.hand.model import load_embedded_hand

TABLE = image_table(np.arange(40) % 10)  # 10 poses in 4 versions, numbered as FreiHAND's
CPU = torch.device("cpu")
POSES = np.array([0, 1, 3, 4, 5, 7, 9])


def test_table_has_freihands_numbering() -> None:
    assert TABLE.shape == (10, 4)
    assert TABLE[3].tolist() == [3, 13, 23, 33]


@given(seed=st.integers(0, 99), epoch=st.integers(1, 99), batch_size=st.integers(1, 9))
def test_one_version_shows_each_pose_at_most_once_in_full_sorted_batches(
    seed: int, epoch: int, batch_size: int
) -> None:
    order = epoch_order(TABLE, POSES, "one", batch_size, seeded(seed, "order", epoch))
    assert order.shape == (7 // min(batch_size, 7), min(batch_size, 7))
    poses = order.reshape(-1) % 10
    assert len(set(poses.tolist())) == order.size
    assert set(poses.tolist()) <= set(POSES.tolist())
    assert (np.diff(order, axis=1) > 0).all()


def test_all_versions_show_each_image_once() -> None:
    order = epoch_order(TABLE, POSES, "all", 4, seeded(0, "order", 1))
    assert sorted(order.reshape(-1).tolist()) == sorted(TABLE[POSES].reshape(-1).tolist())


def test_versions_are_drawn_anew_each_epoch_and_all_come_up() -> None:
    epochs = [epoch_order(TABLE, POSES, "one", 7, seeded(0, "order", epoch)) for epoch in range(1, 30)]
    assert {int(image) // 10 for order in epochs for image in order.reshape(-1)} == {0, 1, 2, 3}
    assert not np.array_equal(epochs[0], epochs[1])


def test_a_generator_depends_on_seed_purpose_and_index_only() -> None:
    def first(seed: int, purpose: str, index: int) -> float:
        torch.manual_seed(index)  # the global generator has no say
        return torch.rand((), generator=seeded(seed, purpose, index)).item()

    assert first(0, "order", 1) == first(0, "order", 1)
    assert len({first(0, "order", 1), first(1, "order", 1), first(0, "augment", 1), first(0, "order", 2)}) == 4


def test_gather_reads_the_requested_images() -> None:
    images = np.arange(5 * 2 * 2 * 3, dtype=np.uint8).reshape(5, 2, 2, 3)
    batch = gather(images, np.array([1, 4]), torch.device("cpu"))
    assert torch.equal(batch, torch.from_numpy(images[[1, 4]]))


@pytest.mark.parametrize("augmented", [True, False])
def test_a_batch_in_used_memory_equals_one_in_fresh_memory(augmented: bool, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), np.uint8)
    pixels.tofile(tmp_path / "pixels")
    images, cpu = np.memmap(tmp_path / "pixels", np.uint8, "r", shape=pixels.shape), torch.device("cpu")
    drawn = draw(3, 16, seeded(0, "augment", 0), cpu) if augmented else None
    fresh = make_batch(pixels, np.array([2, 4, 6]), cpu, drawn)
    memory = batch_memory(images, 5, cpu)
    assert memory is not None
    memory.fill_(torch.nan)
    batch = make_batch(images, np.array([2, 4, 6]), cpu, drawn, memory)
    assert torch.equal(batch, fresh)
    assert batch.data_ptr() == memory.data_ptr()
    assert batch.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("augmented", [True, False])
def test_threads_share_a_batch_and_change_no_bit_of_it(augmented: bool) -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)
    indices = np.arange(7)
    drawn = draw(7, 16, seeded(0, "augment", 1), CPU) if augmented else None
    alone = make_batch(images, indices, CPU, drawn)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(make_batch(images, indices, CPU, drawn), alone)
    finally:
        torch.set_num_threads(threads)


def test_images_go_to_a_device_where_they_fit_and_give_the_same_batches() -> None:
    """The meta device stands for a GPU when its memory is asked about; a tensor here stands for its copy."""
    images, cpu = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), np.uint8), torch.device("cpu")
    assert on_device(images, cpu, 10**12) is images
    assert on_device(images, torch.device("meta"), 2 * images.nbytes - 1) is images
    copied = on_device(images, torch.device("meta"), 2 * images.nbytes)
    assert isinstance(copied, torch.Tensor)
    assert (copied.device.type, copied.shape, copied.dtype) == ("meta", images.shape, torch.uint8)
    resident, rows = torch.from_numpy(images), np.array([1, 5])
    assert torch.equal(make_batch(resident, rows, cpu), make_batch(images, rows, cpu))
    drawn = draw(2, 16, seeded(0, "augment", 0), cpu)
    torch.testing.assert_close(
        make_batch(resident, rows, cpu, drawn), make_batch(images, rows, cpu, drawn), atol=0.01, rtol=0
    )


def a_posed_set() -> tuple[Labels, HandLayer]:
    hand = load_embedded_hand()
    rng = np.random.default_rng(0)
    theta, betas, orient = (rng.normal(scale=0.4, size=(6, count)) for count in (45, 10, 3))
    layer = HandLayer(hand, torch.float64)
    joints_m = layer.joints(*(torch.from_numpy(values) for values in (theta, betas, orient))).numpy()
    camera = np.tile(np.array([[400.0, 0.0, 110.0], [0.0, 380.0, 115.0], [0.0, 0.0, 1.0]]), (6, 1, 1))
    every, tag = np.arange(6), np.full(6, "")
    return Labels(theta, orient, betas, joints_m, camera, every, tag, tag, every, tag), HandLayer(hand)


def test_targets_turn_with_the_image() -> None:
    """The turned rotation puts the wrist-frame joints where `turn_labels` puts the camera's."""
    labels, layer = a_posed_set()
    poses, angle = np.array([4, 1]), torch.tensor([0.4, -0.3])
    targets = make_targets(layer, labels, torch.device("cpu"), with_orient=True)
    true = [torch.from_numpy(x[poses]).float() for x in (labels.global_orient, labels.joints_m, labels.intrinsics)]
    for turned_by in (None, angle):
        target = targets.of(poses, turned_by)
        _, joints_m, _ = turn_labels(angle if turned_by is not None else 0 * angle, *true, size=224)
        assert target.orient is not None
        expected = joints_m - joints_m[:, :1]
        torch.testing.assert_close(target.joints_m @ target.orient.mT, expected, atol=1e-6, rtol=0)


def test_orientation_is_left_out_where_no_term_needs_it() -> None:
    labels, layer = a_posed_set()
    target = make_targets(layer, labels, torch.device("cpu"), with_orient=False).of(np.array([2]), None)
    assert target.orient is None
    np.testing.assert_allclose(target.theta, labels.theta[[2]], atol=1e-6)
