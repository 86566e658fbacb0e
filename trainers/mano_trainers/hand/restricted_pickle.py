"""Pickles read as data: nothing is imported, nothing is called, whatever the file asks for.

A pickle is a program for a small stack machine whose instructions may call any Python function. This is that machine
with the calling taken out: its instructions build numbers, text, lists, dicts and plain numeric arrays, and a class it
knows becomes a `Stored` record of its fields. Any other global name, and any instruction that is not needed for the
above, is refused by name. It is enough for data sets and hand models of Python 2 (numpy, scipy csc, chumpy).

Pickle's instructions: the docstrings of the standard library's `pickletools`, which also splits the file into them.
"""

import math
import pickletools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np

from mano_trainers.errors import DataError

MAX_BYTES: Final = 64 * 2**20
"""Largest file that is read; MANO_RIGHT.pkl has under 4 MB."""
MAX_INSTRUCTIONS: Final = 100_000
MAX_ARRAY_BYTES: Final = 256 * 2**20
"""Of all arrays of a file together: one text may be made into an array many times."""
GLOBALS: Final = {
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "numpy.core.multiarray _reconstruct": "_reconstruct",
    "numpy._core.multiarray _reconstruct": "_reconstruct",
    "numpy.core.multiarray scalar": "scalar",
    "numpy._core.multiarray scalar": "scalar",
    "__builtin__ set": "set",
    "_codecs encode": "encode",
    "scipy.sparse.csc csc_matrix": "csc_matrix",
    "scipy.sparse._csc csc_matrix": "csc_matrix",
    "chumpy.ch Ch": "Ch",
    "chumpy.reordering Select": "Select",
}
RECORDS: Final = ("csc_matrix", "Ch", "Select")
_INTEGERS: Final = ("INT", "BININT", "BININT1", "BININT2", "LONG1", "LONG4")
_TEXTS: Final = ("BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES")
_PUSHES_ITS_ARGUMENT: Final = frozenset([*_INTEGERS, *_TEXTS, "BINFLOAT"])
_CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES: Final = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_NUMERIC: Final = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")


@dataclass(eq=False)
class Stored:
    """An instance of a class that is known by name only.

    Attributes:
        kind: one of `RECORDS`; while reading also "ndarray" or "dtype" before its content came.
        state: its fields; None until they came.
    """

    kind: str
    state: Any = None
    memo_keys: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class _Global:
    kind: str


class _Refused(Exception):
    """The file asks for something that is not data."""


class _Damaged(ValueError):
    """The instructions do not fit together."""


def read_pickle(path: Path, help: str) -> Any:
    """Reads a pickle of protocol 2 to 4 that holds data only.

    Python 2 text comes as `str` by latin-1, a numpy scalar as an array of no dimensions, a Python 2 set as a list.

    Args:
        path: the file.
        help: where to get a good one; said with every error.

    Returns:
        None, bool, int, float, str, bytes, list, tuple, dict (text keys), numeric `numpy.ndarray`, read-only, `Stored`.
        A list or dict may contain itself: walk it with a bounded depth.

    Raises:
        DataError: no such file, not a pickle, cut short, damaged, too large, or one that asks for anything else.
    """
    data = _read_bytes(path, help)
    machine = _Machine()
    position = 0
    try:
        for count, (instruction, argument, at) in enumerate(pickletools.genops(data)):
            position = at or 0
            if count > MAX_INSTRUCTIONS:
                raise _Refused(f"has over {MAX_INSTRUCTIONS} instructions")
            machine.step(instruction.name, argument)
        return machine.pop()
    except _Refused as refused:
        raise DataError(
            f"refused: this pickle {refused}; nothing of it was run",
            where=str(path),
            help=f"a pickle can hold a program: take it from its publisher only; {help}",
        ) from None
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise DataError(
            f"the pickle is cut short or damaged near byte {position} of {len(data)}",
            where=str(path),
            help=help,
        ) from error


def _read_bytes(path: Path, help: str) -> bytes:
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
    if data[:2] not in (b"\x80\x02", b"\x80\x03", b"\x80\x04"):
        fail(f"is not a pickle of protocol 2 to 4, but {_looks_like(data)}")
    return data


def _looks_like(data: bytes) -> str:
    if not data:
        return "empty"
    if data[:2] == b"PK":
        return "a zip archive (unpack it) or an .npz"
    if data[:200].lstrip().startswith(b"<"):
        return "a web page: the download was answered with a page, as when one is not logged in"
    return "a pickle of another protocol" if data[:1] == b"\x80" else "something else"


