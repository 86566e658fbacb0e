import errno
import fcntl
import multiprocessing
from pathlib import Path

import pytest

from sweeper.errors import UserError
from sweeper.ledger.study_lock import running_driver, study_lock


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
        assert ready.wait(240)
        with pytest.raises(UserError, match=rf"another driver \(pid {holder.pid} on "), study_lock(tmp_path / "toy"):
            pass
    finally:
        holder.kill()
        holder.join()
    with study_lock(tmp_path / "toy"):
        pass  # the lock died with its process


def test_a_home_on_a_file_system_without_locks_needs_a_ledger_with_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_args: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    for url in (None, "sqlite:///ledger.db"):
        with (
            pytest.raises(UserError, match="does not support locks: No locks available"),
            study_lock(tmp_path / "toy", url),
        ):
            pass
    with study_lock(tmp_path / "toy", "postgresql://user@host/database"):
        assert running_driver(tmp_path / "toy") is None
