"""The two Optuna studies of a ledger, of candidates and of controls, with Optuna's handles of their running trials."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import optuna

from sweeper.ledger.optuna_trials import StoredValues, record_of, tell
from sweeper.ledger.storage.location import never_started
from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.spec.objective import Mode

CONTROLS: Final = ".controls"
"""Suffix of the name of the controls' study; no name of a spec contains a dot."""

optuna.logging.set_verbosity(optuna.logging.ERROR)


class OptunaStudies:
    """Where a ledger's trials are.

    Args:
        candidates: the study of the candidates; that of the controls is beside it, if there is one.

    Attributes:
        candidates: as given.
        controls: None until the first control is added.
    """

    def __init__(self, candidates: optuna.Study) -> None:
        self.candidates = candidates
        self.controls: optuna.Study | None = None
        self._handles: dict[str, optuna.trial.Trial] = {}
        if self._controls_name in optuna.get_all_study_names(self.storage):
            self.controls = optuna.load_study(study_name=self._controls_name, storage=self.storage)

    @property
    def storage(self) -> optuna.storages.BaseStorage:
        """Of both studies."""
        return self.candidates._storage

    @property
    def has_several_objectives(self) -> bool:
        """Then Optuna knows no intermediate values."""
        return len(self.candidates.directions) > 1

    @property
    def _controls_name(self) -> str:
        return f"{self.candidates.study_name}{CONTROLS}"

    def attributes(self) -> Mapping[str, Any]:
        """The study's attributes, not copied, where `Study.user_attrs` copies them all each time."""
        return self.storage.get_study_user_attrs(self.candidates._study_id)

    def new_trial(self) -> optuna.trial.Trial:
        """A candidate without parameters. Not by `Study.ask`, which first looks through all trials for a waiting one;
        and from a separate study object, since each keeps a copy of the trials it has seen."""
        study = optuna.load_study(study_name=self.candidates.study_name, storage=self.storage)
        return optuna.trial.Trial(study, self.storage.create_new_trial(study._study_id))

    def frozen_trials(self) -> list[optuna.trial.FrozenTrial]:
        """All trials as they are stored, candidates first."""
        studies = [study for study in (self.candidates, self.controls) if study is not None]
        return [frozen for study in studies for frozen in study.get_trials(deepcopy=False)]

    def add_control(self, attributes: Mapping[str, Any]) -> None:
        """Add a running control: one line of the journal, so there is no control without its name."""
        if self.controls is None:
            self.controls = optuna.create_study(
                study_name=self._controls_name, storage=self.storage, directions=self.candidates.directions
            )
        running = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING, user_attrs=dict(attributes))
        self.controls.add_trial(running)

    def handle(self, record: TrialRecord) -> optuna.trial.Trial:
        """Optuna's handle for changing the trial; kept while the trial runs."""
        if record.id in self._handles:
            return self._handles[record.id]
        study = self._study_of(record)
        optuna_id = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, record.number)
        handle = optuna.trial.Trial(study, optuna_id)
        if record.state is TrialState.RUNNING:
            self._handles[record.id] = handle
        return handle

    def keep(self, trial_id: str, handle: optuna.trial.Trial) -> None:
        """Use this handle of a trial from now on."""
        self._handles[trial_id] = handle

    def drop(self, trial_id: str) -> None:
        """Keep no handle of this trial: it is a copy of all that the trial has reported."""
        self._handles.pop(trial_id, None)

    def drop_all(self) -> None:
        """As `drop`, of all trials."""
        self._handles.clear()

    def tell(self, record: TrialRecord, state: TrialState, values: StoredValues) -> None:
        """Tell Optuna how the trial ended."""
        tell(self._study_of(record), self.handle(record), state, values)

    def settle_half_finished(self) -> None:
        """A kill between the ending's two writes leaves a trial that knows its end but was not told to Optuna."""
        for frozen in self.frozen_trials():
            if not frozen.state.is_finished() and (ending := frozen.user_attrs.get("ending")):
                record = record_of(self.candidates.study_name, frozen)
                self.tell(record, TrialState(ending["state"]), ending["objective"])

    def delete(self) -> None:
        """Delete both."""
        for name in (self._controls_name, self.candidates.study_name):
            with contextlib.suppress(KeyError):
                optuna.delete_study(study_name=name, storage=self.storage)

    def _study_of(self, record: TrialRecord) -> optuna.Study:
        study = self.candidates if record.control is None else self.controls
        assert study is not None
        return study


def load(study: str, storage: optuna.storages.BaseStorage) -> OptunaStudies:
    """The studies that a storage has.

    Raises:
        UserError: it has none of this name.
    """
    try:
        return OptunaStudies(optuna.load_study(study_name=study, storage=storage))
    except KeyError:
        raise never_started(study) from None


def load_or_create(study: str, storage: optuna.storages.BaseStorage, modes: Sequence[Mode]) -> OptunaStudies:
    """The studies that a storage has; made if it has none. `modes`: of a new one, as of `Ledger.create`."""
    made = optuna.create_study(
        study_name=study,
        storage=storage,
        directions=["minimize" if mode == "min" else "maximize" for mode in modes],
        load_if_exists=True,
    )
    return OptunaStudies(made)
