"""`doctor --fix` restores damaged checkpoints from MLflow's artifacts, and `gc` keeps what can be restored."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty import SPEC, FreshHome
from forked import Driver

from sweeper.maintenance.gc import find_garbage
from sweeper.tracking import find_trial, tracking_uri
from sweeper.tracking.recorded import artifacts

pytestmark = pytest.mark.slow

Harm = Callable[[Path], object]
TRIAL = "scripted-0000"


@pytest.fixture(scope="module")
def finished(fresh_home: FreshHome) -> Path:
    """The home of a finished study; MLflow has each trial's last checkpoint."""
    home = fresh_home(f"{SPEC}controls: []\nretention: last\n")
    code, said = Driver(home, "run").end()
    assert code == 0, said
    return home


@pytest.fixture
def home(tmp_path: Path, finished: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "home"))


@pytest.fixture
def last(home: Path) -> Path:
    """A checkpoint that MLflow has."""
    return sorted((home / "studies" / "scripted" / "trials" / "0000").glob("epoch_*"))[-1]


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def in_mlflow(home: Path, folder: Path) -> Path:
    run = find_trial(tracking_uri(home), TRIAL).run_id
    return home / "artifacts" / "scripted" / run / "artifacts" / "checkpoints" / folder.name


def fixed(home: Path) -> tuple[int, str]:
    """Exit code of `doctor --fix`, and what it did about damaged checkpoints."""
    code, said = Driver(home, "doctor", "--fix", "--json").end()
    found = json.loads(said[said.index("[\n") :])  # after the note that the home was moved
    found = [each for each in found if each["check"] == "studies.scripted.checkpoint"]
    return code, "\n".join(f"{each['what']}: fixed: {each['fixed']}: not fixed: {each['failed']}" for each in found)


@pytest.mark.parametrize(
    ("harm", "restored"),
    [
        (lambda folder: flip(folder / "weights.safetensors"), "weights.safetensors"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json"),
        (lambda folder: (folder / "manifest.json").write_text('{"files": {"../../../lock": {}}}'), "manifest.json"),
        (lambda folder: [path.write_bytes(b"") for path in folder.iterdir()], "weights.safetensors, manifest.json"),
    ],
)
def test_a_damaged_checkpoint_is_restored_from_mlflow(home: Path, last: Path, harm: Harm, restored: str) -> None:
    before = {path.name: path.read_bytes() for path in last.iterdir()}
    harm(last)
    code, said = fixed(home)
    assert code == 0, said
    assert f"fixed: restored {restored} from MLflow" in said
    assert {path.name: path.read_bytes() for path in last.iterdir()} == before
    assert fixed(home) == (0, "")


def test_it_works_the_same_over_a_server(home: Path, last: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "local_folder", lambda uri: None)  # as for a run whose files are elsewhere
    stored = artifacts.Inventory(tracking_uri(home))
    run = find_trial(tracking_uri(home), TRIAL).run_id
    files = {path.name: path.stat().st_size for path in last.iterdir()}
    assert stored.checkpoint(run, last.name) == files
    assert stored.has_equal_bytes(run, last.name, last)
    with stored.file(run, last.name, "weights.safetensors") as file:
        assert file.read_bytes() == (last / "weights.safetensors").read_bytes()
    flip(last / "weights.safetensors")
    assert not stored.has_equal_bytes(run, last.name, last)
    assert stored.checkpoint("0" * 32, last.name) == {}


@pytest.mark.parametrize("damage", ["weights", "manifest", "both, and they fit", "the run is gone"])
def test_a_checkpoint_without_a_sound_copy_in_mlflow_is_not_called_fixed(home: Path, last: Path, damage: str) -> None:
    flip(last / "weights.safetensors")
    before = (last / "weights.safetensors").read_bytes()
    copy = in_mlflow(home, last)
    match damage:
        case "weights":
            flip(copy / "weights.safetensors")
            expected = "MLflow's copy is damaged too: weights.safetensors does not match the manifest"
        case "manifest":
            (copy / "manifest.json").write_text("{}")
            expected = "MLflow's copy is damaged too: manifest.json is not what was stored"
        case "both, and they fit":  # the copy of another run, say
            flip(copy / "weights.safetensors")
            listed = json.loads((copy / "manifest.json").read_text())
            listed["files"]["weights.safetensors"]["sha256"] = "0" * 64
            (copy / "manifest.json").write_text(json.dumps(listed))
            expected = "MLflow's copy is damaged too: manifest.json is not what was stored"
        case _:
            shutil.rmtree(copy)
            expected = "MLflow has no copy with checksums"
    code, said = fixed(home)
    assert code == 1, said
    assert f"not fixed: {expected}" in said
    assert (last / "weights.safetensors").read_bytes() == before
    assert not list(last.parent.glob(".*"))


def test_what_retention_does_not_keep_is_removed_by_gc_and_not_restored(home: Path, last: Path) -> None:
    first = last.with_name("epoch_001")
    flip(first / "weights.safetensors")
    code, said = fixed(home)
    assert code == 1, said
    assert "weights.safetensors is damaged, and MLflow has no copy: the spec's `retention` does not keep it" in said
    code, said = Driver(home, "gc", "--delete").end()
    assert (code, "kept" in said) == (0, False), said
    assert fixed(home) == (0, "")


def test_gc_keeps_and_names_what_can_be_restored(home: Path, last: Path) -> None:
    flip(last / "weights.safetensors")
    for _ in range(2):
        code, said = Driver(home, "gc", "--delete").end()
        assert code == 0, said
        assert f"scripted: kept trials/0000/{last.name}, which is damaged: weights.safetensors does not match" in said
    assert "nothing to do" in said
    assert fixed(home)[0] == 0
    assert [garbage.folder for garbage in find_garbage(home)[0]] == [last]
