import sys
from pathlib import Path

import pytest

from mano_trainers.config import TrainConfig
from sweeper.entrypoint.resolve import config_class, load_trainer
from sweeper.entrypoint.source_hashes import code_sums
from sweeper.errors import UserError

MODULE = """
from __future__ import annotations
from pydantic import BaseModel

class Config(BaseModel):
    lr: float

def train(config: Config, workdir, resume=None): ...
def bare(config, workdir: Config, resume: Config = None): ...
def nothing(): ...
def broken(config: Missing): ...
class Callable:
    def __call__(self, config: Config): ...
instance = Callable()
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Name of a module in the working directory, another one for each test."""
    name = f"my_trainer_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [entry for entry in sys.path if entry])
    return name


def test_the_default_trainer_takes_a_train_config() -> None:
    assert config_class("mano_trainers.loop:train") is TrainConfig


def test_the_first_parameter_says_which_config(module: str) -> None:
    model = config_class(f"{module}:train")
    assert model is not None
    assert list(model.model_fields) == ["lr"]
    assert config_class(f"{module}:bare") is None


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("trian", "has no function `trian`"),
        ("nothing", "takes no parameter"),
        ("broken", "name 'Missing' is not defined"),
        ("instance", "cannot read the annotations of <"),
    ],
)
def test_what_cannot_train(module: str, function: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        config_class(f"{module}:{function}")


def test_a_module_that_fails_while_it_is_imported(module: str) -> None:
    Path(f"{module}.py").write_text("raise RuntimeError('no licence')")
    with pytest.raises(UserError, match="RuntimeError: no licence"):
        load_trainer(f"{module}:train")


def test_a_recorded_default_trainer_is_known_by_its_earlier_name() -> None:
    assert config_class("trainers.loop:train") is TrainConfig
    assert "mano_trainers/loop.py" in code_sums("trainers.loop:train")


def test_a_package_of_the_user_may_have_the_earlier_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trainers").mkdir()
    (tmp_path / "trainers" / "__init__.py").touch()
    (tmp_path / "trainers" / "loop.py").write_text("def train(config): yield from ()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "trainers"]:
        monkeypatch.delitem(sys.modules, name)
    config_class.cache_clear()
    assert config_class("trainers.loop:train") is None
    config_class.cache_clear()
    for name in ("trainers", "trainers.loop"):
        sys.modules.pop(name, None)
