"""A pickle's bytes, split into instructions: the lexical half of `restricted_pickle`."""

import codecs
import io
import pickletools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

from mano_trainers.errors import DataError

MAX_BYTES: Final = 64 * 2**20
"""Largest file that is read; MANO_RIGHT.pkl has under 4 MB."""
_INSTRUCTIONS: Final = {each.code.encode("latin-1"): each for each in pickletools.opcodes}
FIRST_OF_OLD: Final = (b"(", b"}", b"]", b"c")
"""What pickles of protocol 0 and 1, which have no header, start with if they contain a dict, a list or an object."""


class Damaged(ValueError):
    """The instructions are inconsistent."""


def read_bytes(path: Path, help: str) -> bytes:
    """The bytes of a file that may be a pickle.

    Raises:
        DataError: no such file, too large, or not a pickle; it says what it looks like.
    """

    def fail(what: str) -> NoReturn:
        raise DataError(what, where=str(path), help=help)

    try:
        if not path.exists():
            fail("no such file")
        if not path.is_file():
            fail("is not a file")
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        fail(f"cannot be read: {error}")
    if len(data) > MAX_BYTES:
        fail(f"has over {MAX_BYTES // 2**20} MB: no file of this kind has")
    has_header = data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    if not has_header and data[:1] not in FIRST_OF_OLD:
        fail(f"is not a pickle of protocol 0 to 5, but {_looks_like(data)}")
    return data


def _looks_like(data: bytes) -> str:
    if not data:
        return "empty"
    if data[:2] == b"PK":
        return "a zip archive (unpack it) or an .npz"
    if data.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer: the file itself was not downloaded; get it with `git lfs pull`"
    if data[:200].lstrip().startswith(b"<"):
        return "a web page: the download was answered with a page, as when one is not logged in"
    return "a pickle of another protocol" if data[:1] == b"\x80" else "something else"


def instructions(data: bytes) -> Iterator[tuple[str, Any, int]]:
    """Name, argument and position of each instruction, to STOP.

    As `pickletools.genops`, but text of protocol 0 may hold any byte: Python 2 wrote arrays as such.

    Raises:
        ValueError: there is no such instruction, or it is cut short.
    """
    stream, name = io.BytesIO(data), ""
    while name != "STOP":
        position = stream.tell()
        instruction = _INSTRUCTIONS.get(stream.read(1))
        if instruction is None:
            raise Damaged("no such instruction")
        name, argument = instruction.name, None
        if name == "STRING":
            argument = _quoted(stream.readline())
        elif instruction.arg is not None:
            argument = instruction.arg.reader(stream)
        yield name, argument, position


def _quoted(line: bytes) -> str:
    """The text of a Python 2 literal such as `'a\\x00b'` and a line break, by latin-1."""
    text = line.rstrip(b"\n")
    if len(text) < 2 or text[:1] not in (b"'", b'"') or text[-1:] != text[:1]:
        raise Damaged("text without quotes")
    raw, _ = codecs.escape_decode(text[1:-1])
    decoded: str = raw.decode("latin-1")
    return decoded
