"""Unchanged scripts: what a command becomes, and where its reports come from."""

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from mano_trainers.report import EpochReport
from sweeper.entrypoint.program.command import fill, train
from sweeper.entrypoint.reports import checked_reports
from sweeper.errors import UserError

PARAMETERS = {"optim": {"lr": 1e-05}, "layers": [64, 32], "flag": True, "name": "a b"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train.py --lr {optim.lr} --name {name}", ["train.py", "--lr", "1e-05", "--name", "a b"]),
        ("t {args}", ["t", "--optim.lr=1e-05", "--layers=[64, 32]", "--flag=true", "--name=a b"]),
        ("t {overrides}", ["t", "optim.lr=1e-05", "layers=[64, 32]", "flag=true", "name=a b"]),
        ("t --out={workdir}/x '{name} {name}'", ["t", "--out=/w/x", "a b a b"]),
        ("t '{\"json\": 1}' {1}", ["t", '{"json": 1}', "{1}"]),
        ("bash -c 'echo ${HOME} {name}'", ["bash", "-c", "echo ${HOME} a b"]),
    ],
)
def test_placeholders(line: str, words: list[str]) -> None:
    assert fill(line, PARAMETERS, {"workdir": "/w"}) == words


def test_a_placeholder_that_names_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"`\{lr\}` in `command` does not name a parameter") as error:
        fill("t {lr}", PARAMETERS, {"workdir": "/w"})
    assert "optim.lr, layers, flag, name, workdir" in error.value.render()


def run(folder: Path, script: str, parameters: dict[str, Any] | None = None, **settings: Any) -> list[EpochReport]:
    (folder / "script.py").write_text(textwrap.dedent(script))
    line = settings.pop("line", f"{{python}} {folder / 'script.py'} {{args}}")
    config = {"command": {"line": line, "objective": "val/acc", **settings}, **(parameters or {})}
    return list(checked_reports("script", train(config, folder / "trial"), folder / "trial"))


def test_the_config_is_written_to_files(tmp_path: Path) -> None:
    script = """
        import json, sys, sweeper
        sweeper.report(1, {"val/acc": json.load(open(sys.argv[1]))["lr"]})
    """
    line = f"{{python}} {tmp_path / 'script.py'} {{config_json}} {{config_yaml}}"
    assert run(tmp_path, script, {"lr": 0.5}, line=line)[0].metrics == {"val/acc": 0.5}
    assert json.loads((tmp_path / "trial" / "config.json").read_text()) == {"lr": 0.5}
    assert (tmp_path / "trial" / "config.yaml").read_text() == "lr: 0.5\n"


def test_patterns_in_its_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script = """
        for epoch in (1, 2):
            print(f"epoch {epoch} loss {1 / epoch:.2f}")
            print(f"validation: acc={epoch / 4}", flush=True)
    """
    patterns = {"epoch": r"^epoch (\d+)", "train/loss": r"loss ([\d.]+)", "val/acc": r"acc=([\d.]+)"}
    assert run(tmp_path, script, patterns=patterns) == [
        EpochReport(1, 1.0, {"train/loss": 1.0, "val/acc": 0.25}),
        EpochReport(2, 2.0, {"train/loss": 0.5, "val/acc": 0.5}),
    ]
    assert "validation: acc=0.25" in capfd.readouterr().out


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl"])
def test_rows_of_a_file(tmp_path: Path, name: str) -> None:
    script = f"""
        import json
        rows = [{{"epoch": e, "val/acc": e / 4, "note": "x"}} for e in (1, 2)]
        rows.append({{"epoch": 3, "note": "no objective"}})
        with open({str(tmp_path / name)!r}, "a") as file:
            if file.name.endswith("csv"):
                print("epoch,val/acc,note", file=file)
                for row in rows: print(*(row.get(k, "") for k in ("epoch", "val/acc", "note")), sep=",", file=file)
            else:
                for row in rows: print(json.dumps(row), file=file)
    """
    assert run(tmp_path, script, rows=str(tmp_path / name)) == [
        EpochReport(1, 1.0, {"val/acc": 0.25}),
        EpochReport(2, 2.0, {"val/acc": 0.5}),
    ]


@pytest.mark.parametrize("place", ["{workdir}/log.csv", "{tmp}/log.csv"])
def test_rows_of_a_file_that_already_existed(tmp_path: Path, place: str) -> None:
    """Left by an attempt that was killed, or by the previous trial: the script appends to it, or overwrites it."""
    rows = place.replace("{tmp}", str(tmp_path))
    path = Path(rows.replace("{workdir}", str(tmp_path / "trial")))
    path.parent.mkdir(exist_ok=True)
    append = f"""
        from pathlib import Path
        is_there = Path({str(path)!r}).exists()
        with open({str(path)!r}, "a") as file:
            if not is_there: print("epoch,val/acc", file=file)
            for epoch in (1, 2): print(f"{{epoch}},{{epoch / 4}}", file=file)
    """
    anew = append.replace('"a"', '"w"').replace("is_there = ", "is_there = False and ").replace("(1, 2)", "(1, 2, 3)")
    path.write_text("epoch,val/acc\n1,0.75\n")
    expected = [EpochReport(epoch, float(epoch), {"val/acc": epoch / 4}) for epoch in (1, 2, 3)]
    assert run(tmp_path, append, rows=rows) == expected[:2]
    assert run(tmp_path, anew, rows=rows) == expected


def test_a_script_written_for_wandb_runs_unchanged(tmp_path: Path) -> None:
    script = """
        import wandb
        def main():
            with wandb.init(project="p", config={"lr": 0.1, "epochs": 2}) as run:
                assert wandb.config.lr == 0.5 and wandb.config["epochs"] == 2
                wandb.watch(object(), log="all")
                for epoch in range(wandb.config.epochs):
                    wandb.log({"train/loss": 1.0, "epoch": epoch})
                    run.log({"val/acc": wandb.config.lr * (epoch + 1), "picture": wandb.Image("x")})
                run.summary["best"] = 1
            wandb.finish()
        wandb.agent("sweep", function=main)
    """
    line = f"{{python}} {tmp_path / 'script.py'}"
    assert run(tmp_path, script, {"lr": 0.5}, line=line, wandb=True) == [
        EpochReport(1, 1.0, {"train/loss": 1.0, "epoch": 0.0, "val/acc": 0.5}),
        EpochReport(2, 2.0, {"train/loss": 1.0, "epoch": 1.0, "val/acc": 1.0}),
    ]


def test_the_stand_in_for_wandb_reads_lists_back(tmp_path: Path) -> None:
    script = """
        import wandb
        wandb.init(config={"layers": [1]})
        assert wandb.config.layers == [64, 32] and wandb.config.net == {"a": 1} and wandb.config.text == "[a"
        wandb.log({"val/acc": sum(wandb.config.layers)})
    """
    parameters = {"layers": "[64, 32]", "net": '{"a": 1}', "text": "[a"}
    assert run(tmp_path, script, parameters, wandb=True) == [EpochReport(1, 1.0, {"val/acc": 96.0})]


def test_a_failing_script_is_reported_with_its_exit_code(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ended with exit code 3"):
        run(tmp_path, "import sys; sys.exit(3)")
