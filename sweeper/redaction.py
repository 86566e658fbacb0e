"""Takes secrets out of texts that are stored or shown."""

import re

_USERINFO = re.compile(r"(?<=://)[^/\s@'\"]+@")
_TOKEN = re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|hf_|sk-|xox[abpr]-|AKIA|ASIA)[A-Za-z0-9_-]{12,}")
_ASSIGNED = re.compile(
    r"(?i)((?:password|passwd|secret|token|api_?key|access_?key)\w*[\"']?\s*[:=]\s*[\"']?)[^\s\"']{6,}"
)


def redact(text: str) -> str:
    """`text` with ``***`` in place of user and password of URLs, well-known tokens, and values assigned to secrets."""
    text = _USERINFO.sub("***@", text)
    text = _TOKEN.sub("***", text)
    return _ASSIGNED.sub(r"\1***", text)
