"""One small network through every entry point: each prunes, survives a kill, is reproduced, finds the same winner."""

import os
import signal
import sys
import textwrap
from functools import partial
from pathlib import Path

import pytest
from checker import Results, results
from extras import skip_without
from faulty import FreshHome
from forked import Driver

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NETWORK = """
    import torch

    torch.set_num_threads(1)
    x = torch.linspace(-1, 1, 32).unsqueeze(1)
    y = torch.sin(3 * x)

    class Net(torch.nn.Sequential):
        def __init__(self):
            torch.manual_seed(0)
            super().__init__(torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))

    def loss_of(net):
        return torch.nn.functional.mse_loss(net(x), y)

    def train_epoch(net, lr):
        for _ in range(10):
            net.zero_grad()
            loss_of(net).backward()
            with torch.no_grad():
                for weight in net.parameters():
                    weight -= lr * weight.grad
        return loss_of(net).item()

    def started(resume):
        with open("starts.txt", "a") as file:
            print("resumed" if resume else "new", file=file)
"""
FUNCTION = """
    from small_net import Net, started, torch, train_epoch

    def train(config={"lr": 0.1, "epochs": 3}, workdir=None, resume=None):
        net, done = Net(), 0
        started(resume)
        if resume:
            done, weights = torch.load(resume)
            net.load_state_dict(weights)
        for epoch in range(done + 1, config["epochs"] + 1):
            error = train_epoch(net, config["lr"])
            torch.save((epoch, net.state_dict()), workdir / "last.pt")
            yield epoch, {"val/error": error}, workdir / "last.pt"
"""
PUSH = """
    import sweeper
    from small_net import Net, started, torch, train_epoch

    def train(config={"lr": 0.1, "epochs": 3}):
        net, done = Net(), 0
        started(sweeper.resume_from())
        if sweeper.resume_from():
            done, weights = torch.load(sweeper.resume_from())
            net.load_state_dict(weights)
        for epoch in range(done + 1, config["epochs"] + 1):
            error = train_epoch(net, config["lr"])
            torch.save((epoch, net.state_dict()), sweeper.workdir() / "last.pt")
            sweeper.report(epoch, {"val/error": error}, sweeper.workdir() / "last.pt")
"""
COMMAND = """
    import argparse
    from small_net import Net, started, train_epoch

    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float)
    parser.add_argument("--epochs", type=int)
    options = parser.parse_args()
    net = Net()
    started(None)
    for epoch in range(1, options.epochs + 1):
        print(f"epoch {epoch} error={train_epoch(net, options.lr)!r}", flush=True)
"""
LIGHTNING = """
    import lightning as L, sweeper, torch
    from small_net import Net, loss_of, started, x, y
    from sweeper.integrations.lightning import SweeperCallback

    class Module(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Net()
        def training_step(self, batch, _):
            return torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])
        def validation_step(self, batch, _):
            self.log("val/error", loss_of(self.net))
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=sweeper.config()["lr"])

    started(sweeper.resume_from())
    data = torch.utils.data.TensorDataset(x.repeat(10, 1), y.repeat(10, 1))
    loader = torch.utils.data.DataLoader(data, batch_size=32)
    trainer = L.Trainer(max_epochs=sweeper.config()["epochs"], callbacks=[SweeperCallback()], logger=False,
                        accelerator="cpu", enable_checkpointing=False, enable_progress_bar=False,
                        enable_model_summary=False, limit_val_batches=1)
    trainer.fit(Module(), loader, loader, ckpt_path=sweeper.resume_from())
"""
HUGGING_FACE = """
    import sweeper, torch
    from small_net import Net, started, x, y
    from sweeper.integrations.huggingface import SweeperCallback
    from transformers import Trainer, TrainingArguments

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Net()
        def forward(self, inputs, labels=None):
            predicted = self.net(inputs)
            return {"loss": torch.nn.functional.mse_loss(predicted, labels), "logits": predicted}

    started(sweeper.resume_from())
    data = [{"inputs": one, "labels": label} for one, label in zip(x, y)]
    arguments = TrainingArguments(str(sweeper.workdir()), num_train_epochs=sweeper.config()["epochs"],
                                  per_device_train_batch_size=32, per_device_eval_batch_size=32, eval_strategy="epoch",
                                  learning_rate=sweeper.config()["lr"], lr_scheduler_type="constant", optim="sgd",
                                  max_grad_norm=0, use_cpu=True, report_to=[], disable_tqdm=True, save_strategy="no")
    trainer = Trainer(Model(), arguments, train_dataset=data * 10, eval_dataset=data, callbacks=[SweeperCallback()])
    trainer.train(resume_from_checkpoint=sweeper.resume_from())
"""
SPEC = """\
name: ways
{how}
base: {{epochs: 3}}
search_space: {{lr: {{values: [0.01, 0.1, 0.001]}}}}
sampler: {{name: grid}}
objective: {{metric: {metric}, mode: min}}
scheduler: {{name: asha, grace_epochs: 1, eta: 2}}
guards: []
"""
SCRIPT = 'command: "{python} way.py"'
PRINTED = """command: "{python} way.py {args}"
report: {patterns: {epoch: 'epoch (\\d+)', val/error: 'error=(\\S+)'}}"""
WAYS = {
    "function": (FUNCTION, "trainer: way:train", "val/error"),
    "push": (PUSH, "trainer: way:train", "val/error"),
    "command": (COMMAND, PRINTED, "val/error"),
    "lightning": (LIGHTNING, SCRIPT, "val/error"),
    "transformers": (HUGGING_FACE, SCRIPT, "eval_loss"),
}
KILLED_AT_WRITE = "14:after"
"""The write to the ledger by which the second of three evaluations is stored."""
ERRORS: dict[str, list[float]] = {}
"""Way -> the error of each trial after its first epoch."""


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name in ("lightning", "transformers"):
        skip_without(name)
    return name


