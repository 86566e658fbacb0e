import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from mano_trainers.config import TrainConfig
from sweeper.entrypoint.function import yields
from sweeper.entrypoint.place import defined_at
from sweeper.entrypoint.resolve import config_class, load_trainer
from sweeper.entrypoint.source_hashes import code_sums
from sweeper.errors import UserError

MODULE = """
from __future__ import annotations
from functools import partial
from pydantic import BaseModel

class Config(BaseModel):
    lr: float

def train(config: Config, workdir, resume=None): ...
def bare(config, workdir: Config, resume: Config = None): ...
def nothing(): ...
def broken(config: Missing): ...
class Callable:
    def __call__(self, config: Config, workdir=None, resume=None): yield
instance = Callable()
def of_two(what, config: Config, workdir, resume=None): yield
part = partial(of_two, 3)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Name of a module in the working directory, a different one for each test."""
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
    for function in ("instance", "part"):
        assert config_class(f"{module}:{function}") is model
        assert yields(load_trainer(f"{module}:{function}"))
        assert (defined_at(load_trainer(f"{module}:{function}")) or "").startswith(f"{module}.py:")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("trian", "has no function `trian`"),
        ("nothing", "takes no parameter"),
        ("broken", "name 'Missing' is not defined"),
    ],
)
def test_functions_that_cannot_train(module: str, function: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        config_class(f"{module}:{function}")


def test_a_module_that_fails_while_it_is_imported_is_reported(module: str) -> None:
    Path(f"{module}.py").write_text("raise RuntimeError('no licence')")
    with pytest.raises(UserError, match="RuntimeError: no licence"):
        load_trainer(f"{module}:train")


def test_a_recorded_default_trainer_is_known_by_its_earlier_name() -> None:
    assert config_class("trainers.loop:train") is TrainConfig
    assert "mano_trainers/loop.py" in code_sums("trainers.loop:train")


def test_a_users_package_may_have_the_earlier_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize(
    ("text", "what", "help"),
    [
        ("import sys\nsys.exit(3)", "cannot import trainer module `theirs`: SystemExit: 3", "must not exit"),
        ("1 / 0", "cannot import trainer module `theirs`: ZeroDivisionError: division by zero", "without errors"),
        ("class E(BaseException): pass\nraise E('\\ud800')", "cannot import trainer module `theirs`: E: ?", "without"),
    ],
)
def test_a_module_that_cannot_be_imported_is_an_error(
    text: str, what: str, help: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    with pytest.raises(UserError) as caught:
        load_trainer("theirs:train")
    assert caught.value.problems[0].what == what
    assert help in (caught.value.problems[0].help or "")


def test_a_module_that_prints_and_parses_arguments_does_not_disturb_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "talks.py").write_text(
        "import argparse\nprint('hello')\nparser = argparse.ArgumentParser()\nparser.add_argument('--lr', default=1)\n"
        "parser.parse_args()\ndef train(config, workdir, resume): yield\n"
    )
    monkeypatch.setattr(sys, "argv", ["sweeper", "check", "spec.yaml"])
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    load_trainer("talks:train")
    assert capsys.readouterr() == ("", "hello\n")
    assert sys.argv == ["sweeper", "check", "spec.yaml"]


def test_a_trainer_beside_its_spec_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "beside.py").write_text("def train(config, workdir, resume): yield\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("SWEEPER_SPEC_FOLDER", str(tmp_path))
    assert load_trainer("beside:train").__name__ == "train"


def test_what_a_module_sets_for_its_training_does_not_reach_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "setting_things.py").write_text(
        "import os, warnings\nimport numpy as np\n"
        f"os.chdir({str(tmp_path / 'elsewhere')!r})\n"
        "warnings.simplefilter('error')\nnp.seterr(all='raise')\n"
        "def train(config): yield\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = np.geterr()
    assert config_class("setting_things:train") is None
    assert Path.cwd() == tmp_path
    assert np.geterr() == before
    with pytest.warns(UserWarning, match="and no error"):
        warnings.warn("a warning, and no error", UserWarning, stacklevel=1)


@pytest.mark.parametrize("module", ["sweeper.entrypoint.call", "sweeper.entrypoint.function"])
def test_a_users_file_is_not_taken_for_a_library_module(module: str, tmp_path: Path) -> None:
    """`random.py` in the working folder: neither the process that prepares nor the one of a function may import it."""
    (tmp_path / "random.py").write_text("raise RuntimeError('this is not the random you want')\n")
    (tmp_path / "mine.py").write_text("def prepare(config): return {'a': 'b'}\ndef train(config): return None\n")
    script = (
        "import sys; from pathlib import Path; from sweeper.executor.remote_process import start_seam;"
        "from sweeper.spec.sections import Resources; import os;"
        "child = start_seam(['mine:train'], Resources(gpus=0), dict(os.environ)); print(child.communicate('{}')[0])"
        if module.endswith("call")
        else "from pathlib import Path; from sweeper.entrypoint.call import start_training;"
        "print(list(start_training('mine:train', {}, Path('w'), Path('w'))))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, '{"a": "b"}' if module.endswith("call") else "[]"), done.stderr


def test_a_file_name_instead_of_a_module_name_is_corrected(module: str) -> None:
    with pytest.raises(UserError) as caught:
        load_trainer(f"{module}.py:train")
    assert caught.value.problems[0].help == f"name the module without `.py`: `{module}:...`"
