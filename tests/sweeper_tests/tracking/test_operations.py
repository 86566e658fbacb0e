"""Operations of the outbox: what is written reads back, an older outbox is read, and what is damaged is refused."""

import json
import math
from typing import Any

import pytest

from sweeper.tracking.delivery.operations import (
    Copy,
    Finish,
    LogMetrics,
    Open,
    Operation,
    Start,
    Tag,
    from_json,
    to_json,
)


@pytest.mark.parametrize(
    "operation",
    [
        Open("0123"),
        Start("toy-0001", 5, {"a": "b"}, {"trial.yaml": "x: 1\n"}, {"lr": "0.1"}, {"set": "abc"}),
        Start(None, 5, restored=True),
        LogMetrics("toy-0001", 3, 5, {"loss": 0.1 + 0.2, "inf": math.inf}),
        Tag("toy-0001", 5, {"state": "RUNNING"}),
        Copy("toy-0001", 5, "checkpoints/epoch_001", "trials/0001/epoch_001", "checkpoint"),
        Copy(None, 5, "report.html", "report.html", "file"),
        Finish("toy-0001", 5, "KILLED", {"state": "PRUNED"}),
    ],
)
def test_an_operation_reads_back(operation: Operation) -> None:
    assert from_json(json.loads(json.dumps(to_json(operation)))) == operation


@pytest.mark.parametrize(
    ("line", "operation"),
    [
        ('{"op":"open","stream":"0123"}', Open("0123")),
        (
            '{"op":"start","trial":null,"ms":5,"tags":{"a":"b"},"artifacts":{},"params":{},"datasets":{}}',
            Start(None, 5, {"a": "b"}),
        ),
        (
            '{"op":"tags","trial":"toy-0001","ms":5,"tags":{"a":"b"},"artifacts":{},"params":{}}',
            Tag("toy-0001", 5, {"a": "b"}),
        ),
        (
            '{"op":"checkpoint","trial":"t","ms":5,"path":"checkpoints/e","folder":"trials/e"}',
            Copy("t", 5, "checkpoints/e", "trials/e", "checkpoint"),
        ),
        (
            '{"op":"file","trial":null,"ms":5,"path":"report.html","file":"report.html"}',
            Copy(None, 5, "report.html", "report.html", "file"),
        ),
        (
            '{"op":"finish","trial":"t","ms":5,"tags":{},"artifacts":{},"params":{},"status":"FAILED"}',
            Finish("t", 5, "FAILED"),
        ),
    ],
)
def test_an_outbox_of_the_first_version_is_read(line: str, operation: Operation) -> None:
    assert from_json(json.loads(line)) == operation


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"x": 1}, "'op'"),
        ({"op": "nonsense"}, "nonsense"),
        ({"op": "start"}, "start.trial: Field required"),
        ({"op": "report", "trial": "t", "step": 1, "ms": 1}, "report.metrics: Field required"),
        ({"op": "report", "trial": "t", "step": 1, "ms": 1, "metrics": {"a": "much"}}, "report.metrics.a"),
        ({"op": "finish", "trial": "t", "ms": 1, "status": "FINE"}, "finish.status"),
    ],
)
def test_an_invalid_record_is_refused_with_the_reason(record: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match="not a valid record") as refused:
        from_json(record)
    assert why in str(refused.value)


def test_half_a_character_does_not_reach_the_database() -> None:
    tags = from_json({"op": "tags", "trial": "t", "ms": 1, "tags": {"reason": "bad \ud800 text"}})
    assert tags == Tag("t", 1, {"reason": "bad ? text"})
