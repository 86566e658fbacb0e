"""On one H100: images/s of ResNet-18, ViT-B/16's share of the matmul rate, the data path's share of a step, and the
published recipe at full length: 130,240 images for 50 epochs at batch 64. Peak memory of each.

Needs trainers/, torch, timm, pillow, numpy and pydantic. Rendering the long run's images takes some minutes; `--data`
names a set made before (FreiHAND's layout), `--parts` runs some parts only.

    PYTHONPATH=. python tests/benchmarks/hopper.py
    PYTHONPATH=. python tests/benchmarks/hopper.py --smoke
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from mano_trainers.batches import batch_memory, epoch_order, image_table, make_batch, seeded
from mano_trainers.config import LossConfig, ModelConfig, OptimConfig, TrainConfig
from mano_trainers.data.augment import draw
from mano_trainers.data.load import load_data
from mano_trainers.data.on_device import on_device
from mano_trainers.data.rendering.freihand import make_freihand
from mano_trainers.data_config import DataConfig
from mano_trainers.device.memory_share import free_bytes
from mano_trainers.hand.model import load_embedded_hand
from mano_trainers.loop import train
from mano_trainers.models import build_model

PARTS = ("resnet18", "vit_b16", "long")
SIZE = 224
MATMUL_SIDE = 8192
SMOKE = {
    "epochs": 1,
    "poses": 12,
    "short_poses": 8,
    "short_epochs": 2,
    "batch": 8,
    "vit_batch": 8,
    "long_batch": 8,
    "size": 32,
    "matmul_side": 256,
    "repeats": 2,
    "val_fraction": 0.25,
    "compile": False,
}


def config_of(args: argparse.Namespace, root: Path, backbone: str, batch: int, epochs: int) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "data": DataConfig(root=str(root), image_size=args.size, versions="all", val_fraction=args.val_fraction),
            "model": ModelConfig.model_validate({"backbone": backbone}),
            "loss": LossConfig(lambda_joint=1.0),
            "optim": OptimConfig(batch_size=batch, epochs=epochs, lr=1e-3),
            "compile": args.compile,
        }
    )


def step_rate(config: TrainConfig, device: torch.device) -> float:
    """Median images/s of the training loop itself, the first epoch left out; prints it with the peak memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with tempfile.TemporaryDirectory() as workdir:
        metrics = [report.metrics for report in train(config, Path(workdir))]
    rate = statistics.median(each["train/images_per_s"] for each in metrics[1:])
    print(
        f"{config.model.backbone}, {config.data.image_size} px, batch {config.optim.batch_size}: {rate:.0f} images/s "
        f"(median of {len(metrics) - 1} epochs), peak {metrics[-1].get('gpu/peak_memory_mib', 0.0):.0f} MiB",
        flush=True,
    )
    return rate


