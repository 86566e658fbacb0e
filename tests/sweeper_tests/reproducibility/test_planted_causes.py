"""One cause of a difference at a time, planted between a trial and its rerun: is it the one that is named first?

The trainer computes with torch, so that instruction sets and threads are real causes, not just changed records.
"""

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from recording import artifact, changed, record_trial, with_config

from sweeper.reproducibility.environment_diff import LEFT_OVER
from sweeper.reproducibility.reproduce import reproduce

pytestmark = pytest.mark.slow

TRAINER = """
import hashlib
import os
from pathlib import Path

import torch
from pydantic import BaseModel

import library_of_another

REUSE_PROCESS = True
FACTOR = 1.0
HERE = Path(__file__).parent
left_behind = 0.0


class Config(BaseModel):
    seed: int = 0
    threads: int = 1


def prepare(config: Config):
    return {"numbers": hashlib.sha256((HERE / "numbers.txt").read_bytes()).hexdigest()}


def numerics(config: Config):
    return {"threads": str(config.threads)}


def train(config: Config, workdir: Path, resume: Path | None = None):
    global left_behind
    torch.set_num_threads(config.threads)
    generator = torch.Generator().manual_seed(config.seed)
    images, kernels = torch.randn(8, 16, 32, 32, generator=generator), torch.randn(32, 16, 3, 3, generator=generator)
    one, other = torch.randn(300, 700, generator=generator), torch.randn(700, 200, generator=generator)
    value = float(torch.nn.functional.conv2d(images, kernels)[3, 2, 5, 7]) + float((one @ other)[17, 33])
    value += float(torch.randn(100_000, generator=generator).exp().sum()) + torch.get_num_threads()
    value = FACTOR * value + library_of_another.OFFSET + float((HERE / "numbers.txt").read_text()) + left_behind
    value += sum(map(ord, os.environ.get("PYTHONHASHSEED", "0")))
    left_behind = 1.0
    for epoch in (1, 2):
        yield epoch, {"val/error": value / epoch}
"""
LIBRARY = '__version__ = "{version}"\nOFFSET = {offset}\n'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The trainer's folder, and a library among the packages that has no metadata."""
    folder = tmp_path_factory.mktemp("causes")
    packages = folder / "site-packages"
    packages.mkdir()
    (folder / "caused_trainer.py").write_text(TRAINER)
    (folder / "numbers.txt").write_text("3.5")
    (packages / "library_of_another.py").write_text(LIBRARY.format(version="1.0", offset=0.25))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (folder, packages, os.environ.get("PYTHONPATH", "")))))
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # files are changed within a second
        for path in (folder, packages):
            patch.syspath_prepend(path)
        yield folder


@pytest.fixture(scope="module")
def study(site: Path, tmp_path_factory: pytest.TempPathFactory, template_db: Path) -> Path:
    home = tmp_path_factory.mktemp("study") / "home"
    home.mkdir()
    shutil.copy(template_db, home / "mlflow.db")
    record_trial(home, "caused_trainer:train", {"seed": 3, "threads": 1})
    return home


@pytest.fixture
def warm(warm_trainer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reruns are forked from a process that has imported torch; unused where torch reads a variable on import."""
    monkeypatch.setattr(sys, "executable", str(warm_trainer))


def said(capfd: pytest.CaptureFixture[str], study: Path) -> str:
    reproduce("toy-0001", study)
    out = capfd.readouterr().out
    assert "verdict: BIT-EXACT" not in out, "the plant changes nothing"
    found = re.search(r"^likely cause: (.*)$", out, re.MULTILINE)
    assert found, out
    return found[1]


@pytest.mark.usefixtures("warm")
def test_nothing_is_named_where_nothing_was_planted(study: Path, capfd: pytest.CaptureFixture[str]) -> None:
    reproduce("toy-0001", study)
    assert "verdict: BIT-EXACT" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("name", "value", "detail"),
    [
        ("ONEDNN_MAX_CPU_ISA", "SSE41", "absent -> SSE41"),
        ("ATEN_CPU_CAPABILITY", "default", "absent -> default"),
        ("MKL_CBWR", "COMPATIBLE", "absent -> COMPATIBLE"),
        ("PYTHONHASHSEED", "1", "-> 1"),
    ],
)
def test_a_variable_is_named(
    study: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, value: str, detail: str
) -> None:
    monkeypatch.setenv(name, value)
    cause = said(capfd, study)
    assert cause.startswith("environment (")
    assert f"{name} " in cause
    assert detail in cause


def other_text(old: str, new: str) -> Callable[[bytes], bytes]:
    return lambda content: content.replace(old.encode(), new.encode())


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize(
    ("file", "old", "new", "cause"),
    [
        (
            "site-packages/library_of_another.py",
            LIBRARY.format(version="1.0", offset=0.25),
            LIBRARY.format(version="1.1", offset=0.5),
            "imported (library_of_another 1.0 -> 1.1)",
        ),
        ("numbers.txt", "3.5", "3.75", "data: numbers ("),
        ("caused_trainer.py", "FACTOR = 1.0", "FACTOR = 1.5", "sources (caused_trainer.py"),
    ],
)
def test_a_file_is_named(
    study: Path, site: Path, capfd: pytest.CaptureFixture[str], file: str, old: str, new: str, cause: str
) -> None:
    with changed(site / file, other_text(old, new)):
        assert said(capfd, study).startswith(cause)


@pytest.mark.usefixtures("warm")
def test_threads_are_named(study: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with changed(artifact(study, "trial.yaml"), with_config("threads", 2)):
        assert said(capfd, study).startswith("config (threads 1 -> 2)")


@pytest.mark.usefixtures("warm")
def test_state_left_over_in_the_process_is_named(
    site: Path, tmp_path: Path, template_db: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import caused_trainer  # type: ignore[import-not-found]

    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(template_db, home / "mlflow.db")
    caused_trainer.left_behind = 1.0  # as an earlier trial in the process does
    record_trial(home, "caused_trainer:train", {"seed": 3, "threads": 1})
    assert said(capfd, home) == LEFT_OVER
