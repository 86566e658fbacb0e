"""What is asked of a trainer before any trial, and what it may answer."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BODIES = {
    "exits": ("sys.exit(4)", "`prepare` of trainer `theirs:train` failed: SystemExit: 4"),
    "asks": ("input('? ')", "`prepare` of trainer `theirs:train` failed: EOFError: EOF when reading a line"),
    "raises": ("1 / 0", "`prepare` of trainer `theirs:train` failed: ZeroDivisionError: division by zero"),
    "returns": ("return [1]", "`prepare` of trainer `theirs:train` returned a list, not a dict of name -> text"),
}


def call(folder: Path, body: str) -> "subprocess.CompletedProcess[str]":
    (folder / "theirs.py").write_text(f"import sys\ndef prepare(config):\n    {body}\ndef train(c, w, r): yield\n")
    command = [sys.executable, "-m", "sweeper.entrypoint.call", "theirs:train"]
    return subprocess.run(command, cwd=folder, input="{}", text=True, capture_output=True, check=False, timeout=60)


@pytest.mark.parametrize("case", BODIES)
def test_a_prepare_that_fails_gives_one_line_and_exit_code_2(case: str, tmp_path: Path) -> None:
    body, what = BODIES[case]
    done = call(tmp_path, body)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: {what}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("body", "answer"), [("return None", {}), ("print('x'); return {'a': 1}", {"a": "1"})])
def test_fingerprints_are_strings_and_prints_do_not_go_to_stdout(
    body: str, answer: dict[str, str], tmp_path: Path
) -> None:
    done = call(tmp_path, body)
    assert (done.returncode, json.loads(done.stdout)) == (0, answer)
