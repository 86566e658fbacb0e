"""Hours of scripted sweeps under a random kill loop, with real Ray and the real command line.

Two things at once. One driver lives for the whole time, while its workers are killed and stopped and checkpoints of
its trials are damaged; its memory, descriptors, threads and files are sampled. Beside it small studies, one after the
other, whose whole process group is killed at random moments and that are run again until they are complete. Both end
with the checker of the orchestrator's tests; the small ones must find what an undisturbed study found.

    PYTHONPATH=.:tests/sweeper_tests python tests/benchmarks/soak.py --hours 2 --out OUT
"""

import argparse
import csv
import json
import math
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Final

import psutil
from checker import check
from soak_series import Sample, Tally, disk_mb, is_worker, second_half, slope, take_sample
from soak_short import ShortSeries, Soak

from sweeper.study.requests import ask

SAMPLE_S: Final = 30.0
LONG = """
name: soak
trainer: scripted_trainer:train
base: {{epochs: 4, sleep_s: {sleep_s}, collapse_above: 9.0}}
search_space:
  scale: {{low: 0.5, high: 10.0, log: true}}
objective: {{metric: val/pa_mpjpe_mm, mode: min}}
trials: 100000
controls: [oracle]
sampler: {{name: random}}
scheduler: {{name: asha, mode: promote, grace_epochs: 1, eta: 3}}
retention: last
resources: {{concurrent: 2, retries: 20, heartbeat_s: 15}}
"""
BOUNDS: Final = {
    "driver_rss_kb_per_trial": 20.0,
    "driver_fds_per_hour": 4.0,
    "driver_threads_per_hour": 2.0,
    "home_kb_per_trial": 250.0,
    "ray_mb_per_hour": 30.0,
}
"""Stated before the run; of the second half of it, and the upper end of the slope's interval counts. The history of a
study is held in memory (9 KB a trial of four reports were measured before), and Ray writes logs of every worker."""


def hurt(soak: Soak, driver: psutil.Process, study: Path) -> None:
    """One fault of the long study: a worker killed or stopped, or a checkpoint damaged."""
    kind = soak.draw.choices(["worker killed", "worker stopped", "checkpoint damaged"], [6, 2, 2])[0]
    if kind == "checkpoint damaged":
        newest = sorted((study / "trials").iterdir(), key=lambda path: path.stat().st_mtime)[-30:]
        folders = sorted(soak.draw.choice(newest).glob("epoch_*")) if newest else []
        if not folders:
            return
        weights = folders[-1] / "weights.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
        soak.damaged.add(str(folders[-1].relative_to(study)))
    else:
        workers = [process for process in driver.children(recursive=True) if is_worker(process)]
        if not workers:
            return
        soak.draw.choice(workers).send_signal(signal.SIGKILL if kind == "worker killed" else signal.SIGSTOP)
    soak.faults[kind] += 1


def endure(soak: Soak, home: Path, series: ShortSeries, fault_every_s: float) -> int:
    """Run the long study to its end, with everything beside it; returns its exit code."""
    study = home / "studies" / "soak"
    tally = Tally(study / "ledger.journal")
    child = soak.start(home)
    driver = psutil.Process(child.pid)
    began_s = time.monotonic()
    sample_s, hurt_s, end_s = began_s + SAMPLE_S, began_s + 60.0, began_s + soak.seconds
    with open(soak.out / "samples.csv", "w", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Sample)])
        table.writeheader()
        while child.poll() is None:
            now_s = time.monotonic()
            with suppress(psutil.NoSuchProcess, FileNotFoundError):
                if now_s >= end_s:
                    end_s = math.inf
                    ask(study, "stop")
                elif end_s < math.inf and now_s >= hurt_s:
                    hurt_s = now_s + soak.draw.expovariate(1 / fault_every_s)
                    hurt(soak, driver, study)
                if end_s < math.inf and now_s >= sample_s:
                    sample_s += SAMPLE_S
                    hours = (now_s - began_s) / 3600
                    kills = sum(soak.faults.values())
                    sample = take_sample(driver, study, soak.ray, tally, hours, kills, series.kills)
                    soak.samples.append(sample)
                    table.writerow(asdict(sample))
                    file.flush()
            series.step(now_s)
            time.sleep(0.5)
    return child.returncode


