"""What is taken out of texts, and what no spec may hold."""

from pathlib import Path

import pytest

from sweeper.errors import SpecError
from sweeper.redaction import is_secret, redact
from sweeper.spec import load_spec

SPEC = Path(__file__).parents[2] / "search_spaces" / "loss_balance.yaml"


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
    ],
)
def test_redact(text: str, redacted: str) -> None:
    assert redact(text) == redacted


@pytest.mark.parametrize(
    ("key", "value", "secret"),
    [
        ("root", "s3://me:hunter2@host/x", True),
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


def test_a_spec_with_a_secret_is_refused_and_the_secret_not_shown() -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(SPEC, ["base.data.root=s3://me:hunter2@host/x"])
    text = caught.value.render()
    assert text.startswith("error: this looks like a secret\n  --> --set 'base.data.root=s3://me:***@host/x'\nhelp: ")
    assert "hunter2" not in text
