"""Trainers that end in every way but the right one. Imports nothing slow."""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from mano_trainers.report import EpochReport


class OutOfMemoryError(RuntimeError):
    """Named as torch names it."""


class AcceleratorError(RuntimeError):
    """Named as torch names it."""


class Mine(BaseException):
    """Not an `Exception`."""


def failing(config: dict[str, Any], workdir: Path, resume: Path | None) -> Iterator[EpochReport]:
    yield EpochReport(1, 1.0, {})
    errors: dict[str, Any] = {
        "gpu": OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        "context": RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        "lost": AcceleratorError("CUDA error: unspecified launch failure\nCUDA kernel errors might be asynchronously"),
        "ecc": AcceleratorError("CUDA error: uncorrectable ECC error encountered"),
        "driver": RuntimeError("Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"),
        "ram": MemoryError(),
        "interrupt": KeyboardInterrupt("mine"),
        "silent": KeyboardInterrupt(),
        "exit": SystemExit(3),
        "base": Mine("of its own kind"),
        "text": ValueError("lone \ud800 surrogate and \x00"),
        "long": ValueError("x" * 3_000_000),
    }
    raise errors[config["what"]]


def dying(config: dict[str, Any], workdir: Path, resume: Path | None) -> Iterator[EpochReport]:
    print("last words")
    print("and more", file=sys.stderr)
    yield EpochReport(1, 1.0, {})
    match config["how"]:
        case "segfault":
            ctypes.string_at(0)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(7)


def talkative(config: dict[str, Any], workdir: Path, resume: Path | None) -> Iterator[EpochReport]:
    print(f"the key is {os.environ['WANDB_API_KEY']}")
    raise PermissionError(f"no access with {os.environ['WANDB_API_KEY']}")
    yield


def asking(config: dict[str, Any], workdir: Path, resume: Path | None) -> Iterator[EpochReport]:
    input("go on? ")
    yield EpochReport(1, 1.0, {})


def writing(config: dict[str, Any], workdir: Path, resume: Path | None) -> Iterator[EpochReport]:
    Path("relative.txt").write_text("here")
    (workdir / "own.txt").write_text("here")
    yield EpochReport(1, 1.0, {})


def tidy(config: dict[str, Any], workdir: Path, resume: Path | None) -> Iterator[EpochReport]:
    """Runs for ever; with `repeat` it reports the same step again."""
    step = 1
    try:
        while True:
            yield EpochReport(step, 1.0, {})
            step += not config.get("repeat")
    finally:
        (workdir / "tidied").touch()


def unruly(config: dict[str, Any], workdir: Path, resume: Path | None) -> Iterator[EpochReport]:
    """Does to its process what a program may do to its own."""
    match config["how"]:
        case "forks":
            os.fork()
        case "leaves with 0":
            yield EpochReport(1, 1.0, {})
            sys.exit(0)
        case "closes what is not its own":
            os.closerange(3, 2000)
        case "has no output":
            sys.stdout.close()
            sys.stdout = sys.stderr = None  # type: ignore[assignment]
            os.close(1)
        case "has no folder":
            os.chdir(workdir)
            (workdir / "tmp").mkdir()
            os.chdir("tmp")
            (workdir / "tmp").rmdir()
        case "holds on":
            while True:
                with suppress(GeneratorExit):
                    yield EpochReport(1, 1.0, {})
    yield EpochReport(1, 1.0, {})
