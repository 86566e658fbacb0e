"""Lightning: `Trainer(callbacks=[SweeperCallback()])`, and `fit(model, ckpt_path=sweeper.resume_from())` to resume."""

from typing import Any

import lightning as L

from sweeper.reporting import push


class SweeperCallback(L.Callback):  # type: ignore[misc]
    """Reports at the end of each validation: every logged metric, and Lightning's own checkpoint.

    The sanity check is not reported. When the trial is stopped, `fit` returns as after any early stop.

    Args:
        checkpoint: write a checkpoint at each report; without one an interrupted trial starts over.
    """

    def __init__(self, *, checkpoint: bool = True) -> None:
        self._checkpoint = checkpoint

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or trainer.should_stop:
            return
        step = trainer.global_step
        path = None
        if self._checkpoint and push.in_sweep():
            path = push.workdir() / f"step_{step:08d}.ckpt"
            trainer.save_checkpoint(path)  # on every process: it gathers what is sharded
        if not trainer.is_global_zero:
            return
        try:
            push.report(_epochs_done(trainer), _numbers(trainer.callback_metrics), path, step=step)
        except push.TrialStopped:
            trainer.should_stop = True


def _epochs_done(trainer: L.Trainer) -> float:
    """Epochs of training, fractional inside one: validation runs before Lightning counts the epoch as done."""
    batches: int | float = trainer.num_training_batches
    inside: int = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    return float(trainer.current_epoch) + (inside / batches if isinstance(batches, int) and batches else 1.0)


def _numbers(metrics: Any) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}
