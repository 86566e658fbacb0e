"""`sweeper show --format ...` and `sweeper config`: a study for other programs."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from finished import OBJECTIVE, finish_study

from mano_trainers.config import TrainConfig
from mano_trainers.config.read import read_config
from sweeper.cli.main import main
from sweeper.ledger.trial import TrialState
from sweeper.spec.load import load_spec, parse_spec

SPEC = """\
name: exported
base: {optim: {epochs: 2}}
search_space:
  optim.lr: {low: 0.001, high: 0.1, log: true}
  model.head: {choices: [theta, rot6d]}
objective: {metric: val/pa_mpjpe_mm, mode: min}
trials: 6
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of six trials, whose error is 1000 times the learning rate; the one with the largest collapsed."""
    home = tmp_path_factory.mktemp("exported") / "home"
    spec = parse_spec(SPEC, Path("exported.yaml"))
    seen: list[float] = []

    def score(params: Any) -> float | TrialState:
        seen.append(params["optim.lr"])
        return TrialState.COLLAPSED if len(seen) == 2 else 1000 * params["optim.lr"]

    finish_study(home, spec, score)
    return home


def shown(home: Path, capfdbinary: pytest.CaptureFixture[bytes], *arguments: str) -> bytes:
    assert main(["show", "exported", "--home", str(home), *arguments]) == 0
    return capfdbinary.readouterr().out


def test_csv_json_and_parquet_hold_the_same_values(
    home: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    rows = json.loads(shown(home, capfdbinary, "--format", "json"))
    assert [row["id"] for row in rows] == [f"exported-{number:04}" for number in range(6)]
    assert list(rows[0]) == [
        *("id", "state", "reason", "epochs", "seconds", "params.optim.lr", "params.model.head"),
        *(f"metrics.{OBJECTIVE}", "metrics.val/theta_var_ratio", "metrics.val/theta_r2"),
    ]
    assert rows[0][f"metrics.{OBJECTIVE}"] == 1000 * rows[0]["params.optim.lr"]
    assert rows[1]["state"] == "COLLAPSED"
    table = list(csv.DictReader(io.StringIO(shown(home, capfdbinary, "--format", "csv").decode())))
    assert [{name: str(value) for name, value in row.items()} for row in rows] == table
    (tmp_path / "trials.parquet").write_bytes(shown(home, capfdbinary, "--format", "parquet"))
    frame = pd.read_parquet(tmp_path / "trials.parquet")
    assert frame.to_dict("records") == rows
    assert frame["params.optim.lr"].dtype == float


def test_trials_are_sorted_limited_and_selected_by_short_names(
    home: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    def rows(*arguments: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(shown(home, capfdbinary, "--format", "json", *arguments))
        return found

    everything = rows()
    rates = [row["params.optim.lr"] for row in everything]
    assert [row["params.optim.lr"] for row in rows("--sort", "lr")] == sorted(rates)
    assert [row["params.optim.lr"] for row in rows("--sort", "-optim.lr")] == sorted(rates, reverse=True)
    assert (
        rows("--top", "2", "--columns", "id, lr")
        == [
            {"id": row["id"], "params.optim.lr": row["params.optim.lr"]}
            for row in sorted(everything, key=lambda row: row["params.optim.lr"])
            if row["state"] == "COMPLETE"
        ][:2]
    )
    assert [row["params.model.head"] for row in rows("--sort", "head")] == sorted(
        row["params.model.head"] for row in everything
    )
    text = shown(home, capfdbinary, "--top", "1", "--columns", "id,val/pa_mpjpe_mm").decode().splitlines()
    assert text[0].split() == ["id", "val/pa_mpjpe_mm"]
    assert text[1].split()[1] == f"{1000 * min(rate for rate in rates if rate != rates[1]):.4g}"
    assert len(text) == 2


@pytest.mark.parametrize("mode", ["min", "max"])
def test_an_objective_is_sorted_best_first(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], mode: str
) -> None:
    spec = parse_spec(SPEC.replace("mode: min", f"mode: {mode}"), Path("exported.yaml"))
    finish_study(tmp_path, spec, lambda params: float("nan") if params["optim.lr"] > 0.05 else params["optim.lr"])
    rows = json.loads(shown(tmp_path, capfdbinary, "--format", "json", "--sort", OBJECTIVE))
    values = [row[f"metrics.{OBJECTIVE}"] for row in rows]
    numbers = [value for value in values if value is not None]
    assert 0 < len(numbers) < 6, "some have no number, and come last"
    assert values == [*sorted(numbers, reverse=mode == "max"), *[None] * (6 - len(numbers))]


def test_a_column_of_several_types_is_text_in_parquet(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    spec = parse_spec(
        "name: exported\ncommand: x\nsearch_space: {size: {choices: [3, two, true, null]}}\nsampler: {name: grid}\n"
        f"objective: {{metric: {OBJECTIVE}, mode: min}}\n",
        Path("exported.yaml"),
    )
    finish_study(tmp_path, spec, lambda _: 1.0)
    (tmp_path / "t.parquet").write_bytes(shown(tmp_path, capfdbinary, "--format", "parquet", "--columns", "size"))
    assert list(pd.read_parquet(tmp_path / "t.parquet")["params.size"].fillna("")) == ["3", '"two"', "true", ""]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--columns", "optim.lrr"], "did you mean `optim.lr`?"),
        (["--sort", "nothing_like_it"], "the columns are id, state, reason"),
        (["--columns", "lr", "--json"], "`--json` is the whole study"),
        (["--top", "0"], "0 is not in the range"),
    ],
)
def test_unknown_columns_and_bad_options_are_reported(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["show", "exported", "--home", str(home), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_the_best_config_can_feed_a_training_and_the_next_sweep(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "exported:best", "--home", str(home)]) == 0
    (tmp_path / "best.yaml").write_text(capsys.readouterr().out)
    config = read_config(tmp_path / "best.yaml", [])
    assert main(["show", "exported", "--home", str(home), "--format", "json", "--top", "1"]) == 0
    [best] = json.loads(capsys.readouterr().out)
    assert (config.optim.lr, config.model.head) == (best["params.optim.lr"], best["params.model.head"])
    assert config == TrainConfig.model_validate(
        {"optim": {"epochs": 2, "lr": config.optim.lr}, "model": {"head": config.model.head}}
    )
    (tmp_path / "next.yaml").write_text(
        "name: next\nsearch_space: {loss.lambda_joint: {low: 1.0, high: 2.0}}\ntrials: 2\n"
        "objective: {metric: val/pa_mpjpe_mm, mode: min}\n"
    )
    assert main(["config", best["id"], "--base", "--home", str(home)]) == 0
    with (tmp_path / "next.yaml").open("a") as file:
        file.write(capsys.readouterr().out)
    following = load_spec(tmp_path / "next.yaml")
    assert following.base == yaml.safe_load((tmp_path / "best.yaml").read_text())
    assert main(["config", best["id"], "--json", "--home", str(home)]) == 0
    assert json.loads(capsys.readouterr().out) == following.base
