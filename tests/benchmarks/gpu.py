"""What one GPU does: its ceilings (matrix products, copies), images/s of training with recorded and with single steps,
compiled and not, the share of the matrix products' rate that transformers reach, the data path's share of a step,
trainings side by side, and lanes.

A part that is done is written to `--out` (JSON) at once and not done again, so a run that was ended goes on where it
was; `--again` forgets it. At the end stands a table for docs/benchmarks.md. The part `long` is not among the usual
ones: the published recipe at full length, 130,240 images for 50 epochs at batch 64 (`--data` names a set made before).

Needs trainers/, torch, timm, pillow, numpy and pydantic.

    PYTHONPATH=trainers python tests/benchmarks/gpu.py --out gpu.json
    PYTHONPATH=trainers python tests/benchmarks/gpu.py --smoke
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from figures import Figure, table
from gpu_rates import data_seconds, flops_per_image, matmul_flops_per_s, seconds_of

from mano_trainers.config import LossConfig, ModelConfig, OptimConfig, TrainConfig
from mano_trainers.config.data import DataConfig
from mano_trainers.data.rendering.freihand import make_freihand
from mano_trainers.lanes import train_lanes
from mano_trainers.loop import evaluations, train
from mano_trainers.report import EpochReport, Lane

SMOKE: Final = {
    "poses": 8,
    "long_poses": 12,
    "epochs": 2,
    "long_epochs": 1,
    "batch": [4, 8],
    "vit": "vit_tiny",
    "vit_batch": 8,
    "size": 32,
    "matmul_side": 256,
    "copy_mib": 1,
    "repeats": 2,
    "val_fraction": 0.25,
    "compile": False,
    "lanes": 2,
    "lane_size": 32,
}


@dataclass(frozen=True)
class Bench:
    """What all parts share: arguments, the device, and the folder of a rendered set."""

    args: argparse.Namespace
    device: torch.device
    root: Path


def config_of(bench: Bench, backbone: str, batch: int, **changes: Any) -> TrainConfig:
    args = bench.args
    return TrainConfig.model_validate(
        {
            "data": DataConfig(
                root=str(bench.root), image_size=args.size, versions="all", val_fraction=args.val_fraction
            ),
            "model": ModelConfig.model_validate({"backbone": backbone}),
            "loss": LossConfig(lambda_joint=1.0),
            "optim": OptimConfig(batch_size=batch, epochs=args.epochs, lr=1e-3),
            "compile": args.compile,
        }
        | changes
    )


def trained(config: TrainConfig) -> tuple[float, float]:
    """Median images/s of the training loop itself, the first epoch left out, and the peak memory in MiB."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as workdir:
        metrics = [report.metrics for report in train(config, Path(workdir))]
    rate = statistics.median(each["train/images_per_s"] for each in metrics[1:])
    return rate, metrics[-1].get("gpu/peak_memory_mib", 0.0)


def ceilings(bench: Bench) -> list[Figure]:
    args, device = bench.args, bench.device
    peak = matmul_flops_per_s(args.matmul_side, args.repeats, device)
    host = torch.empty(args.copy_mib * 2**20, dtype=torch.uint8, pin_memory=device.type == "cuda")
    there = torch.empty_like(host, device=device, pin_memory=False)
    seconds = seconds_of(lambda: there.copy_(host, non_blocking=True), args.repeats, device)
    return [
        Figure("matrix products in bfloat16", peak / 1e12, "TFLOP/s"),
        Figure("copies from page-locked memory", host.numel() / seconds / 1e9, "GB/s"),
    ]


def resnet18(bench: Bench, batch: int, target: int) -> list[Figure]:
    """Recorded and compiled."""
    config = config_of(bench, "resnet18", batch)
    rate, peak_mib = trained(config)
    name = f"ResNet-18, {bench.args.size} px, batch {batch}"
    share = data_seconds(config, bench.args.repeats, bench.device) * rate / batch
    return [
        Figure(f"{name}: recorded and compiled", rate, "images/s", target),
        Figure(f"{name}: peak memory", peak_mib, "MiB"),
        Figure(f"{name}: data path by itself, not compiled, share of a step", 100 * share, "%", 2, at_least=False),
    ]


