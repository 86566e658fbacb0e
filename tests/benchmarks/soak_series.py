"""What a soak watches: a sample of a running driver every half minute, and lines fitted through the samples."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
from scipy import stats

ACTORS = ("ray::TrialWorker", "ray::ResourceTrainable")
"""What Ray and Tune call a process that runs trials."""

RAY_PROCESSES = 4
"""Ray by itself has more; a driver that begins or ends has fewer."""


@dataclass(frozen=True)
class Sample:
    """One look at the driver, its processes and its files."""

    hours: float
    driver_rss_mb: float
    driver_fds: int
    driver_threads: int
    workers: int
    worker_rss_mb: float
    """Of the largest."""
    worker_fds: int
    worker_threads: int
    processes: int
    """Of the driver and all below it."""
    cpu_s: float
    """Of the driver alone, since it began."""
    home_mb: float
    ray_mb: float
    """Of Ray's files of this and all other drivers of the soak."""
    trials: int
    """Begun: in the mode `promote` most of them wait until the study ends."""
    reports: int
    outbox: int
    """Operations that MLflow has not got yet."""
    kills: int
    short_kills: int


@dataclass(frozen=True)
class Slope:
    """A straight line through the second half of the samples: growth per unit, with its 95 % interval."""

    growth: float
    low: float
    high: float


class Tally:
    """Counts what a growing ledger says, and reads every byte of it once."""

    def __init__(self, journal: Path) -> None:
        self._journal, self._offset, self._rest = journal, 0, b""
        self.trials = self.reports = 0

    def update(self) -> None:
        if not self._journal.exists():
            return
        with open(self._journal, "rb") as file:
            file.seek(self._offset)
            data = file.read()
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.trials += sum(b'"op_code":4' in line for line in lines)
        self.reports += sum(b'"report:' in line for line in lines)


def is_worker(process: psutil.Process) -> bool:
    """Whether it is a Ray worker that runs trials."""
    try:
        return (process.cmdline() or [""])[0].startswith(ACTORS)
    except psutil.Error:
        return False


def take_sample(
    driver: psutil.Process, study: Path, ray: Path, tally: Tally, hours: float, kills: int, short_kills: int
) -> Sample:
    """Look at everything once.

    Raises:
        psutil.NoSuchProcess: the driver has ended.
    """
    family = driver.children(recursive=True)
    workers = [_size(process) for process in family if is_worker(process)]
    rss_mb, fds, threads = _size(driver)
    if not rss_mb:  # a zombie
        raise psutil.NoSuchProcess(driver.pid)
    tally.update()
    return Sample(
        hours=round(hours, 4),
        driver_rss_mb=rss_mb,
        driver_fds=fds,
        driver_threads=threads,
        workers=len(workers),
        worker_rss_mb=max((size[0] for size in workers), default=0.0),
        worker_fds=max((size[1] for size in workers), default=0),
        worker_threads=max((size[2] for size in workers), default=0),
        processes=1 + len(family),
        cpu_s=round(sum(driver.cpu_times()[:2]), 2),
        home_mb=disk_mb(study.parents[1]),
        ray_mb=disk_mb(ray),
        trials=tally.trials,
        reports=tally.reports,
        outbox=_undelivered(study),
        kills=kills,
        short_kills=short_kills,
    )


def _size(process: psutil.Process) -> tuple[float, int, int]:
    try:
        with process.oneshot():
            return round(process.memory_info().rss / 1e6, 2), process.num_fds(), process.num_threads()
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # it is ending
        return 0.0, 0, 0


def _undelivered(study: Path) -> int:
    try:
        acked = int((study / "outbox.ack").read_text())
        with open(study / "outbox.jsonl", "rb") as file:
            file.seek(acked)
            return file.read().count(b"\n")
    except (OSError, ValueError):
        return 0


def disk_mb(folder: Path) -> float:
    """Room that the files below a folder take on the disk."""
    blocks = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                blocks += os.lstat(os.path.join(parent, name)).st_blocks
            except OSError:
                continue  # removed meanwhile
    return round(blocks * 512 / 1e6, 3)


def second_half(samples: list[Sample]) -> list[Sample]:
    """Those after half of the time that trials ran: by then every cache is full and every pool has its size."""
    with_ray = [sample for sample in samples if sample.processes > RAY_PROCESSES]
    return [sample for sample in with_ray if sample.hours >= with_ray[-1].hours / 2]


def slope(samples: list[Sample], of: str, per: str) -> Slope:
    """Least squares; the interval takes the residuals as independent, which makes it a little too narrow."""
    x, y = (np.array([asdict(sample)[name] for sample in samples], float) for name in (per, of))
    if np.ptp(y) == 0:
        return Slope(0.0, 0.0, 0.0)
    line = stats.linregress(x, y)
    margin = float(stats.t.ppf(0.975, len(samples) - 2) * line.stderr)
    return Slope(float(line.slope), float(line.slope) - margin, float(line.slope) + margin)
