"""The benchmark for a GPU that is seldom at hand runs to its end, so that it does when one is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOPPER = ROOT / "tests" / "benchmarks" / "hopper.py"


@pytest.mark.slow
def test_every_part_for_the_gpu_runs_on_a_few_images() -> None:
    run = subprocess.run(
        [sys.executable, str(HOPPER), "--smoke"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    for part in ("ResNet-18:", "data path by itself", "bf16 matmul:", "ViT-B/16, share of it:", "epoch 1 of 1:"):
        assert part in run.stdout
