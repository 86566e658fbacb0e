"""MLflow's UI in a real browser: what someone who opens a study does."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow_helpers import runs_of, uri_of
from PIL import Image
from ports import free_port

from sweeper.tracking import Tracker

pytestmark = pytest.mark.slow

TRIALS = {"toy-0000": 21.5, "toy-0001": 9.25, "toy-0002": 15.75}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, template_db: Path) -> Path:
    """A home whose MLflow holds a study of three trials with checkpoints and pictures."""
    home = tmp_path_factory.mktemp("shown")
    shutil.copy(template_db, home / "mlflow.db")
    study_dir = home / "studies" / "toy"
    checkpoint = study_dir / "epoch_002"
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").write_text('{"files": {}}')
    Image.new("RGB", (64, 48), (0, 200, 255)).save(checkpoint / "predictions.png")
    tracker = Tracker(study_dir, uri_of(home), home / "artifacts", "toy")
    tracker.start_study({}, {"report.md": "# toy"})
    for trial_id, error_mm in TRIALS.items():
        tracker.start_trial(trial_id, {"optim.lr": 0.001 * error_mm}, {"sweeper.state": "COMPLETE"}, {})
        for step in (1, 2):
            tracker.report(trial_id, step, 1000 * step, {"val/pa_mpjpe_mm": error_mm * 3 - step * error_mm})
        tracker.checkpoint(trial_id, checkpoint, "checkpoints/epoch_002")
        tracker.file(trial_id, checkpoint / "predictions.png", "pictures/epoch_002/predictions.png")
        tracker.finish_trial(trial_id, "FINISHED", {})
    tracker.finish_study("FINISHED", {}, {})
    assert tracker.flush(120) == 0
    tracker.close()
    return home


@pytest.fixture(scope="module")
def page(chromium: Any) -> Iterator[Any]:
    """A page of a headless browser."""
    page = chromium.new_page(viewport={"width": 1500, "height": 900})
    page.set_default_timeout(60_000)
    yield page
    page.close()


@pytest.fixture(scope="module")
def url(shown: Path, warm_sweeper: Path) -> Iterator[str]:
    """Where `sweeper ui` shows the home."""
    command = [str(warm_sweeper), "-m", "sweeper", "ui", "--home", str(shown), "--port", str(free_port())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as ui:
        assert ui.stdout is not None
        yield ui.stdout.readline().partition("#")[0]  # the page that it opens is not the subject here
        ui.terminate()


def test_a_user_finds_the_winner_its_curves_checkpoints_and_pictures(shown: Path, url: str, page: Any) -> None:
    runs = runs_of(uri_of(shown))
    experiment = runs["toy"].info.experiment_id
    page.goto(f"{url}#/experiments")
    page.get_by_role("link", name="toy", exact=True).first.click()
    page.wait_for_url(f"**/experiments/{experiment}/**")
    order = "orderByKey=metrics.%60val%2Fpa_mpjpe_mm%60&orderByAsc=true"
    page.goto(f"{url}#/experiments/{experiment}/runs?{order}&viewMode=TABLE")
    page.get_by_text("toy-0001").first.wait_for()
    tops = {name: page.get_by_text(name, exact=True).first.bounding_box()["y"] for name in TRIALS}
    assert sorted(tops, key=tops.__getitem__) == ["toy-0001", "toy-0002", "toy-0000"]
    page.get_by_text("toy-0001", exact=True).first.click()
    page.wait_for_url(f"**/runs/{runs['toy-0001'].info.run_id}**")
    page.get_by_text("val/pa_mpjpe_mm").first.wait_for()
    assert page.get_by_text("9.25").first.is_visible()
    assert page.get_by_text("optim.lr").first.is_visible()
    page.goto(f"{url}#/experiments/{experiment}/runs/{runs['toy-0001'].info.run_id}/artifacts")
    page.get_by_text("checkpoints", exact=True).first.click()
    page.get_by_text("epoch_002", exact=True).first.click()
    page.get_by_text("manifest.json", exact=True).first.wait_for()
    page.get_by_text("pictures", exact=True).first.click()
    page.get_by_text("epoch_002", exact=True).nth(1).click()
    page.get_by_text("predictions.png", exact=True).first.click()
    page.wait_for_function("() => [...document.images].some(image => image.naturalWidth === 64)")
