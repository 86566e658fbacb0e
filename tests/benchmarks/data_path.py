"""Data path: JPEG bytes on disk to augmented, normalised batches, in images/s.

Ours reads the decoded cache; its one-time cost is printed beside it. Peers: torchvision's ImageFolder and DataLoader
with the same transforms, and a loader over the same cache as one would write it by hand.

    PYTHONPATH=. python tests/benchmarks/data_path.py
"""

import argparse
import math
import os
import random
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from common import images_per_s, report, scratch_set, take_turns
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import datasets  # type: ignore[import-untyped]
from torchvision.transforms import v2  # type: ignore[import-untyped]

from mano_trainers.arrays import Pixels
from mano_trainers.batches import batch_memory, epoch_order, image_table, make_batch, seeded
from mano_trainers.config.data import DataConfig
from mano_trainers.data.augment import BRIGHTNESS, CONTRAST, MAX_ANGLE, NOISE, draw
from mano_trainers.data.load import LoadedData, load_data
from mano_trainers.data.on_device import on_device
from mano_trainers.device.memory_share import free_bytes


class AddNoise:
    """Torchvision's own noise has one strength; this draws it for each image, from one pattern: the cheapest way."""

    def __init__(self, size: int) -> None:
        self.pattern = torch.randn(3, size, size)

    def __call__(self, image: Tensor) -> Tensor:
        return image.add_(self.pattern, alpha=random.uniform(-NOISE, NOISE)).clamp_(0, 1)


def torchvision_loader(root: Path, size: int, batch: int, workers: int) -> DataLoader[tuple[Tensor, Tensor]]:
    transform = v2.Compose(
        [
            v2.RandomRotation(math.degrees(MAX_ANGLE), v2.InterpolationMode.BILINEAR, fill=127),
            v2.ColorJitter(brightness=BRIGHTNESS, contrast=CONTRAST),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            AddNoise(size),
            v2.Normalize([0.5] * 3, [0.5] * 3, inplace=True),
        ]
    )
    images = datasets.ImageFolder(str(root / "training"), transform, allow_empty=True)
    cuda = torch.cuda.is_available()
    return DataLoader(
        images, batch, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=True, pin_memory=cuda
    )


def run_torchvision(loader: DataLoader[tuple[Tensor, Tensor]], device: torch.device) -> int:
    return sum(len(images.to(device, non_blocking=True)) for images, _ in loader)


def run_ours(data: LoadedData, images: Pixels | Tensor, batch: int, epoch: int, device: torch.device) -> int:
    """The calls of `mano_trainers.loop`, in its order; `images` are those of `data`, or their copy on the device."""
    table = image_table(data.labels.pose_index)
    order = epoch_order(table, np.arange(len(table)), "all", batch, seeded(0, "order", epoch))
    memory = batch_memory(images, batch, device)
    for step, indices in enumerate(order):
        drawn = draw(len(indices), images.shape[1], seeded(0, "augment", step), device)
        make_batch(images, indices, device, drawn, memory)
    return int(order.size)


def run_by_hand(pixels: Pixels, batch: int, device: torch.device) -> int:
    """Memory map, fancy index, one affine_grid and grid_sample a batch, in torch's default layout."""
    shuffled = torch.randperm(len(pixels)).numpy()
    steps = len(pixels) // batch
    for step in range(steps):
        rows = np.sort(shuffled[step * batch : (step + 1) * batch])
        images = torch.from_numpy(pixels[rows]).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        angle, brightness, contrast, noise = (torch.rand(4, batch, device=device) * 2 - 1).view(4, batch, 1, 1, 1)
        angle = angle.flatten() * MAX_ANGLE
        cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
        turn = torch.stack([cos, sin, zero, -sin, cos, zero], 1).view(-1, 2, 3)
        images = F.grid_sample(images, F.affine_grid(turn, list(images.shape), False), align_corners=False)
        images = images * (1 + contrast * CONTRAST) + 2 * brightness * BRIGHTNESS
        images = images + 2 * NOISE * noise * torch.randn(1, *images.shape[1:], device=device)
        images.clamp(-1, 1).contiguous(memory_format=torch.channels_last)
    return steps * batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--poses", type=int, default=160, help="of the rendered set; 4 images each")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="of the DataLoader")
    parser.add_argument("--threads", type=int, default=1, help="of ours, and of the loader by hand")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with scratch_set(args.poses, args.size) as root:
        with Image.open(next((root / "training" / "rgb").iterdir())) as image:
            assert image.size == (args.size, args.size)
        started = time.perf_counter()
        data = load_data(DataConfig(root=str(root), image_size=args.size))
        seconds = time.perf_counter() - started
        print(
            f"{device.type}, {args.size} px, batch {args.batch}: reading and decoding {len(data.images)} images once:"
        )
        print(f"  {seconds:.2f} s")
        epochs = iter(range(1000))
        images = on_device(data.images, device, free_bytes(device))

        def ours() -> float:
            return images_per_s(lambda: run_ours(data, images, args.batch, next(epochs), device), device)

        loader = torchvision_loader(root, args.size, args.batch, args.workers)
        peer = take_turns(ours, lambda: images_per_s(lambda: run_torchvision(loader, device), device), args.repeats)
        ours_name = f"ours, threads: {args.threads}"
        report(ours_name, f"torchvision, workers: {args.workers}", *peer, 10.0)
        hand = take_turns(
            ours, lambda: images_per_s(lambda: run_by_hand(data.images, args.batch, device), device), args.repeats
        )
        report(ours_name, f"memory map by hand, threads: {args.threads}", *hand, 1.0)


if __name__ == "__main__":
    main()
