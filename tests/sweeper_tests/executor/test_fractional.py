"""Two trials that share a GPU, simulated: NVIDIA's library is a stand-in, and Ray is told that there is one."""

import json
import os

import pytest
from checker import check
from faulty import FreshHome, environment, sweep
from forked import Driver

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SPEC = """
name: scripted
trainer: scripted_trainer:train
base: {epochs: 4, sleep_s: 0.5}
variants:
  modest: {scale: 1.5}
  greedy: {out_of_memory_at: 2}
objective: {metric: val/pa_mpjpe_mm, mode: min}
controls: []
scheduler: {name: none}
resources: {gpus: 0.5, concurrent: 2}
"""
BEGUN, REPORTED = 4, 7
"""Operation codes in the ledger's journal."""
LIBRARY = """
class NVMLError(Exception): ...
def nvmlInit(): ...
def nvmlSystemGetDriverVersion(): return "1.0"
def nvmlDeviceGetCount(): return 1
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetName(gpu): return "Simulated GPU"
def nvmlDeviceGetComputeRunningProcesses(gpu): return []
"""


def test_one_trial_out_of_memory_does_not_affect_its_neighbour_on_the_gpu(fresh_home: FreshHome) -> None:
    alone = fresh_home(SPEC.replace("  greedy: {out_of_memory_at: 2}\n", "").replace("gpus: 0.5, ", ""))
    assert Driver(alone, "run").end()[0] == 0
    [expected] = check(alone).values()

    home = fresh_home(SPEC)
    (home.parent / "pynvml.py").write_text(LIBRARY)
    path = f"{home.parent}{os.pathsep}{environment()['PYTHONPATH']}"
    result = sweep(home, "run", ray=True, PYTHONPATH=path, RAY_OVERRIDE_RESOURCES=json.dumps({"GPU": 1}))
    assert result.returncode == 1, result.stderr
    modest, greedy = check(home).values()
    assert greedy["state"] == "FAILED"
    assert "out of memory: MemoryError" in greedy["reason"]
    assert len(greedy["curve"]) == 1
    assert modest["state"] == "COMPLETE"
    assert modest["curve"] == expected["curve"]
    events = [json.loads(line) for line in (home / "studies" / "scripted" / "ledger.journal").read_text().splitlines()]
    kinds = [event["op_code"] for event in events if event["op_code"] in (BEGUN, REPORTED)]
    assert kinds[:2] == [BEGUN, BEGUN], "both had their half of the GPU before one reported"
