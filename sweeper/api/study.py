"""A study as seen from Python: its trials and curves as data frames, its best trial, its report."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from sweeper.errors import UserError
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.studies import find_study, open_study
from sweeper.ledger.trial import TrialRecord
from sweeper.spec.load import load_spec, parse_spec
from sweeper.spec.resolve import SweepSpec
from sweeper.study.decisions import recorded_config
from sweeper.study.pareto import winner_of
from sweeper.views.export import trial_row

if TYPE_CHECKING:
    import pandas as pd

HOME: Final = Path(".sweeper")
PAGE_HEIGHT_PX: Final = 800


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        id: as everywhere, `loss_balance-0007`.
        state: COMPLETE, PRUNED, COLLAPSED, STOPPED, FAILED, RUNNING or PAUSED.
        reason: why it is in that state.
        params: what was sampled, by dotted path.
        config: the whole config it was trained with.
        metrics: the latest value of each.
    """

    id: str
    state: str
    reason: str
    params: Mapping[str, Any]
    config: Mapping[str, Any]
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Page:
    """The HTML report. A notebook shows it; `str(page)` is its text."""

    text: str

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f'<iframe srcdoc="{html.escape(self.text)}" width="100%" height="{PAGE_HEIGHT_PX}"></iframe>'


class Study:
    """A study of a home, read again at each call, so a running one may be watched.

    Attributes:
        name: of the study.
        home: where it is.
        exit_code: of the `run` that returned it, as of the command line; None if it was loaded.
    """

    def __init__(self, name: str, home: Path, exit_code: int | None = None) -> None:
        self.name, self.home, self.exit_code = name, home, exit_code
        open_study(home, name)  # there must be such a study

    def __repr__(self) -> str:
        frame = self.trials()
        states = ", ".join(f"{count} {state}" for state, count in frame["state"].value_counts().items())
        return f"<Study {self.name}: {states or 'no trials'}>"

    def _repr_html_(self) -> str:
        table: str = self.trials().to_html()
        return f"<p>{html.escape(repr(self))}</p>{table}"

    @property
    def spec(self) -> SweepSpec:
        """The sweep file it was started with."""
        return find_study(self.home, self.name)[1]

    def trials(self, *, controls: bool = False) -> pd.DataFrame:
        """One row per trial, indexed by ID: `state`, `reason`, `epochs`, `seconds`, `params.*`, and `metrics.*` of its
        last evaluation.

        Args:
            controls: with those that are reference points and not candidates.
        """
        import pandas as pd

        ledger, _ = open_study(self.home, self.name)
        records = [*(ledger.controls() if controls else ()), *ledger.trials()]
        return pd.DataFrame([trial_row(record) for record in records]).set_index("id") if records else _empty(pd)

    def curves(self, trials: Sequence[str] | None = None) -> pd.DataFrame:
        """One row per evaluation: `trial`, `step`, `epoch`, `seconds`, and every metric.

        Args:
            trials: IDs; default: all candidates.
        """
        import pandas as pd

        ledger, _ = open_study(self.home, self.name)
        records = ledger.trials() if trials is None else [self._record(ledger, name) for name in trials]
        return pd.DataFrame(
            [
                {
                    "trial": record.id,
                    "step": report.step,
                    "epoch": report.epoch,
                    "seconds": report.seconds,
                    **report.metrics,
                }
                for record in records
                for report in record.reports
            ]
        )

    @property
    def best(self) -> Trial | None:
        """The best trial that ran to its end. It may be the luckiest: see `sweeper winners`."""
        ledger, spec = open_study(self.home, self.name)
        winner = winner_of(ledger.trials(), spec.objective)
        return None if winner is None else self._trial(winner)

    def trial(self, trial_id: str) -> Trial:
        """One trial by its ID.

        Raises:
            UserError: there is no such trial.
        """
        ledger, _ = open_study(self.home, self.name)
        return self._trial(self._record(ledger, trial_id))

    def plot(self) -> Page:
        """The report with all its figures, which a notebook shows."""
        from sweeper.html_report.data import study_data
        from sweeper.html_report.page import render

        return Page(render(study_data(*open_study(self.home, self.name))))

    def _trial(self, record: TrialRecord) -> Trial:
        config = recorded_config(self.spec, record)
        return Trial(record.id, record.state.value, record.reason, dict(record.params), config, record.metrics)

    def _record(self, ledger: Ledger, trial_id: str) -> TrialRecord:
        try:
            return ledger.trial(trial_id)
        except KeyError:
            raise UserError(f"the study `{self.name}` has no trial `{trial_id}`") from None


def run(
    spec: str | Path | Mapping[str, Any],
    *,
    home: str | Path = HOME,
    overrides: Sequence[str] = (),
    new: bool = False,
    skip_preflight: str = "",
    accept_drift: bool = False,
    address: str | None = None,
    sync_to: str | Path | None = None,
) -> Study:
    """Run a sweep to its end, or continue it: what `sweeper run` does. Progress goes to stderr.

    Args:
        spec: path of a sweep file, or what would be in it.
        home: folder of all studies.
        overrides: `key=value`, as `--set`.
        new: start another study beside one of this name.
        skip_preflight: a reason not to check the pipeline first; it is recorded.
        accept_drift: continue although spec, code or data have changed.
        address: of a Ray cluster.
        sync_to: folder or `s3://BUCKET/PREFIX` that gets a copy after each evaluation; if the home does not have the
            study, it continues from there.

    Returns:
        The study; its `exit_code` tells how the run ended (0 done, 1 a trial failed, 3 no skill, 130 interrupted).

    Raises:
        UserError: the spec is not valid, or cannot be run.
    """
    from sweeper.lifecycle.options import RunOptions
    from sweeper.lifecycle.run import run_study

    if isinstance(spec, Mapping):
        text = yaml.safe_dump(dict(spec), sort_keys=False)
        loaded = parse_spec(text, Path(f"{spec.get('name', 'sweep')}.yaml"), overrides)
    else:
        loaded = load_spec(Path(spec), overrides)
    home = Path(home)
    options = RunOptions(skip_preflight, accept_drift, address, str(sync_to) if sync_to else None)
    code = run_study(loaded, home, options, new=new)
    return Study(loaded.name, home, code)


def load(study: str, *, home: str | Path = HOME) -> Study:
    """A study that was started before, also one that runs now.

    Raises:
        UserError: there is no such study.
    """
    return Study(study, Path(home))


def _empty(pd: Any) -> pd.DataFrame:
    frame: pd.DataFrame = pd.DataFrame(columns=["state", "reason", "epochs", "seconds"])
    return frame
