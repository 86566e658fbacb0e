"""Lanes: each equals the single run of its config, in float64 up to rounding, whatever the others do."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mano_trainers import checkpoint, loop
from mano_trainers.config import TrainConfig
from mano_trainers.data.load import LoadedData
from mano_trainers.errors import ConfigError
from mano_trainers.hand.layer import HandLayer
from mano_trainers.lane_rules import check_lanes, lanes_problem
from mano_trainers.lanes import train_lanes
from mano_trainers.losses.terms import Criterion, PosePrior
from mano_trainers.report import EpochReport, Lane
from mano_trainers.training import pipeline
from mano_trainers.training.pipeline import Pipeline

TERMS = "param joint angular pca reg vertex procrustes direct shape orient variance entropy".split()
TIMINGS = {"train/seconds", "train/images_per_s"}


def config(**changes: Any) -> TrainConfig:
    mapping: dict[str, Any] = {
        "data": {"embedded_count": 40, "image_size": 32, "val_fraction": 0.2},
        "loss": {"lambda_joint": 5.0, "lambda_angular": 0.1},
        "optim": {"epochs": 2, "batch_size": 8, "lr": 1e-3, "warmup_steps": 2},
        "eval": {"mesh_images": 4},
        "device": "cpu",
    }
    return TrainConfig.model_validate(mapping | changes)


def lanes_of(**changes: Any) -> list[TrainConfig]:
    """Three configs that differ in everything that lanes may differ in."""
    shared = config(**changes)
    settings = ({}, {"lr": 3e-3, "clip_norm": 0.05, "weight_decay": 0.1}, {"lr": 2e-4, "warmup_steps": 0})
    return [
        shared.model_copy(
            update={
                "seed": seed,
                "optim": shared.optim.model_copy(update=changed),
                "loss": shared.loss.model_copy(update={"lambda_joint": 5.0 * seed + 1.0}),
                "augmentation": shared.augmentation.model_copy(update={"zoom": 0.1 * seed}),
            }
        )
        for seed, changed in enumerate(settings)
    ]


@pytest.fixture(scope="module", autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINERS_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks, labels, hand and pixels in float64, for single runs and lanes alike."""
    build, make, batch = loop.build_model, loop.pipeline_of, pipeline.make_batch

    def doubled(data: LoadedData, chosen: TrainConfig, device: torch.device) -> Pipeline:
        made = make(data, chosen, device)
        criterion, targets = made.criterion, made.targets
        prior = PosePrior(*(value.double() for value in vars(criterion.prior).values()))
        hand = HandLayer(data.hand, torch.float64)
        labels = {name: None if value is None else value.double() for name, value in vars(targets).items()}
        return replace(
            made, criterion=Criterion(criterion.config, hand, prior, criterion.codes), targets=type(targets)(**labels)
        )

    monkeypatch.setattr(loop, "build_model", lambda *args: build(*args).double())
    monkeypatch.setattr(loop, "pipeline_of", doubled)
    for module in ("training.pipeline", "evaluation.predict"):
        monkeypatch.setattr(f"mano_trainers.{module}.make_batch", lambda *args, **named: batch(*args, **named).double())


def alone(chosen: TrainConfig, workdir: Path, resume: Path | None = None) -> list[EpochReport]:
    return list(loop.train(chosen, workdir, resume))


def together(
    configs: list[TrainConfig], workdir: Path, resume: Sequence[Path | None] = ()
) -> dict[int, list[EpochReport]]:
    """Lanes from their start, or from checkpoints, to the end of each."""
    lanes = [
        Lane(config, workdir / str(number), checkpoint)
        for number, (config, checkpoint) in enumerate(zip_longest(configs, resume))
    ]
    found: dict[int, list[EpochReport]] = {number: [] for number in range(len(lanes))}
    going_on = list(lanes)
    for lane, outcome in train_lanes(lambda: going_on):
        if isinstance(outcome, EpochReport):
            found[lanes.index(lane)].append(outcome)
        else:
            assert outcome is None
            going_on.remove(lane)
    return found


