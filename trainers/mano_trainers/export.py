"""FreiHAND's pred.json: `python -m mano_trainers.export CHECKPOINT [--split evaluation] [--out pred.json]`.

Zipped, the file is what the benchmark takes: a list of two lists, which contain the 21 joints and the 778 vertices in
metres of every image of the split, in numerical order.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from mano_trainers import checkpoint
from mano_trainers.arrays import Array
from mano_trainers.config import TrainConfig
from mano_trainers.config.data import DataConfig
from mano_trainers.data.cache import cached_images
from mano_trainers.data.load import cache_folder, embedded_root
from mano_trainers.data.readers.crop import centred_box, square_side
from mano_trainers.data.readers.freihand import Split, label_files, list_images
from mano_trainers.data.readers.read import right_hand
from mano_trainers.device import process
from mano_trainers.errors import ConfigError, TrainerError
from mano_trainers.evaluation.evaluate import Outputs
from mano_trainers.evaluation.predict import predict
from mano_trainers.hand.layer import HandLayer
from mano_trainers.models import build_model

METRES_DIGITS = 6


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the predictions of a checkpoint; the exit code: 0 done, 2 bad input."""
    parser = argparse.ArgumentParser(prog="python -m mano_trainers.export", description="Write FreiHAND's pred.json.")
    parser.add_argument("checkpoint", type=Path, help="folder such as runs/train/epoch_050")
    parser.add_argument("--split", choices=["evaluation", "training"], default="evaluation", help="[%(default)s]")
    parser.add_argument("--data", help="folder of FreiHAND; default: the data the checkpoint was trained on")
    parser.add_argument("--out", type=Path, default=Path("pred.json"), help="file to write [%(default)s]")
    options = parser.parse_args(arguments)
    try:
        count = export(options.checkpoint, options.out, options.split, options.data)
    except TrainerError as error:
        lines = [f"error: {error.what}", error.where and f"  --> {error.where}", error.help and f"help: {error.help}"]
        print("\n".join(line for line in lines if line), file=sys.stderr)
        return 2
    print(f"{options.out}: {count} images")
    return 0


def export(folder: Path, out: Path, split: Split = "evaluation", root: str | None = None) -> int:
    """Predict every image of a split and write the file, whole or not at all.

    Args:
        folder: of the checkpoint.
        out: file to write.
        split: of FreiHAND's layout.
        root: of the data set; None: that of the checkpoint's config.

    Returns:
        The number of images.

    Raises:
        CheckpointError: the checkpoint is missing or damaged.
        DataError: the data are missing or damaged.
        ConfigError: no CUDA device, though the config asks for one; or it is not clear which set is meant.
    """
    saved = checkpoint.load(folder)
    config = TrainConfig.model_validate(saved.config)
    with process.settings(config) as device:
        place = _folder(config.data, root)
        pictures = list_images(place, split)  # FreiHAND's evaluation comes without labels
        if config.data.crop is not None:
            whole_px = square_side(pictures[0].path)
            box = centred_box(whole_px, _share(saved.state.get("crop_shares", {}), root))
            pictures = [replace(picture, box=box, whole_px=whole_px) for picture in pictures]
        files = [path for path in label_files(place, split) if path.exists()]
        pixels = cached_images(pictures, files, config.data.image_size, cache_folder()).pixels
        hand = right_hand(config.data.hand)
        model = build_model(config.model, config.data.image_size, hand)
        model.load_state_dict(saved.weights)
        model = model.to(device).to(memory_format=torch.channels_last)
        outputs = predict(model, pixels, np.arange(len(pixels)), config.eval.batch_size, device)
    lists = [points_m.round(METRES_DIGITS).tolist() for points_m in hands(outputs, HandLayer(hand, torch.float64))]
    hidden = out.with_name(f".{out.name}.partial")
    hidden.write_text(json.dumps(lists))
    os.replace(hidden, out)
    return len(pixels)


def _folder(config: DataConfig, asked_for: str | None) -> Path:
    """The folder asked for, or that of the one set in FreiHAND's layout that a model was trained on."""
    roots = list(dict.fromkeys(item.root for item in config.all_sets if item.format == "freihand"))
    if asked_for is None and len(roots) != 1:
        what = f"{len(roots)} of the sets that the checkpoint was trained on are in FreiHAND's layout"
        raise ConfigError(what, "data.sets", "say whose pictures are meant: --data DIR")
    root = roots[0] if asked_for is None else asked_for
    return embedded_root(config, cache_folder()) if root == "embedded" else Path(root).expanduser()


def _share(trained: Mapping[str, float], asked_for: str | None) -> float:
    """What training with `data.crop` cut out of validated pictures, as a share of their side. `trained`: by root."""
    if asked_for is not None and asked_for in trained:
        return trained[asked_for]
    if len(trained) != 1:
        raise ConfigError(
            f"the checkpoint says for {len(trained)} sets how their validated pictures are cut, not for this one",
            "data.crop",
            "export a model that was trained on one set in FreiHAND's layout, or give --data as in its config",
        )
    return next(iter(trained.values()))


def hands(outputs: Outputs, layer: HandLayer) -> tuple[Array, Array]:
    """Joints (N, 21, 3) and vertices (N, 778, 3) of theta's hands in metres, the wrist at the origin.

    In the camera's frame if the model predicts the orientation, otherwise in the wrist's. No model here predicts where
    the hand is, so of the benchmark's scores only the aligned ones are meaningful.
    """
    theta = torch.from_numpy(outputs.theta)
    betas = torch.zeros(len(theta), 10).double() if outputs.betas is None else torch.from_numpy(outputs.betas)
    with torch.no_grad():
        joints_m, verts_m = layer.joints(theta, betas), layer.vertices(theta, betas)
    wrist = joints_m[:, :1]
    joints_m, verts_m = joints_m - wrist, verts_m - wrist
    if outputs.orient is not None:
        turn = torch.from_numpy(outputs.orient).mT
        joints_m, verts_m = joints_m @ turn, verts_m @ turn
    return joints_m.numpy(), verts_m.numpy()


if __name__ == "__main__":
    sys.exit(main())
