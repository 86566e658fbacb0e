"""A folder that exists whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mano_trainers.errors import DataError


@contextmanager
def written_whole(out: Path) -> Iterator[Path]:
    """A hidden folder to write into, renamed to `out` at the end; an interruption leaves nothing.

    Raises:
        DataError: `out` exists.
    """
    if out.exists():
        raise DataError("already exists", str(out), "choose another folder, or delete this one first")
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