def assert_same(ours: list[EpochReport], theirs: list[EpochReport], tolerance: float = 1e-10) -> None:
    """Compare metrics, and weights, statistics and moments of the checkpoints."""
    assert [each.step for each in ours] == [each.step for each in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.metrics.keys() == other.metrics.keys()
        for name in mine.metrics.keys() - TIMINGS:
            assert mine.metrics[name] == pytest.approx(other.metrics[name], rel=1e-6, abs=1e-8, nan_ok=True), name
        assert mine.checkpoint is not None
        assert other.checkpoint is not None
        saved, expected = checkpoint.load(mine.checkpoint), checkpoint.load(other.checkpoint)
        assert saved.config == expected.config
        for name, value in expected.weights.items():
            torch.testing.assert_close(saved.weights[name], value, rtol=tolerance, atol=tolerance, msg=name)
        moments, others = (each.state["optimizer"]["state"] for each in (saved, expected))
        assert moments.keys() == others.keys()
        for index, state in others.items():
            for name, value in state.items():
                torch.testing.assert_close(moments[index][name], value, rtol=1e-8, atol=tolerance)


CASES: dict[str, dict[str, Any]] = {
    "convolutions with normalisation": {},
    "transformer with average, layers' rates and parts": {
        "model": {"backbone": "vit_tiny", "head": "pca"},
        "optim": {
            "epochs": 2,
            "batch_size": 8,
            "ema_decay": 0.9,
            "layer_decay": 0.8,
            "weight_decay_on": "weights",
            "micro_batches": 2,
        },
    },
    "every term, learned weights": {
        "model": {"backbone": "vit_tiny", "head": "joints", "predict_shape": True, "predict_orient": True},
        "loss": {f"lambda_{name}": 0.5 for name in TERMS} | {"balance": "uncertainty"},
        "augment": False,
    },
    "rotations in the camera's frame": {
        "model": {"backbone": "vit_tiny", "head": "rot6d", "predict_orient": True},
        "loss": {"lambda_joint": 1.0, "joint_frame": "camera", "joint_form": "l1_mm"},
        "augment": False,
    },
}


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("name", CASES)
def test_each_lane_equals_the_single_run_of_its_config(name: str, tmp_path: Path) -> None:
    configs = lanes_of(**CASES[name])
    found = together(configs, tmp_path / "lanes")
    for lane, chosen in enumerate(configs):
        single = alone(chosen, tmp_path / f"alone{lane}")
        assert_same(found[lane], single)
    assert found[0][-1].metrics["train/loss"] != found[1][-1].metrics["train/loss"]


@pytest.mark.usefixtures("in_float64")
def test_lanes_resume_from_checkpoints_of_single_runs_and_single_runs_from_theirs(tmp_path: Path) -> None:
    """Each from a different evaluation, or from its start."""
    configs = lanes_of(optim={"epochs": 3, "batch_size": 8, "lr": 1e-3})
    singles = [alone(chosen, tmp_path / f"alone{lane}") for lane, chosen in enumerate(configs)]
    rest = together(configs, tmp_path / "rest", [singles[0][0].checkpoint, singles[1][1].checkpoint])
    for lane, already in enumerate((1, 2, 0)):
        assert_same(rest[lane], singles[lane][already:])
    assert_same(alone(configs[2], tmp_path / "single", rest[2][1].checkpoint), singles[2][2:])


@pytest.mark.usefixtures("in_float64")
def test_lanes_that_leave_join_or_are_lost_do_not_disturb_the_others(tmp_path: Path) -> None:
    configs = lanes_of(model={"backbone": "vit_tiny"}, optim={"epochs": 3, "batch_size": 8, "lr": 1e-3})
    lost = configs[2].model_copy(update={"optim": configs[2].optim.model_copy(update={"lr": 1e300})})
    other = configs[1].model_copy(update={"model": configs[1].model.model_copy(update={"backbone": "resnet_tiny"})})
    first, second, late = (Lane(config, tmp_path / str(number)) for number, config in enumerate(configs))
    diverges, unfit = Lane(lost, tmp_path / "lost"), Lane(other, tmp_path / "unfit")
    rounds = iter([[first, second, diverges], [second, late, diverges, unfit], [second, late], [late], [late], []])
    found: dict[Lane, list[EpochReport]] = {}
    ended = []
    for lane, outcome in train_lanes(rounds.__next__):
        if isinstance(outcome, EpochReport):
            found.setdefault(lane, []).append(outcome)
        else:
            ended.append((lane, outcome))
    assert {lane: len(reports) for lane, reports in found.items()} == {first: 1, second: 3, late: 3, diverges: 1}
    assert math.isnan(found[diverges][-1].metrics["train/loss"])
    assert found[diverges][-1].checkpoint is None
    assert [lane for lane, _ in ended] == [diverges, unfit, late]
    assert "lanes share model.backbone" in str(ended[1][1])
    for lane, config in ((second, configs[1]), (late, configs[2])):
        assert_same(found[lane], alone(config, tmp_path / "alone" / lane.workdir.name))


@pytest.mark.usefixtures("in_float64")
def test_lanes_may_be_in_parts_of_an_epoch_that_differ_by_a_step(tmp_path: Path) -> None:
    """Lanes that are one evaluation apart then have different numbers of steps ahead of them."""
    configs = lanes_of(model={"backbone": "vit_tiny"}, evaluate_every=0.5, optim={"epochs": 1, "batch_size": 10})
    first, second = (Lane(config, tmp_path / str(number)) for number, config in enumerate(configs[:2]))
    rounds = iter([[first], [first, second], [second], []])
    reports = [(lane, outcome) for lane, outcome in train_lanes(rounds.__next__) if outcome is not None]
    singles = [alone(config, tmp_path / f"alone{number}") for number, config in enumerate(configs[:2])]
    steps = [report.metrics["train/optimizer_steps"] for report in singles[0]]
    assert steps[1] != 2 * steps[0], "the case is none"
    for lane, single in zip((first, second), singles, strict=True):
        assert_same([report for each, report in reports if each is lane and isinstance(report, EpochReport)], single)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"model": {"backbone": "vit_tiny"}},
            "lanes share model.backbone, but lane 1 has vit_tiny, lane 0 resnet_tiny",
        ),
        ({"optim": {"batch_size": 4}}, "lanes share optim.batch_size"),
        ({"data": {"embedded_count": 41}}, "lanes share data.embedded_count"),
        ({"loss": {"lambda_joint": 1.0, "lambda_pca": 1.0}}, "lane 1 has different loss terms above 0 from lane 0"),
        (
            {"loss": {"lambda_joint": 1.0, "balance": "gradnorm"}},
            "lane 1 has loss.balance gradnorm, which lanes",
        ),
        ({"control": "shuffled_labels"}, "lane 1 has control shuffled_labels"),
        ({"compile": True}, "lane 1 has compile True"),
    ],
)
def test_what_cannot_be_a_lane_is_refused(changes: dict[str, Any], says: str) -> None:
    first = TrainConfig.model_validate({"loss": {"lambda_joint": 5.0}})
    with pytest.raises(ConfigError) as caught:
        check_lanes([first, TrainConfig.model_validate({"loss": {"lambda_joint": 2.0}} | changes)])
    assert says in caught.value.what
    assert caught.value.help == "train it in its own process"


