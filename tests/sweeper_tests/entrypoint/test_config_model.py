"""What a training function may take as its config, and yield: each form is tested by `sweeper check` and by reports."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mano_trainers.report import EpochReport
from sweeper.cli.main import main
from sweeper.entrypoint.call import start_training
from sweeper.entrypoint.resolve import config_class
from sweeper.spec.load import load_spec
from sweeper.spec.resolve import resolve

FORMS = {
    "pydantic": """
from pydantic import BaseModel, ConfigDict

class Optim(BaseModel):
    model_config = ConfigDict(extra="forbid")
    lr: float = 0.1

class Config(BaseModel):
    model_config = ConfigDict(extra="forbid")
    optim: Optim = Optim()
    epochs: int = 2

def train(config: Config):
    for epoch in range(1, config.epochs + 1):
        yield epoch, {"val/acc": config.optim.lr * epoch}
""",
    "dataclass": """
from __future__ import annotations
from dataclasses import dataclass, field

@dataclass(frozen=True)
class Optim:
    lr: float = 0.1

@dataclass
class Config:
    optim: Optim = field(default_factory=Optim)
    epochs: int = 2
    def __post_init__(self):
        if self.epochs > 100:
            raise ValueError("too many epochs")

def train(config: Config, workdir):
    assert isinstance(config.optim, Optim)
    for epoch in range(1, config.epochs + 1):
        yield epoch, {"val/acc": config.optim.lr * epoch}
""",
    "dict": """
def train(config={"optim": {"lr": 0.1}, "epochs": 2}, workdir=None, resume=None):
    for epoch in range(1, config["epochs"] + 1):
        yield epoch, {"val/acc": config["optim"]["lr"] * epoch}
""",
    "push": """
import sweeper
def train(config={"optim": {"lr": 0.1}, "epochs": 2}):
    for epoch in range(1, config["epochs"] + 1):
        sweeper.report(epoch, {"val/acc": config["optim"]["lr"] * epoch})
""",
}
SPEC = """\
name: forms
trainer: {module}:train
search_space: {{optim.lr: {{low: 0.2, high: 0.4}}}}
objective: {{metric: val/acc, mode: max}}
guards: []
trials: 3
"""
Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a module and a spec that names it; returns the module's name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [entry for entry in sys.path if entry])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")

    def make(code: str) -> str:
        name = f"form_{abs(hash(code))}"
        (tmp_path / f"{name}.py").write_text(code)
        (tmp_path / "spec.yaml").write_text(SPEC.format(module=name))
        return name

    return make


@pytest.mark.parametrize("form", FORMS)
def test_defaults_are_written_out_and_the_rest_is_set(write: Write, tmp_path: Path, form: str) -> None:
    name = write(FORMS[form])
    config = resolve(load_spec(tmp_path / "spec.yaml"), {"optim.lr": 0.25})
    assert config == {"optim": {"lr": 0.25}, "epochs": 2}
    assert list(start_training(f"{name}:train", config, tmp_path, None)) == [
        EpochReport(1, 1.0, {"val/acc": 0.25}),
        EpochReport(2, 2.0, {"val/acc": 0.5}),
    ]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("base.optim.lrr=1", "did you mean `optim.lr`?"),
        ("base.epoch=1", "did you mean `epochs`?"),
        ("search_space={optim.rl: {low: 1.0, high: 2.0}}", "did you mean `optim.lr`?"),
    ],
)
def test_a_misspelt_key_is_reported_before_a_trial(
    write: Write, capsys: pytest.CaptureFixture[str], form: str, change: str, said: str
) -> None:
    write(FORMS[form])
    assert main(["check", "spec.yaml"]) == 0
    assert main(["check", "spec.yaml", "--set", change]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [("base.epochs=1.5", "expected a whole number"), ("base.epochs=101", "too many epochs")],
)
def test_a_dataclass_checks_types_and_may_refuse_values(
    write: Write, capsys: pytest.CaptureFixture[str], change: str, said: str
) -> None:
    write(FORMS["dataclass"])
    assert main(["check", "spec.yaml", "--set", change]) == 2
    assert said in capsys.readouterr().err


def test_a_default_does_not_fix_the_type(write: Write, tmp_path: Path) -> None:
    """`{"dropout": 0}` may become 0.5."""
    name = write("def train(config={'dropout': 0, 'net': None}): yield 1, {'val/acc': config['dropout']}")
    [report] = start_training(f"{name}:train", {"dropout": 0.5, "net": "vit"}, tmp_path, None)
    assert report.metrics == {"val/acc": 0.5}


def test_a_dict_without_defaults_takes_any_key(write: Write, tmp_path: Path) -> None:
    name = write("def train(config: dict): yield 1, {'val/acc': config['a']['b']}")
    assert config_class(f"{name}:train") is None
    [report] = start_training(f"{name}:train", {"a": {"b": 3}}, tmp_path, None)
    assert report.metrics == {"val/acc": 3.0}


def test_a_trial_does_not_change_the_defaults_of_the_next(write: Write, tmp_path: Path) -> None:
    code = "def train(config={'l': [1], 'd': {'x': 1}}):\n    config['l'].append(2); config['d']['x'] += 1\n"
    name = write(code + "    yield 1, {'val/acc': len(config['l']) + config['d']['x']}")
    for _ in range(2):
        [report] = start_training(f"{name}:train", {}, tmp_path, None)
        assert report.metrics == {"val/acc": 4.0}


def test_a_dataclass_with_an_unknown_annotation_is_reported(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    code = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    write(code + "@dataclass\nclass C:\n    a: Missing = 1\ndef train(config: C): yield 1, {}")
    assert main(["check", "spec.yaml"]) == 2
    assert "name 'Missing' is not defined" in capsys.readouterr().err


def test_the_third_value_yielded_is_the_checkpoint(write: Write, tmp_path: Path) -> None:
    name = write(
        "def train(config, workdir, resume=None):\n    (workdir / 's').write_text('x'); yield 1, {'a': 1}, 's'"
    )
    (tmp_path / "trial").mkdir()
    [report] = start_training(f"{name}:train", {}, tmp_path / "trial", None)
    assert report.checkpoint is not None
    assert (report.checkpoint / "s").read_text() == "x"
