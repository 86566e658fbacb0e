import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.tracking.outbox import STORE, Outbox, deliver_anew_elsewhere, read_records


def drain(outbox: Outbox, at_once: int = 3) -> list[dict[str, object]]:
    delivered = []
    while entries := outbox.read(at_once):
        delivered += [operation for operation, _ in entries]
        outbox.ack(entries[-1][1], len(entries))
    return delivered


def test_operations_come_out_in_order_and_only_once(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    for number in range(10):
        outbox.append({"op": "x", "n": number, "text": "line\nbreak"})
    assert outbox.left == 10
    assert [operation["n"] for operation in drain(outbox)] == list(range(10))
    assert outbox.left == 0
    assert Outbox(tmp_path).left == 0
    assert len(list(outbox.operations())) == 10


def test_what_was_not_acknowledged_is_still_there_after_a_restart(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    for number in range(5):
        outbox.append({"op": "x", "n": number})
    entries = outbox.read(2)
    outbox.ack(entries[-1][1], 2)
    outbox.read(2)  # delivered, but the process dies before it says so
    again = Outbox(tmp_path)
    assert again.left == 3
    assert [operation["n"] for operation in drain(again)] == [2, 3, 4]


@given(cut=st.integers(min_value=0, max_value=10_000), acked=st.integers(min_value=0, max_value=4))
def test_a_file_cut_anywhere_keeps_its_complete_lines(
    tmp_path_factory: pytest.TempPathFactory, cut: int, acked: int
) -> None:
    folder = tmp_path_factory.mktemp("outbox")
    outbox = Outbox(folder)
    for number in range(4):
        outbox.append({"op": "x", "n": number, "pad": "é" * number * 50})
    for _, end in outbox.read(acked) if acked else []:
        outbox.ack(end, 1)
    path = folder / "outbox.jsonl"
    data = path.read_bytes()
    cut = cut % (len(data) + 1)
    os.truncate(path, cut)
    whole = data[:cut].count(b"\n")

    again = Outbox(folder)
    again.append({"op": "x", "n": 99})

    assert [operation["n"] for operation in again.operations()] == [*range(whole), 99]
    assert [operation["n"] for operation in drain(again)] == [*range(min(acked, whole), whole), 99]


@pytest.mark.parametrize("ack", ["", "nonsense", "-5", "3", "999999"])
def test_a_damaged_offset_repeats_but_never_loses(tmp_path: Path, ack: str) -> None:
    outbox = Outbox(tmp_path)
    outbox.append({"op": "x", "n": 0})
    (tmp_path / "outbox.ack").write_text(ack)
    again = Outbox(tmp_path)
    again.append({"op": "x", "n": 1})
    expected = [1] if ack == "999999" else [0, 1]  # an offset beyond the end: all of it had been delivered
    assert [operation["n"] for operation in drain(again)] == expected


def test_a_line_damaged_on_disk_does_not_hide_the_next(tmp_path: Path) -> None:
    (tmp_path / "outbox.jsonl").write_bytes(b'{"op": "x"\xff\n' + json.dumps({"op": "y"}).encode() + b"\n")
    assert [operation["op"] for operation in drain(Outbox(tmp_path))] == ["unreadable", "y"]


def test_a_full_disk_leaves_no_partial_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = Outbox(tmp_path)
    outbox.append({"op": "x", "n": 0})
    real_write, calls = os.write, []

    def full(fd: int, data: bytes) -> int:
        calls.append(data)
        if len(calls) == 1:
            return real_write(fd, data[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        outbox.append({"op": "x", "n": 1})
    monkeypatch.undo()
    outbox.append({"op": "x", "n": 2})
    assert [operation["n"] for operation in drain(outbox)] == [0, 2]


def test_a_concurrent_reader_sees_each_operation_once(tmp_path: Path) -> None:
    outbox, count, seen = Outbox(tmp_path), 3000, []

    def read_all() -> None:
        while len(seen) < count:
            for operation, end in outbox.read(50):
                seen.append(operation["n"])
                outbox.ack(end, 1)

    reader = threading.Thread(target=read_all)
    reader.start()
    for number in range(count):
        outbox.append({"op": "x", "n": number, "pad": "." * (number % 300)})
    reader.join(240)
    assert seen == list(range(count))
    assert outbox.left == 0


def test_delivered_operations_are_packed_and_can_be_read_back(tmp_path: Path) -> None:
    """A study of thousands of trials leaves a small file, and nothing of it is lost if it must be sent elsewhere."""
    outbox = Outbox(tmp_path)
    for number in range(3000):
        outbox.append({"op": "x", "n": number, "pad": "." * 100})
    outbox.pack()
    assert not (tmp_path / "outbox.delivered.gz").exists(), "it is not delivered"
    drain(outbox, 1000)
    before = (tmp_path / "outbox.jsonl").stat().st_size
    outbox.pack()
    outbox.append({"op": "x", "n": 3000})
    assert (tmp_path / "outbox.jsonl").stat().st_size < 50
    assert (tmp_path / "outbox.delivered.gz").stat().st_size < before / 10

    again = Outbox(tmp_path)
    assert (again.left, again.has_delivered) == (1, True)
    assert [operation["n"] for operation in again.operations()] == list(range(3001))
    assert [record["n"] for record in read_records(tmp_path)] == list(range(3001))
    again.rewind()
    assert again.left == 3001
    again.append({"op": "x", "n": 3001})
    assert [operation["n"] for operation in drain(again, 1000)] == list(range(3002))
    assert Outbox(tmp_path).left == 0


def test_a_crash_while_packing_repeats_but_never_loses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = Outbox(tmp_path)
    for number in range(3000):
        outbox.append({"op": "x", "n": number, "pad": "." * 100})
    drain(outbox, 1000)

    def killed(fd: int, size: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", killed)
        with pytest.raises(KeyboardInterrupt):
            outbox.pack()
    again = Outbox(tmp_path)
    again.append({"op": "x", "n": 3000})
    assert {operation["n"] for operation in drain(again, 1000)} == set(range(3001))


def test_a_damaged_packed_file_hides_no_later_line(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    for number in range(3000):
        outbox.append({"op": "x", "n": number, "pad": "." * 100})
    drain(outbox, 1000)
    outbox.pack()
    outbox.append({"op": "x", "n": 3000})
    os.truncate(tmp_path / "outbox.delivered.gz", 500)
    assert [operation["n"] for operation in Outbox(tmp_path).operations()][-1] == 3000


def test_a_damaged_note_does_not_say_where_the_outbox_was_delivered(tmp_path: Path) -> None:
    """So everything is delivered again, and the note is intact afterwards."""
    outbox = Outbox(tmp_path)
    outbox.append({"op": "x"})
    drain(outbox)
    (tmp_path / STORE).write_bytes(b"\xff\xfe")
    deliver_anew_elsewhere(outbox, tmp_path, "http://mlflow:5000")
    assert outbox.left == 1
    drain(outbox)
    deliver_anew_elsewhere(outbox, tmp_path, "http://mlflow:5000")
    assert outbox.left == 0
