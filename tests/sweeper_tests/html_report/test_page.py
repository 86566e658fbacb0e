"""The page of a report: the verdict, the tables, and that nothing a user wrote becomes markup."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from report_page import WINNER_WIDTH, drawn_ids, page_of
from report_study import OBJECTIVE, RATIO, USUAL, Trial, fill
from studies import make_spec

from sweeper.cli.main import main
from sweeper.html_report import write_report
from sweeper.ledger.trial import TrialState


def test_the_verdict_comes_first_with_the_controls(tmp_path: Path) -> None:
    fill(tmp_path, USUAL[:4], controls={"oracle": 0.0, "constant_pose": 21.6})
    page = page_of(tmp_path)
    said = page.words[page.words.index("Verdict") :]
    assert said[1:3] == ["best trial: toy-0000  val/pa_mpjpe_mm 10.50", "best trial 10.50 mm; constant pose 21.60"]
    assert said.index("constant_pose") < said.index("Trials")
    assert page.rows["toy-constant_pose"][:3] == ["toy-constant_pose", "● COMPLETE", "21.60"]


def test_a_study_without_skill_says_so_at_the_top(tmp_path: Path) -> None:
    fill(tmp_path, [(TrialState.COMPLETE, "ran", [30.0])], controls={"constant_pose": 21.6})
    page = page_of(tmp_path)
    assert page.words[page.words.index("Verdict") + 1].startswith("NO TRIAL BEATS THE CONSTANT POSE")
    assert ("section", {"id": "verdict", "class": "bad"}) in page.tags


def test_the_table_and_the_figures_hold_every_trial(tmp_path: Path) -> None:
    ledger = fill(tmp_path, USUAL)
    page = page_of(tmp_path)
    assert {trial.id for trial in ledger.trials()} <= set(page.rows)
    row = page.rows["toy-0001"]
    assert (row[1], row[2]) == ("▼ PRUNED", "18.00")
    assert "rank 2 of 2 at epoch 2" in row
    assert next(iter(page.rows)) == "toy-0000", "the best first"
    assert page.rows["toy-0003"][2] == "-"
    assert page.rows["toy-0005"][2] == "nan"
    figures = page.figures
    with_values = {f"toy-{number:04d}" for number in (0, 1, 2, 4)}
    assert drawn_ids(figures["curves"]) == with_values
    assert drawn_ids(figures["parallel"]) == {trial.id for trial in ledger.trials()}
    assert drawn_ids(figures["parameter-0"]) == drawn_ids(figures["variance"]) == with_values - {"toy-0004"}
    [winner] = [t for t in figures["curves"]["data"] if t["mode"] == "lines" and t["line"]["width"] == WINNER_WIDTH]
    assert winner["y"] == [20.0, 15.0, 12.0, 10.5, None]
    assert set(page.ids("div")) >= set(figures), "each figure has its place"


@pytest.mark.parametrize(
    ("trials", "headline", "figures"),
    [
        ([], "no trial has run to its end, so there is no best one", 0),
        (USUAL[:1], "best trial: toy-0000  val/pa_mpjpe_mm 10.50", 9),
        (USUAL[3:4] * 3, "no trial has run to its end, so there is no best one", 1),
        (USUAL[2:3] * 3, "no trial has run to its end, so there is no best one", 8),
        (USUAL[5:] * 2, "no trial has run to its end, so there is no best one", 3),
    ],
    ids=["none", "one", "all failed", "all collapsed", "no number yet"],
)
def test_a_study_in_any_state_has_a_page(tmp_path: Path, trials: list[Trial], headline: str, figures: int) -> None:
    fill(tmp_path, trials)
    page = page_of(tmp_path)
    assert page.words[page.words.index("Verdict") + 1] == headline
    assert len(page.figures) == figures
    assert "<li></li>" not in page.text
    assert len([row for row in page.rows if row.startswith("toy-")]) == len(trials)
    assert "sweeper show toy" in "".join(page.words)


def test_nothing_a_user_wrote_becomes_markup(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
    name = "<img src=x onerror=alert(1)>&\"'"
    space = {
        "<b>evil.path</b>": {"choices": [evil, "<a href='javascript:alert(1)'>x</a>"]},
        "x": {"low": 0.0, "high": 1.0},
    }
    ledger = fill(
        tmp_path, [(state, reason and evil, values) for state, reason, values in USUAL], name, search_space=space
    )
    ledger.attributes.spec_text = f"# {evil}"
    ledger.attributes.preflight = {"summary": evil}
    page = page_of(tmp_path, name)
    assert [tag for tag, _ in page.tags].count("script") == 3
    assert "img" not in {tag for tag, _ in page.tags}
    assert any("path</b>" in word for word in page.words)
    assert not [attrs for _, attrs in page.tags if "javascript" in (attrs.get("href") or "")]
    assert not [attrs for tag, attrs in page.tags if any(key.startswith("on") for key in attrs)]
    assert page.words.count(name) >= 1
    assert any(evil in word for word in page.words), "it is shown as it was written"
    told = json.dumps(page.figures)
    assert "&lt;img src=x" in told
    assert "<img" not in told
    assert "<a " not in told
    assert "<script" not in told


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    fill(tmp_path, USUAL)
    page = page_of(tmp_path)
    policy = next(attrs["content"] for tag, attrs in page.tags if tag == "meta" and "http-equiv" in attrs)
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    links = [attrs.get("src") or attrs.get("href") for tag, attrs in page.tags]
    assert all(link.startswith(("#", "data:text/plain;")) for link in links if link)


def test_several_objectives_have_a_front(tmp_path: Path) -> None:
    ended = [(TrialState.COMPLETE, "ran", [value]) for value in (10.0, 12.0, 9.0)]
    objectives = [{"metric": OBJECTIVE, "mode": "min"}, {"metric": RATIO, "mode": "max"}]
    fill(tmp_path, ended, objective=objectives)  # ratios 0.10, 0.11, 0.12
    page = page_of(tmp_path)
    assert page.words.count("theta_var_ratio") == 1, "a column once"
    front = page.figures["front-1"]
    assert front["data"][0]["x"] == [9.0]
    assert drawn_ids(front) == {"toy-0000", "toy-0001", "toy-0002"}


def test_variants_have_a_row_each_with_mean_and_interval(tmp_path: Path) -> None:
    ended = [(TrialState.COMPLETE, "ran", [value]) for value in (10.0, 12.0, 14.0)]
    trials = [*ended, *USUAL[2:3] * 3]
    runs = {"variants": {"plain": {}, "no_joint": {"loss.lambda_joint": 0.0}}, "seeds": [0, 1, 2]}
    spec = make_spec().effective | runs | {"trials": 6, "sampler": {"name": "grid"}}
    space = {"variant": {"choices": ["plain", "no_joint"]}, "seed": {"choices": [0, 1, 2]}}
    fill(tmp_path, trials, **{key: spec[key] for key in ("variants", "seeds", "sampler")}, search_space=space)
    page = page_of(tmp_path)
    assert page.rows["plain (baseline)"][:5] == ["plain (baseline)", "3", "12.00 mm", "2.00", "[7.03, 16.97]"]
    assert (page.rows["no_joint"][1], page.rows["no_joint"][-1]) == ("0", "3 of 3 (44-100 %)")
    assert any("no_joint: 3 collapsed (44-100 %) of 3 runs" in words for words in page.words)
    assert "parallel" not in page.figures
    assert page.figures["variant-runs"]["layout"]["yaxis"]["ticktext"] == ["plain", "no_joint"]


def test_cost_counts_what_was_used_and_saved(tmp_path: Path) -> None:
    fill(tmp_path, USUAL[:4], resources={"cpus": 2}, controls={"oracle": 0.0})
    rows = page_of(tmp_path).rows
    assert rows["COMPLETE"][1:] == ["1", "80.0", "80 s of CPU", "-"]
    assert rows["PRUNED"][1:] == ["1", "40.0", "40 s of CPU", "about 40 s"]
    assert rows["COLLAPSED"][1:] == ["1", "20.0", "20 s of CPU", "about 60 s"]
    assert rows["controls"][1:3] == ["1", "10.0"]
    assert rows["total"][1:] == ["5", "150.0", "2.5 min of CPU", "about 100 s"]


def test_pictures_of_the_winners_newest_checkpoint_are_in_the_page(tmp_path: Path) -> None:
    study = fill(tmp_path, USUAL).study_dir
    for epoch in ("epoch_003", "epoch_004"):
        (study / "trials/0000" / epoch).mkdir(parents=True)
        (study / "trials/0000" / epoch / f"{epoch}.png").write_bytes(b"\x89PNG")
    (study / "trials/0000/epoch_004/huge.jpg").write_bytes(bytes(2_000_001))
    (study / "trials/0000/epoch_004/weights.safetensors").write_bytes(b"no picture")
    pictures = [attrs for tag, attrs in page_of(tmp_path).tags if tag == "img"]
    assert pictures == [{"src": "data:image/png;base64,iVBORw==", "alt": "epoch_004.png"}]


def test_markdown_holds_outcome_table_space_and_the_next_step(tmp_path: Path) -> None:
    fill(tmp_path, [*USUAL[:2], (TrialState.COLLAPSED, "collapse: ratio <b>low</b> | flat", [9.0])])
    path = write_report(tmp_path, "toy", form="md")
    assert path == tmp_path / "studies" / "toy" / "report.md"
    text = path.read_text()
    assert "- best trial: toy-0000  val/pa_mpjpe_mm 10.50" in text
    assert "- `loss.lambda_joint`: 0.01 to 100, log" in text
    assert "sweeper reproduce toy-0000" in text
    assert "collapse: ratio &lt;b>low&lt;/b> \\| flat" in text


def test_the_verb_prints_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, USUAL)
    out = tmp_path / "out.html"
    assert main(["report", "toy", "--home", str(tmp_path), "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert main(["report", "toy", "--home", str(tmp_path), "--out", str(tmp_path / "none" / "out.html")]) == 2
    assert "cannot write the report: No such file or directory" in capsys.readouterr().err
    assert main(["report", "toi", "--home", str(tmp_path)]) == 2
    assert "no study `toi`" in capsys.readouterr().err


def test_other_verbs_do_not_load_what_the_page_needs() -> None:
    code = "import sys, sweeper.cli, sweeper.html_report; print([m for m in ('jinja2', 'scipy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
