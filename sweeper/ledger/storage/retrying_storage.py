"""A storage in a database that waits while the database is unavailable.

A write whose answer was lost may have been stored or not, so each is safe to repeat: what Optuna stores by a
key is replaced by the same, and for the rest (a new or deleted study, a new trial, the end of a trial) the storage
looks first. That is enough because a ledger has one writer (see `advisory_lock`).
"""

import re
import sys
import time
import uuid
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, ParamSpec, TypeVar

import sqlalchemy
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import exc

from sweeper.errors import LedgerLost

RETRY_LIMIT_S: Final = 600.0
"""How long a driver waits for a database that does not answer."""
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
LOOK_S: Final = 0.1
NO_PERMISSION: Final = "42501"
READ_ONLY: Final = "25006"
"""What a server answers to a write if it is not, or no longer, the primary."""
NOTHING_LOST: Final = "the ledger is safe: when the database is back, `sweeper resume` continues the study"
TOO_MANY: Final = "too many SQL variables"
"""An answer of SQLite's that Optuna handles itself."""
NO_PICKLE: Final = "a ledger's storage cannot be pickled: it belongs to the one driver that holds the study's lock"
P = ParamSpec("P")
Result = TypeVar("Result")


class DatabaseAway(Exception):
    """The database does not answer; the text says why, in one line."""


@dataclass
class RetryPolicy:
    """What to do while the database does not answer.

    Attributes:
        note: says a line to the user.
        is_over: called several times a second; True: wait no longer.
        limit_s: how long to wait at most.
    """

    note: Callable[[str], None] = lambda text: print(text, file=sys.stderr)
    is_over: Callable[[], bool] = lambda: False
    limit_s: float = field(default_factory=lambda: RETRY_LIMIT_S)


