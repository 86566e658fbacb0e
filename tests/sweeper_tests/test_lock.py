import multiprocessing
from pathlib import Path

import pytest

from sweeper.errors import UserError
from sweeper.lock import study_lock


def _hold(folder: str, ready: object, leave: object) -> None:
    with study_lock(Path(folder)):
        ready.set()  # type: ignore[attr-defined]
        leave.wait()  # type: ignore[attr-defined]


def test_a_second_driver_is_refused_with_the_holders_pid(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, leave = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(str(tmp_path / "toy"), ready, leave))
    holder.start()
    try:
        assert ready.wait(60)
        with pytest.raises(UserError, match=rf"another driver \(pid {holder.pid} on "), study_lock(tmp_path / "toy"):
            pass
    finally:
        holder.kill()
        holder.join()
    with study_lock(tmp_path / "toy"):
        pass  # the lock died with its process
