"""The process that holds the images of `shared.py` for its users, and ends with the last of them.

    python -m mano_trainers.data.owner SOCKET PIXELS COUNT SIDE SIDE CHANNELS DEVICE

It puts itself into the background once it listens; what it says before is why it cannot hold them.
"""

import contextlib
import fcntl
import os
import selectors
import signal
import socket
import sys
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from mano_trainers.arrays import Pixels
from mano_trainers.device.shared_images import message_of, same_user

FIRST_USER_S: Final = 60.0


def main() -> int:
    address, path, *shape, device = sys.argv[1:]
    pixels = np.memmap(path, dtype=np.uint8, mode="r", shape=tuple(map(int, shape)))
    ready, tell = os.pipe()
    if os.fork():  # the one that was started waits until the other listens, then ends
        os.close(tell)
        said = os.read(ready, 1000).decode()
        print(said.strip())
        return 0 if not said else 1
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        images, fd = _hold(pixels, torch.device(device))
    except (OSError, RuntimeError, MemoryError) as error:
        os.write(tell, str(error).split("\n")[0].encode())
        return 1
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        os.close(tell)
        _let_go_of_output()
        serve(server, Path(address), images, fd)
    return 0


def _hold(pixels: Pixels, device: torch.device) -> tuple[Pixels | Tensor, int | None]:
    """A copy that takes at most half of the free memory; on a CPU with its descriptor."""
    if device.type == "cuda":
        from mano_trainers.batches import on_device

        images = on_device(pixels, device, torch.cuda.mem_get_info(device)[0])
        if not isinstance(images, Tensor):
            raise MemoryError(f"the GPU has no room for {pixels.nbytes / 2**30:.1f} GiB")
        torch.cuda.synchronize(device)
        message_of(images, None)  # raises where CUDA cannot share it
        return images, None
    if pixels.nbytes > os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2:
        raise MemoryError(f"the machine has no room for {pixels.nbytes / 2**30:.1f} GiB")
    fd = os.memfd_create("images", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(fd, "wb", closefd=False) as file:
        for rows in np.array_split(np.arange(len(pixels)), -(-pixels.nbytes // 2**26)):
            file.write(pixels[rows[0] : rows[-1] + 1].data)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return pixels, fd


def serve(server: socket.socket, address: Path, images: Pixels | Tensor, fd: int | None) -> None:
    """Hand the images to whoever connects, until nobody is connected any more."""
    with selectors.DefaultSelector() as selector:
        selector.register(server, selectors.EVENT_READ)
        users, came = 0, False
        while users or not came:
            ready = selector.select(None if came else FIRST_USER_S)
            if not ready:
                break
            for key, _ in ready:
                if key.fileobj is server:
                    user, _ = server.accept()
                    if not same_user(user):
                        user.close()
                        continue
                    line, fds = message_of(images, fd)
                    with contextlib.suppress(OSError):  # it may be gone again, which the selector tells us
                        socket.send_fds(user, [line], fds)
                    selector.register(user, selectors.EVENT_READ)
                    users, came = users + 1, True
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
                    users -= 1
        address.unlink(missing_ok=True)


def _let_go_of_output() -> None:
    """The process that was started first is done when nobody holds its output."""
    with open(os.devnull, "r+") as nothing:
        for number in (0, 1, 2):
            os.dup2(nothing.fileno(), number)


if __name__ == "__main__":
    sys.exit(main())
