"""Hugging Face: `Trainer(callbacks=[SweeperCallback()])`, and `train(resume_from_checkpoint=sweeper.resume_from())`."""

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sweeper.reporting import push


class SweeperCallback(TrainerCallback):  # type: ignore[misc]
    """Reports each evaluation, with the trainer's own checkpoint of that step.

    Metrics have the trainer's names (`eval_loss`). When the trial is stopped, `train` returns as after any early stop.

    Args:
        checkpoint: write a checkpoint at each report; without one an interrupted trial starts over.
    """

    def __init__(self, *, checkpoint: bool = True) -> None:
        self._checkpoint = checkpoint
        self._metrics: dict[str, float] = {}

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        self._metrics = {
            name: float(value) for name, value in (metrics or {}).items() if isinstance(value, int | float)
        }
        if self._checkpoint and push.in_sweep() and not control.should_training_stop:
            control.should_save = True  # reported by `on_save`, which comes next
        else:
            self._report(state, control, None)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._metrics:
            self._report(state, control, Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def _report(self, state: TrainerState, control: TrainerControl, checkpoint: Path | None) -> None:
        metrics, self._metrics = self._metrics, {}
        if not state.is_world_process_zero:
            return
        try:
            push.report(state.epoch or 0.0, metrics, checkpoint, step=state.global_step, total_epochs=_length(state))
        except push.TrialStopped:
            control.should_training_stop = True


def _length(state: TrainerState) -> float | None:
    return float(state.num_train_epochs) if state.num_train_epochs else None
