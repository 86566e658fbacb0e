"""The peer of `orchestrator.py`: the same no-op trials on bare Ray Tune, with OptunaSearch, ASHA and actor reuse.

Run by `orchestrator.py` in a process of its own. With `restore` it continues what it was killed at, as Tune's guide
says.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from noop_trainer import OBJECTIVE, error_mm, nap, note
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch

SPACE = {"scale": tune.loguniform(0.5, 10.0), "offset": tune.uniform(0.0, 1.0)}


@dataclass(frozen=True)
class Job:
    """What the peer is asked to do. `mlflow`: the URI for its MLflowLoggerCallback, or None for no tracking."""

    folder: str
    trials: int
    epochs: int
    sleep_s: float
    concurrent: int
    log: str
    mlflow: str | None = None
    checkpoints: bool = False
    prune: bool = True
    restore: bool = False


class NoopTrainable(tune.Trainable):  # type: ignore[misc]
    """Reports what `noop_trainer` reports."""

    def setup(self, config: dict[str, Any]) -> None:
        self._config, self._step = config, 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        self._step += 1
        nap(self._config["sleep_s"])
        note(self._config["log"], f"{self._config['scale']:.12g}", self._step)
        error = error_mm(self._config["scale"], self._config["offset"], self._step)
        return {OBJECTIVE: error, "done": self._step >= self._config["epochs"]}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        (Path(checkpoint_dir) / "step.json").write_text(json.dumps(self._step))

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        self._step = json.loads((Path(checkpoint_dir) / "step.json").read_text())


def tuner(job: Job) -> tune.Tuner:
    trainable = tune.with_resources(NoopTrainable, {"cpu": 1})
    space = SPACE | {"epochs": job.epochs, "sleep_s": job.sleep_s, "log": job.log}
    if job.restore:
        return tune.Tuner.restore(f"{job.folder}/peer", trainable=trainable, param_space=space)
    callbacks = []
    if job.mlflow:
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        callbacks.append(MLflowLoggerCallback(tracking_uri=job.mlflow, experiment_name="peer"))
    return tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            metric=OBJECTIVE,
            mode="min",
            search_alg=ConcurrencyLimiter(OptunaSearch(), max_concurrent=job.concurrent),
            scheduler=ASHAScheduler(max_t=job.epochs, grace_period=1, reduction_factor=3) if job.prune else None,
            num_samples=job.trials,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="peer",
            storage_path=job.folder,
            verbose=0,
            callbacks=callbacks,
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1 if job.checkpoints else 0),
        ),
    )


if __name__ == "__main__":
    asked = Job(**json.loads(sys.argv[1]))
    ray.init(address="local", num_cpus=asked.concurrent, include_dashboard=False, log_to_driver=False)
    results = tuner(asked).fit()
    print(json.dumps({"trials": len(results), "errors": results.num_errors}))
