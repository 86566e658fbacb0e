"""A GPU computes what a CPU does, reproducibly, within its share: `make test-gpu`, where there is one."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mano_trainers import checkpoint
from mano_trainers.checkpoint import Checkpoint
from mano_trainers.config import LossConfig, TrainConfig
from mano_trainers.data.load import LoadedData, load_data
from mano_trainers.data.on_device import gather, gather_ahead
from mano_trainers.device import process
from mano_trainers.evaluation.predict import predict
from mano_trainers.lanes import train_lanes
from mano_trainers.loop import evaluations, train
from mano_trainers.losses.terms import loss_terms
from mano_trainers.models import HandNet, build_model
from mano_trainers.preflight import preflight
from mano_trainers.report import CheckStatus, EpochReport, Lane
from mano_trainers.training.faults import pipeline_of
from mano_trainers.training.pipeline import Pipeline, training_batch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device that torch can use"),
]

CPU, GPU = torch.device("cpu"), torch.device("cuda")
TIMINGS = {"train/seconds", "train/images_per_s", "gpu/peak_memory_mib"}
EVERY_TERM = {name: 0.5 for name in LossConfig.model_fields if name.startswith("lambda_")}


RECORDED: dict[str, dict[str, Any]] = {
    "convolutions": {},
    "transformer in parts": {
        "model": {"backbone": "vit_tiny"},
        "optim": {"epochs": 3, "batch_size": 8, "micro_batches": 2},
    },
    "every term, gradnorm": {
        "model": {"head": "joints", "predict_shape": True, "predict_orient": True},
        "loss": EVERY_TERM | {"balance": "gradnorm"},
    },
}


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
        augmentation={
            "zoom": 0.2,
            "shift": 0.1,
            "colour": 0.2,
            "blur": 0.02,
            "noise": 0.0,  # each device draws its own
        },
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


def test_batches_match_those_of_the_cpu(data: LoadedData) -> None:
    """Augmented, with everything that turns, moves or colours; interpolation may round differently."""
    (images, target), (images_there, target_there) = (
        training_batch(made(data, device)[0], np.arange(8), 3) for device in (CPU, GPU)
    )
    assert images_there.device.type == GPU.type
    apart = (images - images_there.cpu()).abs()
    assert float(apart.mean()) < 0.005
    for name, value in vars(target).items():
        torch.testing.assert_close(getattr(target_there, name).cpu(), value, rtol=1e-4, atol=1e-5)


def test_losses_and_gradients_match_those_of_the_cpu(data: LoadedData) -> None:
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


def test_predictions_match_those_of_the_cpu(data: LoadedData) -> None:
    """In bfloat16, so to two digits."""
    theta = []
    for device in (CPU, GPU):
        pipeline, model = made(data, device)
        theta.append(predict(model, pipeline.images, pipeline.val_images, 5, device).theta)
    assert np.abs(theta[0] - theta[1]).mean() < 0.02 * np.abs(theta[0]).mean()


@pytest.mark.parametrize("backbone", ["resnet_tiny", "resnet18", "vit_tiny", "handformer_small"])
def test_two_trainings_are_equal_bit_for_bit_and_so_is_one_that_was_interrupted(backbone: str, tmp_path: Path) -> None:
    chosen = config(model={"backbone": backbone})
    first, second = (list(train(chosen, tmp_path / name)) for name in ("a", "b"))
    assert without_timings(first) == without_timings(second)
    rest = list(train(chosen, tmp_path / "c", resume=first[0].checkpoint))
    assert without_timings(rest) == without_timings(first[1:])
    for ours, others in ((second[-1], first[-1]), (rest[-1], first[-1])):
        expected = weights(others)
        assert all(torch.equal(value, expected[name]) for name, value in weights(ours).items())


def test_a_training_in_bfloat16_ends_near_one_in_float32(tmp_path: Path) -> None:
    there, here = (list(train(config(device), tmp_path / device.type))[-1].metrics for device in (GPU, CPU))
    assert there["train/loss"] == pytest.approx(here["train/loss"], rel=0.1)
    assert there["val/pa_mpjpe_mm"] == pytest.approx(here["val/pa_mpjpe_mm"], rel=0.1)


@pytest.mark.parametrize("changes", RECORDED.values(), ids=RECORDED)
def test_a_recorded_training_matches_one_of_single_steps(
    changes: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded, single = (
        list(train(config(**changes, cuda_graph=graph), tmp_path / str(graph)))[-1].metrics for graph in (True, False)
    )
    assert "WARN" not in capsys.readouterr().err, "the step was not recorded"
    for name in ("train/loss", "val/pa_mpjpe_mm"):
        assert recorded[name] == pytest.approx(single[name], rel=1e-3), name


def test_a_recorded_training_repeats_bit_for_bit_and_so_does_an_interrupted_one(tmp_path: Path) -> None:
    """With everything that a step can hold: the average of the weights, learned weights, all of the augmentation."""
    changes = RECORDED["every term, gradnorm"] | {
        "augmentation": {"zoom": 0.2, "colour": 0.2, "blur": 0.02, "erase": 0.5}
    }
    changes |= {"optim": {"epochs": 3, "batch_size": 8, "lr": 1e-3, "ema_decay": 0.9}}
    first, second = (list(train(config(**changes), tmp_path / name)) for name in ("a", "b"))
    rest = list(train(config(**changes), tmp_path / "c", resume=first[0].checkpoint))
    assert without_timings(first) == without_timings(second)
    assert without_timings(rest) == without_timings(first[1:])


def test_a_checkpoint_can_move_from_one_device_to_the_other(tmp_path: Path) -> None:
    for start, end in ((CPU, GPU), (GPU, CPU)):
        begun = next(train(config(start), tmp_path / f"from_{start.type}"))
        assert begun.checkpoint is not None
        moved = checkpoint.load(begun.checkpoint)
        mapping = config(end).model_dump(mode="json")
        folder = tmp_path / f"moved_{start.type}"
        checkpoint.save(folder, Checkpoint(moved.step, moved.epoch, mapping, moved.weights, moved.state))
        there = list(train(config(end), tmp_path / f"to_{end.type}", resume=folder))[-1].metrics
        whole = list(train(config(end), tmp_path / f"whole_{end.type}"))[-1].metrics
        assert there["val/pa_mpjpe_mm"] == pytest.approx(whole["val/pa_mpjpe_mm"], rel=0.1)


@pytest.mark.parametrize("backbone", ["vit_tiny", "resnet_tiny"])
def test_lanes_match_the_single_trainings(backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In bfloat16, where sums in another order are rounded differently."""
    configs = [config(model={"backbone": backbone}, seed=seed) for seed in range(3)]
    lanes = [Lane(each, tmp_path / f"lane{number}") for number, each in enumerate(configs)]
    rounds = iter([lanes] * evaluations(configs[0]) + [[]])
    reports = {lane: report for lane, report in train_lanes(rounds.__next__) if isinstance(report, EpochReport)}
    last = {lane: report.metrics for lane, report in reports.items()}
    assert "WARN" not in capsys.readouterr().err
    for number, lane in enumerate(lanes):
        single = list(train(lane.config, tmp_path / f"alone{number}"))[-1].metrics
        assert last[lane]["train/loss"] == pytest.approx(single["train/loss"], rel=0.02)
        assert last[lane]["val/pa_mpjpe_mm"] == pytest.approx(single["val/pa_mpjpe_mm"], rel=0.05)


