"""The entry points that docs/guide.md shows, run from its own text."""

import os
import re
import sys
import textwrap
from functools import partial
from pathlib import Path

import pytest
from checker import results
from extras import skip_without
from faulty import FreshHome
from forked import Driver
from places import ROOT

from mano_trainers.report import EpochReport
from sweeper.cli.main import main
from sweeper.entrypoint.call import start_training
from sweeper.entrypoint.program.script import run_script
from sweeper.spec.load import parse_spec
from sweeper.spec.resolve import resolve

GUIDE = (ROOT / "docs" / "guide.md").read_text()
SCRIPT = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--hidden", type=int)
arguments = parser.parse_args()
for epoch in (1, 2):
    print(f"epoch {epoch}")
    print(f"acc={arguments.lr * epoch:.3f}", flush=True)
"""
LIGHTNING = """
    import lightning as L, sweeper, torch

    class Model(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.slope = torch.nn.Parameter(torch.zeros(()))
        def training_step(self, batch, _):
            return ((self.slope * batch[0] - 3 * batch[0]) ** 2).mean()
        def validation_step(self, batch, _):
            self.log("val/error", (self.slope - 3).abs())
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    model = Model()
    training = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(8, 1)), batch_size=4)
    validation = training
"""
HUGGING_FACE = """
    import sweeper, torch
    from transformers import Trainer, TrainingArguments

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.slope = torch.nn.Parameter(torch.zeros(()))
        def forward(self, x, labels=None):
            return {"loss": ((self.slope * x - labels) ** 2).mean(), "logits": self.slope * x}

    model = Model()
    training = validation = [{"x": torch.ones(1), "labels": torch.full((1,), 3.0)} for _ in range(8)]
    arguments = TrainingArguments(str(sweeper.workdir()), num_train_epochs=3, per_device_train_batch_size=4,
                                  report_to=[], use_cpu=True, eval_strategy="epoch", save_strategy="no")
"""
WANDB = """
    import argparse
    import wandb

    def main():
        parser = argparse.ArgumentParser()
        parser.add_argument("--lr", type=float, default=0.1)
        parser.add_argument("--epochs", type=int, default=10)
        parser.add_argument("--layers")
        run = wandb.init(project="hands", config=vars(parser.parse_args()))
        config = wandb.config
        wandb.watch(object())
        for epoch in range(config.epochs):
            wandb.log({"epoch": epoch, "train/loss": 1 / (epoch + 1)})
            wandb.log({"val/acc": 1 - config.lr + epoch / 100 + len(config.layers) / 1000})
        run.summary["done"] = True
        wandb.finish()

    if __name__ == "__main__":
        main()
"""


def block(name: str, language: str) -> str:
    found = re.search(rf"```{language}\n# {re.escape(name)}\n(.*?)```", GUIDE, re.DOTALL)
    assert found is not None, name
    lines = [line for line in found[1].splitlines() if line.strip()]
    assert len(lines) < 12, f"{name} is to be short"
    return found[1]


def of_function(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, config: dict[str, float]
) -> list[EpochReport]:
    (folder / f"{name}.py").write_text(block(f"{name}.py", "python"))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")
    monkeypatch.delitem(sys.modules, name, raising=False)
    return list(start_training(f"{name}:train", config, folder / "trial", None))


def test_a_function_that_yields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reports = of_function(tmp_path, monkeypatch, "curve", {"lr": 0.3, "epochs": 3})
    assert [report.metrics["val/error"] for report in reports] == [1.0, 1 / 2, 1 / 3]


def test_a_function_that_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reports = of_function(tmp_path, monkeypatch, "square", {"x": 2.0})
    assert [report.metrics["val/error"] for report in reports] == [1.0, 1 / 2, 1 / 3, 1 / 4]


def test_an_unchanged_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = parse_spec(block("script.yaml", "yaml"), tmp_path / "script.yaml")
    (tmp_path / "train.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    config = resolve(spec, {"lr": 0.25, "hidden": 16})
    reports = list(start_training(spec.trainer, config, tmp_path / "trial", None))
    assert [(report.epoch, report.metrics["val/acc"]) for report in reports] == [(1, 0.25), (2, 0.5)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("library", "lines", "before", "metric"),
    [
        ("lightning", "lightning_lines.py", LIGHTNING, "val/error"),
        ("transformers", "huggingface_lines.py", HUGGING_FACE, "eval_loss"),
    ],
)
def test_the_lines_for_a_framework(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, lines: str, before: str, metric: str
) -> None:
    monkeypatch.chdir(tmp_path)
    skip_without(library)
    (tmp_path / "script.py").write_text(textwrap.dedent(before) + block(lines, "python"))
    (tmp_path / "trial").mkdir()
    reports = list(run_script([sys.executable, str(tmp_path / "script.py")], {}, tmp_path / "trial", None))
    assert [(report.epoch, report.step) for report in reports] == [(1, 2), (2, 4), (3, 6)]
    assert reports[2].metrics[metric] < reports[0].metrics[metric]


@pytest.mark.slow
def test_a_sweep_of_wandb_runs_to_its_end_with_its_unchanged_script(
    fresh_home: FreshHome, capsys: pytest.CaptureFixture[str]
) -> None:
    home = fresh_home("")
    folder = home.parent
    (folder / "sweep.yaml").write_text(block("sweep.yaml", "yaml"))
    (folder / "train.py").write_text(textwrap.dedent(WANDB))
    assert main(["convert", str(folder / "sweep.yaml")]) == 0
    (folder / "spec.yaml").write_text(capsys.readouterr().out)
    enter = partial(os.chdir, folder)
    code, said = Driver(home, "run", before=enter).end()
    assert code == 0, said
    found = results(home, "sweep")
    assert len(found) == 4
    states = [trial["state"] for trial in found.values()]
    assert set(states) == {"COMPLETE", "PRUNED"}
    for trial in found.values():
        assert len(trial["curve"]) == (4 if trial["state"] == "COMPLETE" else 2)
        expected = 1 - trial["params"]["lr"] + (2 if "," in trial["params"]["layers"] else 1) / 1000
        assert float(trial["curve"][0]["val/acc"]) == pytest.approx(expected)
    code, said = Driver(home, "reproduce", "sweep:best", before=enter).end()
    assert code == 0, said
    assert "BIT-EXACT" in said