def cpu_ms_per_report(samples: list[Sample]) -> float:
    """Of the driver, Ray's part in it included."""
    first, last = samples[0], samples[-1]
    return 1000 * (last.cpu_s - first.cpu_s) / max(1, last.reports - first.reports)


def judge(soak: Soak) -> dict[str, dict[str, float | bool]]:
    """Slopes over the second half against the bounds."""
    half = second_half(soak.samples)
    found = {
        "driver_rss_kb_per_trial": (slope(half, "driver_rss_mb", "trials"), 1000.0),
        "driver_fds_per_hour": (slope(half, "driver_fds", "hours"), 1.0),
        "driver_threads_per_hour": (slope(half, "driver_threads", "hours"), 1.0),
        "home_kb_per_trial": (slope(half, "home_mb", "trials"), 1000.0),
        "ray_mb_per_hour": (slope(half, "ray_mb", "hours"), 1.0),
    }
    early, late = cpu_ms_per_report(soak.samples[: len(soak.samples) // 4]), cpu_ms_per_report(half[len(half) // 2 :])
    print(f"processor time of the driver: {early:.0f} ms a report in the first quarter, {late:.0f} ms in the last")
    verdicts: dict[str, dict[str, float | bool]] = {}
    for name, (line, factor) in found.items():
        growth, low, high = line.growth * factor, line.low * factor, line.high * factor
        bound = BOUNDS[name]
        verdicts[name] = {"growth": growth, "low": low, "high": high, "bound": bound, "met": high <= bound}
        verdict = "PASS" if high <= bound else "FAIL"
        print(f"{verdict} {name}: {growth:.3g} ({low:.3g} to {high:.3g}), bound {bound:g}")
    return verdicts


def conclude(soak: Soak, home: Path, series: ShortSeries, code: int) -> bool:
    """Check everything, write record.json, print it; whether all is well."""
    if code != 0:
        soak.problem(f"the long study ended with exit code {code}")
    states: Counter[str] = Counter()
    _try(
        soak,
        "the long study",
        lambda: states.update(
            trial["state"] for trial in check(home, study="soak", damaged=tuple(soak.damaged)).values()
        ),
    )
    left_mb = disk_mb(soak.ray)
    if left_mb > 1.0:
        soak.problem(f"{left_mb} MB of Ray's files are left")
    verdicts = judge(soak)
    record = {
        "hours": soak.samples[-1].hours,
        "trials": states,
        "faults": soak.faults,
        "short": {
            "studies": series.number,
            "complete and equal": series.complete,
            "drivers killed": series.kills,
            "machine too busy for Ray": series.refused,
        },
        "first": asdict(soak.samples[0]),
        "middle": asdict(second_half(soak.samples)[0]),
        "last": asdict(soak.samples[-1]),
        "slopes": verdicts,
        "ray_left_mb": left_mb,
        "problems": soak.problems,
    }
    (soak.out / "record.json").write_text(json.dumps(record, indent=1))
    well = not soak.problems and all(verdict["met"] for verdict in verdicts.values())
    print(f"{json.dumps(record, indent=1)}\n{'PASS' if well else 'FAIL'}")
    return well


def _try(soak: Soak, what: str, work: Callable[[], None]) -> None:
    try:
        work()
    except Exception as error:
        soak.problem(f"{what}: {error}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sleep-s", type=float, default=1.5, help="of an epoch of the long study")
    parser.add_argument("--fault-every-s", type=float, default=75.0, help="mean, of the long study")
    parser.add_argument(
        "--pause-s",
        type=float,
        default=60.0,
        help="mean, before a driver of the short ones, which takes as much processor time to start as 100 trials",
    )
    parser.add_argument("--out", type=Path, required=True, help="a new folder: homes, samples.csv, record.json")
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    soak = Soak(args.out.resolve(), args.hours, args.seed)
    soak.ray.mkdir(mode=0o700)
    for number in (signal.SIGINT, signal.SIGTERM):  # started in the background, a shell lets it ignore the first
        signal.signal(number, signal.default_int_handler)
    try:
        series = ShortSeries(soak, args.pause_s)
        home = soak.home("long", LONG.format(sleep_s=args.sleep_s))
        code = endure(soak, home, series, args.fault_every_s)
        series.finish()
        return 0 if conclude(soak, home, series, code) else 1
    except KeyboardInterrupt:
        return 130
    finally:
        soak.close()


if __name__ == "__main__":
    sys.exit(main())
