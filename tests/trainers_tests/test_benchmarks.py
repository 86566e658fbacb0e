"""The benchmark for a GPU that is rarely at hand runs to its end, so that it also does when one is."""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from warm_python import OF_TRAINER, warm_python

ROOT = Path(__file__).parents[2]
Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the benchmark in this process, which has imported torch; the figures go to `gpu.json`."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "benchmarks"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "trainers"))  # for the trainings that run side by side
    monkeypatch.setenv("TRAINERS_CACHE_DIR", "")  # put back after the benchmark has set it
    import gpu

    def run_it(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path / "gpu.json"), *arguments])
        return gpu.main()

    return run_it


@pytest.fixture
def warm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The trainings that run side by side are processes that have imported torch."""
    with tempfile.TemporaryDirectory() as folder, warm_python(Path(folder), OF_TRAINER) as python:
        monkeypatch.setattr(sys, "executable", str(python))
        yield


@pytest.mark.slow
@pytest.mark.timeout(900)  # on a machine that may be busy
@pytest.mark.usefixtures("warm")
def test_every_part_for_the_gpu_runs_once_and_its_figures_are_kept(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gpu.json"
    assert run("--smoke", "--parts", "ceilings", "single_steps") == 0, capfd.readouterr().err
    kept = json.loads(out.read_text())
    assert list(kept["parts"]) == ["ceilings", "single_steps"]
    others = ["batch_small", "batch_large", "vit", "handformer", "side_by_side", "lanes", "long"]
    capfd.readouterr()
    code = run("--smoke", "--parts", "ceilings", "single_steps", *others)
    said = capfd.readouterr()
    assert code == 0, said.err
    now = json.loads(out.read_text())
    assert list(now["parts"]) == ["ceilings", "single_steps", *others]
    assert "single_steps ..." not in said.err
    assert {part: now["parts"][part] for part in kept["parts"]} == kept["parts"], "what is done is not done again"
    figures = [figure for part in now["parts"].values() for figure in part]
    assert all(figure["value"] > 0 for figure in figures if figure["unit"] != "MiB")
    for figure in figures:
        assert f"| {figure['name']} | {figure['value']:.3g} {figure['unit']} |" in said.out
    assert said.out.count("MISSED") >= 2, "no CPU reaches the targets"


def test_a_part_that_fails_is_named_and_the_others_still_run(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("--smoke", "--parts", "long", "ceilings", "--data", str(tmp_path / "no such set")) == 1
    assert "error: failed, see above: long" in capfd.readouterr().err
    assert list(json.loads((tmp_path / "gpu.json").read_text())["parts"]) == ["ceilings"]


def test_without_a_gpu_nothing_is_measured(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert run() == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert "there is no CUDA device" in said.err
    assert not (tmp_path / "gpu.json").exists()