def single_steps(bench: Bench) -> list[Figure]:
    """As steps are by default on a GPU, recorded, and as they are without."""
    batch = bench.args.batch[0]
    recorded, _ = trained(config_of(bench, "resnet18", batch, compile=False))
    single, single_mib = trained(config_of(bench, "resnet18", batch, compile=False, cuda_graph=False))
    name = f"ResNet-18, {bench.args.size} px, batch {batch}"
    return [
        Figure(f"{name}: recorded, not compiled", recorded, "images/s"),
        Figure(f"{name}: neither", single, "images/s"),
        Figure(f"{name}: neither, peak memory", single_mib, "MiB"),
        Figure(f"{name}: recorded, times neither", recorded / single, "", 3),
    ]


def transformer(bench: Bench, backbone: str, target: int | None) -> list[Figure]:
    args = bench.args
    peak = matmul_flops_per_s(args.matmul_side, args.repeats, bench.device)
    rate, peak_mib = trained(config_of(bench, backbone, args.vit_batch))
    share = 100 * rate * flops_per_image(backbone, args.size) / peak
    name = f"{backbone}, {args.size} px, batch {args.vit_batch}"
    return [
        Figure(name, rate, "images/s"),
        Figure(f"{name}: peak memory", peak_mib, "MiB"),
        Figure(f"{name}: share of the matrix products' rate", share, "%", target),
    ]


def side_by_side(bench: Bench) -> list[Figure]:
    """Two trainings, each with half of the GPU, against one alone: images/s of both together."""
    config = config_of(bench, "resnet18", bench.args.batch[0], compile=False)
    alone = sum(_in_processes(config, 1))
    together = sum(_in_processes(config, 2))
    return [Figure("two trainings on one GPU, times the rate of one", together / alone, "", 1)]


def lanes(bench: Bench) -> list[Figure]:
    """Trainings of one architecture in one process against the same one after the other: images/s of all."""
    args, figures = bench.args, []
    for backbone, size, target in (("vit_tiny", args.lane_size, 3), ("resnet18", args.lane_size, 2)):
        data = DataConfig(root=str(bench.root), image_size=size, versions="all", val_fraction=args.val_fraction)
        config = config_of(bench, backbone, args.batch[0], data=data, compile=False)
        one, _ = trained(config)
        configs = [config.model_copy(update={"seed": seed}) for seed in range(args.lanes)]
        with tempfile.TemporaryDirectory() as workdir:
            together_in = [Lane(each, Path(workdir) / str(number)) for number, each in enumerate(configs)]
            rounds = iter([together_in] * evaluations(config) + [[]])
            rates: dict[Lane, list[float]] = {}
            for lane, report in train_lanes(rounds.__next__):
                assert isinstance(report, EpochReport)
                rates.setdefault(lane, []).append(report.metrics["train/images_per_s"])
        together = sum(statistics.median(each[1:]) for each in rates.values())
        name = f"{backbone}, {size} px, batch {args.batch[0]}"
        figures += [
            Figure(f"{name}: {args.lanes} lanes together", together, "images/s"),
            Figure(f"{name}: {args.lanes} lanes, times one after the other", together / one, "", target),
        ]
    return figures


def _in_processes(config: TrainConfig, count: int) -> list[float]:
    """Images/s of trainings in processes of their own, at the same time."""
    told = [sys.executable, str(Path(__file__).resolve()), "--train", config.model_dump_json()]
    share = {"TRAINERS_GPU_SHARE": str(1 / count)} if count > 1 and torch.cuda.is_available() else {}
    running = [subprocess.Popen(told, stdout=subprocess.PIPE, env=os.environ | share) for _ in range(count)]
    said = [each.communicate()[0] for each in running]
    if any(each.returncode for each in running):
        raise RuntimeError(f"a training of {count} side by side failed; see above")
    return [float(text) for text in said]


def long(bench: Bench) -> list[Figure]:
    args = bench.args
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as workdir:
        root = args.data or Path(folder) / "set"
        if args.data is None:
            make_freihand(root, args.long_poses, args.size, seed=0)
        optim = OptimConfig(batch_size=args.batch[0], epochs=args.long_epochs, lr=1e-3)
        config = config_of(Bench(args, bench.device, root), "resnet18", args.batch[0], optim=optim)
        started = time.perf_counter()
        for report in train(config, Path(workdir)):
            error_mm, minutes = report.metrics["val/pa_mpjpe_mm"], (time.perf_counter() - started) / 60
            print(f"epoch {report.step} of {args.long_epochs}: {minutes:.1f} min, {error_mm:.2f} mm", file=sys.stderr)
    name = f"{args.long_epochs} epochs of {4 * args.long_poses} images"
    return [Figure(name, minutes, "min", 10, at_least=False), Figure(f"{name}: PA-MPJPE", error_mm, "mm")]


