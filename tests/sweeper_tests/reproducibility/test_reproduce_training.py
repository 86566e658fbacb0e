"""The shared trainer reproduced, and the effect of one changed bit in what it depends on."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from recording import artifact, changed, record_trial, with_config

from mano_trainers.config import TrainConfig
from mano_trainers.data.load import load_data
from mano_trainers.data.rendering.freihand import make_freihand
from sweeper.errors import EXIT_OK
from sweeper.reproducibility.reproduce import reproduce

LAMBDA = 0.1 + 0.2
CONFIG: dict[str, Any] = {
    "loss": {"lambda_joint": LAMBDA},
    "optim": {"epochs": 2, "batch_size": 16},
    "eval": {"mesh_images": 4},
    "device": "cpu",
}
pytestmark = pytest.mark.slow
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "set"
    make_freihand(folder, 40, 32, seed=0)
    return folder


@pytest.fixture(scope="module")
def study(
    tmp_path_factory: pytest.TempPathFactory, template_db: Path, data: Path, warm_trainer: Path
) -> Iterator[Path]:
    """A home with ``toy-0001``: two epochs of the smallest network on 40 poses. Reruns are separate processes that
    have imported torch."""
    home = tmp_path_factory.mktemp("training") / "home"
    home.mkdir()
    shutil.copy(template_db, home / "mlflow.db")
    config = CONFIG | {"data": {"root": str(data), "image_size": 32, "versions": "all"}}
    config = TrainConfig.model_validate(config).model_dump(mode="json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINERS_CACHE_DIR", str(home / "data"))
        patch.setattr(sys, "executable", str(warm_trainer))
        record_trial(home, "mano_trainers.loop:train", config)
        yield home


def test_bit_exact_from_a_checkpoint(study: Path, capfd: Capture) -> None:
    assert reproduce("toy", study, from_checkpoint=1) == EXIT_OK
    out = capfd.readouterr().out
    assert "weights: 1 of 1 checkpoints bit for bit equal" in out
    assert out.endswith("verdict: BIT-EXACT\n")


def test_the_last_bit_of_a_loss_weight_in_float32_is_noticed(study: Path, capfd: Capture) -> None:
    # A double times a float32 tensor is rounded to float32 first: its own last bit is named, and changes nothing.
    for value, verdict in ((0.3, "BIT-EXACT"), (float(np.nextafter(np.float32(0.3), np.float32(1))), "WITHIN TOL")):
        with changed(artifact(study, "trial.yaml"), with_config("loss.lambda_joint", value)):
            assert reproduce("toy", study, until=1) == EXIT_OK
        out = capfd.readouterr().out
        change = f"loss.lambda_joint {LAMBDA!r} -> {value!r}"
        assert f"  DIFFERS  {change}\n" in out
        assert f"verdict: {verdict}" in out
        assert verdict == "BIT-EXACT" or f"likely cause: config ({change})\n" in out


def test_one_more_thread_is_noticed(study: Path, capfd: Capture) -> None:
    with changed(artifact(study, "trial.yaml"), with_config("threads", 2)):
        reproduce("toy", study, until=1)  # how far it deviates depends on the machine
    out = capfd.readouterr().out
    assert "likely cause: config (threads 1 -> 2); less likely: threads\n" in out
    assert "verdict: BIT-EXACT" not in out


def test_one_changed_pixel_is_noticed(study: Path, data: Path, capfd: Capture) -> None:
    shown = load_data(TrainConfig.model_validate(CONFIG | {"data": {"root": str(data), "image_size": 32}}).data)
    image = data / "training" / "rgb" / f"{shown.train_poses[0]:08d}.jpg"
    pixels = Image.open(image).copy()
    pixels.putpixel((16, 16), (255, 0, 0))

    def repaint(_: bytes) -> bytes:
        pixels.save(image, quality=100)
        return image.read_bytes()

    with changed(image, repaint):
        reproduce("toy", study, until=1)
    out = capfd.readouterr().out
    recorded = json.loads(artifact(study, "provenance.json").read_text())["data"]["data"]
    assert f"likely cause: data: data ({recorded[:12]} -> " in out
    assert "verdict: BIT-EXACT" not in out
