"""Training steps in images/s: `mano_trainers.loop.train`, with data path, losses and metrics, against a bare timm loop.

The bare loop has channels_last, the same optimizer and precision, and batches that lie in memory, ready and the same;
it has no augmentation, no hand, one loss term and no clipping. The rate of ours is its own `train/images_per_s`:
data, losses, clipping and, once an epoch, the terms' shares of the gradient; not validation. The default task's epoch
has 42 steps, more than the 16 here: over them the shares weigh less.

    PYTHONPATH=. python tests/benchmarks/train_step.py --backbone resnet18 --size 64
"""

import argparse
import tempfile
import time
from pathlib import Path

import timm
import torch
from common import report, scratch_set, take_turns

from mano_trainers.config import EvalConfig, LossConfig, ModelConfig, OptimConfig, TrainConfig
from mano_trainers.config.data import DataConfig
from mano_trainers.loop import train

TIMM_NAMES = {
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    "resnet50": "resnet50",
    "vit_s16": "vit_small_patch16_224",
    "vit_b16": "vit_base_patch16_224",
}
OUTPUTS = 45 + 63 + 10 + 6
"""Of our heads together."""


def config_of(args: argparse.Namespace, root: Path) -> TrainConfig:
    """`all`: every term, so every head too. `seed`: theta and joints, the terms of the published runs."""
    terms = [name for name in LossConfig.model_fields if name.startswith("lambda_")]
    every = args.losses == "all"
    return TrainConfig(
        data=DataConfig(root=str(root), image_size=args.size),
        model=ModelConfig(
            backbone=args.backbone, head="joints" if every else "theta", predict_shape=every, predict_orient=every
        ),
        loss=LossConfig.model_validate(dict.fromkeys(terms, 0.1)) if every else LossConfig(lambda_joint=1.0),
        optim=OptimConfig(batch_size=args.batch, epochs=args.repeats + 1, lr=1e-4),
        eval=EvalConfig(mesh_images=1),
        compile=args.compile,
        threads=args.threads,
    )


class BareLoop:
    """A timm model and its optimizer; `images_per_s` runs some steps."""

    def __init__(self, args: argparse.Namespace, device: torch.device) -> None:
        self.args, self.device = args, device
        sized = {"img_size": args.size} if args.backbone.startswith("vit") else {}
        self.model = timm.create_model(TIMM_NAMES[args.backbone], num_classes=OUTPUTS, **sized)
        self.model = self.model.to(device).to(memory_format=torch.channels_last).train()
        if args.compile:
            self.model.compile(dynamic=False)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, weight_decay=1e-4, fused=True)
        images = torch.randn(args.batch, 3, args.size, args.size, device=device)
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.target = torch.randn(args.batch, OUTPUTS, device=device)

    def images_per_s(self) -> float:
        # `train` asks for repeatable kernels for as long as it runs; the bare loop need not be slowed by that.
        torch.use_deterministic_algorithms(False)
        started = time.perf_counter()
        for _ in range(self.args.steps):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                output = self.model(self.images)
            loss = (output.float() - self.target).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        loss.item()  # waits for the device
        seconds = time.perf_counter() - started
        torch.use_deterministic_algorithms(True, warn_only=True)
        return float(self.args.steps * self.args.batch / seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", choices=list(TIMM_NAMES), default="resnet18")
    parser.add_argument("--size", type=int, default=64, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=16, help="in each turn, which is an epoch of ours")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--losses", choices=["all", "seed"], default="all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="both models")
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    poses = -(-args.steps * args.batch * 10 // 9) + 1  # a tenth is held out for validation
    with scratch_set(poses, args.size) as root, tempfile.TemporaryDirectory() as workdir:
        epochs = train(config_of(args, root), Path(workdir))
        bare = BareLoop(args, device)
        rates = take_turns(lambda: next(epochs).metrics["train/images_per_s"], bare.images_per_s, args.repeats)
        epochs.close()  # type: ignore[attr-defined]
    name = f"{device.type}, {args.backbone}, {args.size} px, batch {args.batch}, {args.losses} losses: ours"
    report(name, "bare timm loop", *rates, 0.97)


if __name__ == "__main__":
    main()
