"""One copy of the decoded images for several trainings on one GPU: a process of its own holds it, they look at it.

The owner (`owner.py`) is started by the first training that asks, and ends with the last one that holds a connection
to it; a killed training's connection is closed by the kernel. They talk over a unix socket in a folder that only this
user can enter, and each asks the kernel whose process the other is. A message is one line of JSON: shape, and either
a file descriptor that comes with it (memory of the machine, sealed against writing), or the CUDA handles of the memory
in base64. Nothing is unpickled.

Without room, without CUDA's inter-process memory (containers, drivers that forbid it), or when the owner dies, a
training goes on with the images in the machine's file cache: the numbers are the same, only a copy over the bus is
added.
"""

import base64
import hashlib
import json
import mmap
import os
import socket
import stat
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from mano_trainers.arrays import Pixels
from mano_trainers.data.cache import file_lock

READY_S: Final = 120.0
"""How long an owner may take to copy the images."""
ANSWER_S: Final = 30.0
CHECKED: Final = 64
"""Images whose bytes are compared before the copy is used."""
CREDENTIALS: Final = struct.Struct("3i")


@dataclass(frozen=True, eq=False)
class SharedImages:
    """Images (M, S, S, 3) that an owner holds.

    Attributes:
        pixels: the same in the machine's file cache.
        copy: the owner's, on its device.
        connection: to the owner; it keeps the owner alive.
    """

    pixels: Pixels
    copy: Pixels | Tensor
    connection: socket.socket

    def now(self) -> Pixels | Tensor:
        """The owner's copy while it is sure to be there, else the images in the file cache."""
        if isinstance(self.copy, np.ndarray):
            return self.copy  # the kernel keeps it for as long as anybody looks at it
        return self.copy if self.is_owned else self.pixels

    @property
    def is_owned(self) -> bool:
        """Whether the owner lives."""
        try:
            self.connection.recv(1)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False


_last: tuple[str, SharedImages | None] | None = None  # of this process: the next trial in it needs the same, mostly


def share(pixels: Pixels, device: torch.device) -> SharedImages | None:
    """The owner's copy of a memory-mapped cache on the device; None if there can be none, with the reason on stderr."""
    global _last
    path = Path(str(getattr(pixels, "filename", None)))
    try:
        if path.stat().st_size != pixels.nbytes:
            raise ValueError("they are not a whole file")
        name = _name(path, pixels, device)
        if _last is not None and _last[0] == name and (_last[1] is None or _last[1].is_owned):
            return _last[1]  # None: that it cannot be had takes seconds to find out
        _last = name, None  # closes a connection, so that an owner whom nobody else needs ends and makes room
        images = _ask(_folder() / f"{name}.sock", path, pixels, device)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, subprocess.SubprocessError) as error:
        print(f"images are not shared between trials: {error}", file=sys.stderr)
        return None
    _last = name, images
    return images


def _ask(address: Path, path: Path, pixels: Pixels, device: torch.device) -> SharedImages:
    with file_lock(address.with_suffix(".lock")):
        connection = _connect(address) or _start(address, path, pixels, device)
    try:
        copy = _receive(connection, pixels, device)
    except BaseException:
        connection.close()
        raise
    connection.setblocking(False)
    return SharedImages(pixels, copy, connection)


def message_of(images: Pixels | Tensor, fd: int | None) -> tuple[bytes, list[int]]:
    """What the owner says to a new user: a line, and the descriptors that go with it."""
    content: dict[str, Any] = {"shape": list(images.shape)}
    if isinstance(images, Tensor):
        device, *rest = images.untyped_storage()._share_cuda_()  # type: ignore[no-untyped-call]
        content["cuda"] = [device, *(_as_text(value) for value in rest)]
    return json.dumps(content).encode() + b"\n", [] if fd is None else [fd]


def same_user(connection: socket.socket) -> bool:
    """Whether the other end is a process of this user, as the kernel says."""
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    return bool(CREDENTIALS.unpack(peer)[1] == os.getuid())


def _folder() -> Path:
    """A folder that only this user can enter; short, for the path of a socket holds 107 bytes.

    Raises:
        OSError: another one has made it, or others may enter it.
    """
    folder = Path(tempfile.gettempdir()) / f"mano-trainers-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} is not a folder of this user alone")
    return folder


def _name(path: Path, pixels: Pixels, device: torch.device) -> str:
    """One owner for each file and GPU. A GPU is known by its UUID: numbers depend on what a process may see."""
    found = path.stat()
    place = str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else device.type
    text = f"{found.st_dev}/{found.st_ino}/{found.st_mtime_ns}/{pixels.shape}/{place}"
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _connect(address: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(ANSWER_S)
    try:
        connection.connect(str(address))
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    if not same_user(connection):
        connection.close()
        raise PermissionError(f"{address} is another user's")
    return connection


def _start(address: Path, path: Path, pixels: Pixels, device: torch.device) -> socket.socket:
    """Start an owner and connect to it. It is no child of this process, so that it does not end with it."""
    address.unlink(missing_ok=True)
    arguments = [str(address), str(path), *map(str, pixels.shape), str(device)]
    started = subprocess.run(
        [sys.executable, "-m", "mano_trainers.data.owner", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=READY_S,
    )
    connection = _connect(address)
    if connection is None:
        raise RuntimeError(started.stdout.strip() or "the process that should hold them did not start")
    return connection


def _receive(connection: socket.socket, pixels: Pixels, device: torch.device) -> Pixels | Tensor:
    line, fds, _, _ = socket.recv_fds(connection, 4096, 1)
    try:
        if not line.endswith(b"\n"):
            raise RuntimeError("the process that holds them ended")
        content = json.loads(line)
        if content["shape"] != list(pixels.shape):
            raise RuntimeError("they are others")
        if fds:
            mapped = mmap.mmap(fds[0], pixels.nbytes, prot=mmap.PROT_READ)
            copy: Pixels | Tensor = np.frombuffer(mapped, np.uint8).reshape(pixels.shape)
        else:
            copy = _from_cuda(content["cuda"], pixels, device)
    finally:
        for fd in fds:
            os.close(fd)
    rows = np.linspace(0, len(pixels) - 1, min(CHECKED, len(pixels))).astype(np.int64)
    there = copy[torch.from_numpy(rows).to(copy.device)].cpu().numpy() if isinstance(copy, Tensor) else copy[rows]
    if not np.array_equal(there, pixels[rows]):
        raise RuntimeError("the copy differs from the file")
    return copy


def _from_cuda(handles: list[Any], pixels: Pixels, device: torch.device) -> Tensor:
    torch.cuda.init()  # type: ignore[no-untyped-call]
    _, *rest = handles  # the owner's number of the GPU
    values = [_from_text(value) for value in rest]
    storage = torch.UntypedStorage._new_shared_cuda(device.index or 0, *values)
    copy = torch.empty(0, dtype=torch.uint8, device=device)
    copy.set_(storage, 0, pixels.shape)  # type: ignore[call-overload]
    return copy


def _as_text(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _from_text(value: Any) -> Any:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value