@pytest.fixture(scope="module")
def home(way: str, fresh_home: FreshHome, warm_python: Path) -> Path:
    """A home in which the sweep has ended."""
    home = written(fresh_home, way)
    code, said = run(home, warm_python, "run")
    assert code == 0, said
    return home


def written(fresh_home: FreshHome, way: str) -> Path:
    code, how, metric = WAYS[way]
    home = fresh_home(SPEC.format(how=how, metric=metric))
    (home.parent / "small_net.py").write_text(textwrap.dedent(NETWORK))
    (home.parent / "way.py").write_text(textwrap.dedent(code))
    return home


def run(home: Path, python: Path, *arguments: str, **environ: str) -> tuple[int, str]:
    """Run a verb in the folder of the home; scripts and functions of trials are forked from a warm process."""
    path = os.pathsep.join((str(home.parent), *filter(None, sys.path)))
    environ |= {"PYTHONPATH": path, "WARM_PYTHON": str(python)}
    return Driver(home, *arguments, before=partial(os.chdir, home.parent), **environ).end(timeout_s=500)


def starts(home: Path) -> list[str]:
    return (home.parent / "starts.txt").read_text().split()


def curve(found: Results, trial: str, way: str) -> list[float]:
    return [float(metrics[WAYS[way][2]]) for metrics in found[trial]["curve"]]


def test_the_winner_is_the_same_and_the_worst_is_pruned(home: Path, way: str) -> None:
    found = results(home, "ways")
    assert {trial: each["state"] for trial, each in found.items()} == {
        "ways-0000": "COMPLETE",
        "ways-0001": "COMPLETE",
        "ways-0002": "PRUNED",
    }
    assert curve(found, "ways-0001", way)[-1] < curve(found, "ways-0000", way)[-1], "a rate of 0.1 wins"
    assert len(curve(found, "ways-0002", way)) == 1
    ERRORS[way] = [curve(found, trial, way)[0] for trial in sorted(found)]
    if way != "transformers":  # which shuffles
        assert ERRORS[way] == pytest.approx(ERRORS.get("function", ERRORS[way]), rel=1e-4), "the same training"


def test_after_a_kill_it_resumes_to_the_same_end(
    home: Path, fresh_home: FreshHome, warm_python: Path, way: str
) -> None:
    killed = written(fresh_home, way)
    code, said = run(killed, warm_python, "run", "--trials", "1", KILL_WRITE=KILLED_AT_WRITE)
    assert code == -signal.SIGKILL, said
    assert len(curve(results(killed, "ways"), "ways-0000", way)) == 2
    code, said = run(killed, warm_python, "run", "--trials", "1")
    assert code == 0, said
    assert starts(killed) == ["new", "new" if way == "command" else "resumed"]
    before, now = results(home, "ways")["ways-0000"], results(killed, "ways")["ways-0000"]
    assert now["state"] == "COMPLETE"
    assert curve({"a": now}, "a", way) == pytest.approx(curve({"a": before}, "a", way), rel=1e-6)


def test_the_best_trial_is_reproduced(home: Path, warm_python: Path) -> None:
    code, said = run(home, warm_python, "reproduce", "ways:best")
    assert code == 0, said
    assert "BIT-EXACT" in said or "WITHIN TOLERANCE" in said
