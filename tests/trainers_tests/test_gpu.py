"""A GPU computes what a CPU does, twice the same, within its share: `make test-gpu`, where there is one."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mano_trainers import checkpoint
from mano_trainers.config import LossConfig, TrainConfig
from mano_trainers.data.load import LoadedData, load_data
from mano_trainers.data.on_device import gather, gather_ahead
from mano_trainers.device import process
from mano_trainers.evaluation.predict import predict
from mano_trainers.faults import pipeline_of
from mano_trainers.loop import train
from mano_trainers.losses.terms import loss_terms
from mano_trainers.models import HandNet, build_model
from mano_trainers.pipeline import Pipeline, training_batch
from mano_trainers.preflight import preflight
from mano_trainers.report import CheckStatus, EpochReport

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device that torch can use"),
]

CPU, GPU = torch.device("cpu"), torch.device("cuda")
TIMINGS = {"train/seconds", "train/images_per_s", "gpu/peak_memory_mib"}
EVERY_TERM = {name: 0.5 for name in LossConfig.model_fields if name.startswith("lambda_")}


@pytest.fixture(scope="module", autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINERS_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def config(device: torch.device = GPU, **changes: Any) -> TrainConfig:
    mapping: dict[str, Any] = {
        "data": {"embedded_count": 48, "image_size": 32, "val_fraction": 0.25},
        "loss": {"lambda_joint": 5.0, "lambda_angular": 0.1, "lambda_pca": 0.001},
        "optim": {"epochs": 3, "batch_size": 8, "lr": 1e-3, "warmup_steps": 2},
        "eval": {"mesh_images": 4},
        "device": device.type,
    }
    return TrainConfig.model_validate(mapping | changes)


@pytest.fixture(scope="module")
def data(cache_dir: None) -> LoadedData:
    return load_data(config().data)


def made(data: LoadedData, device: torch.device) -> tuple[Pipeline, HandNet]:
    chosen = config(
        device,
        model={"head": "joints", "predict_shape": True, "predict_orient": True},
        loss=EVERY_TERM,
        augmentation={"zoom": 0.2, "shift": 0.1, "colour": 0.2, "blur": 0.02},
    )
    torch.manual_seed(0)
    model = build_model(chosen.model, 32, data.hand)
    torch.nn.init.normal_(model.last_layer.weight, std=0.02)
    return pipeline_of(data, chosen, device), model.to(device)


def without_timings(reports: list[EpochReport]) -> list[Mapping[str, float]]:
    return [{name: value for name, value in report.metrics.items() if name not in TIMINGS} for report in reports]


def weights(report: EpochReport) -> dict[str, torch.Tensor]:
    assert report.checkpoint is not None
    return checkpoint.load(report.checkpoint).weights


def test_batches_are_those_of_the_cpu(data: LoadedData) -> None:
    """Augmented, with everything that turns, moves or colours; interpolation may round otherwise."""
    (images, target), (images_there, target_there) = (
        training_batch(made(data, device)[0], np.arange(8), 3) for device in (CPU, GPU)
    )
    assert images_there.device.type == GPU.type
    apart = (images - images_there.cpu()).abs()
    assert float(apart.mean()) < 0.005
    for name, value in vars(target).items():
        torch.testing.assert_close(getattr(target_there, name).cpu(), value, rtol=1e-4, atol=1e-5)


def test_losses_and_gradients_are_those_of_the_cpu(data: LoadedData) -> None:
    found = []
    images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for device in (CPU, GPU):
        pipeline, model = made(data, device)
        target = pipeline.targets.of(np.arange(8), None)
        terms = loss_terms(pipeline.criterion, model.eval()(images.to(device)), target)
        torch.stack(list(terms.values())).sum().backward()
        slopes = {name: each.grad.cpu() for name, each in model.named_parameters() if each.grad is not None}
        found.append(({name: float(term) for name, term in terms.items()}, slopes))
    (terms, slopes), (terms_there, slopes_there) = found
    assert terms_there == pytest.approx(terms, rel=2e-3, abs=1e-5)
    assert slopes.keys() == slopes_there.keys()
    apart = sum(float((slopes_there[name] - slope).square().sum()) for name, slope in slopes.items())
    assert apart**0.5 < 0.02 * sum(float(slope.square().sum()) for slope in slopes.values()) ** 0.5


def test_predictions_are_those_of_the_cpu(data: LoadedData) -> None:
    """In bfloat16, so to two digits."""
    theta = []
    for device in (CPU, GPU):
        pipeline, model = made(data, device)
        theta.append(predict(model, pipeline.images, pipeline.val_images, 5, device).theta)
    assert np.abs(theta[0] - theta[1]).mean() < 0.02 * np.abs(theta[0]).mean()


def test_two_trainings_are_equal_bit_for_bit_and_one_that_was_interrupted_too(tmp_path: Path) -> None:
    first, second = (list(train(config(), tmp_path / name)) for name in ("a", "b"))
    assert without_timings(first) == without_timings(second)
    rest = list(train(config(), tmp_path / "c", resume=first[0].checkpoint))
    assert without_timings(rest) == without_timings(first[1:])
    for ours, others in ((second[-1], first[-1]), (rest[-1], first[-1])):
        expected = weights(others)
        assert all(torch.equal(value, expected[name]) for name, value in weights(ours).items())


def test_a_training_in_bfloat16_comes_to_what_float32_does(tmp_path: Path) -> None:
    there, here = (list(train(config(device), tmp_path / device.type))[-1].metrics for device in (GPU, CPU))
    assert there["train/loss"] == pytest.approx(here["train/loss"], rel=0.1)
    assert there["val/pa_mpjpe_mm"] == pytest.approx(here["val/pa_mpjpe_mm"], rel=0.1)


def test_a_training_takes_no_more_than_its_share_and_leaves_the_gpu_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    third = torch.cuda.get_device_properties(GPU).total_memory // 3
    monkeypatch.setenv("TRAINERS_GPU_SHARE", "0.25")
    with pytest.raises(torch.OutOfMemoryError), process.settings(config()):
        torch.empty(third, dtype=torch.uint8, device=GPU)
    torch.cuda.empty_cache()
    assert torch.empty(third, dtype=torch.uint8, device=GPU).numel() == third


def test_images_that_are_copied_ahead_are_the_right_ones(data: LoadedData) -> None:
    order = np.random.default_rng(0).integers(len(data.images), size=(40, 16))
    busy = torch.randn(2048, 2048, device=GPU)
    for indices, batch in zip(order, gather_ahead(data.images, order, GPU), strict=True):
        busy = torch.tanh(busy @ busy)  # the step is still computed when the next copy starts
        assert torch.equal(batch.cpu(), gather(data.images, indices, CPU))
    assert math.isfinite(float(busy.sum()))


def test_a_sound_pipeline_passes_the_preflight_there() -> None:
    chosen = config(data={"embedded_count": 300, "image_size": 32}, optim={"epochs": 20})
    failed = [result for result in preflight(chosen, [chosen]) if result.status is CheckStatus.FAIL]
    assert not failed
