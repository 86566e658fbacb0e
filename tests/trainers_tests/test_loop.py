"""Whole trainings on a very small embedded set: they learn, repeat bit for bit, and continue bit for bit."""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from mano_trainers import checkpoint
from mano_trainers.config import TrainConfig
from mano_trainers.errors import ConfigError, DataError
from mano_trainers.loop import train
from mano_trainers.report import OFFERS, EpochReport

TIMINGS = {"train/seconds", "train/images_per_s"}


@pytest.fixture(scope="module", autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINERS_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def config(**changes: Any) -> TrainConfig:
    mapping: dict[str, Any] = {
        "data": {"embedded_count": 48, "image_size": 32, "val_fraction": 0.25},
        "loss": {"lambda_joint": 5.0, "lambda_angular": 0.1, "lambda_pca": 0.001},
        "optim": {"epochs": 3, "batch_size": 8, "lr": 1e-3, "warmup_steps": 2},
        "eval": {"mesh_images": 4},
        "device": "cpu",
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            mapping[section] = {**mapping[section], name: value}
        else:
            mapping[section] = value
    return TrainConfig.model_validate(mapping)


def without_timings(reports: list[EpochReport]) -> list[Mapping[str, float]]:
    return [{name: value for name, value in report.metrics.items() if name not in TIMINGS} for report in reports]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, cache_dir: None) -> list[EpochReport]:
    return list(train(config(), tmp_path_factory.mktemp("unbroken")))


def test_reports_name_steps_epochs_and_checkpoints(unbroken: list[EpochReport]) -> None:
    assert [(report.step, report.epoch) for report in unbroken] == [(1, 1.0), (2, 2.0), (3, 3.0)]
    for report in unbroken:
        assert report.total_epochs == 3.0, "or a sweep would rank trials that have just ended"
        assert report.checkpoint is not None
        assert report.checkpoint.name == f"epoch_{report.step:03d}"
        assert checkpoint.load(report.checkpoint).config == config().model_dump(mode="json")


def test_reported_metrics(unbroken: list[EpochReport]) -> None:
    metrics = unbroken[-1].metrics
    terms = ("param", "joint", "angular", "pca", "reg")
    train_names = {name for name in metrics if name.startswith("train/")}
    assert train_names == TIMINGS | {"train/loss", "train/optimizer_steps"} | {
        f"train/{kind}_{term}" for kind in ("loss", "grad_share") for term in terms
    }
    assert metrics["train/optimizer_steps"] == 3 * (36 // 8)
    assert sum(metrics[f"train/grad_share_{term}"] for term in terms) == pytest.approx(1.0)
    loss = config().loss
    weighted = [getattr(loss, f"lambda_{term}") * metrics[f"train/loss_{term}"] for term in terms]
    assert metrics["train/loss"] == pytest.approx(sum(weighted), rel=1e-5)
    assert all(math.isfinite(value) for value in metrics.values())
    versions = {f"val/version_{number}/pa_mpjpe_mm" for number in range(4)}
    interval = {"val/pa_mpjpe_low_mm", "val/pa_mpjpe_high_mm"}
    assert versions | interval <= set(metrics)
    assert sum(name.startswith("val/") for name in metrics) == 16 + len(versions | interval)
    named = {OFFERS.variance_ratio, OFFERS.explained, OFFERS.skill, OFFERS.skill_p}
    assert named <= set(metrics)
    assert OFFERS.gradient_share + "param" in metrics


def test_the_same_config_gives_the_same_bits(unbroken: list[EpochReport], tmp_path: Path) -> None:
    torch.manual_seed(1234)  # what others left in the global generator has no say
    torch.rand(3)
    again = list(train(config(), tmp_path))
    assert without_timings(again) == without_timings(unbroken)
    assert again[-1].checkpoint is not None
    assert unbroken[-1].checkpoint is not None
    first, second = (checkpoint.load(run[-1].checkpoint).weights for run in (unbroken, again))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_seed_gives_other_metrics(unbroken: list[EpochReport], tmp_path: Path) -> None:
    (first, *_) = train(config(seed=1, optim__epochs=1), tmp_path)
    assert first.metrics["train/loss"] != unbroken[0].metrics["train/loss"]


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_interrupted_run_continues_bit_for_bit(unbroken: list[EpochReport], tmp_path: Path, epoch: int) -> None:
    interrupted = train(config(), tmp_path)
    before = [next(interrupted) for _ in range(epoch)]
    interrupted.close()
    torch.manual_seed(99)
    after = list(train(config(), tmp_path, resume=before[-1].checkpoint))
    assert [report.step for report in after] == list(range(epoch + 1, 4))
    assert without_timings(before + after) == without_timings(unbroken)


def test_evaluations_inside_an_epoch_do_not_change_what_is_learned(unbroken: list[EpochReport], tmp_path: Path) -> None:
    """An epoch has 4 steps, so its thirds have 1, 1 and 2 steps."""
    reports = list(train(config(evaluate_every=0.33), tmp_path))
    assert [report.step for report in reports] == list(range(1, 10))
    assert [report.epoch for report in reports] == pytest.approx([step / 3 for step in range(1, 10)])
    steps = [report.metrics["train/optimizer_steps"] for report in reports]
    assert steps == [1, 2, 4, 5, 6, 8, 9, 10, 12]
    assert [report.checkpoint.name for report in reports if report.checkpoint][-1] == "step_0009"
    assert reports[-1].total_epochs == 3.0
    windows = [later - earlier for earlier, later in itertools.pairwise([0, *steps])]
    for whole, last in zip(unbroken, (3, 6, 9), strict=True):
        parts = list(zip(windows, reports, strict=True))[last - 3 : last]
        validation = {name: value for name, value in whole.metrics.items() if name.startswith("val/")}
        assert {name: parts[-1][1].metrics[name] for name in validation} == validation
        mean = sum(steps * report.metrics["train/loss"] for steps, report in parts) / 4
        assert mean == pytest.approx(whole.metrics["train/loss"], rel=1e-5)


@pytest.mark.parametrize("evaluations", [1, 2, 3, 5])
def test_a_run_interrupted_inside_an_epoch_continues_bit_for_bit(tmp_path: Path, evaluations: int) -> None:
    chosen = config(
        evaluate_every=0.25, optim__epochs=2, loss={"lambda_joint": 5.0, "balance": "gradnorm"}, data__versions="one"
    )
    whole = list(train(chosen, tmp_path / "whole"))
    interrupted = train(chosen, tmp_path / "broken")
    before = [next(interrupted) for _ in range(evaluations)]
    interrupted.close()
    after = list(train(chosen, tmp_path / "broken", resume=before[-1].checkpoint))
    assert [report.step for report in before + after] == list(range(1, 9))
    assert without_timings(before + after) == without_timings(whole)


def test_more_evaluations_than_steps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="an epoch has only 4 steps, got 5 evaluations"):
        list(train(config(evaluate_every=0.2), tmp_path))


def drop_optimizer(saved: checkpoint.Checkpoint) -> checkpoint.Checkpoint:
    optimizer = {**saved.state["optimizer"], "state": {}}
    return checkpoint.Checkpoint(
        saved.step, saved.epoch, saved.config, saved.weights, {**saved.state, "optimizer": optimizer}
    )


def drop_place_in_schedule_and_order(saved: checkpoint.Checkpoint) -> checkpoint.Checkpoint:
    return checkpoint.Checkpoint(saved.step, 0.0, saved.config, saved.weights, saved.state)


def drop_batch_norm_statistics(saved: checkpoint.Checkpoint) -> checkpoint.Checkpoint:
    weights = {
        name: torch.zeros_like(value) if name.endswith("running_mean") else value
        for name, value in saved.weights.items()
    }
    return checkpoint.Checkpoint(saved.step, saved.epoch, saved.config, weights, saved.state)


@pytest.mark.parametrize("mutate", [drop_optimizer, drop_place_in_schedule_and_order, drop_batch_norm_statistics])
def test_every_part_of_a_checkpoint_is_needed_to_continue(
    unbroken: list[EpochReport], tmp_path: Path, mutate: Any
) -> None:
    assert unbroken[1].checkpoint is not None
    checkpoint.save(tmp_path / "epoch_002", mutate(checkpoint.load(unbroken[1].checkpoint)))
    continued = list(train(config(), tmp_path, resume=tmp_path / "epoch_002"))
    assert without_timings(continued)[-1] != without_timings(unbroken)[-1]


EVERYTHING: dict[str, Any] = {
    "model": {"head": "joints", "predict_shape": True, "predict_orient": True},
    "loss": {
        **{f"lambda_{name}": 0.1 for name in ("param", "angular", "shape", "orient", "variance", "entropy")},
        **{f"lambda_{name}": 5.0 for name in ("joint", "vertex", "procrustes", "direct")},
        "joint_frame": "camera",
    },
}


@pytest.mark.parametrize("balance", ["uncertainty", "gradnorm"])
def test_learned_weights_and_all_terms_continue_bit_for_bit(tmp_path: Path, balance: str) -> None:
    chosen = config(model=EVERYTHING["model"], loss=EVERYTHING["loss"] | {"balance": balance})
    whole = list(train(chosen, tmp_path / "whole"))
    after = list(train(chosen, tmp_path / "after", resume=whole[0].checkpoint))
    assert without_timings(whole[:1] + after) == without_timings(whole)
    metrics = whole[-1].metrics
    assert all(math.isfinite(value) for value in metrics.values())
    assert {"val/mpjpe_camera_mm", "val/joints_pa_mpjpe_mm", "val/joints_mpjpe_mm"} <= set(metrics)
    weights = {name: value for name, value in metrics.items() if name.startswith("train/weight_")}
    assert len(weights) == 11
    assert weights["train/weight_variance"] == 0.1  # a hinge, not a comparison with the truth
    assert weights["train/weight_param"] != 0.1
    assert whole[0].checkpoint is not None
    saved = checkpoint.load(whole[0].checkpoint)
    fresh = {**saved.state["balance"], "values": torch.ones_like(saved.state["balance"]["values"])}
    without = checkpoint.Checkpoint(1, 1.0, saved.config, saved.weights, {**saved.state, "balance": fresh})
    checkpoint.save(tmp_path / "without" / "epoch_001", without)
    broken = list(train(chosen, tmp_path / "broken", resume=tmp_path / "without" / "epoch_001"))
    assert without_timings(broken) != without_timings(after)


@pytest.mark.parametrize("head", ["rot6d", "pca"])
def test_other_heads_train(tmp_path: Path, head: str) -> None:
    reports = list(train(config(model={"head": head}, augment=False, optim__lr=3e-3, optim__epochs=6), tmp_path))
    assert reports[-1].metrics["train/loss"] < 0.95 * reports[0].metrics["train/loss"]
    assert math.isfinite(reports[-1].metrics["val/pa_mpjpe_mm"])


@pytest.mark.slow
def test_a_compiled_model_trains_alike_and_leaves_the_same_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With torch's tracer and its backward graph, but without the C++ compiler, which takes minutes."""
    whole = torch.compile  # a module's own `compile` calls it too
    monkeypatch.setattr(torch, "compile", lambda work, **options: whole(work, **options | {"backend": "aot_eager"}))
    plain, compiled = (
        list(train(config(compile=choice, optim__epochs=1), tmp_path / str(choice))) for choice in (False, True)
    )
    assert plain[0].checkpoint is not None
    assert compiled[0].checkpoint is not None
    one, other = (checkpoint.load(report.checkpoint).weights for report in (plain[0], compiled[0]) if report.checkpoint)
    assert set(one) == set(other)
    assert compiled[0].metrics["train/loss"] == pytest.approx(plain[0].metrics["train/loss"], rel=1e-3)
    resumed = list(train(config(compile=True, optim__epochs=1), tmp_path / "on", resume=compiled[0].checkpoint))
    assert resumed == []


def test_training_neither_reads_nor_moves_the_global_generator(tmp_path: Path) -> None:
    """Why a checkpoint holds no random state: there is none to hold."""
    before = torch.get_rng_state()
    list(train(config(optim__epochs=1), tmp_path))
    assert torch.equal(torch.get_rng_state(), before)


def test_process_settings_are_restored(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    assert not torch.are_deterministic_algorithms_enabled()
    running = train(config(threads=threads + 1, optim__epochs=1), tmp_path)
    next(running)
    assert torch.get_num_threads() == threads + 1
    assert torch.are_deterministic_algorithms_enabled()
    assert (
        not torch.is_deterministic_algorithms_warn_only_enabled()
    )  # attention's gradient would not be deterministic with it
    running.close()
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_loss_that_is_not_finite_is_reported_and_ends_the_run(tmp_path: Path) -> None:
    reports = list(train(config(optim__lr=1e30, optim__clip_norm=1e30), tmp_path))
    assert len(reports) < 3
    assert math.isnan(reports[-1].metrics["train/loss"])
    assert math.isnan(reports[-1].metrics["val/pa_mpjpe_mm"])
    assert reports[-1].checkpoint is None


def test_resuming_with_another_config_is_refused(unbroken: list[EpochReport], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another config, which differs in optim"):
        next(train(config(optim__lr=2e-3), tmp_path, resume=unbroken[0].checkpoint))


def test_resuming_on_other_data_is_refused(unbroken: list[EpochReport], tmp_path: Path) -> None:
    assert unbroken[0].checkpoint is not None
    saved = checkpoint.load(unbroken[0].checkpoint)
    other = {**saved.state, "data_fingerprint": "0"}
    checkpoint.save(tmp_path / "epoch_001", checkpoint.Checkpoint(1, 1.0, saved.config, saved.weights, other))
    with pytest.raises(DataError, match="not trained on the data"):
        next(train(config(), tmp_path, resume=tmp_path / "epoch_001"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without CUDA")
def test_cuda_without_a_device_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no CUDA device"):
        next(train(config(device="cuda"), tmp_path))


@pytest.mark.parametrize("form", ["mse_m2", "l1_mm"])
def test_other_settings_train_too(tmp_path: Path, form: str) -> None:
    changed = config(loss__joint_form=form, data__versions="all", augment=False, optim__epochs=1)
    (report,) = train(changed, tmp_path)
    assert report.metrics["train/optimizer_steps"] == 4 * 36 // 8
    assert math.isfinite(report.metrics["val/pa_mpjpe_mm"])


@pytest.mark.slow
def test_a_few_images_are_memorised(tmp_path: Path) -> None:
    small = config(data__embedded_count=8, optim__epochs=150, optim__batch_size=6, optim__lr=3e-3, augment=False)
    losses = [report.metrics["train/loss_param"] for report in train(small, tmp_path)]
    assert losses[-1] < 0.1 * losses[0]
