"""What the first screen of a report says to do next, and the files that it holds."""

import base64
import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from finished import finish_study
from studies import make_spec

from sweeper.html_report import write_report
from sweeper.html_report.data import StudyData, study_data
from sweeper.html_report.downloads import downloads, trials_latex
from sweeper.html_report.next_steps import next_steps
from sweeper.ledger.trial import TrialState
from sweeper.spec.load import load_spec

SPACE = {
    "scale": {"low": 0.1, "high": 10.0, "log": True},
    "sleep_s": {"low": 0.0, "high": 1.0},
    "noise": {"choices": [True, False]},
}


def data_of(home: Path, score: Any, **changes: Any) -> StudyData:
    spec = make_spec(**({"search_space": SPACE, "trials": 10} | changes))
    return study_data(finish_study(home, spec, score), spec)


def commands(data: StudyData) -> list[str]:
    """The suggested commands, without the home that each of them names."""
    found = [step.command for step in next_steps(data).steps if step.command]
    home = f" --home {data.folder.parent.parent}"
    assert all(home in command for command in found)
    return [command.replace(home, "") for command in found]


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


def test_a_tie_suggests_winners_for_all_that_share_it(tmp_path: Path) -> None:
    data = data_of(tmp_path, lambda params: 10.0 + float(params["sleep_s"]), trials=4)
    found = next_steps(data)
    assert found.sentence.startswith("A tie: toy-000")
    assert "cannot be told apart by one run each" in found.sentence
    assert commands(data)[0] == "sweeper winners toy --top 4"


def test_a_winner_at_the_end_of_its_range_asks_for_a_wider_one(tmp_path: Path) -> None:
    enqueue = [{"scale": 9.9, "sleep_s": 0.5, "noise": True}, {"scale": 1.0, "sleep_s": 0.5, "noise": True}]

    def score(params: Mapping[str, Any]) -> float:
        return 10.0 if params["scale"] == 9.9 else 40.0

    data = data_of(tmp_path, score, enqueue=enqueue, trials=2)
    wider = "sweeper run SPEC --set name=toy_wide --set search_space.scale.high=100"
    assert wider in commands(data)
    why = {step.command.partition(" --home")[0]: step.why for step in next_steps(data).steps}[wider]
    assert why.endswith("scale of the winner, 9.9, is at the upper end of its range")
    spec = tmp_path / "sweep.yaml"
    spec.write_text(yaml.safe_dump(data.spec.model_dump(mode="json", exclude_unset=True)))
    changed = load_spec(spec, wider.split()[4::2]).model_dump()
    assert (changed["name"], changed["search_space"]["scale"]["high"]) == ("toy_wide", 100.0)


@pytest.mark.parametrize(
    ("space", "best", "change"),
    [
        ({"low": 0.002, "high": 0.02, "log": True}, 0.002, "low=0.0002"),
        ({"low": 1.0, "high": 3.0}, 3.0, "high=5"),
        ({"low": -1.0, "high": 1.0}, -1.0, "low=-3"),
        ({"type": "int", "low": 2, "high": 8, "step": 2}, 8, "high=14"),
        ({"low": 0.0, "high": 1.0}, 0.0, None),
        ({"type": "int", "low": 1, "high": 100, "log": True}, 1, None),
        ({"values": [0.1, 0.2]}, 0.2, None),
    ],
)
def test_a_range_is_widened_where_that_is_possible(
    space: dict[str, Any], best: float, change: str | None, tmp_path: Path
) -> None:
    path = "die_times" if "type" in space else "scale"
    data = data_of(tmp_path, lambda params: 10.0, search_space={path: space}, enqueue=[{path: best}], trials=1)
    if change is None:
        assert "end of its range: widen the range there." in advice(data)
    else:
        assert f"sweeper run SPEC --set name=toy_wide --set search_space.{path}.{change}" in commands(data)


def test_many_collapses_ask_for_a_narrower_space_and_pruning_for_an_audit(tmp_path: Path) -> None:
    ends = iter([TrialState.COLLAPSED] * 3 + [TrialState.PRUNED] * 2 + [20.0] * 5)
    data = data_of(tmp_path, lambda params: next(ends))
    assert "3 of 10 trials collapsed: narrow the search space" in advice(data)
    assert "2 were pruned here" in {step.command: step.why for step in next_steps(data).steps}["audit: 0.1"]


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
