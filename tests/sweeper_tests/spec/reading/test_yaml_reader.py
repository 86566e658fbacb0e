from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mano_trainers.config.read import parse_yaml as read_by_trainer
from sweeper.errors import SpecError
from sweeper.spec.reading.yaml_reader import MAX_BYTES, Place, SpecFinding, parse_yaml, read_text

NOT_UTF8 = "error: the file is not UTF-8 text\n  --> {{path}}:1:{col}\nhelp: save it with the encoding UTF-8"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("+12e03", 12000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("010", 10),
        ("0x1f", 31),
        ("0o17", 15),
        ("-3", -3),
        ("no", "no"),
        ("yes", "yes"),
        ("off", "off"),
        ("True", True),
        ("false", False),
        ("~", None),
        ("null", None),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("'1'", "1"),
        ('"true"', "true"),
        ("0b11", "0b11"),
        ("=", "="),
    ],
)
def test_scalars_follow_the_yaml_1_2_core_schema(text: str, value: object) -> None:
    document = parse_yaml(f"key: {text}\n")
    assert document.findings == []
    assert document.data == {"key": value}
    assert type(document.data["key"]) is type(value)
    assert read_by_trainer(f"key: {text}\n", "config.yaml") == document.data, "the trainer alone reads it the same"


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_survives_exactly(value: float) -> None:
    assert parse_yaml(f"key: {value!r}").data == {"key": value}


def test_places_of_keys_and_values() -> None:
    document = parse_yaml("a:\n  b.c: {low: 1}\n  d: [x, y]\n")
    assert document.keys[("a", "b.c")] == (2, 3)
    assert document.values[("a", "b.c", "low")] == (2, 14)
    assert document.values[("a", "d", 1)] == (3, 10)


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (
            "a: 1\nb: 2\na: 3\n",
            SpecFinding(("a",), "key `a` appears twice, first on line 1", "remove one of the two", Place(3, 1)),
        ),
        ("a: &x 1\n", SpecFinding(("a",), "anchor `&x` is not allowed", "remove `&x`", Place(1, 4))),
        ("a: *x\n", SpecFinding(("a",), "alias `*x` is not allowed", "write the value out here", Place(1, 4))),
        ("a: !!str 1\n", SpecFinding(("a",), "tag `tag:yaml.org,2002:str` is not allowed", "remove it", Place(1, 4))),
        ("a: .inf\n", SpecFinding(("a",), "expected a finite number but got .inf", None, Place(1, 4))),
        ("a: 1e999\n", SpecFinding(("a",), "expected a finite number but got 1e999", None, Place(1, 4))),
        ("a: .nan\n", SpecFinding(("a",), "expected a finite number but got .nan", None, Place(1, 4))),
        (f"a: {'9' * 5000}\n", SpecFinding(("a",), "a number this long is not allowed", None, Place(1, 4))),
        ("a:\n\t- b\n", SpecFinding((), "a tab in the indentation", "indent with spaces", Place(2, 1))),
        ("", SpecFinding((), "the file is empty", None, Place(1, 1))),
        ("# only a comment\n", SpecFinding((), "the file is empty", None, Place(1, 1))),
        (
            "a: 1\n---\nb: 2\n",
            SpecFinding((), "the file contains several documents", "remove the `---` line", Place(2, 1)),
        ),
        ("a: \x07\n", SpecFinding((), "character U+0007 is not allowed", "remove it", Place(1, 4))),
        ("[" * 10_000, SpecFinding((), "nested more than 32 deep", None, Place(1, 34))),
        ("? [a]\n: 1\n", SpecFinding((), "a key must be a plain string", "write `key: value`", Place(1, 3))),
        (
            "a: b: c\n",
            SpecFinding(
                (),
                "not valid YAML: mapping values are not allowed here",
                "is the indentation right? a string that contains `: ` needs quotes",
                Place(1, 5),
            ),
        ),
    ],
)
def test_what_is_refused(text: str, finding: SpecFinding) -> None:
    assert parse_yaml(text).findings == [finding]


def test_an_alias_bomb_costs_nothing() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    document = parse_yaml("\n".join(lines))
    assert len(document.findings) == 30 + 29 * 9


def test_findings_are_collected_not_the_first_only() -> None:
    assert [f.path for f in parse_yaml("a: &x 1\nb: *x\nc: !t 1\na: 2\n").findings] == [("a",), ("b",), ("c",), ("a",)]


@given(st.text(max_size=60))
def test_no_text_raises(text: str) -> None:
    document = parse_yaml(text)
    assert document.findings or document.values


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"name: caf\xe9\n", NOT_UTF8.format(col=10)),
        ("name: x\n".encode("utf-16"), NOT_UTF8.format(col=1)),
        (b"x" * (MAX_BYTES + 1), "error: the file is larger than 1 MB\n  --> {path}\nhelp: is it really a spec?"),
        (None, "error: cannot read the file: no such file or directory\n  --> {path}\nhelp: check the path"),
    ],
)
def test_unreadable_files(tmp_path: Path, raw: bytes | None, message: str) -> None:
    path = tmp_path / "spec.yaml"
    if raw is not None:
        path.write_bytes(raw)
    with pytest.raises(SpecError) as error:
        read_text(path)
    assert error.value.render() == message.format(path=path)


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: x\n")
    assert read_text(path) == "name: x\n"
