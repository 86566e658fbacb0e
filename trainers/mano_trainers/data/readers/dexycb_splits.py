"""DexYCB's published splits s0 to s3: which of its frames train, validate and test.

Source: `dex_ycb_toolkit/dex_ycb.py` of NVlabs/dex-ycb-toolkit. Subjects and recordings are numbered in the order of
their names, so the numbers are right only if all of them are there.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np

from mano_trainers.arrays import Integers
from mano_trainers.data.readers.labels import Picture
from mano_trainers.errors import DataError

Setup = Literal["s0", "s1", "s2", "s3"]
Part = Literal["train", "val", "test"]

SUBJECTS: Final = (
    "20200709 20200813 20200820 20200903 20200908 20200918 20200928 20201002 20201015 20201022"
).split()  # the date that a subject's folder name starts with
CAMERAS: Final = (
    "836212060125 839512060362 840412060917 841412060263 932122060857 932122060861 932122061900 932122062010"
).split()
RECORDINGS: Final = 100
"""Of each subject."""


def part_of(setup: Setup, subject: int, camera: int, recording: int) -> Part:
    """The part that a frame belongs to, by the numbers of its subject, camera and recording.

    s0: other recordings of seen subjects, cameras and objects. s1: unseen subjects. s2: unseen cameras, which see the
    same poses. s3: unseen objects.
    """
    match setup:
        case "s0":
            held_out: Part = "val" if subject < 2 else "test"
            return held_out if recording % 5 == 4 else "train"
        case "s1":
            return "val" if subject == 6 else "test" if subject in (7, 8) else "train"
        case "s2":
            return "val" if camera == 6 else "test" if camera == 7 else "train"
        case "s3":
            return "val" if recording // 5 in (3, 19) else "test" if recording // 5 in (7, 11, 15) else "train"


def published_split(
    root: Path, pictures: Sequence[Picture], setup: Setup, validate_on: Part
) -> tuple[Integers, Integers]:
    """Poses to train and to validate on.

    Args:
        root: of the data set.
        pictures: one for each pose, as `read_dexycb` lists them.
        setup: the split.
        validate_on: `val` or `test`.

    Raises:
        DataError: subjects, recordings or cameras are missing, so the numbers would mean others; or a part is empty.
    """
    recordings = _recordings(root)
    subjects, cameras = list(recordings), list(CAMERAS)
    parts = []
    for picture in pictures:
        subject, recording, camera = (folder.name for folder in (*picture.path.parents,)[2::-1])
        if camera not in cameras:
            raise DataError(f"camera {camera} is not one of DexYCB's", str(picture.path), HELP)
        numbers = subjects.index(subject), cameras.index(camera), recordings[subject].index(recording)
        parts.append(part_of(setup, *numbers))
    found = np.array(parts)
    train, val = (np.flatnonzero(found == part) for part in ("train", validate_on))
    for part, poses in (("train", train), (validate_on, val)):
        if not len(poses):
            raise DataError(f"contains no frame of part {part} of split {setup}", str(root), HELP)
    return train, val


HELP: Final = (
    "the published splits are defined on the whole of DexYCB; without data.dexycb_split any part of it will do"
)


def _recordings(root: Path) -> Mapping[str, list[str]]:
    """The names of each subject's recordings, all sorted.

    Raises:
        DataError: they are not the published ones.
    """
    metas = sorted(root.glob("*/*/meta.yml"))
    subjects = sorted({path.parents[1].name for path in metas})
    if [name.split("-")[0] for name in subjects] != SUBJECTS:
        raise DataError(f"contains {len(subjects)} subjects, which are not the published 10", str(root), HELP)
    recordings = {name: [path.parent.name for path in metas if path.parents[1].name == name] for name in subjects}
    for name, of_subject in recordings.items():
        if len(of_subject) != RECORDINGS:
            raise DataError(f"contains {len(of_subject)} recordings, not {RECORDINGS}", str(root / name), HELP)
    return recordings
