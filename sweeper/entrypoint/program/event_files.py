"""Reports of scripts that write TensorBoard's event files: the scalars in them, read as they arrive.

A file consists of records, each a length (8 bytes), its checksum (4), a serialised `Event`, and the checksum of that
(4). Only step, tag and number of an `Event` are needed, so this reads Protobuf's wire format itself: TensorBoard's own
reader would pull in nine packages, and that of tensorboardX imports torch. Checksums are not verified.
"""

import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from mano_trainers.report import EpochReport
from sweeper.entrypoint.program.readers import report_of

FILES: Final = "*tfevents*"
LENGTH: Final = struct.Struct("<Q")
SUM_BYTES: Final = 4
EPOCH: Final = "epoch"
"""The tag that says how far training is, if there is one; Lightning writes it."""
# Numbers of fields in the messages Event, Summary, Summary.Value and TensorProto.
STEP, SUMMARY, VALUE, TAG, SIMPLE_VALUE, TENSOR = 2, 5, 1, 1, 2, 8
NUMBERS_OF_TENSOR: Final = {4: None, 5: "f", 6: "d"}
"""Field of a TensorProto -> the type of the numbers in it; None: bytes of the tensor's own type."""
TENSOR_TYPE: Final = 1
TYPES: Final = {1: "f", 2: "d"}


class Scalar(NamedTuple):
    """A number in an event file."""

    step: int
    tag: str
    value: float


class EventReader:
    """Scalars of all event files in a folder and below it: a report for each step at which the objective is written,
    with the latest value of every other scalar.

    Args:
        folder: where they are; what is in it when the trial starts is not a report.
        objective: the tag of the metric.
    """

    reads_output = False

    def __init__(self, folder: Path, objective: str) -> None:
        self._folder, self._objective = folder, objective
        self._offsets = {path: path.stat().st_size for path in folder.rglob(FILES)}
        self._latest: dict[str, float] = {}
        self._last_step = -1
        self._count = 0

    def attach(self, process: "subprocess.Popen[bytes]") -> None:
        pass

    def poll(self, has_ended: bool) -> Iterator[EpochReport]:
        steps: dict[int, dict[str, float]] = {}
        for scalar in self._new_scalars():
            steps.setdefault(scalar.step, {})[scalar.tag] = scalar.value
        for step, values in sorted(steps.items()):
            self._latest |= values
            if self._objective in values and step > self._last_step:
                self._last_step, self._count = step, self._count + 1
                yield report_of({name: self._latest[name] for name in sorted(self._latest)}, self._count, (EPOCH,))

    def _new_scalars(self) -> Iterator[Scalar]:
        for path in sorted(self._folder.rglob(FILES)):
            start = self._offsets.get(path, 0)
            with path.open("rb") as file:
                file.seek(start)
                data = file.read()
            for end, event in _records(data):
                self._offsets[path] = start + end
                yield from _scalars(event)


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Where each whole record ends, and what is in it."""
    at = 0
    while at + LENGTH.size + SUM_BYTES <= len(data):
        start = at + LENGTH.size + SUM_BYTES
        end = start + LENGTH.unpack_from(data, at)[0]
        if end + SUM_BYTES > len(data):
            return
        at = end + SUM_BYTES
        yield at, data[start:end]


def _scalars(event: bytes) -> Iterator[Scalar]:
    fields = list(_fields(event))
    step = next((value for number, value in fields if number == STEP and isinstance(value, int)), 0)
    for number, summary in fields:
        if number != SUMMARY or not isinstance(summary, bytes):
            continue
        for _, value in (field for field in _fields(summary) if field[0] == VALUE):
            found = dict(_fields(value)) if isinstance(value, bytes) else {}
            scalar = _number(found)
            if scalar is not None and isinstance(tag := found.get(TAG), bytes):
                yield Scalar(step, tag.decode(errors="replace"), scalar)


def _number(value: dict[int, int | bytes]) -> float | None:
    """The number in a Summary.Value: by itself, or in a tensor of one element."""
    simple, tensor = value.get(SIMPLE_VALUE), value.get(TENSOR)
    if isinstance(simple, bytes):
        return float(struct.unpack("<f", simple)[0])
    parts = dict(_fields(tensor)) if isinstance(tensor, bytes) else {}
    for field, kind in NUMBERS_OF_TENSOR.items():
        packed, form = parts.get(field), kind or TYPES.get(int(parts.get(TENSOR_TYPE, 0)))
        if isinstance(packed, bytes) and form and len(packed) == struct.calcsize(form):
            return float(struct.unpack(f"<{form}", packed)[0])
    return None


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a Protobuf message; fixed-size values as their bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        match key & 7:
            case 0:
                value, at = _varint(message, at)
                yield key >> 3, value
                continue
            case 1:
                size = 8
            case 5:
                size = 4
            case 2:
                size, at = _varint(message, at)
            case _:  # a group: no event contains one
                return
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number with seven bits per byte, and where it ends."""
    value = shift = 0
    while at < len(message):
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            break
    return value, at
