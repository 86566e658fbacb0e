"""Size of a report, CPU time to make it, and time to open it in Chromium, at 500 trials of 20 evaluations.

    PYTHONPATH=. python tests/benchmarks/report.py [TRIALS] [EVALUATIONS]

Opening needs playwright and a Chromium of the system; without them that line is left out and says so.
"""

import math
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from sweeper.html_report import write_report
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import Report, TrialState
from sweeper.spec.load import load_spec

TERMS = ("param", "joint", "angular", "pca", "reg")
ENDINGS = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED)


def fill(home: Path, trials: int, evaluations: int) -> None:
    """A study of `loss_balance.yaml`'s space; trials with weak joint and angular terms collapse. Every trial has all
    its evaluations, which is more than a real study stores."""
    draw = random.Random(0)
    spec = load_spec(Path("search_spaces/loss_balance.yaml"), ("sampler.name=random",), trials)
    folder = home / "studies" / "big"
    folder.mkdir(parents=True)
    ledger = Ledger.create(folder, "big")
    ledger.attributes.spec = spec.effective
    ledger.attributes.spec_text = spec.text
    for _ in range(trials):
        record = ledger.ask(spec)
        params = {path: float(value) for path, value in record.params.items()}
        collapsed = params["loss.lambda_joint"] < 1 and params["loss.lambda_angular"] < 0.1
        end_mm = 22.0 - 6.0 * abs(math.sin(3 * math.log(params["optim.lr"])))
        for epoch in range(1, evaluations + 1):
            value = end_mm + (23.0 - end_mm) * math.exp(-epoch / 5) + draw.gauss(0, 0.1)
            ratio = 0.0005 if collapsed else min(1.0, 0.04 * epoch * draw.random() + 0.02)
            shares = [draw.random() for _ in TERMS]
            metrics = {"train/loss": value / 10, "val/pa_mpjpe_mm": value, "val/theta_var_ratio": ratio}
            metrics |= {f"train/grad_share_{t}": s / sum(shares) for t, s in zip(TERMS, shares, strict=True)}
            ledger.report(record.id, Report(epoch, float(epoch), metrics, None, epoch, 10.0, evaluations), value)
        state = TrialState.COLLAPSED if collapsed else draw.choice(ENDINGS)
        reason = "rank 5 of 8 at epoch 4: 19.159 is worse than the cutoff 19.089"
        ledger.finish(record.id, state, reason, {}, (value,))


def opening(file: Path) -> str:
    """First paint and load event of five openings in a window of 1280 x 900, medians in ms."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return "not opened: playwright is not installed"
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        return "not opened: no Chromium is installed"
    found = []
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium)
        for _ in range(5):
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            page = context.new_page()
            page.goto(file.as_uri())
            paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            load = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
            found.append((load, paint))
            context.close()
        browser.close()
    load, paint = sorted(found)[2]
    return f"first paint {paint:.0f} ms, loaded {load:.0f} ms (median of {len(found)})"


def main() -> None:
    trials, evaluations = (int(text) for text in (sys.argv[1:] or ("500", "20")))
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), trials, evaluations)
        write_report(Path(folder), "big")  # what is imported late is imported now
        began_s = time.process_time()
        file = write_report(Path(folder), "big")
        print(
            f"report of {trials} trials x {evaluations}: {file.stat().st_size / 1e6:.2f} MB, made in "
            f"{time.process_time() - began_s:.2f} s of CPU; {opening(file)}; load {os.getloadavg()[0]:.1f}"
        )


if __name__ == "__main__":
    main()
