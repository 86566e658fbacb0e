"""What the first screen of a report says to do next, and the files that it holds."""

import base64
import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from finished import finish_study
from studies import make_spec

from sweeper.html_report import write_report
from sweeper.html_report.data import StudyData, study_data
from sweeper.html_report.downloads import downloads, trials_latex
from sweeper.html_report.next_steps import next_steps
from sweeper.ledger.trial import TrialState

SPACE = {
    "scale": {"low": 0.1, "high": 10.0, "log": True},
    "sleep_s": {"low": 0.0, "high": 1.0},
    "noise": {"choices": [True, False]},
}


def data_of(home: Path, score: Any, **changes: Any) -> StudyData:
    spec = make_spec(search_space=SPACE, **({"trials": 10} | changes))
    return study_data(finish_study(home, spec, score), spec)


def commands(data: StudyData) -> list[str]:
    return [step.command for step in next_steps(data).steps if step.command]


def advice(data: StudyData) -> str:
    return "\n".join(step.why for step in next_steps(data).steps if not step.command)


def test_a_winner_is_named_with_its_parameters_for_the_next_sweep(tmp_path: Path) -> None:
    data = data_of(tmp_path, lambda params: 10.0 + 100 * float(params["sleep_s"]))
    assert data.winner is not None
    found = next_steps(data)
    value = f"{data.winner.value(data.spec.objective.metric):.2f}"
    assert found.sentence.startswith(f"The winner is {data.winner.id} with val/pa_mpjpe_mm {value} mm.")
    assert yaml.safe_load(found.parameters) == {"base": dict(data.winner.params)}
    assert commands(data) == [
        "sweeper winners toy",
        f"sweeper reproduce {data.winner.id}",
        f"sweeper config {data.winner.id} > best.yaml",
    ]
    page = write_report(tmp_path, "toy").read_text(encoding="utf-8")
    first = page[: page.index("<nav")]
    assert found.sentence in first
    assert found.parameters.strip().replace("'", "&#39;") in first


def test_a_tie_leads_to_winners_of_all_that_share_it(tmp_path: Path) -> None:
    data = data_of(tmp_path, lambda params: 10.0 + float(params["sleep_s"]), trials=4)
    found = next_steps(data)
    assert found.sentence.startswith("A tie: toy-000")
    assert "cannot be told apart by one run each" in found.sentence
    assert commands(data)[0] == "sweeper winners toy --top 4"


def test_a_best_at_the_end_of_its_range_asks_for_a_wider_one(tmp_path: Path) -> None:
    enqueue = [{"scale": 9.9, "sleep_s": 0.5, "noise": True}, {"scale": 1.0, "sleep_s": 0.5, "noise": True}]

    def score(params: Mapping[str, Any]) -> float:
        return 10.0 if params["scale"] == 9.9 else 40.0

    data = data_of(tmp_path, score, enqueue=enqueue, trials=2)
    assert advice(data) == "scale of the winner, 9.9, is at the upper end of its range: widen the range there."


def test_many_collapses_ask_for_a_narrower_space_and_pruning_for_an_audit(tmp_path: Path) -> None:
    ends = iter([TrialState.COLLAPSED] * 3 + [TrialState.PRUNED] * 2 + [20.0] * 5)
    said = advice(data_of(tmp_path, lambda params: next(ends)))
    assert "3 of 10 trials collapsed: narrow the search space" in said
    assert "2 trials were pruned, and nothing says how many wrongly: `audit: 0.1`" in said


def test_without_a_winner_nothing_is_reproduced(tmp_path: Path) -> None:
    data = data_of(tmp_path, lambda params: TrialState.FAILED, trials=2)
    assert (commands(data), next_steps(data).parameters) == ([], "")


def test_the_page_holds_the_trials_as_csv_and_latex(tmp_path: Path) -> None:
    data = data_of(tmp_path, lambda params: 10.0 + 100 * float(params["sleep_s"]), trials=3)
    files = {name: base64.b64decode(uri.partition(",")[2]).decode() for name, uri in downloads(data)}
    rows = list(csv.DictReader(io.StringIO(files["trials.csv"])))
    assert [row["trial"] for row in rows] == ["toy-0000", "toy-0001", "toy-0002"]
    latex = files["trials.tex"]
    assert latex == trials_latex(data)
    assert latex.startswith(
        "\\begin{tabular}{lrrrrrrl}\n\\toprule\nID & scale & sleep\\_s & noise & epochs & pa\\_mpjpe\\_mm"
    )
    assert data.winner is not None
    assert latex.splitlines()[4].startswith(f"{data.winner.id} & "), "the best first"
