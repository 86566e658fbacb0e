"""A ledger in a database: SQLite in a file, and PostgreSQL on a server that the tests start themselves."""

import os
import re
from contextlib import closing
from pathlib import Path

import optuna
import psycopg
import pytest
from ledgers import SPEC, run_one
from postgres_server import SECRET, PostgresServer

from sweeper.cli.main import main
from sweeper.errors import LedgerLost, SpecError, UserError
from sweeper.ledger.ledger import Ledger, TrialState
from sweeper.ledger.storage import location
from sweeper.ledger.storage.location import POINTER, url_beside
from sweeper.ledger.studies import study_dirs
from sweeper.ledger.study_lock import running_driver
from sweeper.spec.load import parse_spec


@pytest.fixture(scope="session")
def postgres(postgres_server: PostgresServer) -> str:
    """The URL of an empty database, with its password."""
    return postgres_server.url()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ledger.db" if request.param == "sqlite" else request.getfixturevalue("postgres")


def open_in(home: Path, url: str | None, name: str = "toy", *, create: bool = True) -> Ledger:
    folder = home / "studies" / name
    folder.mkdir(parents=True, exist_ok=True)
    return (Ledger.create if create else Ledger.open)(folder, name, url=url)


def test_a_ledger_in_a_database_holds_what_one_in_a_file_does(
    url: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"toy-{abs(hash(request.node.name)) % 10**6}"
    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COLLAPSED, TrialState.FAILED, TrialState.COMPLETE]
    in_file = open_in(tmp_path / "file", None, name)
    in_database = open_in(tmp_path / "home", url, name)
    for number, state in enumerate(states):
        assert run_one(in_file, 5.0 - number, state) == run_one(in_database, 5.0 - number, state)
    in_database.add_control("oracle")
    in_file.add_control("oracle")
    in_database.attributes.store("note", {"a": [1, 2]})

    monkeypatch.setenv("SWEEPER_LEDGER", url)
    in_database.close()
    read = open_in(tmp_path / "home", None, name, create=False)
    assert read.trials() == in_database.trials()
    assert [record.id for record in read.controls()] == [f"{name}-oracle"]
    assert read.attributes.stored["note"] == {"a": [1, 2]}
    assert [(record.params, record.state) for record in in_file.trials()] == [
        (record.params, record.state) for record in read.trials()
    ]
    reopened = open_in(tmp_path / "home", url, name)
    assert run_one(reopened, 1.0) == run_one(in_file, 1.0), "and it goes on in the same way"
    assert [folder.name for folder in study_dirs(tmp_path / "home")] == [name]


def test_a_proposal_cut_off_in_a_database_is_completed(
    url: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"cut-{abs(hash(request.node.name)) % 10**6}"
    expected = open_in(tmp_path / "whole", None, name).ask(SPEC).params
    from sweeper.samplers import proposal as samplers

    whole, written = samplers.suggest, []

    def cut(*arguments: object) -> object:
        if written:
            raise KeyboardInterrupt
        written.append(1)
        return whole(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(samplers, "suggest", cut)
    with pytest.raises(KeyboardInterrupt), closing(open_in(tmp_path / "home", url, name)) as ledger:
        ledger.ask(SPEC)
    monkeypatch.undo()
    [left_over] = open_in(tmp_path / "home", url, name).unfinished(SPEC)
    assert left_over.params == expected


@pytest.mark.slow
def test_the_password_of_a_database_is_neither_stored_nor_printed(postgres: str, tmp_path: Path) -> None:
    ledger = open_in(tmp_path, postgres, "secretive")
    run_one(ledger, 4.0)
    ledger.close()
    stored = [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert stored == []
    assert (tmp_path / "studies" / "secretive" / POINTER).read_text().startswith("postgresql+psycopg://sweeper@127.")
    wrong = postgres.replace(SECRET, "wr0ng-one")
    with pytest.raises(UserError) as error:
        open_in(tmp_path / "other", wrong, "secretive")
    assert "does not answer" in error.value.render()
    assert "wr0ng-one" not in error.value.render()
    with pytest.raises(UserError) as error:
        open_in(tmp_path / "other", postgres, "secretive")
    assert "contains a study `secretive` of another folder" in error.value.render()
    assert SECRET not in error.value.render()


def test_a_study_stays_where_its_ledger_is(tmp_path: Path) -> None:
    one, two = f"sqlite:///{tmp_path}/one.db", f"sqlite:///{tmp_path}/two.db"
    open_in(tmp_path, None, "filed")
    with pytest.raises(UserError, match=r"the study `filed` keeps its ledger in .*ledger.journal, not in sqlite"):
        open_in(tmp_path, one, "filed")
    open_in(tmp_path, one, "kept")
    with pytest.raises(UserError, match=r"the study `kept` keeps its ledger in .*one.db, not in .*two.db"):
        open_in(tmp_path, two, "kept")
    assert open_in(tmp_path, None, "kept").trials() == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("no url", "the URL of the ledger is not valid"),
        ("sqlite://", "a ledger cannot be stored in `sqlite`"),
        ("mysql://root@localhost/x", "a ledger cannot be stored in `mysql`"),
        ("sqlite:////no/such/folder/x.db", "does not answer: unable to open database file"),
    ],
)
def test_a_url_that_leads_nowhere(url: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        open_in(tmp_path, url)


def test_a_database_of_mlflow_is_no_ledger(home: Path) -> None:
    with pytest.raises(UserError) as error:
        open_in(home, f"sqlite:///{home}/mlflow.db")
    assert "is not a ledger of this version" in error.value.render()
    assert "a database of its own" in error.value.render()


def test_a_password_in_a_spec_is_refused_and_not_shown() -> None:
    text = Path("search_spaces/loss_balance.yaml").read_text()
    spec = parse_spec(text, Path("s.yaml"), ["ledger=postgresql://me@host/db"])
    assert (spec.ledger, "ledger" in spec.effective) == ("postgresql://me@host/db", False)
    with pytest.raises(SpecError) as error:
        parse_spec(text, Path("s.yaml"), [f"ledger=postgresql://me:{SECRET}@host/db"])
    assert error.value.render() == (
        "error: a password must not be in a spec, which every record of the study copies\n"
        "  --> --set 'ledger=postgresql://me:***@host/db'"
    )


def test_plain_optuna_reads_both(tmp_path: Path) -> None:
    """What `optuna-dashboard` does to show a study."""
    run_one(open_in(tmp_path, None, "filed"), 3.0)
    run_one(open_in(tmp_path, f"sqlite:///{tmp_path}/l.db", "kept"), 3.0)
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "studies" / "filed" / "ledger.journal"))
    for name, storage in (("filed", optuna.storages.JournalStorage(backend)), ("kept", f"sqlite:///{tmp_path}/l.db")):
        study = optuna.load_study(study_name=name, storage=storage)
        assert study.best_value == 3.0
        assert study.trials[0].intermediate_values == {1: 3.0}
        assert study.trials[0].user_attrs["ending"]["state"] == "COMPLETE"


