"""A connection to PostgreSQL that does not wait for ever for an answer.

A frozen server (its processes stopped, its disk hung) still acknowledges what it is sent, so neither keepalives nor
`tcp_user_timeout` notice; and its own `statement_timeout` is frozen too.
"""

import time
from collections.abc import Callable, Generator
from typing import Any, Final

import psycopg

ANSWER_S: Final = 60.0
"""How long a server may take for one statement; more than the `statement_timeout` that it is asked to observe
itself."""
NOTICE_S: Final = 3.0
"""How long to wait at least for a statement when the user has asked for the end of the run."""


class BoundedConnection(psycopg.Connection[Any]):  # type: ignore[misc]
    """psycopg's connection, closed if the server does not answer.

    Attributes:
        is_over: called several times a second while waiting for a statement; True: stop waiting.
    """

    is_over: Callable[[], bool] = staticmethod(lambda: False)

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
        """As psycopg's, which asks `gen` for its state about ten times a second.

        Raises:
            psycopg.OperationalError: the server has not answered in time.
        """
        return super().wait(self._bounded(gen), *args, **kwargs)

    def _bounded(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        since_s, ready = time.monotonic(), None
        while True:
            try:
                state = gen.send(ready)
            except StopIteration as done:
                return done.value
            if ready := (yield state):
                since_s = time.monotonic()
            waited_s = time.monotonic() - since_s
            if not ready and (waited_s > ANSWER_S or (waited_s > NOTICE_S and self.is_over())):
                self.pgconn.finish()  # closed, so that nothing waits for it again
                raise psycopg.OperationalError(f"the server is connected, and has not answered for {waited_s:.0f} s")
