"""The report in a real browser, opened as a file. Runs where playwright and a Chromium are installed."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_study import USUAL, fill

from sweeper.html_report import write_report

pytestmark = pytest.mark.slow
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study with hostile text in it."""
    home = tmp_path_factory.mktemp("browser")
    evil = "</script><img src=x onerror=\"document.title='owned'\">"
    space = {"lambda_joint": {"low": 0.01, "high": 1.0, "log": True}, evil: {"choices": [evil, "b"]}}
    fill(home, [(state, f"{reason} {evil}", values) for state, reason, values in USUAL * 2], search_space=space)
    return write_report(home, "toy")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width_px", [1280, 400])
def test_every_figure_is_drawn_and_nothing_overflows(browser: Any, file: Path, width_px: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width_px, "height": 900}, color_scheme=scheme)
    told: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    page.evaluate("figures.forEach((figure) => draw(figure))")
    assert told == []
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [file.as_uri()]
    assert page.title() == "toy - sweeper report"
    assert page.evaluate("document.documentElement.scrollWidth") == width_px
    assert page.evaluate("figures.length") == page.locator(".plot svg.main-svg:first-of-type").count() > 8
    assert (
        page.evaluate("[...document.querySelectorAll('.plot')].filter((plot) => !plot.querySelector('path')).length")
        == 0
    )
    drawn = page.evaluate("getComputedStyle(document.querySelector('#curves .xtick text')).fill")
    assert drawn == page.evaluate("getComputedStyle(document.body).color"), "the text has the colour of the scheme"
    page.close()


@pytest.fixture(scope="module")
def usual_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study with names as long as those of the default sweep."""
    home = tmp_path_factory.mktemp("usual")
    weights = {f"loss.lambda_{name}": {"low": 0.0001, "high": 1.0} for name in ("param", "joint", "angular", "pca")}
    fill(home, USUAL, name="loss_balance", search_space=weights | {"optim.lr": {"low": 0.0001, "high": 1.0}})
    return write_report(home, "loss_balance")


@pytest.mark.parametrize(("width_px", "column", "seen_px"), [(400, "pa_mpjpe", 1000), (1280, "reason", 200)])
def test_what_matters_is_in_view(
    browser: Any, file: Path, usual_file: Path, width_px: int, column: str, seen_px: int
) -> None:
    """The objective on a narrow screen, and the first `seen_px` of the reason on a usual one."""
    for each in (file, usual_file) if column == "pa_mpjpe" else (usual_file,):
        page = browser.new_page(viewport={"width": width_px, "height": 900})
        page.goto(each.as_uri())
        heads = page.locator("#trial-table th").all_inner_texts()
        number = next(index for index, head in enumerate(heads, start=1) if column in head)
        shown = page.locator("#trial-table").evaluate("table => table.parentElement.getBoundingClientRect().right")
        for cell in page.locator(f"#trial-table tr:visible > :nth-child({number})").all():
            box = cell.bounding_box()
            assert 0 <= box["x"] <= box["x"] + min(box["width"], seen_px) <= shown, cell.inner_text()
        page.close()


def test_states_are_filtered_in_table_and_figures_and_columns_sort(browser: Any, file: Path) -> None:
    page = browser.new_page()
    page.goto(file.as_uri())
    page.evaluate("draw(byId.get('curves'))")
    rows = page.locator("#trial-table tbody tr:visible")
    lines = "document.querySelectorAll('#curves .scatterlayer .trace').length"
    assert (rows.count(), before := page.evaluate(lines)) == (12, 9)
    page.uncheck("input[value=PRUNED]")
    assert (rows.count(), page.evaluate(lines)) == (10, before - 2)
    page.fill("#search", "complete 0006")
    assert rows.count() == 1
    page.fill("#search", "")
    page.click("#trial-table th button >> text=pa_mpjpe")
    best_first = page.locator("#trial-table tbody tr:visible td:nth-child(3)").all_inner_texts()
    assert best_first == ["10.50", "10.50", "22.00", "22.00", *best_first[4:]]
    assert set(best_first[4:]) == {"nan", "-"}
    page.click("#trial-table th button >> text=pa_mpjpe")
    worst_first = page.locator("#trial-table tbody tr:visible td:nth-child(3)").all_inner_texts()
    assert worst_first[:4] == ["22.00", "22.00", "10.50", "10.50"]
    page.close()
