"""Recorded steps, with a recording that calls the work again: everything but CUDA's own part."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from mano_trainers import checkpoint
from mano_trainers.config import TrainConfig
from mano_trainers.data.load import LoadedData, load_data
from mano_trainers.device.replay import Replay, Work, tensors_in
from mano_trainers.loop import train_on
from mano_trainers.report import EpochReport
from mano_trainers.training import steps

CPU = torch.device("cpu")
TIMINGS = {"train/seconds", "train/images_per_s"}


@dataclass(frozen=True)
class Given:
    first: torch.Tensor
    nothing: None
    inner: "Inner"


@dataclass(frozen=True)
class Inner:
    second: torch.Tensor


def given(first: float, second: float) -> Given:
    return Given(torch.full((2,), first), None, Inner(torch.full((1,), second)))


def test_a_replay_reads_new_values_from_the_memory_it_was_recorded_with() -> None:
    seen: list[Given] = []
    recorded: list[Work] = []
    total = torch.zeros(2)

    def work(inputs: Given) -> None:
        seen.append(inputs)
        total.add_(inputs.first * inputs.inner.second)

    def record(again: Work) -> Work:
        recorded.append(again)
        return again

    replay = Replay(work, record)
    first = given(1.0, 10.0)
    for inputs in (first, given(2.0, 20.0), given(3.0, 30.0)):
        replay(inputs)
    assert total.tolist() == [140.0, 140.0]
    assert len(recorded) == 1, "recorded once"
    assert all(each is seen[0] for each in seen), "the same tensors each time"
    assert first.first.tolist() == [1.0, 1.0], "what the caller gave is its own"
    with pytest.raises(AssertionError, match="one shape"):
        replay(Given(torch.zeros(1), None, Inner(torch.zeros(1))))


def test_work_that_cannot_be_recorded_is_done_directly_and_reported_once(capsys: pytest.CaptureFixture[str]) -> None:
    total = torch.zeros(2)
    tries: list[int] = []

    def refuse(work: Work) -> Work:
        tries.append(1)
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore of it")

    replay = Replay(lambda inputs: total.add_(inputs.first), refuse)
    for number in range(3):
        replay(given(float(number), 0.0))
    assert total.tolist() == [3.0, 3.0]
    assert (len(tries), replay.failed) == (1, True)
    said = capsys.readouterr().err
    assert said.count("WARN") == said.count("\n") == 1
    assert "operation not permitted when stream is capturing" in said


def test_another_exception_is_not_taken_for_a_refusal() -> None:
    def broken(work: Work) -> Work:
        raise KeyError("a mistake in the step")

    with pytest.raises(KeyError):
        Replay(lambda inputs: None, broken)(given(0.0, 0.0))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedData]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINERS_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield load_data(config().data, with_masks=True)


def config(**changes: Any) -> TrainConfig:
    mapping: dict[str, Any] = {
        "data": {"embedded_count": 40, "image_size": 32, "val_fraction": 0.2},
        "loss": {"lambda_joint": 5.0, "lambda_angular": 0.1, "balance": "gradnorm"},
        "optim": {"epochs": 2, "batch_size": 8, "lr": 1e-3, "warmup_steps": 2, "ema_decay": 0.9},
        "augmentation": {"zoom": 0.1, "colour": 0.2, "blur": 0.02, "erase": 0.3, "background": 0.5},
        "eval": {"mesh_images": 4},
        "device": "cpu",
    }
    return TrainConfig.model_validate(mapping | changes)


def recording(monkeypatch: pytest.MonkeyPatch, record: Callable[[Work], Work]) -> list[int]:
    """Have steps recorded; returns a list with one item for each recording."""
    made: list[int] = []

    def counted(work: Work) -> Work:
        made.append(1)
        return record(work)

    training = steps.Training
    monkeypatch.setattr("mano_trainers.loop.Training", lambda *parts: training(*parts, counted))
    return made


def reports(data: LoadedData, workdir: Path, resume: Path | None = None) -> list[EpochReport]:
    return list(train_on(data, config(), CPU, workdir, resume))


def values(report: EpochReport) -> dict[str, float]:
    return {name: value for name, value in report.metrics.items() if name not in TIMINGS and not math.isnan(value)}


def weights(report: EpochReport) -> dict[str, torch.Tensor]:
    assert report.checkpoint is not None
    return checkpoint.load(report.checkpoint).weights


def test_a_training_of_replayed_steps_equals_one_of_single_steps_interrupted_or_not(
    data: LoadedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = reports(data, tmp_path / "alone")
    with monkeypatch.context() as patch:
        made = recording(patch, lambda work: work)
        replayed = reports(data, tmp_path / "replayed")
        assert made == [1], "one recording serves all epochs"
        resumed = reports(data, tmp_path / "resumed", replayed[0].checkpoint)
    for ours, theirs in ((replayed, alone), (resumed, alone[1:])):
        assert [values(each) for each in ours] == [values(each) for each in theirs]
        assert all(torch.equal(value, weights(theirs[-1])[name]) for name, value in weights(ours[-1]).items())


def test_a_training_continues_when_a_step_cannot_be_recorded(
    data: LoadedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recording fails half-way through a step: the gradients that it leaves must not reach the next step."""

    def fails_half_way(work: Work) -> Work:
        with monkeypatch.context() as patch:
            patch.setattr("mano_trainers.training.steps._clip_gradients", _refused)
            kept = [each.detach().clone() for each in tensors]
            try:
                work()
            finally:  # a recording changes nothing
                for each, value in zip(tensors, kept, strict=True):
                    each.copy_(value)
        raise AssertionError("not reached")

    alone = reports(data, tmp_path / "alone")
    tensors: list[torch.Tensor] = []
    training = steps.Training

    def watched(*parts: Any) -> steps.Training:
        made = training(*parts, fails_half_way)
        tensors.extend([*made.model.buffers(), made.sums, made.balance.first_losses])
        return made

    monkeypatch.setattr("mano_trainers.loop.Training", watched)
    found = reports(data, tmp_path / "refused")
    assert capsys.readouterr().err.count("WARN") == 1
    assert [values(each) for each in found] == [values(each) for each in alone]


def _refused(*_: Any) -> None:
    raise RuntimeError("cannot be recorded")


def test_all_tensors_of_nested_dataclasses_are_found() -> None:
    assert [each.shape for each in tensors_in(given(0.0, 0.0))] == [torch.Size([2]), torch.Size([1])]
