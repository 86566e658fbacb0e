"""Reports from TensorBoard's event files.

Those in `event_files` were written by torch.utils.tensorboard (torch 2.14, tensorboard 2.21):

    writer.add_text("notes", "not a number")
    for step in (10, 20, 30):
        writer.add_scalar("train/loss", 1 / step, step)
        writer.add_scalar("val/acc", 0.5 + step / 100, step, new_style=step == 20)
        writer.add_scalar("val/acc64", 0.5, step, new_style=True, double_precision=True)
    writer.add_scalar("train/loss", 0.25, 40)
    writer.add_hparams({"lr": 0.1}, {"hparam/acc": 0.75}, run_name=".")
"""

import textwrap
from pathlib import Path
from typing import Any

import pytest

from mano_trainers.report import EpochReport
from sweeper.entrypoint.program.command import train
from sweeper.errors import SpecError
from sweeper.spec.load import parse_spec

FILES = Path(__file__).with_name("event_files")


def run(folder: Path, script: str, objective: str = "val/acc", **more: Any) -> list[EpochReport]:
    (folder / "script.py").write_text(textwrap.dedent(script))
    line = f"{{python}} {folder / 'script.py'} {{workdir}}"
    settings = {"line": line, "objective": objective, "tensorboard": "{workdir}/runs", **more}
    return list(train({"command": settings}, folder / "trial"))


def rounded(reports: list[EpochReport]) -> list[tuple[int, float, dict[str, float]]]:
    """Step, epoch and metrics; TensorBoard stores numbers in 32 bits."""
    return [
        (each.step, each.epoch, {name: round(value, 6) for name, value in each.metrics.items()}) for each in reports
    ]


EXPECTED = [
    (1, 1.0, {"train/loss": 0.1, "val/acc": 0.6, "val/acc64": 0.5}),
    (2, 2.0, {"train/loss": 0.05, "val/acc": 0.7, "val/acc64": 0.5}),
    (3, 3.0, {"train/loss": 0.033333, "val/acc": 0.8, "val/acc64": 0.5}),
]
PIECES = """
    import sys, time
    from pathlib import Path
    source, folder = Path({files!r}), Path(sys.argv[1]) / "runs" / "Nov29_host"
    folder.mkdir(parents=True)
    for path in sorted(source.iterdir()):
        data = path.read_bytes()
        with (folder / path.name).open("ab", buffering=0) as file:
            for start in range(0, len(data), {size}):
                file.write(data[start : start + {size}])
                time.sleep({pause_s})
"""


@pytest.mark.parametrize(("size", "pause_s"), [(1_000_000, 0), (61, 0.1)])
def test_scalars_become_reports_however_the_file_grows(tmp_path: Path, size: int, pause_s: float) -> None:
    reports = rounded(run(tmp_path, PIECES.format(files=str(FILES), size=size, pause_s=pause_s)))
    if size > 1000:
        everything = {"hparam/acc": 0.75}  # of step 0, which is before all others
        assert reports == [(step, epoch, everything | metrics) for step, epoch, metrics in EXPECTED]
    else:  # scalars that are written after the objective may come one report late
        assert [report[:2] for report in reports] == [report[:2] for report in EXPECTED]
        assert [report[2]["val/acc"] for report in reports] == [0.6, 0.7, 0.8]
        assert [report[2]["train/loss"] for report in reports] == [0.1, 0.05, 0.033333]


def test_what_was_there_before_is_not_reported(tmp_path: Path) -> None:
    folder = tmp_path / "trial" / "runs"
    folder.mkdir(parents=True)
    for path in FILES.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    assert run(tmp_path, "pass") == []


def test_a_truncated_file_gives_its_complete_records(tmp_path: Path) -> None:
    [first, _] = sorted(FILES.iterdir())
    script = f"""
        import sys
        from pathlib import Path
        folder = Path(sys.argv[1]) / "runs"
        folder.mkdir()
        (folder / {first.name!r}).write_bytes(Path({str(first)!r}).read_bytes()[:400])
    """
    assert rounded(run(tmp_path, script)) == EXPECTED[:1]


@pytest.mark.slow
def test_a_script_that_uses_torchs_writer(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="torch.utils.tensorboard needs it, and no extra installs it")
    script = """
        import sys
        from torch.utils.tensorboard import SummaryWriter
        with SummaryWriter(f"{sys.argv[1]}/runs") as writer:
            for epoch in range(3):
                writer.add_scalar("epoch", epoch, epoch * 100)
                writer.add_scalar("loss", 1.0 / (epoch + 1), epoch * 100)
                writer.flush()
    """
    assert rounded(run(tmp_path, script, "loss")) == [
        (1, 0.0, {"loss": 1}),
        (2, 1, {"loss": 0.5}),
        (3, 2, {"loss": 0.333333}),
    ]


@pytest.mark.parametrize("source", ["rows: log.csv", "tensorboard: runs"])
def test_concurrent_trials_need_a_place_each(source: str) -> None:
    text = (
        f"name: s\ncommand: python t.py\nreport: {{{source}}}\nsearch_space: {{lr: {{low: 0.1, high: 1.0}}}}\n"
        "objective: {metric: val/acc, mode: max}\ntrials: 3\n"
    )
    with pytest.raises(SpecError, match="trials that run at once would all write to") as error:
        parse_spec(text, Path("s.yaml"))
    assert "{workdir}" in str(error.value)
    assert parse_spec(text + "resources: {concurrent: 1}\n", Path("s.yaml")).report is not None