def test_a_training_that_runs_out_of_memory_does_not_harm_its_neighbour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The neighbour is a separate process with the other half of the GPU, as trials are."""
    written = tmp_path / "config.yaml"
    written.write_text(config(optim={"epochs": 40, "batch_size": 8}).model_dump_json())
    told = [sys.executable, "-m", "mano_trainers", str(written), "--out", str(tmp_path / "neighbour")]
    paths = [str(Path(process.__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"TRAINERS_GPU_SHARE": "0.5", "PYTHONPATH": os.pathsep.join(paths)}
    neighbour = subprocess.Popen(told, env=environment, stdout=subprocess.PIPE, text=True)
    assert neighbour.stdout is not None
    neighbour.stdout.readline()
    assert neighbour.stdout.readline().startswith("1\t"), "its first epoch"
    monkeypatch.setenv("TRAINERS_GPU_SHARE", "0.5")
    total = torch.cuda.get_device_properties(GPU).total_memory
    with pytest.raises(torch.OutOfMemoryError), process.settings(config()):
        torch.empty(total * 6 // 10, dtype=torch.uint8, device=GPU)
    said, _ = neighbour.communicate(timeout=200)
    assert neighbour.returncode == 0
    assert said.splitlines()[-1].startswith("40\t")


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


def test_a_sound_pipeline_passes_the_preflight_on_a_gpu() -> None:
    chosen = config(data={"embedded_count": 300, "image_size": 32}, optim={"epochs": 20})
    failed = [result for result in preflight(chosen, [chosen]) if result.status is CheckStatus.FAIL]
    assert not failed
