"""The page that `sweeper ui STUDY` opens, in a real browser with a fresh profile: winners are seen without a click."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty import FreshHome, sweep
from ports import free_port

from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import TrialState

pytestmark = pytest.mark.slow

SPEC = """\
name: loss_balance
trainer: weights_trainer:train
base: {loss: {lambda_param: 1.0, lambda_joint: 1.0, lambda_angular: 1.0, lambda_pca: 1.0}, optim: {lr: 0.003}}
search_space:
  loss.lambda_param:   {low: 0.01, high: 10.0, log: true}
  loss.lambda_joint:   {low: 0.1, high: 100.0, log: true}
  loss.lambda_angular: {low: 0.001, high: 10.0, log: true}
  loss.lambda_pca:     {low: 0.0001, high: 10.0, log: true}
  optim.lr:            {low: 0.0001, high: 0.03, log: true}
objective: {metric: val/pa_mpjpe_mm, mode: min}
trials: 12
seed: 2
scheduler: {name: asha, grace_epochs: 2, eta: 2}
controls: []
guards:
  - {name: collapse, kind: collapse, after_epochs: 1, for_evaluations: 2, var_ratio_below: 0.02, r2_below: 0.02}
"""
WIDTH_PX = 1400
IS_CUT = """element => [element, ...element.querySelectorAll('*')].some(each =>
    each.textContent && !each.children.length && each.clientWidth > 0 && each.scrollWidth > each.clientWidth + 1
)"""
"""Whether a text inside does not fit into its element."""
LINES_OF_FIRST_CHART = "() => document.querySelector('.js-plotly-plot').querySelectorAll('.scatterlayer .trace')"
FEWEST_REASON_PX = 60
"""Of the reason, visible without scrolling."""


@pytest.fixture(scope="module")
def home(fresh_home: FreshHome) -> Path:
    """A home with the study, recorded by a real driver."""
    home = fresh_home(SPEC)
    done = sweep(home, "run")
    assert done.returncode == 0, done.stdout + done.stderr
    return home


@pytest.fixture(scope="module")
def address(home: Path, warm_sweeper: Path) -> Iterator[str]:
    """What `sweeper ui STUDY` prints."""
    command = [str(warm_sweeper), "-m", "sweeper", "ui", "loss_balance", "--home", str(home)]
    command += ["--port", str(free_port())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as ui:
        assert ui.stdout is not None
        yield ui.stdout.readline().strip()
        ui.terminate()


def new_page(chromium: Any) -> Any:
    """A page in its own profile."""
    page = chromium.new_page(viewport={"width": WIDTH_PX, "height": 700})
    page.set_default_timeout(60_000)
    return page


@pytest.fixture(scope="module")
def page(address: str, chromium: Any) -> Iterator[Any]:
    page = new_page(chromium)
    page.goto(address)
    page.get_by_text("sweeper.reason").first.wait_for()
    page.get_by_text("COMPLETE").first.wait_for()
    yield page
    page.close()


def open_charts(page: Any) -> Any:
    """Show the charts of a page of runs; returns the first one."""
    page.locator("label:has(input[value=CHART])").click()
    page.wait_for_function("document.querySelector('.js-plotly-plot .scatterlayer .trace') !== null")
    return page.locator(".js-plotly-plot").first


def height_of(page: Any, text: str) -> float:
    """Vertical position of a text on the page."""
    return float(page.get_by_text(text, exact=True).first.bounding_box()["y"])


def cells_of(page: Any, name: str) -> list[tuple[float, str]]:
    """Vertical position and text of the cells of a column, from the top."""
    found = page.locator(f"[role=gridcell][col-id='{name}']").all()
    return sorted((cell.bounding_box()["y"], cell.inner_text().strip()) for cell in found)


def test_candidates_are_listed_best_first_with_state_and_weights(home: Path, page: Any) -> None:
    trials = Ledger.open(home / "studies" / "loss_balance", "loss_balance").trials()
    best_first = sorted(trials, key=lambda trial: trial.value("val/pa_mpjpe_mm") or 0.0)
    names = cells_of(page, "attributes.`Run Name`")
    assert names[0][1].endswith(best_first[0].id)
    collapsed = [trial.state is TrialState.COLLAPSED for trial in best_first].index(True)
    best_first = best_first[:collapsed]  # those that collapsed are all alike, so in any order
    states = [text for _, text in cells_of(page, "tags.`sweeper.state`")]
    assert states[: len(best_first)] == [trial.state for trial in best_first]
    assert "COLLAPSED" in states
    for path, name in (("loss.lambda_joint", "joint"), ("loss.lambda_pca", "pca"), ("optim.lr", "lr")):
        texts = [text for _, text in cells_of(page, f"tags.`{name}`")][: len(best_first)]
        assert texts == [f"{trial.params[path]:.3g}" for trial in best_first]


def test_no_decisive_column_is_cut_off_or_beyond_the_edge(page: Any) -> None:
    names = ["metrics.`val/pa_mpjpe_mm`", "tags.`sweeper.state`", "tags.`sweeper.reason`"]
    names += [f"tags.`{name}`" for name in ("param", "joint", "angular", "pca", "lr")]
    for name in names:
        head = page.locator(f".ag-header-cell[col-id='{name}']")
        box = head.bounding_box()
        assert box["x"] + (FEWEST_REASON_PX if "reason" in name else box["width"]) <= WIDTH_PX, name
        partly_seen = "reason" in name or "pa_mpjpe" in name  # not all of the 17 digits need to be visible
        cells = [] if partly_seen else page.locator(f"[role=gridcell][col-id='{name}']").all()
        for text in (head, *cells):
            assert not text.evaluate(IS_CUT), (name, text.inner_text())
    for name in ("attributes.`Run Name`", "runDateAndNestInfo"):
        assert not page.locator(f".ag-header-cell[col-id='{name}']").evaluate(IS_CUT), name


def test_nothing_covers_the_page_and_only_errors_look_like_errors(page: Any) -> None:
    assert page.get_by_text("Model training").first.is_visible()
    assert page.locator("[role=dialog]").count() == 0
    assert page.locator("[role=gridcell] .anticon-close-circle, [role=gridcell] [class*=danger]").count() == 0


def test_an_address_without_a_study_shows_the_studies(address: str, chromium: Any) -> None:
    page = new_page(chromium)
    page.goto(address.partition("#")[0])
    page.get_by_role("link", name="loss_balance").first.wait_for()
    assert page.get_by_text("Model registry").first.is_visible(), "no page of GenAI"
    assert page.get_by_text("Prompts", exact=True).locator("xpath=ancestor::nav").count() == 0
    page.close()


def test_compared_runs_open_on_their_parameters_and_the_objective(address: str, chromium: Any) -> None:
    page = new_page(chromium)
    page.goto(address)
    page.get_by_text("COMPLETE").first.wait_for()
    for row in page.locator(".ag-row:has([col-id='attributes.`Run Name`'])").all()[:3]:
        row.locator("input[type=checkbox]").first.check(force=True)
    page.get_by_role("button", name="Compare").first.click()
    page.get_by_text("Comparing 3 Runs").first.wait_for()
    assert "0_objective/val/pa_mpjpe_mm" in page.inner_text("body").partition("Run details")[0]
    page.close()


def test_charts_open_on_the_objective_by_trial(page: Any) -> None:
    """The last test of this view: it changes the page."""
    chart = open_charts(page).bounding_box()
    assert height_of(page, "Objective") < chart["y"] < height_of(page, "train") < height_of(page, "val")
    assert page.get_by_text("No charts in this section").count() == 0
    assert page.get_by_text("0_objective", exact=False).count() == 0  # not twice
    assert chart["width"] > WIDTH_PX / 2
    assert len(re.findall(r"loss_balance-\d{4} \(val/pa_mpjpe_mm\)", page.inner_text("body"))) == 10  # lines shown


def test_charts_open_on_the_objective_by_trial_from_a_bookmark_without_the_view(address: str, chromium: Any) -> None:
    page = new_page(chromium)
    page.goto(re.sub(r"/runs\?.*", "/runs", address))
    page.get_by_text("loss_balance-0011").first.wait_for()  # beneath the study's run, without a click
    chart = open_charts(page).bounding_box()
    assert height_of(page, "0_objective/val") < chart["y"] < height_of(page, "train") < height_of(page, "val")
    page.wait_for_function(f"({LINES_OF_FIRST_CHART})().length > 1")
    page.close()