def test_an_empty_list_of_configs_is_refused() -> None:
    with pytest.raises(ConfigError, match="no lane"):
        check_lanes([])
    assert list(train_lanes(list)) == []


def test_convolutions_on_a_cpu_do_not_train_in_lanes() -> None:
    both = [config(seed=seed) for seed in range(2)]
    said = lanes_problem(both, on_gpu=False)
    assert said == "on a CPU the convolutions of resnet_tiny take longer in lanes than in sequence"
    assert lanes_problem(both, on_gpu=True) is None
    assert lanes_problem([config(model={"backbone": "vit_tiny"}, seed=seed) for seed in range(2)], on_gpu=False) is None
    assert "lane 1 has control zero" in str(lanes_problem([both[0], config(control="zero")], on_gpu=True))


def test_a_lane_alone_may_evaluate_inside_an_epoch(tmp_path: Path) -> None:
    chosen = config(model={"backbone": "vit_tiny"}, evaluate_every=0.5)
    found, single = together([chosen], tmp_path / "lane")[0], alone(chosen, tmp_path / "alone")
    assert [each.epoch for each in found] == [each.epoch for each in single] == [0.5, 1.0, 1.5, 2.0]
    assert found[-1].metrics["train/loss"] == pytest.approx(single[-1].metrics["train/loss"], rel=1e-4)


def test_lanes_in_float32_stay_near_the_single_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With only one copy of the data on the device."""
    make, made = loop.pipeline_of, []
    monkeypatch.setattr(loop, "pipeline_of", lambda *args: made.append(make(*args)) or made[-1])
    configs = lanes_of(model={"backbone": "vit_tiny"}, optim={"epochs": 1, "batch_size": 8, "lr": 1e-3})
    found = together(configs, tmp_path / "lanes")
    assert len(made) == 1
    for lane, (report,) in found.items():
        (single,) = alone(configs[lane], tmp_path / f"alone{lane}")
        assert report.metrics["train/loss"] == pytest.approx(single.metrics["train/loss"], rel=1e-4)
        assert np.isfinite(report.metrics["val/pa_mpjpe_mm"])
