"""The work of an epoch and the rates of GPUs, from which a plan is made without data, a GPU or torch."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mano_trainers.config import TrainConfig
from mano_trainers.epoch_work import epoch_work

SPECS = Path(__file__).parents[2] / "search_spaces"


def config(backbone: str = "resnet18", train: dict[str, Any] | None = None, **data: Any) -> TrainConfig:
    whole = {"root": "/no/such/FreiHAND", "image_size": 224, "versions": "all", **data}
    return TrainConfig.model_validate({"data": whole, "model": {"backbone": backbone}, **(train or {})})


@pytest.mark.parametrize(
    ("settings", "images"),
    [
        ({}, 4 * 29_304 + 3_256 / 3),
        ({"versions": "one"}, 29_304 + 3_256 / 3),
        ({"validate_on": "evaluation"}, 130_240 + 3_960 / 3),
        ({"format": "ho3d"}, 0.9 * 83_325 + 8_332.5 / 3),
        ({"root": "embedded", "embedded_count": 100}, 4 * 90 + 10 / 3),
    ],
)
def test_missing_data_count_as_the_published_set(settings: dict[str, Any], images: float) -> None:
    assert epoch_work(config(**settings)).images == pytest.approx(images, abs=1)


def test_an_evaluation_inside_an_epoch_counts_again() -> None:
    rare, often = (epoch_work(config(train={"evaluate_every": every})).images for every in (1.0, 0.25))
    assert often - rare == pytest.approx(3 * 3_256 / 3)


def test_sets_of_a_mixture_are_added_up() -> None:
    sets = [{"name": "a", "root": "/no/a"}, {"name": "b", "root": "/no/b", "format": "ho3d"}]
    mixed = epoch_work(TrainConfig.model_validate({"data": {"sets": sets, "versions": "one"}}))
    assert mixed.images == pytest.approx(0.9 * 115_885 + 0.1 * 115_885 / 3, abs=1)
    assert mixed.source.startswith("FreiHAND as published and HO-3D v3 as published")


def test_data_that_exist_are_counted(tmp_path: Path) -> None:
    (tmp_path / "training" / "rgb").mkdir(parents=True)
    (tmp_path / "training_K.json").write_text(json.dumps([[[1, 0, 0]] * 3] * 20))
    for index in range(40):
        (tmp_path / "training" / "rgb" / f"{index:08d}.jpg").touch()
    work = epoch_work(config(root=str(tmp_path)))
    assert (work.images, work.source.partition(";")[0]) == (pytest.approx(2 * 18 + 2 / 3), f"counted in {tmp_path}")
    (tmp_path / "training_K.json").write_text("[")
    assert "as published" in epoch_work(config(root=str(tmp_path))).source, "training will say what is wrong"


@pytest.mark.parametrize(("name", "measured"), [("freihand", 9_533), ("freihand_vit", 2_577)])
def test_the_published_specs_have_rates_for_all_gpus(name: str, measured: float) -> None:
    base = yaml.safe_load((SPECS / f"{name}.yaml").read_text())["base"]
    rates = {rate.gpu: rate.images_per_s for rate in epoch_work(TrainConfig.model_validate(base)).rates}
    assert rates["H200"] == measured, "docs/benchmarks.md"
    assert rates["T4"] < rates["A100"] < rates["H100"] <= rates["H200"]


@given(backbone=st.sampled_from(["resnet18", "resnet50", "vit_s16"]), more=st.integers(1, 30))
def test_rates_follow_the_pixels(backbone: str, more: int) -> None:
    size = 224 + 16 * more
    for rate, larger in zip(
        epoch_work(config(backbone)).rates, epoch_work(config(backbone, image_size=size)).rates, strict=True
    ):
        assert larger.images_per_s == pytest.approx(rate.images_per_s * (224 / size) ** 2)


@pytest.mark.parametrize(("backbone", "size"), [("resnet_tiny", 224), ("vit_tiny", 224), ("resnet18", 64)])
def test_an_unmeasured_network_or_image_size_has_no_rate(backbone: str, size: int) -> None:
    assert epoch_work(config(backbone, image_size=size)).rates == ()


def test_torch_is_not_imported() -> None:
    code = "import sys, mano_trainers.epoch_work; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
