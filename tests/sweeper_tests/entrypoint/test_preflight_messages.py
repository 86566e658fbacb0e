"""The wire between preflight and the process that checks a trainer."""

import json
import subprocess
import sys

import pytest

from mano_trainers.report import CheckResult, CheckStatus
from sweeper.entrypoint.preflight_messages import (
    Checked,
    PreflightRequest,
    Prepared,
    answer_from_json,
    request_from_json,
)
from sweeper.errors import UserError


def test_messages_survive_the_round_trip() -> None:
    request = PreflightRequest({"a": {"b": 1}}, [{"a": {"b": 2}}])
    assert request_from_json(request.to_json()) == request
    prepared = Prepared({"data": "1f"}, {"device": "cpu"}, None)
    assert answer_from_json(prepared.to_json()) == prepared
    checked = Checked(CheckResult("labels.pairs", CheckStatus.WARN, "3 %", "0 %", "look", 0.5))
    assert answer_from_json(checked.to_json()) == checked


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("loss 0.1", "not valid: loss 0.1"),
        ('{"kind": 1}', "not valid: "),
        ('{"prepared": {"fingerprints": {}, "numerics": {}, "run_bytes": -1}}', "run_bytes: Input should be greater"),
        ('{"prepared": {"fingerprints": [], "numerics": {}, "run_bytes": 1}}', "fingerprints: "),
        ('{"checked": {"name": "a", "status": "GOOD", "measured": "1", "expected": "2"}}', "status: "),
    ],
)
def test_an_answer_that_is_not_valid_is_refused(line: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        answer_from_json(line)


def test_a_request_that_is_not_valid_is_refused() -> None:
    with pytest.raises(UserError, match="preflight's request is not valid: corners"):
        request_from_json(json.dumps({"base": {}}))


PRINTS = """
import os, subprocess, sys
from sweeper.entrypoint.preflight_messages import Prepared, own_answers
answers = own_answers()
print('{"prepared": "in Python"}', end="")
os.write(1, b'{"prepared": "beneath Python"}')
subprocess.run(["echo", '{"prepared": "by a child"}'])
print(Prepared({}, {}, 1).to_json(), file=answers)
"""


def test_what_user_code_prints_is_not_an_answer() -> None:
    done = subprocess.run([sys.executable, "-c", PRINTS], capture_output=True, text=True, check=True)
    assert [answer_from_json(line) for line in done.stdout.splitlines()] == [Prepared({}, {}, 1)]
    assert all(text in done.stderr for text in ("in Python", "beneath Python", "by a child"))
