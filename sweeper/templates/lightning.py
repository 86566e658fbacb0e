"""A Lightning script, which also runs by itself: `python train.py --lr 0.1`. What the sweep needs is marked."""

import argparse

import lightning as L
import torch

import sweeper
from sweeper.integrations.lightning import SweeperCallback  # <- the sweep

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--hidden", type=int, default=16)
parser.add_argument("--epochs", type=int, default=8)
options = parser.parse_args()


class Curve(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(1, options.hidden), torch.nn.Tanh(), torch.nn.Linear(options.hidden, 1)
        )

    def training_step(self, batch, _):
        return torch.nn.functional.mse_loss(self.layers(batch[0]), batch[1])

    def validation_step(self, batch, _):
        self.log("val/rmse", torch.nn.functional.mse_loss(self.layers(batch[0]), batch[1]).sqrt())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=options.lr)


L.seed_everything(0)
x = torch.rand(200, 1) * 2 - 1
data = torch.utils.data.TensorDataset(x, torch.sin(3 * x) + 0.1 * torch.randn_like(x))
training, validation = torch.utils.data.random_split(data, [150, 50])
trainer = L.Trainer(
    max_epochs=options.epochs,
    callbacks=[SweeperCallback()],  # <- the sweep: reports every validation, with a checkpoint
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    accelerator="cpu",
)
trainer.fit(
    Curve(),
    torch.utils.data.DataLoader(training, batch_size=10, shuffle=True),
    torch.utils.data.DataLoader(validation, batch_size=50),
    ckpt_path=sweeper.resume_from(),  # <- the sweep: continues after an interruption
)
