from pathlib import Path

import pytest
from studies import make_spec

from sweeper.errors import UserError
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import TrialState
from sweeper.views.logs import print_log


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home of a study with one trial, which has ended."""
    study_dir = tmp_path / "studies" / "toy"
    study_dir.mkdir(parents=True)
    ledger, spec = Ledger.create(study_dir, "toy"), make_spec()
    ledger.attributes.spec = spec.effective
    record = ledger.ask(spec)
    ledger.finish(record.id, TrialState.FAILED, "because", {}, [None])
    ledger.close()
    (study_dir / "trials" / "0000").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("follow", [True, False])
def test_a_log_is_printed_from_its_start_without_escapes(
    follow: bool, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = home / "studies" / "toy" / "trials" / "0000"
    (folder / "log.1.txt").write_text("first\n")
    (folder / "log.txt").write_text("\x1b[31mred\x1b[0m\nlast\n")
    print_log(home, "toy-0000", follow=follow)
    assert capsys.readouterr().out == "first\nred\nlast\n"


def test_a_trial_without_a_log_says_so(home: Path) -> None:
    with pytest.raises(UserError, match="the trial `toy-0000` has no log"):
        print_log(home, "toy-0000", follow=False)


def test_a_log_that_leads_out_of_the_study_is_not_read(home: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (home / "studies" / "toy" / "trials" / "0000" / "log.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match="the trial `toy-0000` has no log"):
        print_log(home, "toy-0000", follow=False)