class _Machine:
    """The stack machine. A list is opened by MARK; instructions that end one take it whole."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.array_bytes = 0

    def pop(self) -> Any:
        return self.stack.pop()

    def step(self, name: str, argument: Any) -> None:
        if name in _PUSHES_ITS_ARGUMENT:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            items = [self.pop() for _ in range(_TUPLES[name])]
            self.stack.append(tuple(reversed(items)))
        elif name in ("EMPTY_LIST", "EMPTY_DICT"):
            self.stack.append([] if name == "EMPTY_LIST" else {})
        elif name in ("MARK", "TUPLE", "APPENDS", "SETITEMS"):
            self.marked(name)
        elif name == "APPEND":
            item = self.pop()
            _typed(self.stack[-1], list).append(item)
        elif name == "SETITEM":
            value, key = self.pop(), self.pop()
            _typed(self.stack[-1], dict)[_typed(key, str)] = value
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.remember(len(self.memo) if name == "MEMOIZE" else argument)
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name == "GLOBAL":
            self.stack.append(_global(argument))
        elif name == "STACK_GLOBAL":
            member, module = self.pop(), self.pop()
            self.stack.append(_global(f"{_typed(module, str)} {_typed(member, str)}"))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, target = self.pop(), self.pop()
            make = self.reduce if name == "REDUCE" else self.record
            self.stack.append(make(_typed(target, _Global).kind, _typed(arguments, tuple)))
        elif name == "BUILD":
            state = self.pop()
            self.build(_typed(self.stack[-1], Stored), state)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise _Refused(f"uses the instruction {name}, which plain data does not need")

    def marked(self, name: str) -> None:
        if name == "MARK":
            self.outer.append(self.stack)
            self.stack = []
            return
        items, self.stack = self.stack, self.outer.pop()
        if name == "TUPLE":
            self.stack.append(tuple(items))
        elif name == "APPENDS":
            _typed(self.stack[-1], list).extend(items)
        else:
            keys = [_typed(key, str) for key in items[::2]]
            _typed(self.stack[-1], dict).update(zip(keys, items[1::2], strict=True))

    def remember(self, key: int) -> None:
        value = self.stack[-1]
        self.memo[key] = value
        if isinstance(value, Stored):
            value.memo_keys.append(key)

    def record(self, kind: str, arguments: tuple[Any, ...]) -> Stored:
        if kind not in RECORDS or arguments:
            raise _Refused(f"makes an instance of {kind} with {len(arguments)} arguments")
        return Stored(kind)

    def reduce(self, kind: str, arguments: tuple[Any, ...]) -> Any:
        if kind == "_reconstruct" and arguments and isinstance(arguments[0], _Global):
            return Stored("ndarray")
        if kind == "dtype" and arguments and isinstance(arguments[0], str):
            if not _NUMERIC.fullmatch(arguments[0]):
                raise _Refused(f"holds an array of type {ascii(arguments[0])[:40]}, not of numbers")
            return Stored("dtype", np.dtype(arguments[0]))
        if kind == "scalar" and len(arguments) == 2:
            return self.array((), arguments[0], False, arguments[1])
        if kind == "set" and len(arguments) == 1:
            return _typed(arguments[0], list)
        if kind == "encode" and arguments[1:] == ("latin1",):  # how Python 3 writes bytes for Python 2
            raw = _typed(arguments[0], str).encode("latin-1")
            self.count(len(raw))
            return raw
        raise _Refused(f"calls {kind} with arguments that no data has")

    def build(self, target: Stored, state: Any) -> None:
        if target.kind in RECORDS:
            if target.state is not None:
                raise _Damaged("filled twice")
            target.state = _typed(state, dict)
            return
        made: Any
        if target.kind == "dtype":
            _, order, *others = _typed(state, tuple)
            if _typed(order, str) not in ("<", ">", "=", "|") or others[:3] != [None, None, None]:
                raise _Refused("holds an array type with fields")
            made = target.state.newbyteorder(order)
        else:
            _, shape, dtype, fortran, data = _typed(state, tuple)
            made = self.array(shape, dtype, fortran, data)
        self.stack[-1] = made
        for key in target.memo_keys:  # later references must find the finished thing
            self.memo[key] = made

    def array(self, shape: Any, dtype: Any, fortran: Any, data: Any) -> np.ndarray[Any, Any]:
        if not isinstance(dtype, np.dtype):
            raise _Damaged("an array without a type")
        raw = data.encode("latin-1") if isinstance(data, str) else _typed(data, bytes)
        sizes = [_typed(size, int) for size in _typed(shape, tuple)]
        if len(sizes) > 8 or not all(0 <= size <= MAX_BYTES for size in sizes):
            raise _Damaged("impossible shape")
        if math.prod(sizes) * dtype.itemsize != len(raw):
            raise _Damaged("shape and content of an array differ")
        self.count(len(raw))
        return np.frombuffer(raw, dtype).reshape(sizes, order="F" if fortran else "C")

    def count(self, size: int) -> None:
        self.array_bytes += size
        if self.array_bytes > MAX_ARRAY_BYTES:
            raise _Refused("unfolds into arrays larger than any model or label")


def _global(name: str) -> _Global:
    if name not in GLOBALS:
        raise _Refused(f"asks for {ascii(name.replace(' ', '.'))[1:-1][:120]}")
    return _Global(GLOBALS[name])


def _typed(value: Any, kind: type) -> Any:
    """The value, if it is exactly of that type (a bool is no int here)."""
    if type(value) is not kind:
        raise _Damaged(f"{kind.__name__} expected")
    return value
