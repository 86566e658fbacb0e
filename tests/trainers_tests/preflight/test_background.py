"""The preflight notices masks that are not those of the hands."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from plants import run_planted
from plants.case import Case, base_mapping

from mano_trainers.config import TrainConfig
from mano_trainers.data.load import LoadedData, load_data

pytestmark = pytest.mark.slow

MAPPING = base_mapping(100) | {"augmentation": {"background": 0.5}}
CHECK = "augmentation.background"


@pytest.fixture(scope="module", autouse=True)
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINERS_CACHE_DIR", str(tmp_path_factory.mktemp("planted")))
        load_data(TrainConfig.model_validate(MAPPING).data, with_masks=True)
        torch.set_num_threads(1)
        yield


def with_masks(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Case], None]:
    def changed(data: LoadedData) -> LoadedData:
        assert data.masks is not None
        return replace(data, masks=replace(data.masks, alpha=change(np.array(data.masks.alpha))))

    return lambda case: case.data(changed)


def test_sound_masks_pass_and_so_do_the_other_checks() -> None:
    checks = run_planted(mapping=MAPPING, only=["augmentation", "pixels"])["checks"]
    assert CHECK in checks
    assert {name for name, (status, *_) in checks.items() if status == "FAIL"} == set()


def test_without_backgrounds_nothing_is_said_about_masks() -> None:
    assert CHECK not in run_planted(mapping=base_mapping(100), only=["augmentation"])["checks"]


@pytest.mark.parametrize(
    "change",
    [
        lambda alpha: 255 - alpha,
        lambda alpha: np.roll(alpha, 1, axis=0),
        lambda alpha: alpha[:, :, ::-1],
        np.zeros_like,
        lambda alpha: np.full_like(alpha, 255),
    ],
    ids=["inverted", "of other poses", "mirrored", "empty", "full"],
)
def test_wrong_masks_fail(change: Callable[[np.ndarray], np.ndarray]) -> None:
    checks = run_planted([with_masks(change)], MAPPING, ["augmentation"])["checks"]
    assert [name for name, (status, *_) in checks.items() if status == "FAIL"] == [CHECK]
    assert "training/mask" in checks[CHECK][3]
