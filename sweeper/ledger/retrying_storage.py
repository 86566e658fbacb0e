"""A storage in a database that waits while the database is away.

A write whose answer was lost may have been stored or not, so each is safe to be made again: what Optuna stores by a
key is replaced by the same, and for the rest (a new study, a new trial, the end of a trial) the storage looks first.
That is enough because a ledger has one writer (see `advisory`).
"""

import functools
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from sweeper.errors import LedgerLost

PATIENCE_S: Final = 600.0
"""How long a driver waits for a database that does not answer."""
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
LOOK_S: Final = 0.1
NO_PERMISSION: Final = "42501"
READ_ONLY: Final = "25006"
"""What a server says to a write that is not, or not any more, the primary one."""
NOTHING_LOST: Final = (
    "what is in the ledger is safe: when the database is back, `sweeper resume` goes on with the study"
)
Result = TypeVar("Result")


@dataclass
class Patience:
    """What to do while the database does not answer.

    Attributes:
        note: says a line to the user.
        is_over: called several times a second; True: wait no longer.
        limit_s: how long to wait at most.
    """

    note: Callable[[str], None] = lambda text: print(text, file=sys.stderr)
    is_over: Callable[[], bool] = lambda: False
    limit_s: float = field(default_factory=lambda: PATIENCE_S)


class PatientStorage(optuna.storages.RDBStorage):
    """Optuna's storage in a database, where every call is made again until the database answers.

    Attributes:
        shown: the URL without its password.
        patience: how to wait; None: not at all.
    """

    shown: str = ""
    patience: Patience | None = None

    def persist(self, attempt: Callable[[], Result]) -> Result:
        """What `attempt` returns when the database answers.

        Raises:
            LedgerLost: it did not in time, or there is no patience.
        """
        since_s: float | None = None
        while True:
            try:
                result = attempt()
                break
            except Exception as error:
                if (why := _why_away(error)) is None:
                    if _sqlstate(error) == NO_PERMISSION:
                        raise LedgerLost(f"the ledger {self.shown} refuses: {said(_cause(error))}") from None
                    raise
                if since_s is None:
                    since_s, pause_s = time.monotonic(), FIRST_PAUSE_S
                    self._begin_to_wait(why)
                self._wait(pause_s, since_s, why)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        if since_s is not None and self.patience:
            self.patience.note(f"the ledger answers again after {time.monotonic() - since_s:.0f} s")
        return result

    def _begin_to_wait(self, why: str) -> None:
        if self.patience is None:
            raise LedgerLost(f"the ledger {self.shown} does not answer: {why}") from None
        since, limit_s = time.strftime("%H:%M:%S"), self.patience.limit_s
        self.patience.note(f"the ledger does not answer since {since} ({why}); waiting, {limit_s:g} s at most")

    def _wait(self, pause_s: float, since_s: float, why: str) -> None:
        assert self.patience is not None
        until_s = time.monotonic() + pause_s
        while (now_s := time.monotonic()) < until_s:
            if self.patience.is_over():
                what = f"the ledger {self.shown} does not answer, and was not waited for: {why}"
                raise LedgerLost(what, help=NOTHING_LOST) from None
            if now_s - since_s > self.patience.limit_s:
                what = f"the ledger {self.shown} has not answered for {now_s - since_s:.0f} s: {why}"
                raise LedgerLost(what, help=NOTHING_LOST) from None
            time.sleep(LOOK_S)

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        tried: list[bool] = []

        def attempt() -> int:
            if tried and study_name in optuna.get_all_study_names(self):
                return self.get_study_id_from_name(str(study_name))
            tried.append(True)
            return optuna.storages.RDBStorage.create_new_study(self, directions, study_name)

        return self.persist(attempt)

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        """As Optuna's, which tries five times, whether the trial was stored or not."""
        before = self.persist(lambda: self._newest(study_id))

        def attempt() -> FrozenTrial:
            newest = self._newest(study_id)
            if newest == before:
                with _create_scoped_session(self.scoped_session) as session:
                    newest = int(self._get_prepared_new_trial(study_id, template_trial, session).trial_id)
            assert newest is not None
            return self.get_trial(newest)

        return self.persist(attempt)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        tried: list[bool] = []

        def attempt() -> bool:
            if tried and state.is_finished() and self.get_trial(trial_id).state is state:
                return True
            tried.append(True)
            return optuna.storages.RDBStorage.set_trial_state_values(self, trial_id, state, values)

        return self.persist(attempt)

    def _newest(self, study_id: int) -> int | None:
        """The storage's number of the study's newest trial."""
        from optuna.storages._rdb.models import TrialModel
        from sqlalchemy import func

        with _create_scoped_session(self.scoped_session) as session:
            found = session.query(func.max(TrialModel.trial_id)).filter(TrialModel.study_id == study_id).scalar()
        return None if found is None else int(found)


def _patient(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: PatientStorage, *args: Any, **kwargs: Any) -> Any:
        return self.persist(lambda: method(self, *args, **kwargs))

    return call


READS: Final = (
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_directions",
    "get_study_user_attrs",
    "get_study_system_attrs",
    "get_all_studies",
    "get_trial_id_from_study_id_trial_number",
    "get_trial_number_from_id",
    "get_trial_param",
    "get_trial",
    "get_trial_user_attrs",
    "get_trial_system_attrs",
    "_get_trials",
)
STORED_BY_A_KEY: Final = (  # the second time replaces what the first has stored, or finds it there
    "set_study_user_attr",
    "set_study_system_attr",
    "_set_trial_param",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
)
for _name in (*READS, *STORED_BY_A_KEY):
    setattr(PatientStorage, _name, _patient(getattr(optuna.storages.RDBStorage, _name)))


def _why_away(error: BaseException) -> str | None:
    """Why the database does not answer, in one line; None if the error says something else."""
    from sqlalchemy import exc

    cause = _cause(error)
    away = isinstance(cause, exc.OperationalError | exc.InterfaceError | exc.DisconnectionError | exc.TimeoutError)
    if not away and isinstance(cause, exc.DBAPIError):
        away = cause.connection_invalidated or _sqlstate(error) == READ_ONLY
    return said(cause) if away else None


def _cause(error: BaseException) -> BaseException | None:
    return error.__cause__ if isinstance(error, StorageInternalError) else error


def _sqlstate(error: BaseException) -> str | None:
    return getattr(getattr(_cause(error), "orig", None), "sqlstate", None)


def said(error: BaseException | None) -> str:
    """What the database said, in one line without a password."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
    return re.sub(r"password=[^ ]+", "password=***", lines[0].strip())  # then comes advice
