"""Record tables of training curves with seeds, for `search_noise.py` to replay: configurations x seeds of one task.

A run that is cut off continues where it was: each training is one line, and which there are follows from their order,
configuration by configuration, so that any number of lines is a usable table. Three tasks:

    digits       a network of one hidden layer on the 8x8 digits that scikit-learn brings; a second a training
    hand         the embedded hand with resnet_tiny, as in `record_curves.py`; 10 s and more
    transformer  vit_tiny on twice the poses, in smaller batches and for longer: with the hand's it learns nothing

    PYTHONPATH=.:trainers nice python tests/benchmarks/record_table.py digits /tmp/digits.jsonl --configs 40 --seeds 10
    PYTHONPATH=.:trainers python tests/benchmarks/record_table.py digits /tmp/digits.jsonl --pack \\
        tests/benchmarks/data/digits.json.xz
"""

import argparse
import json
import lzma
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from record_curves import BASE, config_of, round_to
from record_curves import SPACE as HAND_SPACE
from sklearn.datasets import load_digits
from torch import nn

Params = Mapping[str, float]
Losses = Iterator[float]


@dataclass(frozen=True)
class Task:
    """What is trained: `train(params, seed)` yields the objective, to be minimised, twice an epoch."""

    metric: str
    space: Mapping[str, tuple[float, float]]
    epochs: int
    train: Callable[[Params, int], Losses]


def params_of(task: Task, number: int) -> dict[str, float]:
    """The configuration of that number, log-uniform: a pure function of it."""
    uniform = np.random.default_rng((24, number)).random(len(task.space))
    return {
        name: float(f"{math.exp(math.log(low) + share * math.log(high / low)):.6g}")
        for share, (name, (low, high)) in zip(uniform, task.space.items(), strict=True)
    }


def train_digits(params: Params, seed: int) -> Losses:
    """Negative log-likelihood on 597 of the 1,797 digits, always the same ones."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    inputs, targets = torch.tensor(images[order] / 16, dtype=torch.float32), torch.tensor(labels[order])
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Linear(64, round(params["hidden"])),
        nn.ReLU(),
        nn.Dropout(params["dropout"]),
        nn.Linear(round(params["hidden"]), 10),
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=params["lr"], weight_decay=params["weight_decay"])
    for _ in range(DIGITS_EPOCHS):
        for half in torch.randperm(1200).split(600):
            net.train()
            for batch in half.split(round(params["batch"])):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(inputs[batch]), targets[batch]).backward()
                optimizer.step()
            net.eval()
            with torch.no_grad():
                yield float(nn.functional.cross_entropy(net(inputs[1200:]), targets[1200:]))


def train_hand(params: Params, seed: int, changes: Mapping[str, float | str]) -> Losses:
    """PA-MPJPE in mm of the embedded task; `changes` of its config by dotted name."""
    from mano_trainers.data.load import load_data
    from mano_trainers.device import process
    from mano_trainers.loop import train_on

    config = config_of(dict(params) | dict(changes)).model_copy(update={"seed": seed, "evaluate_every": 0.5})
    with process.settings(config) as device, mock.patch("mano_trainers.checkpoint.save"):
        for report in train_on(load_data(config.data), config, device, Path("nowhere")):
            yield report.metrics["val/pa_mpjpe_mm"]


DIGITS_EPOCHS = 8
TRANSFORMER_EPOCHS = 12
TRANSFORMER = {
    "model.backbone": "vit_tiny",
    "data.embedded_count": 4000,
    "optim.batch_size": 32,
    "optim.epochs": TRANSFORMER_EPOCHS,
}
TASKS = {
    "digits": Task(
        "val/nll",
        {
            "lr": (1e-4, 0.3),
            "hidden": (8, 256),
            "batch": (8, 256),
            "dropout": (0.01, 0.6),
            "weight_decay": (1e-5, 1.0),
        },
        DIGITS_EPOCHS,
        train_digits,
    ),
    "hand": Task(
        "val/pa_mpjpe_mm",
        HAND_SPACE,
        BASE["optim"]["epochs"],
        lambda params, seed: train_hand(params, seed, {}),
    ),
    "transformer": Task(
        "val/pa_mpjpe_mm",
        HAND_SPACE,
        TRANSFORMER_EPOCHS,
        lambda params, seed: train_hand(params, seed, TRANSFORMER),
    ),
}


def record(task: Task, path: Path, configs: int, seeds: int) -> None:
    """Append the trainings that the file does not have."""
    known = {(line["number"], line["seed"]) for line in read(path)}
    for number in range(configs):
        for seed in range(seeds):
            if (number, seed) in known:
                continue
            started = time.perf_counter()
            params = params_of(task, number)
            values = [round_to(value, 5) for value in task.train(params, seed)]
            with open(path, "a") as file:
                file.write(json.dumps({"number": number, "seed": seed, "params": params, "values": values}) + "\n")
            print(f"{number} seed {seed}: {time.perf_counter() - started:.1f} s, {values[-1]}", flush=True)


def read(path: Path) -> list[dict]:
    """The trainings of a file; a last line that a kill has cut off is none."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def pack(task: Task, path: Path, packed: Path) -> None:
    """The whole table in one compressed file; configurations without all seeds are left out."""
    lines = read(path)
    seeds = sorted({line["seed"] for line in lines})
    by_number: dict[int, dict[int, list]] = {}
    for line in lines:
        by_number.setdefault(line["number"], {})[line["seed"]] = line["values"]
    whole = {number: runs for number, runs in by_number.items() if len(runs) == len(seeds)}
    table = {
        "metric": task.metric,
        "space": task.space,
        "torch": torch.__version__,
        "epochs": [(step + 1) / 2 for step in range(2 * task.epochs)],
        "configs": [
            {"params": params_of(task, number), "runs": [runs[seed] for seed in seeds]}
            for number, runs in sorted(whole.items())
        ],
    }
    packed.write_bytes(lzma.compress(json.dumps(table, separators=(",", ":")).encode(), preset=9))
    print(f"{len(whole)} configurations x {len(seeds)} seeds, {packed.stat().st_size / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("lines", type=Path, help="the recording, one training a line")
    parser.add_argument("--configs", type=int, default=0, help="record so many configurations")
    parser.add_argument("--seeds", type=int, default=5, help="with so many seeds each")
    parser.add_argument("--pack", type=Path, help="then write the table compressed to this file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    record(TASKS[args.task], args.lines, args.configs, args.seeds)
    if args.pack:
        pack(TASKS[args.task], args.lines, args.pack)


if __name__ == "__main__":
    main()
