"""What all tests share: how they are spread over processes (`pytest -n N --dist loadfile --no-loadscope-reorder`), and
what keeps them from failing on a busy machine."""

import contextlib
import functools
import os
import signal
from pathlib import Path

import pytest

# Tests run side by side, and torch's threads would wait for each other in busy loops: on two cores they take two to ten
# times the processor time of one thread. Set before numpy or torch are imported, which is when they read it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

with contextlib.suppress(ModuleNotFoundError):  # as on a machine set up for the GPU tests alone
    from hypothesis import HealthCheck, settings

    # On a busy machine an example can take any time; pytest's timeout is the one that counts.
    settings.register_profile("any_machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any_machine")


def pytest_configure() -> None:
    """Tests send Ctrl-C to the processes they start, which must not inherit it as ignored from a background script."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests run in one process, which makes its fixtures once. Files with slow tests come first, and
    those that need machines of their own before all others, so that none of them is left until the end."""
    machines, slow = ({item.path for item in items if item.get_closest_marker(name)} for name in ("machines", "slow"))
    items.sort(key=lambda item: (item.path not in machines, item.path not in slow))  # stable: a file keeps its order


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Test files that need machines of their own run one after another: two clusters at once would leave no processor
    time for what each of them waits for."""
    from xdist.scheduler import LoadFileScheduling

    class OneClusterAtATime(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "machines" if _is_on_machines(config.rootpath / file) else file

    return OneClusterAtATime(config, log) if config.getoption("dist") == "loadfile" else None


@functools.cache
def _is_on_machines(path: Path) -> bool:
    return "pytest.mark.machines" in path.read_text()
