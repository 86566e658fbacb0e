"""Removes secrets from texts that are stored or shown."""

import os
import re
import sys
import threading
import traceback
from types import TracebackType
from typing import Final

_USERINFO = re.compile(r"(?<=://)[^/\s@'\"]+@|(?<=s3://)[^\s@:'\"]+:[^\s@'\"]+@")
_TOKEN = re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|hf_|sk-|xox[abpr]-|AKIA|ASIA)[A-Za-z0-9_-]{12,}")
_KEY_BLOCK = re.compile(r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)")
_SIGNED = re.compile(r"(?i)([?&](?:x-amz-(?:signature|credential|security-token)|sig|signature)=)[^&\s'\"]+")
_AUTHORIZATION = re.compile(r"(?i)(authorization[\"']?\s*[:=]\s*[\"']?(?:bearer|basic)\s+)[^\s\"']+")
_NAME = r"(?:password|passwd|secret|token|api_?key|access_?key)(?:_(?:key|value))?s?"  # not tokenizer, token_dim
_WORDS: Final = ("password", "passwd", "secret", "token", "key")  # every name contains one of them
_ASSIGNED = re.compile(rf"(?i)({_NAME}[\"']?\s*[:=]\s*[\"']?)[^\s\"']{{6,}}")
_NAMED = re.compile(rf"(?i)(?:.*_)?{_NAME}")
_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]*@|password=")
_VARIABLE = re.compile(rf"(?i)(?:{_NAME}|webhook)$")
_IN_URL = re.compile(r"://[^/@\s:]*:([^/@\s]+)@")
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SHORTEST: Final = 8
"""Characters: the value of a variable that is shorter would be removed from unrelated words."""


def redact(text: str) -> str:
    """`text` with ``***`` in place of user and password of URLs, signatures of URLs, private keys, well-known tokens,
    values assigned to secrets, and whatever an environment variable named like a secret holds."""
    for value in _held_by_the_environment():
        text = text.replace(value, "***")
    lower = text.lower()  # a search for a word is cheap, and a trial may write megabytes that contain none of them
    text = _KEY_BLOCK.sub("***", text)
    if "://" in lower:
        text = _USERINFO.sub("***@", text)
    if "sig" in lower or "x-amz" in lower:
        text = _SIGNED.sub(r"\1***", text)
    if "authorization" in lower:
        text = _AUTHORIZATION.sub(r"\1***", text)
    text = _TOKEN.sub("***", text)
    return _ASSIGNED.sub(r"\1***", text) if any(word in lower for word in _WORDS) else text


def is_secret(key: str, value: str) -> bool:
    """Whether a value must not be stored: a token, a URL with a password or a signature, a private key, or what a key
    named `password` or a variable named so holds."""
    if any(held in value for held in _held_by_the_environment()):
        return True
    found = any(pattern.search(value) for pattern in (_PASSWORD, _TOKEN, _SIGNED, _KEY_BLOCK, _AUTHORIZATION))
    return bool(found or (value and _NAMED.fullmatch(key)))


def redact_tracebacks() -> None:
    """Prevent this process and its threads from showing a secret when an exception ends them."""

    def show(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        print(redact("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)

    if sys.excepthook is sys.__excepthook__:  # otherwise somebody else shows them
        sys.excepthook = show
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = lambda ended: show(ended.exc_type, ended.exc_value, ended.exc_traceback)


def _held_by_the_environment() -> list[str]:
    """Secrets in the environment, the longest first, since one may be a part of another."""
    named = (value for name, value in os.environ.items() if _VARIABLE.search(name))
    in_urls = (match[1] for value in os.environ.values() for match in _IN_URL.finditer(value))
    found = {value for value in (*named, *in_urls) if len(value) >= _SHORTEST and not os.path.exists(value)}
    return sorted(found, key=len, reverse=True)


def plain(text: str, most: int) -> str:
    """The text in a form that every store and screen accepts: no lone surrogates (not UTF-8), no control characters (a
    database refuses NUL, a terminal obeys escapes) except tabs and line ends; cut in the middle if too long."""
    text = _ESCAPES.sub("", text.encode("utf-8", "replace").decode())
    text = _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n").replace("\r", "\n"))
    if len(text) <= most:
        return text
    cut = f" [... {len(text) - most:,} characters left out ...] "
    head = most * 2 // 3
    return f"{text[:head]}{cut}{text[len(text) - (most - head) :]}"
