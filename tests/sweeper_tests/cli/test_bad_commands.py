"""The exact messages for bad command lines and for what does not exist. All end with exit code 2 and no traceback."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from finished import finish_study
from mano_pickles import mano_content, mirrored, python2_pickle

from mano_trainers.hand.model import load_embedded_hand
from sweeper.cli import main as cli
from sweeper.spec.load import parse_spec

TOY = """\
name: toy
trainer: scripted_trainer:train
base: {epochs: 2}
search_space: {scale: {low: 0.1, high: 10.0}}
objective: {metric: val/pa_mpjpe_mm, mode: min}
trials: 3
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study in `home`, and things that are not what they should be."""
    place = tmp_path_factory.mktemp("place")
    (place / "toy.yaml").write_text(TOY)
    finish_study(place / "home", parse_spec(TOY, Path("toy.yaml")), lambda params: float(params["scale"]))
    (place / "big.yaml").write_bytes(b"#" * 10_000_000)
    (place / "latin.yaml").write_bytes("name: café\n".encode("latin-1"))
    (place / "folder.yaml").mkdir()
    (place / "file").write_text("")
    (place / "served").mkdir()
    (place / "served" / "mlflow.db").write_bytes(b"")
    return place


def said(place: Path, capsys: pytest.CaptureFixture[str], command: str, *more: str) -> str:
    """What a command line says when it is refused; PLACE stands for the folder."""
    assert cli.main([word.replace("PLACE", str(place)) for word in (*command.split(), *more)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.replace(str(place), "PLACE")


def see(verb: str) -> str:
    return f"help: see `sweeper {verb} --help`\n"


NO_STUDY = "error: no study `{name}`\nhelp: the studies in PLACE/home are: toy\n"
SHOWS = "help: `sweeper list` shows the studies, `sweeper show STUDY` the IDs\n"
NO_STORE = (
    "error: no MLflow store here\n  --> PLACE/home/mlflow.db\n"
    "help: run a sweep first, or name the study home with --home\n"
)
NO_FOLDER = "error: invalid value for `--home` (env var: `SWEEPER_HOME`): Directory `PLACE/file` is a file\n"
FORMS = "help: for example sqlite:////srv/ledger.db or postgresql://user@host/database\n"
OF_HOME = {
    "show toi": "error: no study `toi`\nhelp: did you mean `toy`?\n",
    "show ../../etc": NO_STUDY.format(name="../../etc"),
    "show toy/../tay": NO_STUDY.format(name="toy/../tay"),
    "status nope": NO_STUDY.format(name="nope"),
    "watch nope": NO_STUDY.format(name="nope"),
    "report nope": NO_STUDY.format(name="nope"),
    "importance nope": NO_STUDY.format(name="nope"),
    "resume nope": NO_STUDY.format(name="nope"),
    "stop nope": NO_STUDY.format(name="nope"),
    "extend nope --trials 3": NO_STUDY.format(name="nope"),
    "winners nope": NO_STUDY.format(name="nope"),
    "sync nope": NO_STUDY.format(name="nope"),
    "ablate toy": "error: the study `toy` has no variants to compare\n"
    "help: `sweeper winners` compares the best trials of a search\n",
    "winners toy --top 5": "error: 3 configurations of the study `toy` ran to their end, so there is no top 5\n"
    "help: --top 3\n",
    "explain toy-0009": "error: no trial `toy-0009`\nhelp: did you mean `toy-0002`?\n",
    "explain toy": "error: `toy` is a study, but a trial is needed\nhelp: for example `toy:best`\n",
    "explain toy:bset": "error: no trial `toy:bset`\nhelp: expected an ID, or STUDY:best\n",
    "explain ../toy-0001": f"error: no trial `../toy-0001`\n{SHOWS}",
    "compare toy:best": "error: at least two trials are needed to compare\n"
    "help: sweeper compare STUDY:best STUDY-0007\n",
    "pause toy": "error: the study `toy` is not running\nhelp: `sweeper resume toy --home PLACE/home` continues it\n",
    "retry toy --failed": "error: no trial of the study `toy` has failed\n",
    "retry toy": f"error: missing option `--failed`\n{see('retry')}",
    "extend toy": "error: say what is added: `--trials N` to a search, or `--seeds N` to variants\n",
    "extend toy --seeds 2": "error: the study `toy` does not repeat its trials by `seeds`\n"
    "help: `sweeper winners` trains the best of a search with several\n",
    "extend toy --trials 0": f"error: invalid value for `--trials`: 0 is not in the range x>=1\n{see('extend')}",
    "winners toy --seeds 1": f"error: invalid value for `--seeds`: 1 is not in the range x>=2\n{see('winners')}",
    "report toy --format pdf": "error: invalid value for `--format`: `pdf` is not one of `html`, `md`\n"
    f"{see('report')}",
    "watch toy --interval 0": f"error: invalid value for `--interval`: 0.0 is not in the range x>=0.1\n{see('watch')}",
    "watch toy --interval nan": "error: invalid value for `--interval`: expected a finite number but got nan\n"
    f"{see('watch')}",
    "reproduce toy-0001": NO_STORE,
    "reproduce toy-0001 --until 0": "error: invalid value for `--until`: 0.0 is not in the range x>0\n"
    f"{see('reproduce')}",
    "reproduce toy-0001 --until nan": "error: invalid value for `--until`: expected a finite number but got nan\n"
    f"{see('reproduce')}",
    "reproduce toy-0001 --until 2 --from-checkpoint 4": "error: there is nothing between --from-checkpoint 4 and "
    "--until 2\n  --> --until\nhelp: name a later epoch, or leave it out\n",
    "ablate toy --json --format latex": "error: --json and --format latex cannot be used together\n"
    "help: leave one of them out\n",
    "ui": NO_STORE,
    "ui --port 70000": "error: invalid value for `--port`: 70000 is not in the range 1<=x<=65535\n" + see("ui"),
}


@pytest.mark.parametrize(("command", "message"), OF_HOME.items(), ids=OF_HOME.keys())
def test_commands_that_are_refused_in_a_home(
    place: Path, capsys: pytest.CaptureFixture[str], command: str, message: str
) -> None:
    assert said(place, capsys, f"{command} --home PLACE/home") == message


OTHERS = {
    "show toy --home PLACE/file": NO_FOLDER + see("show"),
    "list --home PLACE/file": NO_FOLDER + see("list"),
    "check PLACE/big.yaml": "error: the file is larger than 1 MB\n  --> PLACE/big.yaml\nhelp: is it really a spec?\n",
    "check PLACE/latin.yaml": "error: the file is not UTF-8 text\n  --> PLACE/latin.yaml:1:10\n"
    "help: save it with the encoding UTF-8\n",
    "check PLACE/folder.yaml": "error: cannot read the file: is a directory\n  --> PLACE/folder.yaml\n"
    "help: check the path\n",
    "check PLACE/toy.yaml --trials x": "error: invalid value for `--trials`: `x` is not a valid integer range\n"
    f"{see('check')}",
    "check PLACE/toy.yaml --set name=../x": "error: expected lower-case letters, digits, `_` and `-`, at most 64, "
    "but got `../x`\n  --> --set 'name=../x'\n",
    "check PLACE/toy.yaml --set budget.wall_clock_s=-1": "error: expected a number > 0 but got -1\n"
    "  --> --set 'budget.wall_clock_s=-1'\n",
    "check PLACE/toy.yaml --set budget={euros:5}": "error: unknown key `euros:5`\n  --> --set 'budget={euros:5}'\n"
    "help: did you mean `euros`?\n",
    "check PLACE/toy.yaml --set budget.euros=5": "error: `euros` needs the price: `euros_per_gpu_hour`\n"
    "  --> --set 'budget.euros=5'\n",
    "check PLACE/toy.yaml --set budget.gpu_seconds=5": "error: the budget limits GPUs, but resources.gpus is 0, so "
    "none would ever be used\n  --> PLACE/toy.yaml:1:1\n",
    "check PLACE/toy.yaml --set ledger=postgresql://u:pw@h/d": "error: a password must not be in a spec, which every "
    "record of the study copies\n  --> --set 'ledger=postgresql://u:***@h/d'\n",
    "run PLACE/toy.yaml --ledger mysql://u@h/d --home PLACE/x": f"error: a ledger cannot be stored in `mysql`\n{FORMS}",
    "run PLACE/toy.yaml --ledger nonsense --home PLACE/x": f"error: the URL of the ledger is not valid\n{FORMS}",
    "run PLACE/toy.yaml --skip-preflight=": "error: a reason is required; it is recorded\n  --> --skip-preflight\n"
    "help: say why in a few words\n",
    "data verify PLACE/none": "error: no such folder\n  --> PLACE/none\nhelp: data.root is the folder of a data set\n",
    "data verify PLACE --format coco": "error: invalid value for `--format`: `coco` is not one of `freihand`, `ho3d`, "
    f"`dexycb`\n{see('data verify')}",
    "data verify PLACE --hand PLACE/MANO_RIGHT.pkl": "error: no such file\n  --> PLACE/MANO_RIGHT.pkl\n"
    "help: register on the MANO website and take models/MANO_RIGHT.pkl out of its archive; or use the embedded hand\n",
    "data make --out PLACE/file --count 4": "error: already exists\n  --> PLACE/file\n"
    "help: choose another folder, or delete this one first\n",
}


@pytest.mark.parametrize(("command", "message"), OTHERS.items(), ids=OTHERS.keys())
def test_other_commands_that_are_refused(
    place: Path, capsys: pytest.CaptureFixture[str], command: str, message: str
) -> None:
    assert said(place, capsys, command) == message
    assert not (place / "x" / "studies" / "toy" / "ledger.journal").exists()


def test_the_left_hand_instead_of_the_right_one(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left = place / "LEFT.pkl"
    left.write_bytes(python2_pickle(mano_content(mirrored(load_embedded_hand()))))
    assert said(place, capsys, "data verify PLACE --hand PLACE/LEFT.pkl") == (
        "error: is a left hand, but a right hand is needed\n  --> PLACE/LEFT.pkl\nhelp: give MANO_RIGHT.pkl\n"
    )


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_port_in_use(place: Path, capsys: pytest.CaptureFixture[str], busy_port: int) -> None:
    assert said(place, capsys, f"ui --home PLACE/served --port {busy_port}") == (
        f"error: port {busy_port} is not free: Address already in use\n  --> --port\nhelp: try --port {busy_port + 1}\n"
    )


def test_a_folder_is_not_a_tracking_server(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///srv/mlruns")
    assert said(place, capsys, "reproduce toy-0001 --home PLACE/home") == (
        "error: MLflow cannot keep a store at file:///srv/mlruns\n  --> MLFLOW_TRACKING_URI\n"
        "help: name a server (http://host:5000) or a database (sqlite:////path/mlflow.db), or unset it\n"
    )


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("toy-001", "error: `toy-001` matches 2 trials\nhelp: one of toy-0010, toy-0011\n"),
        ("tooy:best", "error: no study `tooy` in MLflow\nhelp: did you mean toy?\n"),
        (
            "../toy-0001",
            "error: `../toy-0001` is a path\nhelp: a trial is named by its ID, as in `sweeper show STUDY`\n",
        ),
    ],
)
@pytest.mark.usefixtures("recorded")
def test_ids_that_match_several_trials_or_none(
    home: Path, capsys: pytest.CaptureFixture[str], selector: str, message: str
) -> None:
    assert said(home, capsys, f"reproduce {selector} --home PLACE") == message