def seconds_of(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Seconds of one call, the first calls left out; waits for the device before and after."""
    for _ in range(3):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - started) / repeats


def matmul_flops_per_s(side: int, repeats: int, device: torch.device) -> float:
    """Measured rate of a square bf16 matrix product."""
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / seconds_of(lambda: left @ right, repeats, device)


def flops_per_image(backbone: str, size: int) -> float:
    """Of a step forwards and backwards; counted on the CPU, where two images are enough."""
    model = build_model(ModelConfig.model_validate({"backbone": backbone}), size, load_embedded_hand())
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(2, 3, size, size)).theta.sum().backward()
    return float(counter.get_total_flops()) / 2


def data_seconds(config: TrainConfig, repeats: int, device: torch.device) -> float:
    """Seconds a batch of the data path takes by itself; in training some of it may hide behind the device."""
    data, batch = load_data(config.data), config.optim.batch_size
    images = on_device(data.images, device, free_bytes(device))
    memory = batch_memory(images, batch, device)
    table = image_table(data.labels.pose_index)
    order = iter(
        indices
        for epoch in range(10_000)
        for indices in epoch_order(table, data.train_poses, "all", batch, seeded(0, "order", epoch))
    )

    def one() -> None:
        indices = next(order)
        drawn = draw(len(indices), config.data.image_size, seeded(0, "augment", int(indices[0])), device)
        make_batch(images, indices, device, drawn, memory)

    return seconds_of(one, repeats, device)


def verdict(name: str, value: float, unit: str, target: float, at_least: bool = True) -> None:
    met = value >= target if at_least else value <= target
    print(f"{name}: {value:.2f} {unit} (target {target:g}: {'met' if met else 'MISSED'})", flush=True)


def short_parts(args: argparse.Namespace, root: Path, device: torch.device) -> None:
    if "resnet18" in args.parts:
        config = config_of(args, root, "resnet18", args.batch, epochs=args.short_epochs)
        rate = step_rate(config, device)
        verdict("ResNet-18", rate, "images/s", 15_000)
        share = data_seconds(config, args.repeats, device) * rate / args.batch
        verdict("data path by itself, share of a step", 100 * share, "%", 2, at_least=False)
    if "vit_b16" in args.parts:
        rate = step_rate(config_of(args, root, "vit_b16", args.vit_batch, epochs=args.short_epochs), device)
        peak = matmul_flops_per_s(args.matmul_side, args.repeats, device)
        print(f"bf16 matmul: {peak / 1e12:.0f} TFLOP/s measured")
        verdict("ViT-B/16, share of it", 100 * rate * flops_per_image("vit_b16", args.size) / peak, "%", 35)


def long_part(args: argparse.Namespace, root: Path) -> None:
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as workdir:
        for report in train(config_of(args, root, "resnet18", args.long_batch, args.epochs), Path(workdir)):
            print(
                f"epoch {report.step} of {args.epochs}: {time.perf_counter() - started:.0f} s, "
                f"PA-MPJPE {report.metrics['val/pa_mpjpe_mm']:.2f} mm, "
                f"{report.metrics['train/images_per_s']:.0f} images/s, "
                f"peak {report.metrics.get('gpu/peak_memory_mib', 0.0):.0f} MiB",
                flush=True,
            )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--data", type=Path, help="a set of 224 px images for the long part")
    parser.add_argument("--epochs", type=int, default=50, help="of the long part")
    parser.add_argument("--poses", type=int, default=32_560, help="of the long part; 4 images each")
    parser.add_argument("--short-poses", type=int, default=4_000, help="of the other parts; 4 images each")
    parser.add_argument("--batch", type=int, default=256, help="of ResNet-18's step")
    parser.add_argument("--vit-batch", type=int, default=128, help="of ViT-B/16's step")
    parser.add_argument("--long-batch", type=int, default=64, help="of the long part: that of the published recipe")
    parser.add_argument("--short-epochs", type=int, default=5, help="of the other parts; the first is left out")
    parser.add_argument("--repeats", type=int, default=100, help="of the data path and the matrix product")
    parser.add_argument("--size", type=int, default=SIZE, help="side of the images in pixels")
    parser.add_argument("--matmul-side", type=int, default=MATMUL_SIDE)
    parser.add_argument("--val-fraction", type=float, default=0.02)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--smoke", action="store_true", help="all parts on a few small images, on a CPU too: they run")
    args = parser.parse_args()
    if args.smoke:
        parser.set_defaults(**SMOKE)
        args = parser.parse_args()
    return args


def main() -> int:
    args = arguments()
    if not torch.cuda.is_available() and not args.smoke:
        print("error: there is no CUDA device here; nothing was measured", file=sys.stderr)
        return 2
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{torch.cuda.get_device_name(device) if device.type == 'cuda' else 'cpu'}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRAINERS_CACHE_DIR"] = f"{folder}/cache"
        if {"resnet18", "vit_b16"} & set(args.parts):
            make_freihand(Path(folder) / "short", args.short_poses, args.size, seed=0)
            short_parts(args, Path(folder) / "short", device)
        if "long" in args.parts:
            if args.data is None:
                started = time.perf_counter()
                make_freihand(Path(folder) / "long", args.poses, args.size, seed=0)
                print(f"rendering {4 * args.poses} images took {time.perf_counter() - started:.0f} s", flush=True)
            long_part(args, args.data or Path(folder) / "long")
    return 0


if __name__ == "__main__":
    sys.exit(main())
