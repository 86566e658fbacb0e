import multiprocessing
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from mano_trainers.data import cache
from mano_trainers.data.cache import cached_images
from mano_trainers.data.readers.labels import Picture
from mano_trainers.errors import DataError


@pytest.fixture
def images(tmp_path: Path) -> list[Picture]:
    """Six noisy 40-pixel images."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{index}.jpg" for index in range(6)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, size=(40, 40, 3), dtype=np.uint8)).save(path, quality=90)
    return [Picture(path) for path in paths]


@pytest.fixture
def label(tmp_path: Path) -> Path:
    path = tmp_path / "labels.json"
    path.write_text("[1, 2, 3]")
    return path


def test_rows_are_the_decoded_images(images: list[Picture], label: Path, tmp_path: Path) -> None:
    pixels = cached_images(images, [label], 40, tmp_path / "cache").pixels
    for row, picture in zip(pixels, images, strict=True):
        np.testing.assert_array_equal(row, np.asarray(Image.open(picture.path)))
    with pytest.raises(ValueError, match="read-only"):
        pixels[0, 0, 0, 0] = 1


def test_other_sizes_are_resized(images: list[Picture], label: Path, tmp_path: Path) -> None:
    pixels = cached_images(images, [label], 20, tmp_path / "cache").pixels
    whole = np.asarray(Image.open(images[0].path)).astype(float)
    assert pixels.shape == (6, 20, 20, 3)
    np.testing.assert_allclose(pixels[0], whole.reshape(20, 2, 20, 2, 3).mean(axis=(1, 3)), atol=1)


def test_a_second_call_reads_and_does_not_decode(
    images: list[Picture], label: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cached_images(images, [label], 40, tmp_path / "cache")
    monkeypatch.delattr(cache, "decode")
    second = cached_images(images, [label], 40, tmp_path / "cache")
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert first.fingerprint == second.fingerprint


def test_decoding_does_not_block_those_who_want_other_images(
    images: list[Picture], label: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Path] = []
    monkeypatch.setattr(cache, "file_lock", lambda path: taken.append(path) or nullcontext())
    (tmp_path / "cache").mkdir()
    for size in (20, 40, 40):
        cached_images(images, [label], size, tmp_path / "cache")
    assert len(taken) == len(set(taken)) == 2, "the third finds what the second made, and takes no lock"


def test_the_fingerprint_is_of_the_content_not_the_place(images: list[Picture], label: Path, tmp_path: Path) -> None:
    before = cached_images(images, [label], 40, tmp_path / "cache").fingerprint
    (tmp_path / "elsewhere").mkdir()
    moved = [Picture(item.path.rename(tmp_path / "elsewhere" / item.path.name)) for item in images]
    assert cached_images(moved, [label], 40, tmp_path / "cache").fingerprint == before


def test_one_changed_image_changes_pixels_and_fingerprint(images: list[Picture], label: Path, tmp_path: Path) -> None:
    before = cached_images(images, [label], 40, tmp_path / "cache")
    Image.new("RGB", (40, 40), (9, 9, 9)).save(images[3].path)
    after = cached_images(images, [label], 40, tmp_path / "cache")
    assert after.fingerprint != before.fingerprint
    assert abs(int(after.pixels[3].mean()) - 9) <= 1


def test_a_changed_label_changes_the_fingerprint(images: list[Picture], label: Path, tmp_path: Path) -> None:
    before = cached_images(images, [label], 40, tmp_path / "cache").fingerprint
    label.write_text("[1, 2, 4]")
    assert cached_images(images, [label], 40, tmp_path / "cache").fingerprint != before


def test_a_truncated_image_is_named_and_leaves_no_cache(images: list[Picture], label: Path, tmp_path: Path) -> None:
    images[4].path.write_bytes(images[4].path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"4.jpg: cannot be decoded"):
        cached_images(images, [label], 40, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


@pytest.mark.parametrize("size", [(40, 30), (5000, 5000)])
def test_an_image_of_the_wrong_shape_is_refused_before_it_is_decoded(
    size: tuple[int, int], label: Path, tmp_path: Path
) -> None:
    path = tmp_path / "wide.png"
    Image.new("1", size).save(path)
    with pytest.raises(DataError, match=f"{size[0]} x {size[1]} pixels"):
        cached_images([Picture(path)], [label], 40, tmp_path / "cache")


def test_only_jpeg_and_png_are_opened(label: Path, tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    Image.new("RGB", (40, 40)).save(path, format="GIF")
    with pytest.raises(DataError, match="cannot be decoded"):
        cached_images([Picture(path)], [label], 40, tmp_path / "cache")


def _open_cache(paths: list[Picture], label: Path, cache_dir: Path, results: "multiprocessing.Queue[int]") -> None:
    results.put(int(cached_images(paths, [label], 40, cache_dir).pixels.sum(dtype=np.int64)))


@pytest.mark.slow
def test_processes_that_start_at_once_share_one_cache(images: list[Picture], label: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    jobs = [context.Process(target=_open_cache, args=(images, label, tmp_path / "c", results)) for _ in range(3)]
    for job in jobs:
        job.start()
    sums = {results.get(timeout=60) for _ in jobs}
    for job in jobs:
        job.join()
    assert len(sums) == 1
    assert len([path for path in (tmp_path / "c").iterdir() if path.is_dir()]) == 1


@pytest.mark.slow
def test_many_images_are_decoded_by_several_processes_with_the_same_result(
    images: list[Picture], label: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = cached_images(images, [label], 40, tmp_path / "a")
    monkeypatch.setattr(cache, "PARALLEL_FROM", 1)
    monkeypatch.setattr(cache, "CHUNK", 2)
    together = cached_images(images, [label], 40, tmp_path / "b")
    np.testing.assert_array_equal(alone.pixels, together.pixels)
    assert alone.fingerprint == together.fingerprint


@pytest.mark.slow
def test_decoding_processes_end_with_a_killed_parent(images: list[Picture], label: Path, tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from mano_trainers.data import cache
from mano_trainers.data.readers.labels import Picture

cache.PARALLEL_FROM, cache.CHUNK = 1, 2
images = [Picture(Path(name)) for name in {[str(item.path) for item in images] * 2000!r}]
if __name__ == "__main__":
    cache.cached_images(images, [Path({str(label)!r})], 40, Path({str(tmp_path / "c")!r}), lambda *_: print("decoded"))
"""
    (tmp_path / "program.py").write_text(program)
    with subprocess.Popen([sys.executable, "-u", tmp_path / "program.py"], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"decoded\n"
        children = psutil.Process(parent.pid).children()
        assert children
        parent.kill()
    _, alive = psutil.wait_procs(children, timeout=20)
    for child in alive:
        child.kill()
    assert not alive
