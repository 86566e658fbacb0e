"""What a home knows about checkpoints that are in a store: their manifests, and how large they are."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from ledgers import SPEC
from s3_server import BUCKET, s3_server

from sweeper.analysis.cost import estimate_cost, plan_text
from sweeper.analysis.throughput import recorded_throughput
from sweeper.checkpoints.locate import restore_manifests
from sweeper.checkpoints.object_store import ObjectStore
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import Report

URL = f"s3://{BUCKET}/team/toy-1a2b3c4d"
KEYS = [f"trials/0000/epoch_00{epoch}" for epoch in (1, 2, 3)]
WEIGHTS = b"w" * 5000


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """The ledger of a study whose home is lost: its trial wrote three checkpoints; the store has lost the second."""
    with s3_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        study_dir, written = tmp_path / "home" / "studies" / "toy", tmp_path / "written"
        study_dir.mkdir(parents=True)
        ledger = Ledger.create(study_dir, "toy")
        ledger.attributes.spec = SPEC.effective
        ledger.attributes.store_url = URL
        trial, store = ledger.ask(SPEC), ObjectStore(URL)
        for step, key in enumerate(KEYS, 1):
            written.mkdir(exist_ok=True)
            (written / "weights.safetensors").write_bytes(WEIGHTS)
            (written / "manifest.json").write_text(json.dumps({"step": step, "files": {}}))
            store.put(written, key)
            ledger.report(trial.id, Report(step, step, {"val/pa_mpjpe_mm": 1.0}, key, step, seconds=2.0), 1.0)
        store.delete(KEYS[1])
        yield ledger
        ledger.close()


def test_manifests_lost_with_a_home_are_restored_from_the_store(ledger: Ledger) -> None:
    kept = ledger.study_dir / KEYS[2] / "manifest.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("ours")
    restore_manifests(ledger)
    there = {
        str(path.relative_to(ledger.study_dir)) for path in ledger.study_dir.rglob("trials/**/*") if path.is_file()
    }
    assert there == {f"{KEYS[0]}/manifest.json", f"{KEYS[2]}/manifest.json"}, "weights stay in the store"
    assert json.loads((ledger.study_dir / KEYS[0] / "manifest.json").read_text())["step"] == 1
    assert kept.read_text() == "ours"


def test_a_plan_counts_what_is_in_the_store(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    restore_manifests(ledger)
    pace = recorded_throughput(SPEC, ledger.study_dir.parents[1])
    assert pace is not None
    assert pace.checkpoint_bytes > len(WEIGHTS), "the store's checkpoint, not the manifest that lies here"
    once = 20 * 8 * pace.checkpoint_bytes
    plan = estimate_cost(SPEC, full_epochs=8, pace=pace, free_bytes=10**9)
    assert (plan.worst.disk_bytes, plan.worst.store_bytes) == (2 * once, 0)
    assert "in the store" not in plan_text(SPEC, plan)
    monkeypatch.setenv("SWEEPER_CHECKPOINTS", f"s3://{BUCKET}/team")
    plan = estimate_cost(SPEC, full_epochs=8, pace=pace, free_bytes=10**9)
    assert (plan.worst.disk_bytes, plan.worst.store_bytes) == (once, once)
    assert "in the store; " in plan_text(SPEC, plan)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    away = recorded_throughput(SPEC, ledger.study_dir.parents[1])
    assert away is not None, "a plan needs no store"
    assert away.checkpoint_bytes == 0
