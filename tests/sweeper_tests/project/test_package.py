"""The wheel, as `pip install` gets it: what is in it, and that it runs without a clone."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from places import ROOT

from sweeper.cli.main import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked wheel and nothing else of the project."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    copy = folder / "source"
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, files.split("\0")):
        if name.startswith(("sweeper/", "trainers/", "search_spaces/", "pyproject.toml", "README.md", "LICENSE")):
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    subprocess.run([*build, str(copy)], check=True)
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_has_everything_and_nothing_else(site: Path) -> None:
    for name in ("sweeper/py.typed", "sweeper/examples/loss_balance.yaml", "mano_trainers/loop.py"):
        assert (site / name).is_file(), name
    assert (site / "sweeper/examples/loss_balance.yaml").read_text() == (
        ROOT / "search_spaces/loss_balance.yaml"
    ).read_text()
    assert list(site.glob("mano_trainers/hand/assets/*.npz"))
    assert list(site.glob("sweeper/html_report/vendor/*"))
    assert {path.name for path in site.iterdir()} == {"sweeper", "mano_trainers", "mano_sweeper-0.1.0.dist-info"}


def test_an_example_runs_without_a_clone(site: Path, tmp_path: Path) -> None:
    """One epoch of one trial on a few small images: end to end, in an empty folder."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
        "PYTHONPATH": str(site)
    }
    small = ["base.optim.epochs=1", "base.data.embedded_count=60", "base.data.image_size=32", "controls=[]"]
    command = [sys.executable, "-m", "sweeper", "run", "example:loss_balance", "--trials", "1"]
    command += [word for change in small for word in ("--set", change)] + ["--skip-preflight", "a test of the wheel"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode in (0, 3), done.stderr
    show = [sys.executable, "-m", "sweeper", "show", "loss_balance", "--json"]
    shown = subprocess.run(show, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert [trial["state"] for trial in json.loads(shown)["trials"]] == ["COMPLETE"]


def test_a_first_sweep_without_a_clone(site: Path, tmp_path: Path) -> None:
    """`sweeper init` and `sweeper run` in an empty folder, with trials run by Ray."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def sweeper(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "sweeper", *arguments]
        environ = environment | {"PYTHONPATH": str(site)}
        return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=280)

    assert sweeper("init").returncode == 0
    done = sweeper("run", "sweep.yaml", "--trials", "3")
    assert done.returncode == 0, done.stderr
    rows = json.loads(sweeper("show", "my_sweep", "--format", "json", "--sort", "rmse").stdout)
    assert len(rows) == 3
    assert {row["state"] for row in rows} <= {"COMPLETE", "PRUNED"}
    assert rows[0]["metrics.val/rmse"] < 0.5, "it has learned: without, the error is 0.7"
    config = sweeper("config", "my_sweep:best")
    assert f"lr: {rows[0]['params.lr']}" in config.stdout
    module = [sys.executable, "-c", "import sweeper; print(sweeper.__file__)"]
    found = subprocess.run(module, cwd=tmp_path, env=environment | {"PYTHONPATH": str(site)}, capture_output=True)
    assert found.stdout.decode().startswith(str(site)), "of the wheel, not of the clone"


def test_an_unknown_example_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "example:los_balance"]) == 2
    assert "did you mean `example:loss_balance`?" in capsys.readouterr().err
