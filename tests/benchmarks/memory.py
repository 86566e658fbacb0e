"""Memory of a worker: the same after 3 epochs as after 30, and a cache of 130,240 images is never held whole.

PYTHONPATH=. python tests/benchmarks/memory.py
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from common import scratch_set
from PIL import Image

from mano_trainers.batches import batch_memory, epoch_order, make_batch, seeded
from mano_trainers.config import LossConfig, OptimConfig, TrainConfig
from mano_trainers.config.data import DataConfig
from mano_trainers.data.augment import draw
from mano_trainers.data.cache import cached_images, files_key
from mano_trainers.data.readers.labels import Picture
from mano_trainers.loop import train

MIB = 2**20


def resident_mib() -> float:
    return float(psutil.Process().memory_info().rss / MIB)


def epochs_keep_memory(poses: int, last: int) -> None:
    """Peers are the third epoch and the last: what grows by the epoch is a leak."""
    config = TrainConfig(loss=LossConfig(lambda_joint=1.0), optim=OptimConfig(batch_size=32, epochs=last))
    with scratch_set(poses, 64) as root, tempfile.TemporaryDirectory() as workdir:
        config = config.model_copy(update={"data": DataConfig(root=str(root))})
        seen = {report.step: resident_mib() for report in train(config, Path(workdir))}
    ratio = seen[last] / seen[3]
    print(
        f"resident after epoch 3: {seen[3]:.1f} MiB, after epoch {last}: {seen[last]:.1f} MiB, ratio {ratio:.4f} "
        f"(target at most 1.01: {'met' if ratio <= 1.01 else 'MISSED'})"
    )


def large_cache_stays_on_disk(count: int, size: int, batches: int) -> None:
    """Open a cache of `count` images as a run does; its pixels are a sparse file, so it takes no room on the disk."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        Image.new("RGB", (size, size)).save(root / "image.jpg")
        (root / "labels.json").write_text("[]")
        pictures, labels = [Picture(root / "image.jpg")] * count, [root / "labels.json"]
        made = root / f"images-{files_key(pictures, labels)}-{size}"
        made.mkdir()
        (made / "meta.json").write_text(json.dumps({"fingerprint": "sparse", "images": count}))
        with open(made / "pixels.u8", "wb") as file:
            file.truncate(count * size * size * 3)

        before = resident_mib()
        pixels = cached_images(pictures, labels, size, root).pixels
        opened = resident_mib()
        order = epoch_order(np.arange(count)[:, None], np.arange(count), "all", 64, seeded(0, "order", 1))[:batches]
        device = torch.device("cpu")
        memory = batch_memory(pixels, 64, device)
        started, seen = time.perf_counter(), []
        for step, indices in enumerate(order):
            drawn = draw(len(indices), size, seeded(0, "augment", step), device)
            make_batch(pixels, indices, device, drawn, memory)
            seen.append(resident_mib())
        rate = order.size / (time.perf_counter() - started)
    read_mib, grown = order.size * size * size * 3 / MIB, seen[-1] - seen[len(seen) // 2]
    print(
        f"cache of {count} images, {pixels.nbytes / 2**30:.1f} GiB: opened with {opened - before:.1f} MiB of memory; "
        f"{read_mib:.0f} MiB read in {len(order)} batches ({rate:.0f} images/s), at most {max(seen) - opened:.0f} MiB "
        f"more resident, {grown:.1f} MiB of it in the second half "
        f"(target at most 5 % of what that half read: {'met' if grown <= 0.05 * read_mib / 2 else 'MISSED'})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--poses", type=int, default=64, help="of the rendered set that is trained on")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--images", type=int, default=130_240)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batches", type=int, default=60)
    args = parser.parse_args()
    torch.set_num_threads(1)
    epochs_keep_memory(args.poses, args.epochs)
    large_cache_stays_on_disk(args.images, args.size, args.batches)


if __name__ == "__main__":
    main()
