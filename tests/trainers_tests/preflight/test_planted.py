"""One fault of each family of checks, planted in the trainer's code, data or config, fails under the right name.

All kinds: `python tests/benchmarks/planted_faults.py`.
"""

from collections.abc import Iterator

import pytest
import torch
from plants import all_plants, run_planted
from plants.case import base_mapping

from mano_trainers.config import TrainConfig
from mano_trainers.data.load import load_data

pytestmark = pytest.mark.slow

FOUND_BY = {
    "optimizer holds the last layer only": ("training", "training.weights_move"),
    "BatchNorm statistics frozen": ("training", "training.statistics"),
    "gradients add up over steps": ("training", "training.gradient"),
    "learning rate never applied": ("training", "training.update"),
    "warm-up fifty times too long": ("training", "training.schedule"),
    "two weights swapped": ("training", "training.loss_weights"),
    "model left in train mode": ("training", "evaluation.model"),
    "objective is the median": ("training", "evaluation.objective"),
    "training on 5 % of the poses: a slice": ("seen", "seen.poses"),
    "half of the poses mispaired": ("figures", "pairing.figures"),
    "validation mispaired": ("figures", "pairing.validation"),
    "near copies of training poses": ("held_out", "split.near_copies"),
    "a stale cache of images": ("pixels", "pixels.cache"),
    "channels in another order": ("pixels", "pixels.training"),
    "the same augmentation for every sample": ("augmentation", "augmentation.varies"),
    "validation's pictures are made differently": ("split", "split.pictures"),
    "the schedule counts differently": ("overfit", "overfit.rates"),
    "a term ignores a joint": ("loss", "loss.joints"),
    "targets in another order of fingers": ("loss", "loss.targets"),
    "an epoch is not shuffled": ("seen", "seen.order"),
    "the running average does not average": ("training", "evaluation.model"),
    "a pose without an image": ("seen", "data.readable"),
}
MAPPING = base_mapping(300) | {"optim": {"epochs": 20}}  # with fewer steps, a schedule cannot be judged


@pytest.fixture(scope="module", autouse=True)
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINERS_CACHE_DIR", str(tmp_path_factory.mktemp("planted")))
        load_data(TrainConfig.model_validate(MAPPING).data)
        torch.set_num_threads(1)
        yield


@pytest.mark.parametrize("kind", list(FOUND_BY))
def test_a_planted_fault_is_found_under_its_name(kind: str) -> None:
    group, name = FOUND_BY[kind]
    [plant] = [each for each in all_plants() if (each.kind, each.variant) == (kind, "a")]
    result = run_planted([plant.apply], MAPPING, [group])
    assert result["checks"].get(name, ["not run"])[0] == "FAIL", result
    assert result["checks"][name][3], "a failure says how to fix it"


def test_nothing_is_found_in_the_pipeline_that_faults_are_planted_into() -> None:
    groups = ["pixels", "split", "held_out", "seen", "figures", "augmentation", "loss", "training"]
    result = run_planted(mapping=MAPPING, only=groups)
    assert {name for name, (status, *_) in result["checks"].items() if status == "FAIL"} == set()
    assert "error" not in result
