"""A kill at a write of any kind: to the ledger, the outbox, MLflow's database, or a file that is moved into place."""

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy.orm

from sweeper.ledger.storage.journal import Journal
from sweeper.tracking.outbox import Outbox

PLACES: tuple[tuple[Any, str], ...] = (
    (Journal, "append_logs"),
    (Outbox, "append"),
    (Outbox, "pack"),
    (os, "replace"),
    (os, "rename"),
    (os, "link"),
    (os, "unlink"),
    (shutil, "copyfile"),
    (sqlalchemy.orm.Session, "commit"),
)


@dataclass(frozen=True)
class KillAtWrite:
    """When called in a process, has it killed (-9) at its `number`-th write, before or after that is done."""

    number: int
    after: bool

    def __call__(self) -> None:
        count = 0

        def killing(write: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*arguments: Any, **options: Any) -> Any:
                nonlocal count
                count += 1
                is_it = count == self.number
                if is_it and not self.after:
                    os.kill(os.getpid(), signal.SIGKILL)
                result = write(*arguments, **options)
                if is_it:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result

            return wrapped

        for place, name in PLACES:
            setattr(place, name, killing(getattr(place, name)))
