"""Record training curves of random configurations of the loss-balance search, for `epochs_to_best.py` to replay.

The task is the embedded one at reduced cost: 2,000 poses at 32 px, resnet_tiny, 8 epochs evaluated every quarter. The
ranges are wider than those of `search_spaces/loss_balance.yaml`, so that a fair share of the trials collapses. Each
configuration is appended when it is trained; a recording that is cut off continues where it was.

    PYTHONPATH=. nice python tests/benchmarks/record_curves.py /tmp/curves.jsonl --count 220
    PYTHONPATH=. python tests/benchmarks/record_curves.py /tmp/curves.jsonl --pack tests/benchmarks/curves.json.xz
"""

import argparse
import json
import lzma
import math
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from mano_trainers.config import TrainConfig
from mano_trainers.data.load import load_data
from mano_trainers.device import process
from mano_trainers.loop import train_on

SPACE = {
    "loss.lambda_param": (0.01, 10.0),
    "loss.lambda_joint": (0.01, 100.0),
    "loss.lambda_angular": (0.001, 10.0),
    "loss.lambda_pca": (0.0001, 10.0),
    "optim.lr": (1e-5, 3e-2),
}
"""Log-uniform, as the sweep would draw at random."""
BASE: dict[str, Any] = {
    "data": {"embedded_count": 2000, "image_size": 32},
    "optim": {"epochs": 8},
    "eval": {"mesh_images": 1},
    "augment": False,
    "evaluate_every": 0.25,
    "device": "cpu",
}
METRICS = (
    "val/pa_mpjpe_mm val/theta_var_ratio val/theta_r2 val/skill val/pose_entropy_ratio val/gesture_macro_f1 train/loss"
).split()
SEED = 0


def params_of(number: int) -> dict[str, float]:
    """The configuration of that number: a pure function of it, so any part of the table can be recorded again."""
    uniform = np.random.default_rng((SEED, number)).random(len(SPACE))
    return {
        name: float(f"{math.exp(math.log(low) + share * math.log(high / low)):.6g}")
        for share, (name, (low, high)) in zip(uniform, SPACE.items(), strict=True)
    }


def config_of(params: dict[str, Any]) -> TrainConfig:
    mapping: dict[str, Any] = {
        section: dict(value) if isinstance(value, dict) else value for section, value in BASE.items()
    }
    for name, value in params.items():
        section, key = name.split(".")
        mapping[section] = {**mapping.get(section, {}), key: value}
    return TrainConfig.model_validate(mapping)


def record(path: Path, count: int) -> None:
    """Append configurations up to number `count` - 1 to the lines of `path`."""
    known = len(path.read_text().splitlines()) if path.exists() else 0
    data = load_data(config_of(params_of(0)).data)
    for number in range(known, count):
        started = time.perf_counter()
        params = params_of(number)
        config = config_of(params)
        with process.settings(config) as device, mock.patch("mano_trainers.checkpoint.save"):  # a fifth of the time
            reports = [report.metrics for report in train_on(data, config, device, Path("nowhere"))]
        curve = {name: [round_to(report[name], 5) for report in reports] for name in METRICS}
        with open(path, "a") as file:
            file.write(json.dumps({"number": number, "params": params, "curve": curve}) + "\n")
        last = {name.split("/")[1]: values[-1] for name, values in curve.items()}
        print(f"{number}: {time.perf_counter() - started:.1f} s, {last}", flush=True)


def round_to(value: float, digits: int) -> float | None:
    """To that many significant digits; None, which JSON can say, for what is not finite."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def pack(path: Path, packed: Path) -> None:
    """The whole recording in one compressed file, with what it was recorded on."""
    table = {
        "base": BASE,
        "space": SPACE,
        "torch": torch.__version__,
        "epochs": [step * BASE["evaluate_every"] for step in range(1, 33)],
        "trials": [json.loads(line) for line in path.read_text().splitlines()],
    }
    packed.write_bytes(lzma.compress(json.dumps(table, separators=(",", ":")).encode(), preset=9))
    print(f"{len(table['trials'])} curves, {packed.stat().st_size / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lines", type=Path, help="the recording, one configuration a line")
    parser.add_argument("--count", type=int, default=0, help="record up to this many configurations")
    parser.add_argument("--pack", type=Path, help="then write all of them compressed to this file")
    args = parser.parse_args()
    if args.count:
        record(args.lines, args.count)
    if args.pack:
        pack(args.lines, args.pack)


if __name__ == "__main__":
    main()
