"""DexYCB's published splits: their sizes, what they keep apart, and that they are refused on a part of the set."""

from collections import Counter
from itertools import product
from pathlib import Path

import pytest

from mano_trainers.config.data import DataConfig
from mano_trainers.data.readers.dexycb_splits import CAMERAS, SUBJECTS, part_of, published_split
from mano_trainers.data.readers.labels import Picture
from mano_trainers.errors import DataError

SIZES = {  # recordings and cameras, from the toolkit's lists
    "s0": {"train": 6400, "val": 320, "test": 1280},
    "s1": {"train": 5600, "val": 800, "test": 1600},
    "s2": {"train": 6000, "val": 1000, "test": 1000},
    "s3": {"train": 6000, "val": 800, "test": 1200},
}


@pytest.mark.parametrize("setup", SIZES)
def test_the_parts_have_the_published_sizes(setup: str) -> None:
    frames = product(range(10), range(8), range(100))
    assert Counter(part_of(setup, *numbers) for numbers in frames) == SIZES[setup]


@pytest.fixture
def whole(tmp_path: Path) -> tuple[Path, list[Picture]]:
    """All recordings' folders, and a frame of each camera in each."""
    pictures = []
    for number, subject in enumerate(SUBJECTS):
        for recording in range(100):
            folder = tmp_path / f"{subject}-subject-{number + 1:02d}" / f"{subject}_{recording:06d}"
            folder.mkdir(parents=True)
            (folder / "meta.yml").touch()
            pictures += [Picture(folder / camera / "color_000000.jpg") for camera in CAMERAS]
    return tmp_path, pictures


def test_frames_go_to_their_parts_by_name(whole: tuple[Path, list[Picture]]) -> None:
    root, pictures = whole
    train, val = published_split(root, pictures, "s1", "test")
    assert (len(train), len(val)) == (5600, 1600)
    assert {pictures[row].path.parents[2].name for row in val} == {"20201002-subject-08", "20201015-subject-09"}
    train, val = published_split(root, pictures, "s2", "val")
    assert {pictures[row].path.parent.name for row in val} == {"932122061900"}
    assert "932122062010" not in {pictures[row].path.parent.name for row in train}


def test_a_part_of_the_set_has_no_published_split(whole: tuple[Path, list[Picture]]) -> None:
    root, pictures = whole
    (pictures[0].path.parents[1] / "meta.yml").unlink()
    with pytest.raises(DataError, match="20200709-subject-01: contains 99 recordings, not 100"):
        published_split(root, pictures, "s0", "val")
    for path in (root / "20200813-subject-02").glob("*/meta.yml"):
        path.unlink()
    with pytest.raises(DataError, match="contains 9 subjects"):
        published_split(root, pictures, "s0", "val")


def test_only_dexycb_can_be_asked_for_a_published_split() -> None:
    dexycb = {"root": "/d", "format": "dexycb", "dexycb_split": "s0", "validate_on": "evaluation"}
    assert DataConfig.model_validate(dexycb).dexycb_split == "s0"
    with pytest.raises(ValueError, match="no labelled evaluation split"):
        DataConfig.model_validate(dexycb | {"dexycb_split": None})
    with pytest.raises(ValueError, match="there is none"):
        DataConfig.model_validate(dexycb | {"format": "freihand"})
