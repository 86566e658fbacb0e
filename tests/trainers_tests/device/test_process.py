"""Which device a training gets, on a machine that has none."""

import pytest
import torch

from mano_trainers.config import TrainConfig
from mano_trainers.device import process
from mano_trainers.errors import ConfigError

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without CUDA")


def config(device: str) -> TrainConfig:
    return TrainConfig.model_validate({"device": device})


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_training_that_was_given_no_gpu_runs_on_the_cpu(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRAINERS_GPU_SHARE", raising=False)
    with process.settings(config(device)) as found:
        assert found.type == "cpu"


@pytest.mark.parametrize("share", ["1", "0.5"])
def test_a_gpu_that_was_given_but_is_not_there_is_reported(share: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it would only be noticed after days on the CPU."""
    monkeypatch.setenv("TRAINERS_GPU_SHARE", share)
    with pytest.raises(ConfigError, match="is not there, or has no driver"), process.settings(config("auto")):
        pass
    with pytest.raises(ConfigError, match="no CUDA device"), process.settings(config("cuda")):
        pass
    with process.settings(config("cpu")) as found:
        assert found.type == "cpu"
