"""What a study stores about itself besides its trials: each attribute with its type and its key in the ledger."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, Final, Generic, Self, TypeVar, overload

from pydantic import TypeAdapter, ValidationError

from sweeper.errors import UserError
from sweeper.ledger.trial import TrialRecord
from sweeper.samplers.history import WARM_START

AUDIT: Final = "audit:"
"""Start of the keys for the reports of stopped trials that keep running, see `study.pruning_audit`."""
RUN_SECONDS: Final = "run_seconds:"
"""Start of the keys that hold the seconds of each driver's run, by when it started."""

T = TypeVar("T")


class Attribute(Generic[T]):
    """One attribute: reads as its default until it is stored.

    Args:
        key: in the ledger; it never changes, or older studies lose what they stored.
        kind: the type of its JSON value.
        default: for a study that has not stored it.
    """

    def __init__(self, key: str, kind: Any, default: T) -> None:
        self.key, self._default = key, default
        self._adapter: TypeAdapter[T] = TypeAdapter(kind)

    @overload
    def __get__(self, attributes: None, owner: type) -> Self: ...
    @overload
    def __get__(self, attributes: "StudyAttributes", owner: type) -> T: ...
    def __get__(self, attributes: "StudyAttributes | None", owner: type) -> Self | T:
        if attributes is None:
            return self
        value = attributes.stored.get(self.key)
        if value is None:
            return self._default
        try:
            return self._adapter.validate_python(deepcopy(value))
        except ValidationError as error:
            what = f"the ledger of `{attributes.study}` is damaged: its attribute `{self.key}` is not valid"
            raise UserError(f"{what}: {error.errors()[0]['msg']}", help="restore it from a copy") from None

    def __set__(self, attributes: "StudyAttributes", value: T) -> None:
        attributes.store(self.key, value)


class StudyAttributes:
    """The attributes of one study, read from its ledger and written to it.

    Args:
        study: its name.
        read: all that is stored, by key, itself or a copy: there may be one attribute for each of thousands of trials,
            so only what is handed out is copied here.
        store: stores a JSON value under a key; on the disk when it returns.
    """

    def __init__(self, study: str, read: Callable[[], Mapping[str, Any]], store: Callable[[str, Any], None]) -> None:
        self.study, self._read, self.store = study, read, store

    stopped = Attribute[bool]("stopped", bool, False)
    """The user ended the study for good; until `sweeper resume`."""
    extended = Attribute[int]("extended", int, 0)
    """Trials that `sweeper extend` has added."""
    extension = Attribute[dict[str, int] | None]("extension", dict[str, int], None)
    """The last `sweeper extend`: how many `trials` it added, and `extended` with them (`total`)."""
    stream = Attribute[str | None]("outbox", str, None)
    """ID of the outbox whose records MLflow has."""
    store_url = Attribute[str | None]("checkpoints", str, None)
    """`s3://BUCKET/PREFIX/NAME-ID` of the study's checkpoints; None: they are in its folder."""
    owner = Attribute[dict[str, str] | None]("home", dict[str, str], None)
    """Which home drives a study whose ledger is in a database: `{"id", "host", "path"}`."""
    warm_start = Attribute[list[dict[str, Any]] | None](WARM_START, list[dict[str, Any]], None)
    """The trials of an earlier study that it learns from."""
    spec = Attribute[dict[str, Any] | None]("spec", dict[str, Any], None)
    """The effective spec that it was started with, without what `sweeper extend` added. None: it never began."""
    spec_text = Attribute[str]("spec_text", str, "")
    """The sweep file as it was written, without secrets."""
    spec_path = Attribute[str | None]("spec_path", str, None)
    """Where the sweep file was."""
    code = Attribute[dict[str, str] | None]("code", dict[str, str], None)
    """SHA-256 of each source file that trains."""
    data = Attribute[dict[str, str] | None]("data", dict[str, str], None)
    """Fingerprint of each data set."""
    preflight = Attribute[dict[str, Any] | None]("preflight", dict[str, Any], None)
    """Outcome of the last preflight, with its `summary`."""
    told_winner = Attribute[str]("told_winner", str, "")
    """The trial that carries the mark of the winner in MLflow."""
    drift = Attribute[list[dict[str, Any]]]("drift", list[dict[str, Any]], [])
    """What differed when it was continued anyway: `{"time_s", "differences"}`."""

    @property
    def stored(self) -> Mapping[str, Any]:
        """Everything, by key: to be read, not changed."""
        return self._read()

    def starting_with(self, prefix: str) -> dict[str, Any]:
        """The attributes whose keys start like this, by the rest of the key."""
        found = {key: value for key, value in dict(self._read()).items() if key.startswith(prefix)}
        return {key.removeprefix(prefix): deepcopy(value) for key, value in found.items()}


def late_run_key(record: TrialRecord) -> str:
    """Key of the ID of an MLflow run that was not known before its trial ended: a finished trial takes no attribute."""
    return f"trial:{record.number if record.control is None else record.folder}:mlflow_run_id"
