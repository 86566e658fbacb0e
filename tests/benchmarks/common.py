"""What the benchmarks share: runs that take turns, and the line that reports them."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from mano_trainers.data.rendering.freihand import make_freihand


def take_turns(ours: Callable[[], float], peer: Callable[[], float], repeats: int) -> tuple[list[float], list[float]]:
    """Rates of both, measured A B A B, so that another load on the machine meets both alike. A first pair warms up."""
    pairs = [(ours(), peer()) for _ in range(repeats + 1)][1:]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def report(name: str, peer_name: str, ours: list[float], peer: list[float], target: float) -> bool:
    """Print medians in images/s and the median of the ratios of each pair; whether the target is met."""
    ratios = [mine / its for mine, its in zip(ours, peer, strict=True)]
    ratio = statistics.median(ratios)
    verdict = "met" if ratio >= target else "MISSED"
    print(
        f"{name}: {statistics.median(ours):.1f} images/s, {peer_name}: {statistics.median(peer):.1f} images/s, "
        f"ratio {ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f}, {len(ratios)} pairs; "
        f"target {target:g}: {verdict}), load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    return ratio >= target


def images_per_s(work: Callable[[], int], device: torch.device) -> float:
    """Rate of `work`, which returns the number of images it made."""
    started = time.perf_counter()
    count = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return count / (time.perf_counter() - started)


@contextmanager
def scratch_set(poses: int, size: int) -> Iterator[Path]:
    """A rendered data set (4 images a pose) in a folder that is removed, which holds its caches too."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRAINERS_CACHE_DIR"] = f"{folder}/cache"
        make_freihand(Path(folder) / "set", poses, size, seed=0)
        yield Path(folder) / "set"
