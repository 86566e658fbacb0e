"""The benchmark for a GPU that is seldom at hand runs to its end, so that it does when one is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(out: Path, *parts: str) -> subprocess.CompletedProcess[str]:
    told = [sys.executable, str(ROOT / "tests" / "benchmarks" / "gpu.py"), "--smoke", "--out", str(out)]
    return subprocess.run(
        [*told, "--parts", *parts],
        env={**os.environ, "PYTHONPATH": str(ROOT / "trainers")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(900)  # seven processes that import torch, on a machine that may be busy
def test_every_part_for_the_gpu_runs_once_and_its_figures_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    first = run(out, "ceilings", "single_steps")
    assert first.returncode == 0, first.stderr
    kept = json.loads(out.read_text())
    assert list(kept["parts"]) == ["ceilings", "single_steps"]
    others = ["batch_small", "batch_large", "vit", "handformer", "side_by_side", "lanes", "long"]
    rest = run(out, "ceilings", "single_steps", *others)
    assert rest.returncode == 0, rest.stderr
    now = json.loads(out.read_text())
    assert list(now["parts"]) == ["ceilings", "single_steps", *others]
    assert "single_steps ..." not in rest.stderr
    assert {part: now["parts"][part] for part in kept["parts"]} == kept["parts"], "what is done is not done again"
    figures = [figure for part in now["parts"].values() for figure in part]
    assert all(figure["value"] > 0 for figure in figures if figure["unit"] != "MiB")
    for figure in figures:
        assert f"| {figure['name']} | {figure['value']:.3g} {figure['unit']} |" in rest.stdout
    assert rest.stdout.count("MISSED") >= 2, "no CPU reaches the targets"


def test_a_part_that_fails_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    failed = run(out, "long", "ceilings", "--data", str(tmp_path / "no such set"))
    assert failed.returncode == 1
    assert "error: failed, see above: long" in failed.stderr
    assert list(json.loads(out.read_text())["parts"]) == ["ceilings"]


def test_without_a_gpu_nothing_is_measured(tmp_path: Path) -> None:
    told = [sys.executable, str(ROOT / "tests" / "benchmarks" / "gpu.py"), "--out", str(tmp_path / "gpu.json")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "trainers"), "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(told, env=environment, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (2, "")
    assert "there is no CUDA device" in run.stderr
    assert not (tmp_path / "gpu.json").exists()