PARTS: Final[dict[str, Callable[[Bench], list[Figure]]]] = {
    "ceilings": ceilings,
    "lanes": lanes,
    "single_steps": single_steps,
    "batch_small": lambda bench: resnet18(bench, bench.args.batch[0], 15_000),
    "batch_large": lambda bench: resnet18(bench, bench.args.batch[1], 18_000),
    "vit": lambda bench: transformer(bench, bench.args.vit, 40),
    "handformer": lambda bench: transformer(bench, "handformer_small", None),
    "side_by_side": side_by_side,
    "long": long,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=[name for name in PARTS if name != "long"])
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="figures of the parts that are done")
    parser.add_argument("--again", action="store_true", help="forget the parts that are done")
    parser.add_argument("--poses", type=int, default=4_000, help="rendered for training; 4 images each")
    parser.add_argument("--epochs", type=int, default=4, help="the first is left out")
    parser.add_argument("--data", type=Path, help="a set of 224 px images for the long part")
    parser.add_argument("--long-poses", type=int, default=32_560)
    parser.add_argument("--long-epochs", type=int, default=50)
    parser.add_argument("--batch", type=int, nargs=2, default=[64, 256], help="of ResNet-18")
    parser.add_argument("--vit", default="vit_b16", help="the transformer of the part `vit`")
    parser.add_argument("--vit-batch", type=int, default=128, help="of the transformers")
    parser.add_argument("--repeats", type=int, default=100, help="of what is timed by itself")
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--lanes", type=int, default=8, help="trainings in one process")
    parser.add_argument("--lane-size", type=int, default=64, help="side of their images in pixels")
    parser.add_argument("--matmul-side", type=int, default=8192)
    parser.add_argument("--copy-mib", type=int, default=256)
    parser.add_argument("--val-fraction", type=float, default=0.02)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, on a CPU too: the parts run")
    parser.add_argument("--train", help=argparse.SUPPRESS)  # a config: how `side_by_side` calls this file
    args = parser.parse_args()
    if args.smoke:
        parser.set_defaults(**SMOKE)
        args = parser.parse_args()
    return args


def done_before(path: Path, of: dict[str, Any]) -> dict[str, list[Figure]]:
    """Figures of the parts that the file holds, if they are of the same device and sizes."""
    if not path.exists():
        return {}
    stored = json.loads(path.read_text())
    if stored["of"] != of:
        print(f"{path} is of another device, torch or size: all parts are done again", file=sys.stderr)
        return {}
    return {part: [Figure(**each) for each in figures] for part, figures in stored["parts"].items()}


def main() -> int:
    args = arguments()
    if args.train is not None:
        print(trained(TrainConfig.model_validate_json(args.train))[0])
        return 0
    if not torch.cuda.is_available() and not args.smoke:
        print("error: there is no CUDA device here; nothing was measured", file=sys.stderr)
        return 2
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    of = {name: value for name, value in vars(args).items() if name not in ("parts", "out", "again", "data", "train")}
    of |= {"device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU", "torch": torch.__version__}
    parts = {} if args.again else done_before(args.out, of)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRAINERS_CACHE_DIR"] = f"{folder}/cache"
        bench = Bench(args, device, Path(folder) / "set")
        missing = [part for part in args.parts if part not in parts]
        if set(missing) - {"ceilings", "long"}:
            make_freihand(bench.root, args.poses, args.size, seed=0)
        for part in missing:
            print(f"{part} ...", file=sys.stderr, flush=True)
            try:
                parts[part] = PARTS[part](bench)
            except Exception:  # the others are measured all the same
                traceback.print_exc()
                continue
            text = {"of": of, "parts": {name: [asdict(each) for each in found] for name, found in parts.items()}}
            partial = args.out.with_suffix(".partial")
            partial.write_text(json.dumps(text, indent=2))
            partial.replace(args.out)
    print(table(of, parts))
    failed = [part for part in missing if part not in parts]
    if failed:
        print(f"error: failed, see above: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
