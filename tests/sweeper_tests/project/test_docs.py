"""What README and docs/ tell the reader to type exists, parses, and runs where that is cheap."""

import importlib.util
import json
import re
import shlex
import shutil
from pathlib import Path

import click
import pytest
import yaml
from finished import finish_study
from forked import verb

from mano_trainers.__main__ import main as train_main
from sweeper.cli import main as cli
from sweeper.spec.load import load_spec, parse_spec

PAGES = [Path("README.md"), *(Path("docs") / name for name in ("start.md", "guide.md", "data.md", "strength.md"))]
CHEAP = {"check", "config", "list", "show", "explain", "compare", "status", "plan", "--help"}
SLOW_OPTIONS = {"--measure", "--open"}
DEFAULTS = {
    "name": "name: block\n",
    "objective": "objective: {metric: val/pa_mpjpe_mm, mode: min}\n",
    "search_space": "search_space: {seed: {choices: [0, 1]}}\n",
    "trials": "trials: 2\n",
}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


def commands() -> list[list[str]]:
    lines = [line for page in PAGES for block in blocks(page, "sh") for line in block.splitlines()]
    parts = [part for line in lines for part in re.split(r"; |&&", line.partition(" #")[0])]
    return [words for words in map(shlex.split, dict.fromkeys(parts)) if words]


def of(*program: str) -> list[list[str]]:
    found = [words[len(program) :] for words in commands() if words[: len(program)] == list(program)]
    return [words[: words.index(">")] if ">" in words else words for words in found]


def parse(group: click.Group, arguments: list[str], context: click.Context) -> str:
    name, command, rest = group.resolve_command(context, arguments)
    assert name is not None
    assert command is not None
    with command.make_context(name, rest, parent=context) as inner:
        return parse(command, rest, inner) if isinstance(command, click.Group) else inner.command_path


def test_only_known_programs_are_called() -> None:
    programs = {"sweeper", "python", "make", "source"}
    assert len(commands()) > 30
    assert {words[0] for words in commands()} == programs
    targets = re.findall(r"^([a-z-]+):", Path("Makefile").read_text(), re.M)
    assert {words[1] for words in commands() if words[0] == "make"} <= set(targets)


@pytest.mark.parametrize("arguments", [words for words in of("sweeper") if words != ["--help"]], ids=" ".join)
def test_every_command_line_is_understood(arguments: list[str]) -> None:
    path = parse(
        cli.sweeper, arguments, click.Context(cli.sweeper, info_name="sweeper", **cli.sweeper.context_settings)
    )
    assert path.startswith(f"sweeper {arguments[0]}")


@pytest.mark.parametrize("arguments", of("python", "-m", "mano_trainers"), ids=" ".join)
def test_every_training_command_is_understood(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert train_main(arguments) == 2, "the config is not there; a wrong option would exit"
    assert "CONFIG.yaml" in capsys.readouterr().err


def test_verbs_named_in_the_text_exist() -> None:
    named = {verb for page in PAGES for verb in re.findall(r"`sweeper ([a-z]+)", page.read_text())}
    assert named - set(cli.sweeper.commands) == set()


def test_links_lead_to_files() -> None:
    for page in [*PAGES, *Path("docs").glob("*.md")]:
        targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
        missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
        assert missing == [], page


def test_the_anchors_of_the_guide_match_its_headings() -> None:
    text = Path("docs/guide.md").read_text()
    headings = [
        re.sub(r"[^a-z0-9 -]", "", name.lower()).replace(" ", "-") for name in re.findall(r"^## (.+)$", text, re.M)
    ]
    assert re.findall(r"\(#([^)]+)\)", text) == headings


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the study `loss_balance` has finished."""
    home = tmp_path_factory.mktemp("docs") / "home"
    spec = load_spec(Path("search_spaces/loss_balance.yaml"))
    finish_study(home, spec, lambda params: 20.0 + float(params["loss.lambda_joint"]), trials=4)
    return home


@pytest.mark.parametrize(
    "arguments", [each for each in of("sweeper") if each[0] in CHEAP and not SLOW_OPTIONS & set(each)], ids=" ".join
)
def test_cheap_commands_run(
    arguments: list[str], home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SWEEPER_HOME", str(home))
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out


WHOLE = ("# line.yaml", "# script.yaml", "# sweep.yaml")
KEYS = [block for block in blocks(Path("docs/guide.md"), "yaml") if not block.startswith(WHOLE)]


@pytest.mark.parametrize("block", KEYS, ids=lambda block: block.split(":")[0])
def test_the_guides_keys_are_valid(block: str) -> None:
    keys = yaml.safe_load(block)
    written = {"search_space", "trials", *keys} if keys.get("kind") == "ablation" else {*keys}
    spec = parse_spec(block + "".join(line for key, line in DEFAULTS.items() if key not in written), Path("guide.md"))
    assert spec.name == "block"


@pytest.fixture
def line(tmp_path: Path) -> Path:
    """A folder with the guide's own trainer and its spec."""
    for language, name in (("python", "line.py"), ("yaml", "line.yaml")):
        [block] = [block for block in blocks(Path("docs/guide.md"), language) if block.startswith(f"# {name}\n")]
        (tmp_path / name).write_text(block)
    return tmp_path


def test_the_guides_trainer_resumes_from_its_checkpoint(line: Path) -> None:
    module = importlib.util.spec_from_file_location("line", line / "line.py")
    assert module is not None
    assert module.loader is not None
    loaded = importlib.util.module_from_spec(module)
    module.loader.exec_module(loaded)
    whole = list(loaded.train(loaded.LineConfig(epochs=4), line / "whole"))
    rest = list(loaded.train(loaded.LineConfig(epochs=4), line / "rest", whole[1].checkpoint))
    assert [(report.step, report.metrics) for report in rest] == [(report.step, report.metrics) for report in whole[2:]]


@pytest.mark.slow
def test_the_guides_trainer_can_be_swept(line: Path, monkeypatch: pytest.MonkeyPatch, template_db: Path) -> None:
    (line / "home").mkdir()
    shutil.copy(template_db, line / "home" / "mlflow.db")
    monkeypatch.chdir(line)
    run = verb(["run", "line.yaml", "--home", "home"], ray=False, timeout_s=500)
    assert run.returncode == 0, run.stderr
    shown = json.loads(verb(["show", "line", "--json", "--home", "home"], ray=False, timeout_s=500).stdout)
    assert len(shown["trials"]) == 4
    assert shown["winner"] in {trial["id"] for trial in shown["trials"] if trial["state"] == "COMPLETE"}
