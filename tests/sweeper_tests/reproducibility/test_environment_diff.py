"""What a run depended on then and now, and which part of it explains a difference."""

import pytest

from sweeper.reproducibility.environment_diff import LEFT_OVER, NO_CAUSE, drift, drift_table, likely_cause

THEN = {
    "code": {"commit": "a" * 40, "dirty": False},
    "lock_sha256": "1" * 64,
    "python": "CPython 3.11.7",
    "packages": {"torch": "2.14.1", "numpy": "2.0"},
    "platform": "Linux",
    "hardware": {"cpu": "x", "cpu_count": 2, "accelerators": None},
    "data": {"embedded": "9" * 64},
    "numerics": {"device": "cpu"},
    "environment": {},
    "config": {"loss": {"lambda_joint": 0.3}, "seed": 0},
}


@pytest.mark.parametrize(
    ("change", "what", "detail"),
    [
        ({"code": {"commit": "b" * 40, "dirty": False}}, "commit", "aaaaaaaaaaaa -> bbbbbbbbbbbb"),
        (
            {"code": {"commit": "a" * 40, "dirty": True, "diff_sha256": "1"}},
            "uncommitted changes",
            "none -> some",
        ),
        ({"packages": {"torch": "2.14.2", "new": "1"}}, "packages", "new absent -> 1, numpy 2.0 -> absent, torch"),
        ({"lock_sha256": "2" * 64}, "lock", "111111111111 -> 222222222222"),
        ({"hardware": {"cpu": "y", "cpu_count": 2}}, "cpu", "x -> y"),
        ({"numerics": {"device": "cuda"}}, "device", "cpu -> cuda"),
        ({"environment": {"PYTHONHASHSEED": "1"}}, "environment", "PYTHONHASHSEED absent -> 1"),
        ({"config": {"loss": {"lambda_joint": 0.1 + 0.2}, "seed": 0}}, "config", "loss.lambda_joint 0.3 -> 0.30000000"),
        ({"data": {"embedded": "8" * 64}}, "data: embedded", "999999999999 -> 888888888888"),
    ],
)
def test_drift_names_what_changed_and_nothing_else(change: dict[str, object], what: str, detail: str) -> None:
    rows = drift(THEN, {**THEN, **change})
    changed = [row for row in rows if not row.same]
    assert [row.what for row in changed] == [what]
    assert changed[0].detail.startswith(detail)
    assert f"{what} " in drift_table(rows)


def test_no_drift_without_a_change_or_a_record() -> None:
    assert all(row.same for row in drift(THEN, THEN))
    assert len(drift(THEN, THEN)) == 11
    assert drift({}, THEN) == []


def test_another_commit_with_the_same_sources_is_not_a_cause() -> None:
    then = THEN | {"sources": {"sweeper/cli.py": "1", "trainers/loop.py": "1"}}
    other = {"code": {"commit": "b" * 40, "dirty": True, "diff_sha256": "1"}}
    assert likely_cause(drift(then, then | other)) == NO_CAUSE
    now = then | other | {"sources": {"sweeper/cli.py": "1", "trainers/loop.py": "2"}}
    assert likely_cause(drift(then, now)) == "sources (trainers/loop.py)"


def test_the_likely_cause_is_what_most_surely_changes_results() -> None:
    now = THEN | {"hardware": {"cpu": "y"}, "data": {"embedded": "8" * 64}, "packages": {"torch": "2"}}
    text = likely_cause(drift(THEN, now))
    assert text == "data: embedded (999999999999 -> 888888888888); less likely: packages, cpu"


def test_a_variable_that_selects_instructions_is_a_cause_but_one_set_per_trial_is_not() -> None:
    ours = THEN | {"environment": {"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": "1"}}
    rows = drift(THEN, ours)
    assert [row.what for row in rows if not row.same] == ["environment"]
    assert likely_cause(rows) == NO_CAUSE
    now = ours | {"packages": {"torch": "2"}, "numerics": {"device": "cpu", "vector_unit": "DEFAULT"}}
    now["environment"] = {"ATEN_CPU_CAPABILITY": "default"}
    then = THEN | {"numerics": {"device": "cpu", "vector_unit": "AVX2"}}
    said = likely_cause(drift(then, now))
    assert said.startswith("environment (ATEN_CPU_CAPABILITY absent -> default); less likely: vector_unit, packages")


def test_imported_versions_count_where_both_runs_imported_the_library() -> None:
    then = THEN | {"numerics": {"device": "cpu", "imported numpy": "2.0", "imported cv2": "4"}}
    now = THEN | {"numerics": {"device": "cpu", "imported numpy": "1.26", "imported scipy": "1"}}
    assert likely_cause(drift(then, now)) == "imported (numpy 2.0 -> 1.26)"
    assert all(row.same for row in drift(then, THEN | {"numerics": {"device": "cpu"}}))


def test_without_a_recorded_cause_a_shared_process_is_named() -> None:
    assert likely_cause([], reuses_process=True) == LEFT_OVER
    assert likely_cause([]) == NO_CAUSE


def test_new_and_changed_files_are_named() -> None:
    diff = "diff --git a/a b.py b/a b.py\n+x = 1\ndiff --git a/c.py b/c.py\n+y = 1\n"
    then = {"commit": "a" * 40, "dirty": True, "diff": diff, "diff_sha256": "1", "untracked": {"new.py": "1"}}
    now = then | {"diff": diff.replace("x = 1", "x = 2"), "diff_sha256": "2", "untracked": {"new.py": "2"}}
    (row,) = (row for row in drift({"code": then}, {"code": now}) if not row.same)
    assert row.detail == "some -> others: a b.py, new.py"


def test_a_custom_trainer_may_import_modules_without_a_checksum() -> None:
    then = THEN | {"sources": {"mine.py": "1", "trainers/loop.py": "1"}}
    now = then | {"code": {"commit": "b" * 40, "dirty": False}}
    assert likely_cause(drift(then, now)) == "commit (aaaaaaaaaaaa -> bbbbbbbbbbbb)"
