"""Whether a machine of a cluster trains what the driver expects: the same code, the same data, the same study home."""

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from sweeper.checkpoints.object_store import CHECK_PATIENCE_S, ObjectStore, StoreUnavailable
from sweeper.entrypoint.call import prepare
from sweeper.entrypoint.source_hashes import code_sums


def expectation(
    study_dir: Path | None,
    base: Mapping[str, Any],
    code: Mapping[str, str],
    data: Mapping[str, str],
    store: str | None = None,
) -> dict[str, Any]:
    """What every machine must have.

    Args:
        study_dir: the study's folder, if trials write their checkpoints there.
        base: the config whose data were prepared.
        code: checksums of the sources, by file.
        data: fingerprints of the prepared data, by name.
        store: URL of the store that trials write their checkpoints to, instead.
    """
    home = str(study_dir) if study_dir and not store else None
    return {"study_dir": home, "store": store, "base": dict(base), "code": dict(code), "data": dict(data)}


def unfit(trainer: str, expected: Mapping[str, Any]) -> str | None:
    """What this machine lacks, or None. Prepares its data, unless another process here has; asked once per process."""
    return _unfit(trainer, json.dumps(expected, sort_keys=True))


@lru_cache(maxsize=1)
def _unfit(trainer: str, expected_json: str) -> str | None:
    expected, here = json.loads(expected_json), os.uname().nodename
    if expected["study_dir"] and not (Path(expected["study_dir"]) / "lock").exists():
        return f"{here} does not see the study home: {expected['study_dir']} is not there"
    if expected["store"]:
        try:
            ObjectStore(expected["store"], CHECK_PATIENCE_S).check()
        except StoreUnavailable as lost:
            return f"{here} cannot use the checkpoint store: {lost}"
    if differing := _differing(code_sums(trainer), expected["code"]):
        return f"{here} has different code: {', '.join(differing[:3])}{' and more' if len(differing) > 3 else ''}"
    if differing := _differing(prepare(trainer, expected["base"]), expected["data"]):
        return f"{here} has different data: {', '.join(differing)}"
    return None


def _differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