class RetryingStorage(BaseStorage):
    """Passes every call to Optuna's storage in a database, repeatedly until the database answers.

    Args:
        database: the storage, which Optuna's cache is put around, as Optuna itself does.
        shown: its URL without the password.
        policy: how to wait; None: not at all.
    """

    def __init__(self, database: RDBStorage, shown: str, policy: RetryPolicy | None = None) -> None:
        self.engine = database.engine
        self.shown = shown
        self.policy = policy
        self._database = database
        self._inner = get_storage(database)
        self._counts: dict[int, int] = {}  # study -> its trials, to which nobody else adds
        sqlalchemy.event.listen(self.engine, "handle_error", self._on_error)

    def reread(self) -> None:
        """Forget what was read: the database was changed without Optuna."""
        self._inner = get_storage(self._database)

    def __reduce__(self) -> NoReturn:
        raise TypeError(NO_PICKLE)

    def until_answered(self, call: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """What `call` returns when the database answers.

        Raises:
            LedgerLost: it did not answer in time, or there is no policy.
        """
        since_s, pause_s = None, FIRST_PAUSE_S
        while True:
            try:
                result = call(*args, **kwargs)
                break
            except (DatabaseAway, StorageInternalError) as error:
                if isinstance(error, StorageInternalError) and not isinstance(error.__cause__, exc.TimeoutError):
                    raise
                why = said(error)
                if since_s is None:
                    since_s = time.monotonic()
                    self._begin_to_wait(why)
                self._wait(pause_s, since_s, why)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        if since_s is not None and self.policy:
            self.policy.note(f"the ledger answers again after {time.monotonic() - since_s:.0f} s")
        return result

    def _begin_to_wait(self, why: str) -> None:
        if self.policy is None:
            raise LedgerLost(f"the ledger {self.shown} does not answer: {why}") from None
        since, limit_s = time.strftime("%H:%M:%S"), self.policy.limit_s
        self.policy.note(f"the ledger has not answered since {since} ({why}); waiting, {limit_s:g} s at most")

    def _wait(self, pause_s: float, since_s: float, why: str) -> None:
        assert self.policy is not None
        until_s = time.monotonic() + pause_s
        while (now_s := time.monotonic()) < until_s:
            if self.policy.is_over():
                what = f"the ledger {self.shown} does not answer, and the wait was interrupted: {why}"
                raise LedgerLost(what, help=NOTHING_LOST) from None
            if now_s - since_s > self.policy.limit_s:
                what = f"the ledger {self.shown} has not answered for {now_s - since_s:.0f} s: {why}"
                raise LedgerLost(what, help=NOTHING_LOST) from None
            time.sleep(LOOK_S)

    def _on_error(self, context: Any) -> None:
        """Called by SQLAlchemy with every database error. What is raised here replaces the error, so that Optuna, which
        tries a new trial five times whether it was stored or not, does not retry it itself."""
        error = context.sqlalchemy_exception
        if error is None or context.is_pre_ping:  # a failed ping makes the pool open another connection
            return
        sqlstate = getattr(error.orig, "sqlstate", None)
        if sqlstate == NO_PERMISSION:
            raise LedgerLost(f"the ledger {self.shown} refuses: {said(error)}")
        is_away = isinstance(error, exc.OperationalError | exc.InterfaceError) and TOO_MANY not in str(error.orig)
        if is_away or context.is_disconnect or sqlstate == READ_ONLY:
            raise DatabaseAway(said(error))

    # -- writes that are looked for before they are repeated

    def _write_once(self, write: Callable[[], Result], find: Callable[[], Result | None]) -> Result:
        """What `write` returns; if an answer was lost, what `find` finds of the first write instead."""
        tried: list[bool] = []

        def attempt() -> Result:
            if tried and (stored := find()) is not None:
                return stored
            tried.append(True)
            return write()

        return self.until_answered(attempt)

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        name = f"no-name-{uuid.uuid4()}" if study_name is None else study_name  # as Optuna's, but known here
        existed = self.until_answered(self._study_id, name) is not None
        return self._write_once(
            lambda: self._inner.create_new_study(directions, name), lambda: None if existed else self._study_id(name)
        )

    def _study_id(self, name: str) -> int | None:
        try:
            return self._inner.get_study_id_from_name(name)
        except KeyError:
            return None

    def delete_study(self, study_id: int) -> None:
        def write() -> bool:
            self._inner.delete_study(study_id)
            return True

        def find() -> bool | None:
            try:
                self._inner.get_study_name_from_id(study_id)
            except KeyError:
                return True
            return None

        self.get_study_name_from_id(study_id)  # a KeyError, if it never was
        self._write_once(write, find)
        self._counts.pop(study_id, None)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        if study_id not in self._counts:
            self._counts[study_id] = self.get_n_trials(study_id)
        number = self._counts[study_id]

        def find() -> int | None:
            try:
                found = self._inner.get_trial_id_from_study_id_trial_number(study_id, number)
            except KeyError:
                return None
            self._inner.get_all_trials(study_id, deepcopy=False)  # into the cache, which accepts no parameter otherwise
            return found

        trial_id = self._write_once(lambda: self._inner.create_new_trial(study_id, template_trial), find)
        self._counts[study_id] = number + 1
        return trial_id

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        before = self.get_trial(trial_id).state

        def find() -> bool | None:
            return True if before is not state and self._inner.get_trial(trial_id).state is state else None

        return self._write_once(lambda: self._inner.set_trial_state_values(trial_id, state, values), find)

    # -- writes by a key: the second time replaces what the first has stored, or finds it there

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self.until_answered(self._inner.set_study_user_attr, study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self.until_answered(self._inner.set_study_system_attr, study_id, key, value)

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        self.until_answered(self._inner.set_trial_param, trial_id, param_name, param_value_internal, distribution)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        self.until_answered(self._inner.set_trial_intermediate_value, trial_id, step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.until_answered(self._inner.set_trial_user_attr, trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.until_answered(self._inner.set_trial_system_attr, trial_id, key, value)

    # -- reads; what BaseStorage builds on them is not repeated here

    def get_study_id_from_name(self, study_name: str) -> int:
        return self.until_answered(self._inner.get_study_id_from_name, study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        return self.until_answered(self._inner.get_study_name_from_id, study_id)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self.until_answered(self._inner.get_study_directions, study_id)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self.until_answered(self._inner.get_study_user_attrs, study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self.until_answered(self._inner.get_study_system_attrs, study_id)

    def get_all_studies(self) -> list[Any]:
        return self.until_answered(self._inner.get_all_studies)

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        return self.until_answered(self._inner.get_trial_id_from_study_id_trial_number, study_id, trial_number)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self.until_answered(self._inner.get_trial, trial_id)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return self.until_answered(self._inner.get_all_trials, study_id, deepcopy, states)

    def remove_session(self) -> None:
        self._inner.remove_session()


def said(error: BaseException | None) -> str:
    """What the database said, in one line without a password."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    lines = str(getattr(cause, "orig", None) or cause).strip().splitlines() or [type(cause).__name__]
    return re.sub(r"password=[^ ]+", "password=***", lines[0].strip())  # followed by advice
