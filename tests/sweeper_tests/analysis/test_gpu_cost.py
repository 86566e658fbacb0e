"""`sweeper plan` estimates hours and euros on GPUs that are not here, from what the trainer says about an epoch."""

import json
from pathlib import Path
from typing import Any

import pytest
from places import ROOT, TESTS

from sweeper.cli.main import main

SPEC: dict[str, Any] = {
    "name": "paced",
    "trainer": "paced_trainer:train",
    "base": {},
    "search_space": {"lr": {"low": 0.1, "high": 1.0}},
    "objective": {"metric": "error", "mode": "min"},
    "trials": 4,
    "scheduler": {"name": "none"},
    "guards": [],
    "controls": [],
    "resources": {"cpus": 1, "gpus": 1, "concurrent": 1},
}
HOURS = 40.0
"""4 trials of 10 epochs, an hour each on a T4 and a tenth of that on a Z9."""


@pytest.fixture(autouse=True)
def _trainer_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TESTS))


@pytest.fixture
def plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """A function of options and changes to the spec: returns the exit code, the plan as JSON (or `{}`), and stderr."""

    def made(*options: str, **changes: Any) -> tuple[int, dict[str, Any], str]:
        spec = {key: value for key, value in (SPEC | changes).items() if value is not None}
        (tmp_path / "spec.yaml").write_text(json.dumps(spec))
        code = main(["plan", str(tmp_path / "spec.yaml"), "--home", str(tmp_path / "home"), "--json", *options])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else {}, said.err

    return made


def test_hours_and_euros_of_the_expected_and_the_worst_case(plan: Any) -> None:
    scheduler = {"name": "asha", "mode": "stop", "grace_epochs": 5, "eta": 2}
    code, made, _ = plan("--price", "z9=2.5", scheduler=scheduler)
    assert code == 0
    assert made["pace"] is None, "nothing was measured here"
    t4, z9 = made["gpus"]
    assert (t4["gpu"], t4["expected_hours"], t4["worst_hours"]) == ("T4", 30.0, HOURS)
    assert (z9["expected_euros"], z9["worst_euros"]) == (3.0 * 2.5, 4.0 * 2.5)
    assert (z9["price_from"], z9["rate_from"], z9["images_from"]) == ("--price", "a test", "a test's own")
    assert t4["expected_euros"] == 30.0 * t4["euros_per_hour"]
    assert "2026" in t4["price_from"], "a price has a date"


def test_a_gpu_without_a_price_has_hours_and_no_euros(plan: Any) -> None:
    _, z9 = plan()[1]["gpus"]
    assert (z9["expected_hours"], z9["expected_euros"], z9["worst_euros"]) == (4.0, None, None)


def test_the_specs_price_overrides_the_usual_one_and_the_option_overrides_both(plan: Any) -> None:
    t4, z9 = plan("--price", "T4=9", budget={"euros_per_gpu_hour": 7})[1]["gpus"]
    assert (t4["euros_per_hour"], z9["euros_per_hour"]) == (9, 7)


@pytest.mark.parametrize(
    ("budget", "fit"),
    [
        ({"gpu_seconds": HOURS * 3600}, [None, None]),
        ({"gpu_seconds": HOURS * 1800}, [2, None]),
        ({"gpu_seconds": 3600}, [0, 1]),
        ({"euros": 10, "euros_per_gpu_hour": 1}, [1, None]),
        ({"wall_clock_s": HOURS * 1800}, [2, None]),
    ],
)
def test_what_fits_the_budget_is_stated_for_each_gpu(
    plan: Any, budget: dict[str, float], fit: list[int | None]
) -> None:
    code, made, err = plan(budget=budget)
    assert [gpu["trials_in_budget"] for gpu in made["gpus"]] == fit
    assert (code, err) == (0, ""), "nobody knows which GPU it will be"


def test_trials_side_by_side_take_the_same_gpu_hours(plan: Any) -> None:
    """On two GPUs, they also need half the time."""
    budget = {"wall_clock_s": HOURS * 1800}
    for resources in ({"cpus": 1, "gpus": 0.5, "concurrent": 2}, {"cpus": 1, "gpus": 1, "concurrent": 2}):
        t4, _ = plan(resources=resources, budget=budget)[1]["gpus"]
        assert t4["expected_hours"] == HOURS
        assert t4["trials_in_budget"] == (2 if resources["gpus"] == 0.5 else None)


def test_networks_of_different_sizes_are_averaged(plan: Any) -> None:
    space = {"lr": {"low": 0.1, "high": 1.0}, "size": {"choices": [1, 2, 4]}}
    t4, _ = plan(search_space=space)[1]["gpus"]
    assert t4["expected_hours"] == pytest.approx(HOURS * 7 / 3)
    variants = {"small": {"size": 1}, "large": {"size": 4}}
    t4, _ = plan(search_space=None, variants=variants, trials=2)[1]["gpus"]
    assert t4["expected_hours"] == pytest.approx(10 * (1 + 4))


@pytest.mark.parametrize("changes", [{"base": {"says": "nothing"}}, {"resources": {"cpus": 1, "gpus": 0}}])
def test_without_an_offer_or_a_gpu_the_plan_estimates_no_gpus(plan: Any, changes: dict[str, Any]) -> None:
    code, made, _ = plan(**changes)
    assert (code, made["gpus"]) == (0, [])


@pytest.mark.parametrize(
    ("options", "changes", "said"),
    [
        (["--price", "T4"], {}, "expected GPU=EUROS, as in h100=2.5, but got T4"),
        (["--price", "T4=cheap"], {}, "cheap"),
        (["--price", "T4=-1"], {}, "-1"),
        (["--price", "T4=nan"], {}, "finite"),
        (["--price", "B200=3"], {}, "no hours on a B200 are estimated; those on T4, Z9 are"),
        (["--price", "T4=1"], {"resources": {"cpus": 1, "gpus": 0}}, "for this study none are"),
        ([], {"base": {"says": "text"}}, "returned a str"),
        ([], {"base": {"says": "error"}}, "`epoch_work` of trainer `paced_trainer:train` failed: LookupError"),
    ],
)
def test_what_cannot_be_understood_is_reported(
    plan: Any, options: list[str], changes: dict[str, Any], said: str
) -> None:
    code, _, err = plan(*options, **changes)
    assert code == 2
    assert said in err
    assert "Traceback" not in err


def test_the_published_specs_give_hours_without_data_or_a_gpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("freihand", "freihand_vit"):
        assert main(["plan", str(ROOT / "search_spaces" / f"{name}.yaml"), "--home", str(tmp_path)]) == 0
        said = capsys.readouterr().out
        assert "FreiHAND as published" in said
        for gpu in ("T4", "A100", "H100"):
            line = next(line for line in said.splitlines() if line.startswith(f"    {gpu} "))
            assert " h, worst case " in line
            assert " euros, worst case " in line
        assert "--price GPU=EUROS sets yours" in said
        assert "within 2 x" in said, "an estimate is told as one"