@pytest.mark.parametrize("by_variable", [False, True])
def test_a_run_on_a_ledger_that_is_none_ends_with_2_and_shows_no_password(
    by_variable: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"mysql://me:{SECRET}@localhost/db"
    if by_variable:
        monkeypatch.setenv("SWEEPER_LEDGER", url)
    options = [] if by_variable else ["--ledger", url]
    assert main(["run", "search_spaces/loss_balance.yaml", "--home", str(tmp_path), *options]) == 2
    said = capsys.readouterr()
    assert "error: a ledger cannot be stored in `mysql`\n" in said.err
    assert SECRET not in said.out + said.err


def test_a_second_round_keeps_its_ledger_where_its_study_does(tmp_path: Path) -> None:
    url, studies = f"sqlite:///{tmp_path}/one.db", tmp_path / "studies"
    open_in(tmp_path, url, "kept")
    open_in(tmp_path, None, "filed")
    assert url_beside(studies / "kept-winners", studies / "kept") == url
    assert url_beside(studies / "filed-winners", studies / "filed") is None
    open_in(tmp_path, None, "kept-winners")
    assert url_beside(studies / "kept-winners", studies / "kept") is None, "it was begun in a file"


@pytest.mark.slow
def test_a_driver_needs_no_more_than_the_docs_grant_and_a_reader_less(
    postgres_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres_server.new_database("granted")
    folder = tmp_path / "studies" / "first"
    folder.mkdir(parents=True)
    Ledger.create(folder, "first", url=url).close()  # its owner makes the tables
    text = Path("docs/cluster.md").read_text()
    [grants] = re.findall(r"```sql\n(GRANT.*?)```", text, re.DOTALL)
    [closed] = re.findall(r"REVOKE ALL ON DATABASE ledger, mlflow FROM PUBLIC;", text)
    [opened] = re.findall(r"GRANT CONNECT ON DATABASE ledger TO [^;]*;", text)
    with psycopg.connect(url, autocommit=True) as connection:
        for role in ("driver", "reader"):
            connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{SECRET}'")
        connection.execute(closed.replace("ledger, mlflow", "granted"))
        connection.execute(opened.replace("ledger", "granted"))
        connection.execute(grants)
    as_driver, as_reader = (url.replace("sweeper:", f"{role}:") for role in ("driver", "reader"))
    folder = tmp_path / "studies" / "second"
    folder.mkdir()
    with closing(Ledger.create(folder, "second", url=as_driver)) as ledger:
        run_one(ledger, 3.0)
        (folder / POINTER).write_text(as_reader.replace(f":{SECRET}", "").replace("postgresql", "postgresql+psycopg"))
        monkeypatch.setenv("SWEEPER_LEDGER", as_reader)
        monkeypatch.setattr(location, "_opened", {})
        assert Ledger.open(folder, "second").trials() == ledger.trials()
        assert running_driver(folder) == f"pid {os.getpid()} on {os.uname().nodename}"
    with pytest.raises(LedgerLost, match="refuses: permission denied for table"):
        Ledger.create(folder, "second", url=as_reader).attributes.store("note", 1)
