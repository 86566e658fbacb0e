"""Ranks that are updated report by report equal those of the whole history."""

import math
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sweeper.ledger.trial import Report, TrialRecord, TrialState
from sweeper.pruning.asha import Runner, judge, table_of
from sweeper.pruning.rungs import Rungs
from sweeper.spec.resolve import SweepSpec

METRIC = "val/pa_mpjpe_mm"
EPOCHS = 8.0


def make_spec(**scheduler: Any) -> SweepSpec:
    return SweepSpec.model_validate(
        {
            "name": "toy",
            "trainer": "scripted_trainer:train",
            "search_space": {"scale": {"low": 0.1, "high": 10.0}},
            "objective": {"metric": METRIC, "mode": "min"},
            "trials": 40,
            "controls": [],
            "scheduler": {"grace_epochs": 1, "eta": 2} | scheduler,
        }
    )


def runner(record: TrialRecord) -> Runner:
    return Runner(record.number, [(report.epoch, report.metrics[METRIC]) for report in record.reports], EPOCHS)


events = st.lists(
    st.tuples(st.integers(0, 5), st.floats(0, 100) | st.just(math.nan), st.sampled_from(["report"] * 6 + ["collapse"])),
    max_size=40,
)


@given(events, st.sampled_from([{"name": "asha"}, {"name": "hyperband", "brackets": 2}, {"name": "none"}]))
def test_the_latest_report_ranks_as_in_the_whole_history(
    happened: list[tuple[int, float, str]], scheduler: dict[str, Any]
) -> None:
    spec = make_spec(**scheduler)
    records = {number: TrialRecord(f"toy-{number:04d}", number, {}) for number in range(6)}
    rungs = Rungs(spec, {record.id: EPOCHS for record in records.values()})
    for number, value, what in happened:
        record = records[number]
        if record.state is TrialState.COLLAPSED or len(record.reports) == EPOCHS:
            continue
        step = len(record.reports) + 1
        record = replace(record, reports=(*record.reports, Report(step, float(step), {METRIC: value}, None, 0)))
        if what == "collapse":
            record = replace(record, state=TrialState.COLLAPSED)
        records[number] = record
        rungs.update(record)
        healthy = [runner(each) for each in records.values() if each.state is not TrialState.COLLAPSED]
        table = table_of(spec.scheduler, "min", healthy)
        assert rungs.judge_latest(record) == judge(spec.scheduler, "min", runner(record), table)


def test_a_paused_trial_waits_until_it_is_promoted() -> None:
    rungs = Rungs(make_spec(mode="promote"), {})
    first, second = (
        TrialRecord(f"toy-{number}", number, {}, TrialState.PAUSED, reports=(Report(1, 1.0, {METRIC: value}, None, 0),))
        for number, value in enumerate((5.0, 6.0))
    )
    rungs.update(first)
    assert rungs.to_promote(idle=False) is None
    rungs.update(second)
    assert rungs.to_promote(idle=False) == first
    assert rungs.paused == [first, second]
    rungs.update(replace(first, state=TrialState.RUNNING))
    assert rungs.to_promote(idle=False) is None
    assert rungs.paused == [second]
    assert rungs.last_standing(second).rank == 2
