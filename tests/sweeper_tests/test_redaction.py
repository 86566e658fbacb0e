"""What is redacted from texts, and what a spec must not contain."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

from sweeper.errors import SpecError
from sweeper.redaction import is_secret, plain, redact
from sweeper.spec.load import load_spec

SPEC = ROOT / "search_spaces" / "loss_balance.yaml"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("http://user:pass@host:5000/x", "http://***@host:5000/x"),
        ("https://token@host/x", "https://***@host/x"),
        ("http://host/a@b", "http://host/a@b"),
        ("api_key: abcdefgh", "api_key: ***"),
        ("lambda_param: 0.123456", "lambda_param: 0.123456"),
        ("tokenizer: bert-base", "tokenizer: bert-base"),
        ("AWS_SECRET_ACCESS_KEY=abcdefgh", "AWS_SECRET_ACCESS_KEY=***"),
        ("token hf_ABCDEFGHIJKLMNOP", "token ***"),
        (
            "postgresql+psycopg://me:hunter2@host:5432/db?sslmode=require",
            "postgresql+psycopg://***@host:5432/db?sslmode=require",
        ),
        ("host=db password=hunter22", "host=db password=***"),
        ("s3://AKIAABCDEFGHIJKLMNOP:abc/def@bucket", "s3://***@bucket"),
        (
            "https://b/x?X-Amz-Credential=AK%2F1&X-Amz-Signature=ab12&y=1",
            "https://b/x?X-Amz-Credential=***&X-Amz-Signature=***&y=1",
        ),
        ("https://b/x?sv=1&sig=ab%2F12", "https://b/x?sv=1&sig=***"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nafter", "***\nafter"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE", "***"),
    ],
)
def test_redact(text: str, redacted: str) -> None:
    assert redact(text) == redacted


@pytest.mark.parametrize(
    ("key", "value", "secret"),
    [
        ("root", "s3://me:hunter2@host/x", True),
        ("root", "https://b/x?X-Amz-Signature=ab12", True),
        ("root", "-----BEGIN PRIVATE KEY-----", True),
        ("dsn", "host=db password=x", True),
        ("name", "ghp_0123456789abcdefghij", True),
        ("api_key", "x", True),
        ("wandb_api_key", "x", True),
        ("password", "", False),
        ("root", "s3://bucket/x", False),
        ("tokenizer", "bert-base", False),
        ("user", "postgresql://me@host/x", False),
    ],
)
def test_is_secret(key: str, value: str, secret: bool) -> None:
    assert is_secret(key, value) is secret


def test_a_spec_with_a_secret_is_refused_and_the_secret_is_not_shown() -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(SPEC, ["base.data.root=s3://me:hunter2@host/x"])
    text = caught.value.render()
    assert text.startswith("error: this looks like a secret\n  --> --set 'base.data.root=s3://me:***@host/x'\nhelp: ")
    assert "hunter2" not in text


def test_secrets_of_the_environment_are_redacted_wherever_they_appear(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN", "SWEEPER_WEBHOOK"):
        monkeypatch.setenv(name, f"opaque/{name.lower()}+x")
        assert redact(f"cannot log in with ('opaque/{name.lower()}+x',)") == "cannot log in with ('***',)"
        assert is_secret("note", f"opaque/{name.lower()}+x")
    monkeypatch.setenv("SWEEPER_LEDGER", "postgresql://me:in-the-url@db/x")
    assert redact("tried in-the-url") == "tried ***"
    monkeypatch.setenv("SHORT_TOKEN", "run")  # would be taken out of `running`
    monkeypatch.setenv("SECRET", str(tmp_path))  # the path of one
    assert redact(f"running in {tmp_path}") == f"running in {tmp_path}"


@pytest.mark.parametrize("where", ["raise RuntimeError", "threading.Thread(target=int, args=('not-a-number',)).start"])
def test_a_traceback_that_ends_the_process_shows_no_secret(where: str) -> None:
    program = "import threading; from sweeper.redaction import redact_tracebacks; redact_tracebacks()"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; {where}({'' if 'int' in where else repr('not-a-number')})"],
        capture_output=True,
        text=True,
        env=os.environ | {"A_TOKEN": "not-a-number"},
    )
    assert "Error: " in done.stderr
    assert "***" in done.stderr
    assert "not-a-number" not in done.stderr


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("caf\u00e9 \U0001f600", "caf\u00e9 \U0001f600"),
        ("lone \ud800 surrogate", "lone ? surrogate"),
        ("nul \x00 in it", "nul \ufffd in it"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("10 %\r20 %\r\n30 %", "10 %\n20 %\n30 %"),
    ],
)
def test_a_text_made_plain_can_be_stored_and_shown(text: str, shown: str) -> None:
    assert plain(text, 100) == shown


def test_a_long_text_is_cut_in_the_middle() -> None:
    cut = plain("a" * 3_000_000 + "end", 300)
    assert cut.startswith("a" * 200)
    assert cut.endswith("end")
    assert "2,999,703 characters left out" in cut
