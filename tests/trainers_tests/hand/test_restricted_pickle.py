"""Hostile pickles: refused, with nothing run; and whatever the bytes are, nothing but a `DataError`."""

import contextlib
import copyreg
import encodings.raw_unicode_escape  # noqa: F401  a codec is imported at its first use, which is not the file's doing
import pickle
import pickletools
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mano_pickles import Ch, CscMatrix, python2_pickle, select_of

from mano_trainers.errors import DataError
from mano_trainers.hand import restricted_pickle
from mano_trainers.hand.mano_file import load_mano
from mano_trainers.hand.restricted_pickle import read_pickle

EXTENSION_CODE = 241
RUNS: set[str] = {"exec", "compile", "import", "os.system", "os.posix_spawn", "subprocess.Popen", "pickle.find_class"}
SEEN: list[str] = []
watching = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if watching and (event in RUNS or (event == "open" and arguments[1] not in ("r", "rb", None))):
        SEEN.append(event)


sys.addaudithook(_audit)  # the interpreter's own record of what runs; a hook cannot be removed


def assert_refused_and_nothing_run(path: Path, message: str | None = None) -> None:
    global watching
    SEEN.clear()
    watching = True
    try:
        with pytest.raises(DataError, match=message):
            load_mano(path, "right")
    finally:
        watching = False
    assert SEEN == []


def text(value: str) -> bytes:
    return b"U" + bytes([len(value)]) + value.encode()


