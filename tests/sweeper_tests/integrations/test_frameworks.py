"""Scripts that train with Lightning and with Hugging Face's Trainer: the real libraries, on a CPU."""

import textwrap
from pathlib import Path

import pytest

from mano_trainers.report import EpochReport
from sweeper.entrypoint.program.script import run_script

pytestmark = pytest.mark.slow

LIGHTNING = """
    import lightning as L, sweeper, torch
    from sweeper.integrations.lightning import SweeperCallback

    class Line(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.slope = torch.nn.Parameter(torch.zeros(()))
        def training_step(self, batch, _):
            return ((self.slope * batch[0] - 3 * batch[0]) ** 2).mean()
        def validation_step(self, batch, _):
            self.log("val/error", (self.slope - 3).abs())
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=sweeper.config().get("lr", 0.1))

    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(8, 1)), batch_size=2)
    trainer = L.Trainer(max_epochs=3, callbacks=[SweeperCallback()], logger=False, accelerator="cpu",
                        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Line(), data, data, ckpt_path=sweeper.resume_from())
    (sweeper.workdir() / "returned").write_text(str(trainer.current_epoch))
"""
HUGGING_FACE = """
    import sweeper, torch
    from sweeper.integrations.huggingface import SweeperCallback
    from transformers import Trainer, TrainingArguments

    class Line(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.slope = torch.nn.Parameter(torch.zeros(()))
        def forward(self, x, labels=None):
            predicted = self.slope * x
            return {"loss": ((predicted - labels) ** 2).mean(), "logits": predicted}

    data = [{"x": torch.ones(1), "labels": torch.full((1,), 3.0)} for _ in range(8)]
    arguments = TrainingArguments(str(sweeper.workdir()), num_train_epochs=3, per_device_train_batch_size=2,
                                  eval_strategy="epoch", learning_rate=sweeper.config().get("lr", 0.1), use_cpu=True,
                                  report_to=[], disable_tqdm=True, save_strategy="no", optim="adamw_torch")
    trainer = Trainer(Line(), arguments, train_dataset=data, eval_dataset=data, callbacks=[SweeperCallback()])
    trainer.train(resume_from_checkpoint=sweeper.resume_from())
    (sweeper.workdir() / "returned").write_text(str(trainer.state.epoch))
"""
METRICS = {"lightning": "val/error", "hugging_face": "eval_loss"}


@pytest.fixture(params=["lightning", "hugging_face"])
def framework(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def command(folder: Path, python: Path, framework: str) -> list[str]:
    path = folder / "script.py"
    path.write_text(textwrap.dedent(LIGHTNING if framework == "lightning" else HUGGING_FACE))
    return [str(python), str(path)]


def train(folder: Path, python: Path, framework: str, trial: str, resume: Path | None = None) -> list[EpochReport]:
    workdir = folder / trial
    workdir.mkdir()
    return list(run_script(command(folder, python, framework), {"lr": 0.05}, workdir, resume))


def test_every_validation_is_reported_and_an_interrupted_training_continues(
    tmp_path: Path, warm_python: Path, framework: str
) -> None:
    whole = train(tmp_path, warm_python, framework, "a")
    metric = METRICS[framework]
    assert [(report.epoch, report.step) for report in whole] == [(1, 4), (2, 8), (3, 12)], "no sanity check"
    assert whole[0].metrics[metric] > whole[2].metrics[metric] > 0
    assert whole[0].checkpoint is not None
    again = train(tmp_path, warm_python, framework, "b", whole[0].checkpoint)
    assert [report.step for report in again] == [8, 12]
    assert again[-1].metrics[metric] == pytest.approx(whole[-1].metrics[metric], rel=1e-6)


def test_a_stopped_trial_returns_from_its_training(tmp_path: Path, warm_python: Path, framework: str) -> None:
    workdir = tmp_path / "trial"
    workdir.mkdir()
    training = run_script(command(tmp_path, warm_python, framework), {"lr": 0.05}, workdir, None)
    assert next(training).epoch == 1
    training.close()  # type: ignore[attr-defined]
    assert float((workdir / "returned").read_text()) == 1, "`fit` came back, and the script went on to its end"
