"""Several trainings of ResNet-18 at once on one GPU (or CPU), each with its share, against one after the other.

Each trains an epoch to warm up and then waits, so that all are timed together: images a second of all, its ratio to one
alone, and memory. On a CPU the images lie in the machine's file cache.

    PYTHONPATH=.:tests/benchmarks python tests/benchmarks/fractional.py
    PYTHONPATH=.:tests/benchmarks python tests/benchmarks/fractional.py --poses 32 --size 64 --batch 16 --epochs 3
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import scratch_set

from mano_trainers.config import TrainConfig
from mano_trainers.data.load import load_data
from mano_trainers.loop import train


def config_of(args: argparse.Namespace, root: Path) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "data": {"root": str(root), "image_size": args.size, "versions": "all", "val_fraction": 0.1},
            "model": {"backbone": "resnet18"},
            "loss": {"lambda_joint": 1.0},
            "optim": {"batch_size": args.batch, "epochs": args.epochs, "lr": 1e-3},
        }
    )


def trial(config: TrainConfig) -> None:
    """One training, in a process of its own: a line when it is warm, one when it is done."""
    with tempfile.TemporaryDirectory() as workdir:
        reports = train(config, Path(workdir))
        next(reports)
        print("warm", flush=True)
        sys.stdin.readline()
        metrics = [report.metrics for report in reports]
        said: dict[str, Any] = {"images_per_s": [each["train/images_per_s"] for each in metrics]}
        said["gpu_mib"] = metrics[-1].get("gpu/peak_memory_mib", 0.0)
        print(json.dumps(said), flush=True)
        sys.stdin.readline()  # so that memory is looked at while all are there


def proportional_mib(pid: int, mapped: str = "") -> float:
    """Memory of a process, shared pages by their part; of the mappings of one file only, if it is named."""
    total_kb, counts = 0, not mapped
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        first, *rest = line.split()
        if "-" in first and not first.endswith(":"):
            counts = not mapped or line.endswith(mapped)
        elif first == "Pss:" and counts:
            total_kb += int(rest[0])
    return total_kb / 1024


def together(count: int, config: TrainConfig, images: int, script: str) -> float:
    """Images/s of `count` trainings at once; prints them, and the memory."""
    share = {"TRAINERS_GPU_SHARE": str(1 / count)} if count > 1 and torch.cuda.is_available() else {}
    trials = [
        subprocess.Popen(
            [sys.executable, script, "--trial", config.model_dump_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | share,
        )
        for _ in range(count)
    ]
    said = [[each.stdout.readline()] for each in trials if each.stdout]
    began_s = time.perf_counter()
    _go(trials)
    said = [[*lines, each.stdout.readline()] for lines, each in zip(said, trials, strict=True) if each.stdout]
    seconds = time.perf_counter() - began_s
    memory_mib = sum(proportional_mib(each.pid) for each in trials)
    mapped_mib = sum(proportional_mib(each.pid, "pixels.u8") for each in trials)
    on_gpu = ""
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        peaks = ", ".join(f"{json.loads(lines[1])['gpu_mib']:.0f}" for lines in said)
        on_gpu = f"; GPU {(total - free) / 2**20:.0f} MiB in all, torch's peaks {peaks} MiB"
    _go(trials)
    assert [each.wait() for each in trials] == [0] * count
    rate = count * (config.optim.epochs - 1) * images / seconds
    print(
        f"{count} at once: {rate:.1f} images/s in all, with evaluation; memory of the processes {memory_mib:.0f} MiB, "
        f"{mapped_mib:.0f} MiB of it images{on_gpu}; load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    return rate


def _go(trials: "list[subprocess.Popen[str]]") -> None:
    for each in trials:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--poses", type=int, default=4_000, help="4 images each")
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=4, help="the first is left out")
    parser.add_argument("--trial", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.trial:
        trial(TrainConfig.model_validate_json(args.trial))
        return
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu, {os.cpu_count()} cores"
    print(f"{where}, torch {torch.__version__}; ResNet-18, {args.size} px, batch {args.batch}")
    with scratch_set(args.poses, args.size) as root:
        config = config_of(args, root)
        data = load_data(config.data)
        shown = 4 * len(data.train_poses) // args.batch * args.batch
        rates = {count: together(count, config, shown, __file__) for count in args.counts}
    for count, rate in rates.items():
        print(f"{count} at once against one after the other: {rate / rates[args.counts[0]]:.2f} times the images/s")


if __name__ == "__main__":
    main()