def unicode(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def live_payloads(canary: Path) -> dict[str, bytes]:
    """Pickles that create the canary file when the ordinary unpickler loads them; its name ends in .npy."""
    command, code = text(f"touch {canary}"), text(f"open({str(canary)!r}, 'w').close()")
    two, four, system, run_map = b"\x80\x02", b"\x80\x04", b"cos\nsystem\n", b"c__builtin__\nmap\n"
    listed = two + b"c__builtin__\nlist\n"  # a list of map's results makes the calls
    calls = system + b"]" + command + b"a"
    return {
        "os.system by REDUCE": two + system + command + b"\x85R.",
        "eval by REDUCE": two + b"c__builtin__\neval\n" + code + b"\x85R.",
        "subprocess by REDUCE": two + b"csubprocess\ncall\n](" + text("touch") + text(str(canary)) + b"e\x85R.",
        "map by REDUCE": listed + run_map + calls + b"\x86R\x85R.",
        "map by NEWOBJ": listed + run_map + calls + b"\x86\x81\x85R.",
        "map by NEWOBJ_EX": listed + run_map + calls + b"\x86}\x92\x85R.",
        "map by OBJ": listed + b"(" + run_map + calls + b"o\x85R.",
        "INST": two + b"(" + command + b"ios\nsystem\n.",
        "extension registry": two + b"\x82" + bytes([EXTENSION_CODE]) + command + b"\x85R.",
        "in the state of a chumpy object": two
        + b"cchumpy.ch\nCh\n)\x81}(" + text("x") + b"c__builtin__\neval\n" + code + b"\x85Rub.",
        "after a good part": two + text("lbs") + b"0" + system + command + b"\x85R.",
        "STACK_GLOBAL": four + unicode("os") + unicode("system") + b"\x93" + command + b"\x85R.",
        "dotted name": four + unicode("shutil") + unicode("os.system") + b"\x93" + command + b"\x85R.",
        "dotted name under numpy": four + unicode("numpy") + unicode("f2py.os.system") + b"\x93" + command + b"\x85R.",
        "numpy.testing's runstring": two + b"cnumpy.testing._private.utils\nrunstring\n" + code + b"}\x86R.",
        "method of an array": four + unicode("numpy") + unicode("ndarray.tofile")
        + b"\x93cnumpy\nzeros\nK\x01\x85R" + text(str(canary)) + b"\x86R.",
        "numpy.save": two + b"cnumpy\nsave\n" + text(str(canary)) + b"K\x01\x86R.",
    }  # fmt: skip


@pytest.fixture
def world_of_the_victim(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An extension code that stands for os.system, and a chumpy that can be imported."""
    library = ModuleType("chumpy.ch")
    library.Ch = type("Ch", (), {"__module__": "chumpy.ch"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "chumpy", ModuleType("chumpy"))
    monkeypatch.setitem(sys.modules, "chumpy.ch", library)
    copyreg.add_extension("os", "system", EXTENSION_CODE)
    yield
    copyreg.remove_extension("os", "system", EXTENSION_CODE)


@pytest.mark.usefixtures("world_of_the_victim")
@pytest.mark.parametrize("kind", list(live_payloads(Path("x"))))
def test_a_program_in_a_pickle_is_refused_and_does_not_run(tmp_path: Path, kind: str) -> None:
    canary, path = tmp_path / "canary.npy", tmp_path / "MANO_RIGHT.pkl"
    payload = live_payloads(canary)[kind]
    with contextlib.suppress(TypeError):  # tofile's payload writes, then fails because nothing is returned
        pickle.loads(payload)
    assert canary.exists(), "this payload is not live, so refusing it would prove nothing"
    canary.unlink()
    path.write_bytes(payload)
    assert_refused_and_nothing_run(path, "refused: this pickle .*nothing of it was run")
    assert not canary.exists()


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nK\x00\x85U\x01b\x87R"
DOUBLE = b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
HUGE = b"\x8a\x06\x00\x00\x00\x00\x00\x10"  # 2 ** 44


def array(shape: bytes, dtype: bytes = DOUBLE, data: bytes = b"U\x00") -> bytes:
    return ARRAY + b"(K\x01" + shape + dtype + b"\x89" + data + b"tb"


TRICKS: dict[str, tuple[bytes, str]] = {
    "PERSID": (b"Pos.system\n.", "PERSID"),
    "BINPERSID": (text("os.system") + b"Q.", "BINPERSID"),
    "_reconstructor with a dangerous base": (
        b"ccopy_reg\n_reconstructor\nc__builtin__\nobject\nc__builtin__\neval\nN\x87R.",
        "asks for __builtin__.eval",
    ),
    "_reconstructor of what is no record": (
        b"ccopy_reg\n_reconstructor\ncnumpy\nndarray\nc__builtin__\nobject\nN\x87R.",
        "makes an instance of ndarray",
    ),
    "_reconstructor with a state": (
        b"ccopy_reg\n_reconstructor\ncchumpy.ch\nCh\nc__builtin__\nobject\n]\x87R.",
        "calls _reconstructor with arguments",
    ),
    "object called": (b"c__builtin__\nobject\n)R.", "calls object"),
    "_frombuffer of text that is not of the size": (
        b"cnumpy.core.numeric\n_frombuffer\n(U\x01x" + b"cnumpy\ndtype\nU\x02f8\x85R" + b"K\x01\x85U\x01CtR.",
        "damaged",
    ),
    "a buffer that is not in the file": (b"\x97.", "NEXT_BUFFER"),
    "text of protocol 0 without an end": (b"S'abc\n.", "damaged"),
    "a number of protocol 0 that is none": (b"Ix\n.", "damaged"),
    "getattr": (b"c__builtin__\ngetattr\n" + text("a") + text("b") + b"\x86R.", "asks for __builtin__.getattr"),
    "a name with a line break": (
        b"\x80\x04" + unicode("os\nsystem") + unicode("x") + b"\x93.",
        r"asks for os\\nsystem\.x",
    ),
    "a name split elsewhere": (b"\x80\x04" + unicode("numpy dtype") + unicode("") + b"\x93.", "asks for numpy"),
    "a class in place of the array": (
        b"cnumpy.core.multiarray\n_reconstruct\nU\x01xK\x00\x85U\x01b\x87R.",
        "calls _reconstruct with arguments",
    ),
    "array of objects": (b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R.", "array of type 'O8'"),
    "array of records": (b"cnumpy\ndtype\nU\x05i4,O8K\x00K\x01\x87R.", "array of type"),
    "type with fields": (
        b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<N" + text("x") + b"\x85}K\x08K\x08K\x00tb.",
        "with fields",
    ),
    "scalar of objects": (b"cnumpy.core.multiarray\nscalar\nU\x01OU\x01x\x86R.", "damaged"),
    "dtype called with a class": (b"cnumpy\ndtype\ncnumpy\nndarray\n\x85R.", "calls dtype with arguments"),
    "set called with text": (b"c__builtin__\nset\nU\x03abc\x85R.", "damaged"),
    "ndarray called": (b"cnumpy\nndarray\n(M\xe8\x03M\xe8\x03t\x85R.", "calls ndarray"),
    "ndarray by NEWOBJ": (b"cnumpy\nndarray\nK\x02\x85\x81.", "makes an instance of ndarray"),
    "text called": (text("os.system") + b")R.", "damaged"),
    "BUILD with slots": (b"cchumpy.ch\nCh\n)\x81N}U\x09__class__K\x01s\x86b.", "damaged"),
    "BUILD on a list": (b"]}U\x06appendK\x01sb.", "damaged"),
    "BUILD twice": (b"cchumpy.ch\nCh\n)\x81}b}b.", "damaged"),
    "a terabyte of zeros": (array(HUGE + b"\x85"), "damaged"),
    "2 ** 88 elements": (array(HUGE + HUGE + b"\x86"), "damaged"),
    "negative shape": (array(b"J\xff\xff\xff\xff\x85"), "damaged"),
    "99 axes": (array(b"(" + b"K\x01" * 99 + b"t", data=b"U\x08abcdefgh"), "damaged"),
    "text of 2 GB": (b"T\xff\xff\xff\x7fabc", "damaged"),
    "memo place 4,000,000,000": (b"Nr\xff\xff\xff\xee.", "contains no MANO model"),
    "memo never written": (b"h\x07.", "damaged"),
    "empty stack": (b".", "damaged"),
    "mark without a list": (b"t.", "damaged"),
    "unhashable key": (b"}]K\x01s.", "damaged"),
    "deep tuples as a key": (b"}N" + b"\x85" * 90_000 + b"K\x01s.", "damaged"),
    "deep tuples": (b"N" + b"\x85" * 90_000 + b".", "contains no MANO model"),
    "deep lists": (b"]" * 40_000 + b"a" * 39_999 + b".", "contains no MANO model"),
    "a list of itself": (b"]q\x01h\x01a.", "contains no MANO model"),
    "doubling lists": (b"]q\x00" + b"](h\x00h\x00eq\x00" * 10_000 + b".", "contains no MANO model"),
    "endless instructions": (b"N0" * 100, "POP"),
    "200,000 instructions": (b"N" * 200_000 + b".", "has over 100000 instructions"),
    "a number of a million digits": (b"\x8b\x40\x42\x0f\x00" + b"\x7f" * 1_000_000 + b".", "contains no MANO model"),
    "Select of itself": (
        b"}U\x0av_templatecchumpy.reordering\nSelect\n)\x81q\x01}U\x01ah\x01sbs.",
        "v_template is not an array",
    ),
    "Ch of itself": (b"}U\x0av_templatecchumpy.ch\nCh\n)\x81q\x01}U\x01xh\x01sbs.", "v_template is not an array"),
    "a number as an array": (b"}U\x0av_templateK\x07s.", "v_template is not an array"),
    "an array never filled": (b"}U\x0av_template" + ARRAY + b"s.", "v_template is not an array"),
}


@pytest.mark.parametrize("kind", list(TRICKS))
def test_tricks_are_refused(tmp_path: Path, kind: str) -> None:
    payload, message = TRICKS[kind]
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(payload if payload[:1] == b"\x80" else b"\x80\x02" + payload)
    assert_refused_and_nothing_run(path, message)


def test_arrays_made_repeatedly_from_one_string_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restricted_pickle, "MAX_ARRAY_BYTES", 10_000)
    size = 1000
    data = b"T" + (8 * size).to_bytes(4, "little") + b"\0" * 8 * size + b"q\x05"
    again = array(b"M\xe8\x03\x85", data=b"h\x05")
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(b"\x80\x02" + data + array(b"M\xe8\x03\x85", data=b"h\x05") + b".")
    assert read_pickle(path, help="").shape == (1000,)
    path.write_bytes(b"\x80\x02" + data + again * 2 + b".")
    assert_refused_and_nothing_run(path, "arrays larger than")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "MANO_RIGHT.pkl"
    with path.open("wb") as stream:
        stream.truncate(restricted_pickle.MAX_BYTES + 1)
    assert_refused_and_nothing_run(path, "has over 64 MB")


def small_content() -> dict[str, Any]:
    """Every kind of value that a MANO file contains, but small."""
    rows = np.arange(12.0).reshape(3, 4)
    return {
        "bs_style": "lbs",
        "f": np.arange(6, dtype=np.uint32),
        "fortran": np.asfortranarray(rows),
        "one": np.float64(2.5),
        "sparse": CscMatrix(rows),
        "plain": Ch(x=rows),
        "select": select_of(rows),
        "numbers": [1, -5, 2**40, 1.5, None, True, (1, 2, 3, 4)],
    }


def test_data_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "small.pkl"
    path.write_bytes(python2_pickle(small_content()))
    read, source = read_pickle(path, help=""), small_content()
    assert read["bs_style"] == "lbs"
    assert read["numbers"] == source["numbers"]
    for name in ("f", "fortran", "one"):
        assert read[name].dtype == source[name].dtype
        np.testing.assert_array_equal(read[name], source[name])
    assert {read[name].kind for name in ("sparse", "plain", "select")} == {"csc", "Ch", "Select"}
    np.testing.assert_array_equal(read["plain"].state["x"], source["plain"].x)


INSTRUCTIONS = [code.code.encode("latin-1") for code in pickletools.opcodes]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_files_run_nothing_and_raise_only_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    canary, path = folder / "canary.npy", folder / "fuzzed.pkl"
    live = live_payloads(canary)
    seeds = [
        python2_pickle(small_content()),
        *(python2_pickle(small_content(), protocol) for protocol in (0, 1)),
        *(pickle.dumps({"a": np.arange(5.0), "b": [1, "x", b"y"], "c": {2}}, protocol) for protocol in range(6)),
        *(live[kind] for kind in ("os.system by REDUCE", "STACK_GLOBAL", "in the state of a chumpy object")),
    ]
    content = bytearray(data.draw(st.sampled_from(seeds)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(2, len(content)))
        drop = data.draw(st.integers(0, 3))
        content[at : at + drop] = data.draw(st.one_of(st.binary(max_size=3), st.sampled_from(INSTRUCTIONS)))
    path.write_bytes(content)
    assert_refused_and_nothing_run(path)
    assert not canary.exists()
