"""What does `data.crop` gain where hands fill as much of their pictures as FreiHAND's, and lie in the middle?

The rendered set's hands are larger, so one is rendered whose hands fill 35 to 55 % of a picture of 112 px; MobRecon's
square for FreiHAND, 130 of 224 px, is 1.3 times a hand of 45 %. The network sees 64 px. Each row is one config with
several seeds: the error on held-out poses, which are cut without their labels.

    PYTHONPATH=.:trainers python tests/benchmarks/crop.py --seeds 3 --out crop.jsonl
"""

import argparse
import json
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np

from mano_trainers.config import TrainConfig
from mano_trainers.data.rendering import freihand
from mano_trainers.loop import train

CROPS = (None, 1.3, 1.5, 2.0)
GEOMETRY = {"rotate_deg": 15.0, "zoom": 0.15, "shift": 0.08}
LOSS = {
    "lambda_param": 0.5,
    "lambda_joint": 5.0,
    "lambda_angular": 0.03,
    "lambda_pca": 0.0003,
    "joint_form": "l2_norm_m",
}
POSES, PICTURE_PX, IMAGE_PX = 1500, 112, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path("crop.jsonl"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "set"
        with mock.patch.object(freihand, "FILL", (0.35, 0.55)), mock.patch.object(freihand, "OFF_CENTRE", 0.2):
            freihand.make_freihand(root, POSES, PICTURE_PX, 7, workers=1)
        found: dict[tuple[bool, float | None], list[float]] = {}
        for seed in range(options.seeds):
            for augment in (False, True):
                for crop in CROPS:
                    config = _config(root, crop, augment, seed, options.epochs)
                    *_, last = train(config, Path(folder) / f"{augment}-{crop}-{seed}")
                    error_mm = last.metrics["val/pa_mpjpe_mm"]
                    found.setdefault((augment, crop), []).append(error_mm)
                    line = {"augment": augment, "crop": crop, "seed": seed, "val/pa_mpjpe_mm": error_mm}
                    with options.out.open("a") as file:
                        print(json.dumps(line), file=file)
    for (augment, crop), errors_mm in found.items():
        against = np.array(errors_mm) - found[augment, None]
        print(
            f"augmentation {'on ' if augment else 'off'} crop {crop}: {np.mean(errors_mm):.2f} mm, "
            f"{against.mean():+.2f} ({against.min():+.2f} to {against.max():+.2f}) against whole pictures"
        )


def _config(root: Path, crop: float | None, augment: bool, seed: int, epochs: int) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "data": {"root": str(root), "image_size": IMAGE_PX, "crop": crop},
            "model": {"backbone": "resnet_tiny"},
            "loss": LOSS,
            "optim": {"epochs": epochs, "batch_size": 32, "lr": 0.005},
            "augment": augment,
            "augmentation": GEOMETRY if augment else {},
            "seed": seed,
            "device": "cpu",
        }
    )


if __name__ == "__main__":
    main()
