"""Pickles read as data: nothing is imported, nothing is called, whatever the file asks for.

A pickle is a program for a small stack machine whose instructions may call any Python function. This is that machine
with the calling taken out: its instructions build numbers, text, lists, dicts and plain numeric arrays, and a class it
knows becomes a `Stored` record of its fields. Any other global name, and any instruction that is not needed for the
above, is refused by name. It is enough for data sets and hand models of Python 2 (numpy, scipy.sparse, chumpy), and for
those that were saved again by Python 3, in any protocol.

Pickle's instructions: the docstrings of the standard library's `pickletools`, whose tables also split the file into
them.
"""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from mano_trainers.errors import DataError
from mano_trainers.hand.pickle_instructions import MAX_BYTES, Damaged, instructions, read_bytes

MAX_INSTRUCTIONS: Final = 100_000
MAX_ARRAY_BYTES: Final = 256 * 2**20
"""For all arrays of a file together: one text may be turned into an array many times."""
GLOBALS: Final = {
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "numpy.core.multiarray _reconstruct": "_reconstruct",
    "numpy._core.multiarray _reconstruct": "_reconstruct",
    "numpy.core.multiarray scalar": "scalar",
    "numpy._core.multiarray scalar": "scalar",
    "numpy.core.numeric _frombuffer": "_frombuffer",
    "numpy._core.numeric _frombuffer": "_frombuffer",
    "__builtin__ set": "set",
    "builtins set": "set",
    "__builtin__ object": "object",
    "builtins object": "object",
    "copy_reg _reconstructor": "_reconstructor",
    "copyreg _reconstructor": "_reconstructor",
    "_codecs encode": "encode",
    "chumpy.ch Ch": "Ch",
    "chumpy.reordering Select": "Select",
} | {
    f"scipy.sparse.{hidden}{layout} {layout}_{kind}": layout
    for layout in ("csc", "csr", "coo")
    for hidden in ("", "_")
    for kind in ("matrix", "array")
}
RECORDS: Final = ("csc", "csr", "coo", "Ch", "Select")
_INTEGERS: Final = "INT BININT BININT1 BININT2 LONG LONG1 LONG4".split()
_TEXTS: Final = "STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8".split()
_BYTES: Final = "BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8".split()
_PUSHES_ITS_ARGUMENT: Final = frozenset([*_INTEGERS, *_TEXTS, *_BYTES, "FLOAT", "BINFLOAT"])
_MARKED: Final = frozenset("MARK TUPLE LIST DICT APPENDS SETITEMS ADDITEMS".split())
_CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES: Final = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_NUMERIC: Final = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")


@dataclass(eq=False)
class Stored:
    """An instance of a class that is known only by name.

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


def read_pickle(path: Path, help: str) -> Any:
    """Reads a pickle that contains only data.

    Python 2 text comes as `str` by latin-1, a numpy scalar as an array of no dimensions, a set as a list.

    Args:
        path: the file.
        help: where to get a good one; added to every error.

    Returns:
        None, bool, int, float, str, bytes, list, tuple, dict (text keys), numeric `numpy.ndarray`, read-only, `Stored`.
        A list or dict may contain itself: walk it with a bounded depth.

    Raises:
        DataError: no such file, not a pickle, cut short, damaged, too large, or one that asks for anything else.
    """
    data = read_bytes(path, help)
    machine = _Machine()
    position = 0
    try:
        for count, (name, argument, position) in enumerate(instructions(data)):  # noqa: B007  said in the error
            if count > MAX_INSTRUCTIONS:
                raise _Refused(f"has over {MAX_INSTRUCTIONS} instructions")
            machine.step(name, argument)
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
            self.stack.append(bytes(argument) if name == "BYTEARRAY8" else argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            items = [self.pop() for _ in range(_TUPLES[name])]
            self.stack.append(tuple(reversed(items)))
        elif name in ("EMPTY_LIST", "EMPTY_SET", "EMPTY_DICT"):
            self.stack.append({} if name == "EMPTY_DICT" else [])
        elif name in _MARKED:
            self.marked(name)
        elif name == "APPEND":
            item = self.pop()
            _typed(self.stack[-1], list).append(item)
        elif name == "SETITEM":
            value, key = self.pop(), self.pop()
            _typed(self.stack[-1], dict)[_typed(key, str)] = value
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.remember(len(self.memo) if name == "MEMOIZE" else argument)
        elif name in ("GET", "BINGET", "LONG_BINGET"):
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
        if name in ("TUPLE", "LIST"):
            self.stack.append(tuple(items) if name == "TUPLE" else items)
        elif name in ("APPENDS", "ADDITEMS"):
            _typed(self.stack[-1], list).extend(items)
        else:
            keys = [_typed(key, str) for key in items[::2]]
            if name == "DICT":
                self.stack.append({})
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
                raise _Refused(f"contains an array of type {ascii(arguments[0])[:40]}, not of numbers")
            return Stored("dtype", np.dtype(arguments[0]))
        if kind == "scalar" and len(arguments) == 2:
            return self.array((), arguments[0], False, arguments[1])
        if kind == "_frombuffer" and len(arguments) == 4 and arguments[3] in ("C", "F"):  # protocol 5
            data, dtype, shape, order = arguments
            return self.array(shape, dtype, order == "F", data)
        if kind == "_reconstructor" and len(arguments) == 3 and arguments[1:] == (_Global("object"), None):
            return self.record(_typed(arguments[0], _Global).kind, ())  # how protocol 0 and 1 make an instance
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
                raise Damaged("filled twice")
            target.state = _typed(state, dict)
            return
        made: Any
        if target.kind == "dtype":
            _, order, *others = _typed(state, tuple)
            if _typed(order, str) not in ("<", ">", "=", "|") or others[:3] != [None, None, None]:
                raise _Refused("contains an array type with fields")
            made = target.state.newbyteorder(order)
        else:
            _, shape, dtype, fortran, data = _typed(state, tuple)
            made = self.array(shape, dtype, fortran, data)
        self.stack[-1] = made
        for key in target.memo_keys:  # later references must find the finished thing
            self.memo[key] = made

    def array(self, shape: Any, dtype: Any, fortran: Any, data: Any) -> np.ndarray[Any, Any]:
        if not isinstance(dtype, np.dtype):
            raise Damaged("an array without a type")
        raw = data.encode("latin-1") if isinstance(data, str) else _typed(data, bytes)
        sizes = [_typed(size, int) for size in _typed(shape, tuple)]
        if len(sizes) > 8 or not all(0 <= size <= MAX_BYTES for size in sizes):
            raise Damaged("impossible shape")
        if math.prod(sizes) * dtype.itemsize != len(raw):
            raise Damaged("shape and content of an array differ")
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
    """The value, if it is exactly of that type (a bool is not an int here)."""
    if type(value) is not kind:
        raise Damaged(f"{kind.__name__} expected")
    return value
