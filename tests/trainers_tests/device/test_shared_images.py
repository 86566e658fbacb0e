"""One copy of the images for several processes, on a CPU: the copy is memory that its owner made, handed out by
descriptor instead of by CUDA's handles; all else is as on a GPU."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from mano_trainers import pipeline
from mano_trainers.arrays import Pixels
from mano_trainers.config import TrainConfig
from mano_trainers.data.load import load_data
from mano_trainers.device import shared_images as shared
from mano_trainers.device.shared_images import SharedImages, share
from mano_trainers.loop import train_on

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
SHAPE = (512, 64, 64, 3)
USER = """
import sys, numpy as np, torch
from mano_trainers.device.shared_images import share
pixels = np.memmap(sys.argv[1], np.uint8, "r", shape=(512, 64, 64, 3))
images = share(pixels, torch.device("cpu"))
print(int(images.now().sum(dtype=np.int64)), flush=True)
sys.stdin.readline()
print(int(images.now().sum(dtype=np.int64)), images.is_owned, flush=True)
sys.stdin.readline()
"""

READER = """
import sys, numpy as np
pixels = np.memmap(sys.argv[1], np.uint8, "r")
print(pixels.sum(), flush=True)
sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def cache() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pixels.u8"
        path.write_bytes(np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8).tobytes())
        yield path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for sockets of this test alone, with a short name; `tmp_path` is made before."""
    with tempfile.TemporaryDirectory() as name:
        monkeypatch.setenv("TMPDIR", name)
        monkeypatch.setattr(tempfile, "tempdir", None)
        monkeypatch.setattr(shared, "_last", None)
        yield Path(name) / f"mano-trainers-{os.getuid()}"


def opened(path: Path) -> Pixels:
    return np.memmap(path, np.uint8, "r", shape=SHAPE)


def owners(path: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if "mano_trainers.data.owner" in (process.info["cmdline"] or []) and str(path) in process.info["cmdline"]
    ]


def shared_pages(pid: int, mapped: str = "memfd:images") -> tuple[int, int]:
    """Bytes of a file (the owner's copy) that a process has mapped and touched, and its proportional part of them."""
    resident = proportional = 0
    of_copy = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, *rest = line.split()
        if "-" in name and not name.endswith(":"):
            of_copy = mapped in line
        elif of_copy and name == "Rss:":
            resident += int(rest[0]) * 1024
        elif of_copy and name == "Pss:":
            proportional += int(rest[0]) * 1024
    return resident, proportional


def test_without_an_owner_the_machines_file_cache_holds_one_copy_for_all(cache: Path) -> None:
    pixels = opened(cache)
    pixels.sum()
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(cache)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        pages = [shared_pages(pid, str(cache)) for pid in (os.getpid(), reader.pid)]
        assert all(resident == pixels.nbytes for resident, _ in pages)
        assert sum(part for _, part in pages) == pytest.approx(pixels.nbytes, rel=0.01)


def test_two_processes_look_at_one_copy_which_outlives_its_owner(cache: Path, folder: Path) -> None:
    ours = share(opened(cache), CPU)
    assert isinstance(ours, SharedImages)
    total = int(opened(cache).sum(dtype=np.int64))
    assert folder.stat().st_mode & 0o777 == 0o700
    with subprocess.Popen(
        [sys.executable, "-c", USER, str(cache)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as user:
        assert user.stdin is not None
        assert user.stdout is not None
        assert int(user.stdout.readline()) == total
        assert int(ours.now().sum()) == total
        [owner] = owners(cache)
        pages = [shared_pages(pid) for pid in (os.getpid(), user.pid)]
        size = ours.pixels.nbytes
        assert all(resident == size for resident, _ in pages)
        assert sum(part for _, part in pages) == pytest.approx(size, rel=0.01), "they are one copy, in memory too"

        assert isinstance(ours.copy, np.ndarray)
        with pytest.raises(ValueError, match="read-only"):
            ours.copy[0] = 0
        owner.send_signal(signal.SIGKILL)
        psutil.wait_procs([owner], timeout=10)
        user.stdin.write("\n")
        user.stdin.flush()
        assert user.stdout.readline().split() == [str(total), "False"]
        assert not ours.is_owned
        assert int(ours.now().sum()) == total

        again = share(opened(cache), CPU)
        assert again is not None
        assert again is not ours
        assert again.is_owned
        assert share(opened(cache), CPU) is again, "the next trial of this process asks nobody"
        [new_owner] = owners(cache)
        again.connection.close()  # as the kernel does it when this process ends
        assert psutil.wait_procs([new_owner], timeout=10)[0], "the last user is gone"
        assert not list(folder.glob("*.sock"))
        user.stdin.write("\n")
        user.stdin.flush()


def test_a_training_on_the_copy_is_the_same_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINERS_CACHE_DIR", str(tmp_path / "cache"))
    config = TrainConfig.model_validate(
        {
            "data": {"embedded_count": 24, "image_size": 32, "val_fraction": 0.25},
            "optim": {"epochs": 1, "batch_size": 8},
            "eval": {"mesh_images": 4},
            "device": "cpu",
        }
    )
    data = load_data(config.data)
    weights = []
    for name, held in (("own", None), ("shared", share(data.images, CPU))):
        if held is not None:
            monkeypatch.setattr(pipeline, "resident", lambda pixels, device, held=held: held)
        [report] = train_on(data, config, CPU, tmp_path / name)
        assert report.checkpoint is not None
        weights.append((report.checkpoint / "weights.safetensors").read_bytes())
    assert len(owners(Path(str(data.images.filename)))) == 1  # type: ignore[attr-defined]
    assert weights[0] == weights[1]


def test_a_copy_that_is_not_the_file_is_not_used(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = share(opened(cache), CPU)
    assert first is not None
    found = cache.stat()
    data = bytearray(cache.read_bytes())
    cache.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    os.utime(cache, ns=(found.st_atime_ns, found.st_mtime_ns))
    shared._last = None
    keeps_it_alive = first.connection
    assert share(opened(cache), CPU) is None
    assert "the copy differs from the file" in capsys.readouterr().err
    keeps_it_alive.close()


def test_without_room_or_a_safe_folder_everybody_reads_the_file(
    cache: Path, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    huge = tmp_path / "pixels.u8"
    with open(huge, "wb") as file:
        file.truncate(2**42)
    pixels = np.memmap(huge, np.uint8, "r", shape=(2**22, 512, 512, 4))
    assert share(pixels, CPU) is None
    assert "the machine has no room for 4096.0 GiB" in capsys.readouterr().err
    assert owners(huge) == []

    assert share(opened(cache)[:10], CPU) is None
    assert "not a whole file" in capsys.readouterr().err

    folder.chmod(0o755)
    assert share(opened(cache), CPU) is None
    assert "is not a folder of this user alone" in capsys.readouterr().err


def test_nobody_waits_for_an_owner_that_says_nothing(
    cache: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(shared, "ANSWER_S", 0.2)
    with shared.socket.socket(shared.socket.AF_UNIX) as silent:
        silent.bind(str(folder / f"{shared._name(cache, opened(cache), CPU)}.sock"))
        silent.listen()
        began_s = time.monotonic()
        assert share(opened(cache), CPU) is None
    assert time.monotonic() - began_s < 5
    assert "timed out" in capsys.readouterr().err
