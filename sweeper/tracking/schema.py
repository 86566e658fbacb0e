"""The words in which a trial is recorded in MLflow: tag names, metric keys and ``trial.yaml``."""

import hashlib
import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import yaml

from sweeper.search_space.paths import leaves

TRIAL_FILE: Final = "trial.yaml"
PROVENANCE_FILE: Final = "provenance.json"
STUDY_PROVENANCE: Final = "study_provenance"
"""What names, in the provenance of a trial, the artifact of the study's run that holds what all its trials share."""
CHECKPOINTS: Final = "checkpoints"
SYSTEM: Final = "system/"
"""Prefix of the names of metrics about the machine; MLflow's UI shows them separately."""

CONTROL: Final = "control/"
"""Prefix of the names of a control's metrics, so that no list sorted by the objective ranks it."""
REPRODUCED: Final = "reproduced/"
"""As CONTROL, of the metrics of a rerun."""
CHART_FIRST: Final = "0_objective/"
"""Prefix of the name under which a candidate's objective is stored once more: without a view, MLflow's charts are in
the order of their names' first parts, and a page of charts is to begin with the objective."""

TAG_STUDY: Final = "sweeper.study_id"
TAG_TRIAL: Final = "sweeper.trial_id"
TAG_ROLE: Final = "sweeper.role"
TAG_STATE: Final = "sweeper.state"
TAG_OUTBOX: Final = "sweeper.outbox"
TAG_OBJECTIVE: Final = "sweeper.objective"
TAG_WINNER: Final = "sweeper.winner"
TAG_REPRODUCES: Final = "sweeper.reproduces"
TAG_VERDICT: Final = "sweeper.verdict"
TAG_CAUSE: Final = "sweeper.likely_cause"
TAG_RUN_TYPE: Final = "mlflow.runType"
UNFOLDED: Final = "evaluation"
"""A type of runs whose parent MLflow's page unfolds at a first visit; else it shows the study's run, and no trial."""
TAG_LANES: Final = "sweeper.lanes"
"""How many trials may have trained in one process with it; of no other trial."""
TAG_SUM: Final = "mlflow.sweeper.sha256."
"""And the name of a checkpoint: sha256 of its manifest, which holds those of its files. MLflow's page shows no tags of
names that begin with its own."""
FORMER_TAG_SUM: Final = "sweeper.sha256."
"""As TAG_SUM, in older records."""
TAG_PARENT: Final = "mlflow.parentRunId"
TAG_NOTE: Final = "mlflow.note.content"
"""The description on a run's page, in Markdown."""
MODEL_LINK: Final = "**Registered model:** "
"""Start of the line of a study's description that links to its registered winner."""
MODEL_LINE: Final = re.compile(rf"\A{re.escape(MODEL_LINK)}.*\n\n")
RUN_LINK: Final = re.compile(r"\[(?P<name>[^]]+)\]\(run:(?P<trial>[^)]+)\)")
"""A link in it to the run of a trial, as the outbox has it: only MLflow knows the address."""

TAG_ALIAS: Final = "sweeper.name."
"""And the name under which MLflow keeps a metric or a param: the name that the trainer gave it."""
LONGEST_KEY: Final = 250 - len(TAG_ALIAS)
"""Characters of a name: MLflow accepts 250, of tags too."""

LARGEST_FLOAT: Final = 1.7976931348623157e308


def metric_key(name: str) -> str:
    """The name under which MLflow keeps a metric or a param by itself.

    What it refuses (``acc@1``) becomes ``_``; ``a//b`` becomes ``a/b``, since it takes names for paths; a name that is
    too long ends with a hash of itself.
    """
    key = posixpath.normpath(re.sub(r"[^\w\-. :/]", "_", name)).lstrip("/")
    key = re.sub(r"^\.\.?(?=/|$)", "_", key) or "_"
    return key if len(key) <= LONGEST_KEY else _hashed(key, name)


def metric_keys(names: Iterable[str]) -> dict[str, str]:
    """Name -> the name under which MLflow keeps it, for names that belong together: no two become the same."""
    names = sorted(names)
    taken = {name for name in names if metric_key(name) == name}
    keys = {}
    for name in names:
        key = metric_key(name)
        if key != name and key in taken:
            key = _hashed(key, name)
        taken.add(key)
        keys[name] = key
    return keys


def _hashed(key: str, name: str) -> str:
    ending = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:8]
    return f"{key[: LONGEST_KEY - 9]}_{ending}"


def checkpoint_sums(tags: Mapping[str, str]) -> dict[str, str]:
    """Name of a checkpoint -> sha256 of its manifest, from the tags of a run."""
    of_both = [(prefix, name) for prefix in (FORMER_TAG_SUM, TAG_SUM) for name in tags if name.startswith(prefix)]
    return {name.removeprefix(prefix): tags[name] for prefix, name in of_both}


def metric_value(value: float) -> float:
    """The number MLflow keeps for a metric: infinities become the largest float, NaN stays NaN."""
    return max(-LARGEST_FLOAT, min(LARGEST_FLOAT, value)) if value == value else value


class _Plain(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]  # the one in C is 5 times as fast
    """Writes out what occurs twice, instead of an anchor and an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def trial_yaml(trial_id: str, trainer: str, config: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    """The text of ``trial.yaml``: all that is needed to run the trial again. Floats read back to the last bit.

    Args:
        trial_id: the trial's ID.
        trainer: the training function, ``package.module:function``.
        config: its fully resolved input, every default written out.
        params: what the sampler chose, by dotted path.
    """
    record = {"trial_id": trial_id, "trainer": trainer, "params": dict(params), "config": dict(config)}
    return yaml.dump(record, Dumper=_Plain, sort_keys=False)


def read_trial_yaml(text: str) -> dict[str, Any]:
    """The mapping that :func:`trial_yaml` wrote."""
    record = yaml.safe_load(text)
    assert isinstance(record, dict)
    return record


def trial_provenance(record: Mapping[str, Any], config: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """The record of one trial: `record`, which is or names that of its study, and what was sampled, with floats that
    read back to the last bit.

    The config is in `trial.yaml` too: what a rerun takes from there is compared with this.
    """
    seeds = {path: value for path, value in leaves(config).items() if path.endswith("seed")}
    return {**record, "params": dict(params), "seeds": seeds, "config": dict(config)}
