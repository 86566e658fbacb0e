"""The serial driver with a home on a mount that is not a POSIX file system, such as a cloud drive. Run as

    python odd_disk.py FOLDER FAULT,FAULT VERB ...

Below FOLDER the named calls fail as they do on such mounts, or are slow, or files have times that jump.
"""

import errno
import fcntl
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

FAULTS = ("flock", "rename", "fsync", "folder_fsync", "slow", "mtime")


def _path_of(target: Any) -> str:
    number = target if isinstance(target, int) else target.fileno() if hasattr(target, "fileno") else None
    return os.fspath(target) if number is None else os.readlink(f"/proc/self/fd/{number}")


def install(folder: str, faults: list[str]) -> None:
    """Patch this process."""
    assert set(faults) <= set(FAULTS), faults

    def below(*targets: Any) -> bool:
        return any(os.path.abspath(_path_of(target)).startswith(folder) for target in targets)

    def failing(call: Callable[..., Any], number: int, when: Callable[..., bool]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            if "slow" in faults and below(*arguments[:1]):
                time.sleep(0.01)
            if when(*arguments):
                raise OSError(number, os.strerror(number), _path_of(arguments[0]))
            return call(*arguments, **named)

        return wrapped

    def is_over(_source: Any, target: Any) -> bool:
        return "rename" in faults and below(target) and os.path.lexists(target)

    fcntl.flock = failing(fcntl.flock, errno.ENOLCK, lambda file, _how: "flock" in faults and below(file))
    os.replace = failing(os.replace, errno.EEXIST, is_over)
    os.rename = failing(os.rename, errno.EEXIST, is_over)
    os.fsync = failing(
        os.fsync,
        errno.EINVAL,
        lambda file: below(file) and ("folder_fsync" if os.path.isdir(_path_of(file)) else "fsync") in faults,
    )
    if "mtime" in faults:
        stat = os.stat

        def jumping(path: Any, *arguments: Any, **named: Any) -> Any:
            found = stat(path, *arguments, **named)
            if not isinstance(path, int) and below(path):
                changed = list(found)
                changed[8] += random.randint(-7200, 7200)
                return os.stat_result(changed)
            return found

        os.stat = jumping  # type: ignore[assignment]


if __name__ == "__main__":
    install(os.path.realpath(sys.argv[1]), [fault for fault in sys.argv[2].split(",") if fault])
    import serial_driver

    from sweeper.cli.main import main

    serial_driver.install()
    sys.exit(main(sys.argv[3:]))
