"""Decoded images in one memory-mapped file, shared by all processes of a machine.

The cache of a data set is made once, by whichever process comes first, while others wait. Its key covers name, size and
modification time of every file, so a changed image leads to a new one; its fingerprint covers the bytes of every file,
so two copies of a data set on two machines have the same.
"""

import fcntl
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import PIL
from PIL import Image

from mano_trainers.arrays import Pixels
from mano_trainers.data.pool import refuse_own_pool, started_pool
from mano_trainers.data.readers.labels import Picture
from mano_trainers.errors import DataError

Progress = Callable[[int, int], None]
Kind = Literal["images", "masks"]
CHANNELS: Final[dict[Kind, tuple[int, ...]]] = {"images": (3,), "masks": ()}
MASK_LEVELS: Final = [min(255, max(0, 2 * (level - 64))) for level in range(256)]
"""For masks: JPEG leaves traces of the hand around it, and holes in it."""
CHUNK: Final = 512
LARGEST_SIDE: Final = 4096
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
DECODER: Final = 1
"""Incremented when `decode` makes different pixels from a file, so that an earlier cache is not used."""
PARALLEL_FROM: Final = 20_000
"""Number of images from which a pool of processes pays off."""


@dataclass(frozen=True, eq=False)
class CachedImages:
    """`pixels` (M, S, S, 3), for masks (M, S, S), memory-mapped and read-only; `fingerprint` of images and labels."""

    pixels: Pixels
    fingerprint: str


def cached_images(
    images: Sequence[Picture],
    labels: Sequence[Path],
    size: int,
    cache_dir: Path,
    progress: Progress | None = None,
    kind: Kind = "images",
) -> CachedImages:
    """Decoded images or masks of a data set, from the cache, which is made first if necessary.

    Args:
        images: JPEG or PNG files, square, or squares to be cut out of them.
        labels: label files, for key and fingerprint.
        size: side of the cached images in pixels; others are resized.
        cache_dir: folder of all caches.
        progress: called with images done and images in total.
        kind: images in colour, or masks.

    Raises:
        DataError: an image is damaged, not square, or not an image.
    """
    folder = cache_dir / f"{kind}-v{DECODER}-pillow{PIL.__version__}-{files_key(images, labels)}-{size}"
    if not folder.is_dir():  # it is there whole or not at all
        with file_lock(folder.with_name(f"{folder.name}.lock")):
            if not folder.is_dir():
                _build(folder, images, labels, size, kind, progress)
    meta = json.loads((folder / "meta.json").read_text())
    pixels = np.memmap(folder / "pixels.u8", dtype=np.uint8, mode="r", shape=(len(images), size, size, *CHANNELS[kind]))
    return CachedImages(pixels, meta["fingerprint"])


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Wait for, and hold, a lock that dies with its process.

    Raises:
        DataError: the process that holds it is waiting for this one.
    """
    refuse_own_pool()
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def decode(picture: Picture, size: int, kind: Kind = "images") -> tuple[Pixels, bytes]:
    """One image as (size, size, 3) uint8 RGB, or a mask as (size, size), and the SHA-256 of its file and its crop.

    Raises:
        DataError: it is damaged, too large, not square, or neither JPEG nor PNG.
    """
    path = picture.path
    try:
        content = path.read_bytes()
        digest = hashlib.sha256(content + _cut(picture).encode())
        if content[:2] == JPEG_START and JPEG_END not in content[-64:]:  # the decoder makes missing parts grey
            raise OSError("the end of the image is missing")
        with Image.open(path, formats=["JPEG", "PNG"]) as image:
            width, height = image.size  # of the header: nothing is decoded yet
            if picture.whole_px is not None and (width, height) != (picture.whole_px, picture.whole_px):
                raise DataError(
                    f"{width} x {height} pixels; a square of {picture.whole_px} is expected, as the first picture is",
                    str(path),
                    "camera matrices and `data.crop` belong to pictures of one size: unpack the data set again",
                )
            if max(width, height) > LARGEST_SIDE or (width != height and picture.box is None):
                raise DataError(
                    f"{width} x {height} pixels; a square of at most {LARGEST_SIDE} is expected",
                    str(path),
                    "crop it to the hand",
                )
            rgb = image.convert("RGB" if kind == "images" else "L")  # decodes: a file that is cut off raises here
        if picture.box is not None:
            if (side := picture.box[2] - picture.box[0]) > LARGEST_SIDE:
                raise DataError(
                    f"the square around its hand is {side} pixels wide",
                    str(path),
                    "its joints or its camera matrix are damaged, or `data.crop` is far too large",
                )
            rgb = rgb.crop(picture.box)  # black beyond the edge
            width = rgb.width
        if picture.mirrored:
            rgb = rgb.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if kind == "masks":
            rgb = rgb.point(MASK_LEVELS)
        if width != size:
            rgb = rgb.resize((size, size), Image.Resampling.BOX if width > size else Image.Resampling.BICUBIC)
        return np.asarray(rgb), digest.digest()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot be decoded: {error}", str(path), "the file is damaged: unpack it again") from None


def files_key(pictures: Sequence[Picture], labels: Sequence[Path]) -> str:
    """Short name for files as they are now, by name, size and modification time; nothing is read.

    Raises:
        DataError: one is not there.
    """
    digest = hashlib.sha256()
    for path, cut in (*((path, "") for path in labels), *((item.path, _cut(item)) for item in pictures)):
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", str(path), "unpack the data set again") from None
        digest.update(f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}{cut}\n".encode())
    return digest.hexdigest()[:20]


def _cut(picture: Picture) -> str:
    whole = picture.box is None and not picture.mirrored
    return "" if whole else f"|{picture.box}|{picture.mirrored}"


def _build(
    folder: Path,
    images: Sequence[Picture],
    labels: Sequence[Path],
    size: int,
    kind: Kind,
    progress: Progress | None,
) -> None:
    scratch = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed: we hold the lock
    scratch.mkdir(parents=True)
    try:
        with open(scratch / "pixels.u8", "wb") as file:
            file.truncate(len(images) * math.prod((size, size, *CHANNELS[kind])))
        jobs = [
            (str(scratch / "pixels.u8"), len(images), start, images[start : start + CHUNK], size, kind)
            for start in range(0, len(images), CHUNK)
        ]
        digest = hashlib.sha256()
        for path in labels:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        done = 0
        for digests in _run(jobs, parallel=len(images) >= PARALLEL_FROM):
            digest.update(b"".join(digests))
            done += len(digests)
            if progress:
                progress(done, len(images))
        (scratch / "meta.json").write_text(json.dumps({"fingerprint": digest.hexdigest(), "images": len(images)}))
        os.rename(scratch, folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _run(jobs: list[Any], *, parallel: bool) -> Iterator[list[bytes]]:
    if not parallel:
        yield from map(_decode_rows, jobs)
        return
    with started_pool(min(len(os.sched_getaffinity(0)), len(jobs))) as pool:
        yield from pool.map(_decode_rows, jobs)


def _decode_rows(job: tuple[str, int, int, Sequence[Picture], int, Kind]) -> list[bytes]:
    """Decode consecutive images into their rows of the file; returns the checksums of their files."""
    target, total, start, pictures, size, kind = job
    pixels = np.memmap(target, dtype=np.uint8, mode="r+", shape=(total, size, size, *CHANNELS[kind]))
    digests = []
    for row, picture in enumerate(pictures, start=start):
        pixels[row], digest = decode(picture, size, kind)
        digests.append(digest)
    pixels.flush()
    return digests
