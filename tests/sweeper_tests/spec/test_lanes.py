"""Whether trials train as lanes, as the verbs before a run report it; nothing is started."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from sweeper.analysis import cost
from sweeper.analysis.throughput import Throughput
from sweeper.cli.main import main
from sweeper.errors import SpecError
from sweeper.executor.monitor import Node, room
from sweeper.spec.lanes import why_no_lanes, with_usable_lanes
from sweeper.spec.load import load_spec
from sweeper.spec.sections import Budget, Resources
from sweeper.study.usage.budget import spent

SPEC: dict[str, Any] = {
    "name": "lanes",
    "base": {"model": {"backbone": "vit_tiny"}, "data": {"image_size": 32}},
    "search_space": {
        "loss.lambda_joint": {"low": 0.1, "high": 10.0, "log": True},
        "optim.lr": {"low": 0.001, "high": 0.01},
        "seed": {"choices": [0, 1]},
    },
    "objective": {"metric": "val/pa_mpjpe_mm", "mode": "min"},
    "trials": 8,
    "resources": {"lanes": 4, "concurrent": 4},
}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(SPEC | changes))
    return path


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"resources": {"lanes": 4, "concurrent": "all", "gpus": 1}}, None),
        ({"base": {}}, "on a CPU the convolutions of resnet_tiny take longer in lanes than in sequence"),
        ({"base": {}, "resources": {"lanes": 4, "concurrent": 4, "gpus": 1}}, None),
        (
            {"resources": {"lanes": 2, "gpus": 0.5}},
            "they share one GPU or none, and resources.gpus is 0.5",
        ),
        (
            {"search_space": {"model.predict_shape": {"choices": [False, True]}}},
            "lanes share model.predict_shape, but lane 2 has True, lane 0 False",
        ),
        (
            {"search_space": {"loss.lambda_pca": {"choices": [0.1, 0.0]}}},
            "lane 2 has different loss terms above 0 from lane 0",
        ),
        (
            {"search_space": None, "trials": None, "variants": {"one": {}, "two": {"optim.batch_size": 8}}},
            "lanes share optim.batch_size, but lane 1 has 8, lane 0 64",
        ),
        (
            {"trainer": "scripted_trainer:train", "base": {}, "search_space": {"scale": {"low": 1.0, "high": 2.0}}},
            "the trainer `scripted_trainer:train` declares no `LANES`",
        ),
        (
            {"trainer": "lanes_trainer:train", "base": {}, "search_space": {"size": {"choices": [1, 2]}}},
            "sizes differ: [1, 2]",
        ),
        ({"trainer": "lanes_trainer:train", "base": {}, "search_space": {"scale": {"low": 1.0, "high": 2.0}}}, None),
    ],
)
def test_check_and_plan_say_whether_trials_are_lanes(
    changes: dict[str, Any], reason: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in (SPEC | changes).items() if value is not None}))
    spec = load_spec(path)
    count = spec.resources.lanes
    assert why_no_lanes(spec) == reason
    assert with_usable_lanes(spec).resources.lanes == (1 if reason else count)
    told = (
        f"  lanes       none, each trial has its own process: {reason}"
        if reason
        else f"  lanes       up to {count} trials in one process, which share its cores and its GPU"
    )
    for verb in (["check"], ["plan", "--home", str(tmp_path / "home")]):
        assert main([verb[0], str(path), *verb[1:]]) == 0
        assert told in capsys.readouterr().out.splitlines()


def test_a_plan_counts_measured_lanes_as_if_they_trained_in_sequence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "measured_throughput", lambda *_: Throughput(2.0, 1, 1.0, "an epoch just now"))
    plan = cost.plan_study(load_spec(written(tmp_path)), tmp_path / "home", measure=True)
    assert plan.pace is not None
    assert plan.pace.seconds_per_epoch == 8.0
    assert plan.pace.source == "an epoch just now; 4 lanes as if in sequence"
    assert plan.worst.cpu_seconds == 2.0 * plan.worst.epochs


def test_lanes_need_a_single_machine(tmp_path: Path) -> None:
    spec = load_spec(written(tmp_path))
    assert why_no_lanes(spec) is None
    assert (
        why_no_lanes(spec, on_cluster=True) == "they need one machine, and trials of a Ray cluster may run on several"
    )
    alone = with_usable_lanes(spec, on_cluster=True)
    assert alone.resources == spec.resources.model_copy(update={"lanes": 1})
    assert why_no_lanes(alone, on_cluster=True) is None, "it does not ask for them"


def test_lanes_that_could_not_be_filled_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(written(tmp_path, resources={"lanes": 8, "concurrent": 4}))
    assert "set `concurrent` to 8 or more" in caught.value.render()


def test_lanes_together_take_what_a_trial_takes_alone() -> None:
    resources = Resources(cpus=2, gpus=1, lanes=4, concurrent="all")
    assert room(resources, [Node("here", 16, 2)]) == 8
    assert (resources.processes(8), resources.processes(9)) == (2, 3)
    used = spent(Budget(), resources, 4, 400.0, 100.0)
    assert (used.gpu_seconds, used.cpu_seconds) == (100.0, 200.0)
