"""Checkpoints: a folder written completely or not at all, whose manifest shows whether it is still what was written.

    epoch_003/
      weights.safetensors   the model, buffers included
      state.pt              optimizer state, loadable with weights_only=True
      manifest.json         format, step, epoch, config, and size and sha256 of the two
      predictions.jpg       some predictions, for people: not part of what is loaded, and not in the manifest

There is no random state in it: every random draw of a run derives from its seed and the step count (see `loop.py`).
"""

import hashlib
import io
import json
import os
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_weights
from safetensors.torch import save as save_weights
from torch import Tensor

from mano_trainers.errors import CheckpointError

FORMAT = 1
WEIGHTS, STATE, MANIFEST = "weights.safetensors", "state.pt", "manifest.json"
HELP = "resume from an older checkpoint beside it"


@dataclass(frozen=True)
class Checkpoint:
    """What `load` returns.

    Attributes:
        step: index of the evaluation it was written at.
        epoch: epochs of training done.
        config: the mapping of the config it was trained with.
        weights: the model's state dict, on the CPU.
        state: whatever else training needs to continue, on the CPU.
    """

    step: int
    epoch: float
    config: Mapping[str, Any]
    weights: dict[str, Tensor]
    state: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint, pictures: Mapping[str, bytes] | None = None) -> None:
    """Write a checkpoint so that `folder` is, even after a crash or a full disk, absent or complete.

    Everything is written and flushed to disk in a hidden folder beside it, which is then renamed. An older checkpoint
    of the same name is replaced. `pictures` (file name -> contents) are written beside it.

    Raises:
        OSError: the disk refuses, e.g. it is full; nothing is left behind.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    hidden = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(hidden, ignore_errors=True)  # left by a process that was killed while it wrote
    hidden.mkdir()
    try:
        state = io.BytesIO()
        torch.save(checkpoint.state, state)
        contents = {
            # safetensors refuses any other memory layout, channels_last included.
            WEIGHTS: save_weights({name: tensor.contiguous() for name, tensor in checkpoint.weights.items()}),
            STATE: state.getvalue(),
        }
        manifest = {
            "format": FORMAT,
            "step": checkpoint.step,
            "epoch": checkpoint.epoch,
            "config": dict(checkpoint.config),
            "files": {
                name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                for name, data in contents.items()
            },
        }
        written = {**contents, **(pictures or {}), MANIFEST: json.dumps(manifest, indent=2).encode()}
        for name, data in written.items():
            with open(hidden / name, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        _fsync_folder(hidden)
        if folder.exists():
            shutil.rmtree(folder)
        hidden.rename(folder)
        _fsync_folder(folder.parent)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def load(folder: Path) -> Checkpoint:
    """Read a checkpoint, after checking every byte of it against its manifest. Nothing of it is unpickled freely.

    Raises:
        CheckpointError: it is missing, incomplete, damaged, or of another format; the message says which.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        form, files = manifest["format"], manifest["files"]
        if form != FORMAT:
            raise CheckpointError(f"format {form}, but this version reads format {FORMAT}", str(folder))
        contents = {}
        for name in (WEIGHTS, STATE):
            contents[name] = (folder / name).read_bytes()
            if hashlib.sha256(contents[name]).hexdigest() != files[name]["sha256"]:
                raise CheckpointError("does not match the checkpoint's manifest: damaged", str(folder / name), HELP)
        return Checkpoint(
            step=manifest["step"],
            epoch=manifest["epoch"],
            config=manifest["config"],
            weights=load_weights(contents[WEIGHTS]),
            state=torch.load(io.BytesIO(contents[STATE]), map_location="cpu", weights_only=True),
        )
    except OSError as error:
        raise CheckpointError(f"not a complete checkpoint: {error.strerror}", str(folder), HELP) from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"not a checkpoint's manifest: {error!r}", str(folder / MANIFEST), HELP) from error
    except pickle.UnpicklingError as error:
        raise CheckpointError("refused: contains more than tensors and plain values", str(folder / STATE)) from error


def latest_good(workdir: Path) -> Path | None:
    """The newest checkpoint in a folder (by its step) that is undamaged, or None if there is none."""
    steps: list[tuple[int, Path]] = []
    for manifest in workdir.glob(f"[!.]*/{MANIFEST}"):
        try:
            steps.append((int(json.loads(manifest.read_bytes())["step"]), manifest.parent))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    for _, folder in sorted(steps, reverse=True):
        try:
            load(folder)
        except CheckpointError:
            continue
        return folder
    return None


def _fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable, not only the contents of its files."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
