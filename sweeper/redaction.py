"""Takes secrets out of texts that are stored or shown."""

import re

_USERINFO = re.compile(r"(?<=://)[^/\s@'\"]+@")
_TOKEN = re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|hf_|sk-|xox[abpr]-|AKIA|ASIA)[A-Za-z0-9_-]{12,}")
_NAME = r"(?:password|passwd|secret|token|api_?key|access_?key)(?:_(?:key|value))?s?"  # not tokenizer, token_dim
_ASSIGNED = re.compile(rf"(?i)({_NAME}[\"']?\s*[:=]\s*[\"']?)[^\s\"']{{6,}}")
_NAMED = re.compile(rf"(?i)(?:.*_)?{_NAME}")
_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]*@|password=")


def redact(text: str) -> str:
    """`text` with ``***`` in place of user and password of URLs, well-known tokens, and values assigned to secrets."""
    text = _USERINFO.sub("***@", text)
    text = _TOKEN.sub("***", text)
    return _ASSIGNED.sub(r"\1***", text)


def is_secret(key: str, value: str) -> bool:
    """Whether a value must not be stored: a token, a URL with a password, or what a key named `password` holds."""
    return bool(_PASSWORD.search(value) or _TOKEN.search(value) or (value and _NAMED.fullmatch(key)))
