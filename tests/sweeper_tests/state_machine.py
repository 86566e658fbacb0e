"""Sequences of verbs, kills and damage on one study, drawn from a seed, and judged after each step.

The trials run one after the other in the driver's own process (`forked.Driver`), so a step costs tenths of a second.
What a step does is decided by the seed alone; what a kill hits depends on the timing too.
"""

import os
import random
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import wreckage
from any_write import KillAtWrite
from checker import check
from faulty import journal_bytes
from forked import Driver
from judge import Look, judge_home, judge_words, look, may_refuse

STEPS: Final = 4
SPECS: Final = (
    "search_space: {scale: {low: 0.5, high: 10.0, log: true}, seed: {low: 1, high: 999, type: int}}\n"
    "trials: 3\nsampler: {name: tpe, startup_trials: 2}\nscheduler: {name: asha, grace_epochs: 1, eta: 2}\n"
    "controls: [oracle]",
    "search_space: {scale: {choices: [7.0, 1.0, 2.0]}, seed: {choices: [1, 2]}}\n"
    "trials: 3\nsampler: {name: grid}\nscheduler: {name: asha, mode: promote, grace_epochs: 1, eta: 2}\n"
    "controls: []\nguards: [{name: collapse, kind: collapse, after_epochs: 1, for_evaluations: 1}]",
    "search_space: {scale: {low: 0.5, high: 2.0}, seed: {low: 1, high: 999, type: int}}\n"
    "trials: 3\nsampler: {name: random}\nscheduler: {name: none}\ncontrols: [constant_pose]\nretention: all",
    "search_space: {scale: {low: 0.5, high: 2.0, log: true}}\n"  # five finished configurations make a noise model
    "trials: 7\nsampler: {name: random}\nscheduler: {name: none}\ncontrols: []\nreplicate: auto\ngood_enough: 0.5",
)
COMMON: Final = (
    "name: scripted\ntrainer: scripted_trainer:train\n"
    "base: {{epochs: 2, collapse_above: 6.0, sleep_s: 0.01, crash_if: {broken}}}\n"
    "objective: {{metric: val/pa_mpjpe_mm, mode: min}}\n"
)
RUNNING: Final = (
    ("run",),
    ("resume", "scripted"),
    ("extend", "scripted", "--trials", "1"),
    ("retry", "scripted", "--failed"),
)
OTHER: Final = (
    ("stop", "scripted"),
    ("stop", "scripted-0001"),
    ("pause", "scripted"),
    ("enqueue", "scripted", "scale=1.0", "seed=1"),
    ("reproduce", "scripted:best"),
    ("sync", "scripted"),
    ("gc", "--delete"),
    ("doctor",),
    ("doctor", "--fix"),
)
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)


class Fault(AssertionError):
    """A sequence that went wrong, with all its steps."""


@dataclass
class Sequence:
    """One sequence on its own home. `database`: an empty MLflow database."""

    seed: int
    home: Path
    database: Path
    log: list[str] = field(default_factory=list)
    seen: Look = field(default_factory=Look)
    is_hurt: bool = False
    """MLflow or the outbox is damaged, and no run, sync or doctor --fix has finished since."""
    has_lost_checkpoints: bool = False

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)

    @property
    def broken(self) -> Path:
        """While this file is there, every trial fails."""
        return self.home.parent / "broken"

    def run(self) -> None:
        """Do all steps.

        Raises:
            Fault: something does not hold; the text says what was done.
        """
        steps: list[Callable[[], None]] = [
            self.verb,
            self.killed,
            self.together,
            self.hurt,
            self.hurt_ledger,
            self.mend,
        ]
        try:
            self.draw.choice((self.verb, self.killed))(("run",))
            for _ in range(STEPS):
                self.draw.choices(steps, (4, 4, 3, 4, 1, 1))[0]()
            self.heal()
        except (AssertionError, OSError, ValueError, KeyError) as error:
            history = "\n".join(f"  {number}. {line}" for number, line in enumerate(self.log, 1))
            place = traceback.extract_tb(error.__traceback__)[-1]
            raise Fault(f"seed {self.seed}: {error}\nat: {place.line} ({place.name})\n{history}") from error

    # -- steps

    def verb(self, verb: tuple[str, ...] = ()) -> None:
        """One verb to its end; now and then it is run again, which must change nothing."""
        verb = verb or self.draw.choice(RUNNING + OTHER)
        code, said = self._say(verb)
        self._judge(verb, code, said)
        if verb[0] in ("run", "resume", "sync", "doctor", "gc", "stop") and self.draw.random() < 0.3:
            before = self.seen
            code_again, said = self._say(verb)
            self._judge(verb, code_again, said)
            assert self.seen.results == before.results, "said again, it changes trials"
            if verb[0] in ("run", "resume", "sync"):
                assert code_again == code, f"said again, it ends with {code_again}, not {code}:\n{said}"
            if verb[0] == "gc" and code == 0:
                assert "nothing to do" in said, said  # what is damaged and stays is named, but is not something to do
            if verb == ("doctor", "--fix"):
                assert "     fixed: " not in said, f"fixed again:\n{said}"

    def killed(self, verb: tuple[str, ...] = ()) -> None:
        """A verb that is killed at a write."""
        verb = verb or self.draw.choice(RUNNING if self.draw.random() < 0.7 else OTHER)
        at = KillAtWrite(int(self.draw.triangular(1, 160, 20)), self.draw.random() < 0.5)
        driver = self._start(verb, before=at)
        code, said = driver.end()
        self.log.append(f"{' '.join(verb)}, killed at write {at.number}{' (after)' if at.after else ''}: {code}")
        if code == -signal.SIGKILL:
            self._look()
        else:
            self._judge(verb, code, said)

    def together(self) -> None:
        """A driver, and something else at the same time: another verb, or a signal."""
        first = self.draw.choice(RUNNING)
        enough = self.draw.randrange(6000)
        began, bytes_before = time.monotonic(), journal_bytes(self.home)
        driver = self._start(first)
        while driver.is_running and journal_bytes(self.home) - bytes_before < enough and time.monotonic() - began < 60:
            time.sleep(0.002)
        if self.draw.random() < 0.4:
            number = self.draw.choice(SIGNALS)
            self.log.append(f"{' '.join(first)}, after {enough} bytes {number.name}")
            if number == signal.SIGKILL:
                driver.kill()
            elif driver.is_running:
                os.kill(driver.pid, number)
            second, other = None, None
        else:
            second = self.draw.choice(RUNNING + OTHER)
            self.log.append(f"{' '.join(first)}, after {enough} bytes {' '.join(second)}")
            other = self._start(second, said="output of the other")
        code, said = driver.end()
        self.log.append(f"   the first ends with {code}")
        assert "Traceback" not in said, said
        assert code in (0, 1, 2, 3, 5, 130, 143, 129, -2, -15, -1, -9), said
        if code in (130, 143, 129) and said.strip():  # it has begun
            assert "interrupted: `sweeper resume scripted" in said, said
        if other is not None:
            code, said = other.end()
            self.log.append(f"   the other with {code}")
            assert "Traceback" not in said or second == ("reproduce", "scripted:best"), said
            assert code in (0, 1, 2, 3, 5, 130), said
        self._look()

    def hurt(self) -> None:
        """Damage that the product can repair, or at least name."""
        kinds = self.draw.choice(
            (wreckage.OF_TRACKING, wreckage.OF_TRACKING, wreckage.OF_NOTES, wreckage.OF_CHECKPOINTS)
        )
        what = wreckage.damage(self.home, self.draw, kinds)
        if what is None:
            return
        self.log.append(what)
        self.is_hurt = True
        self.has_lost_checkpoints |= kinds is wreckage.OF_CHECKPOINTS
        self.seen = look(self.home)
        self.verb(
            self.draw.choice((*RUNNING, ("sync", "scripted"), ("doctor",), ("doctor", "--fix"), ("gc", "--delete")))
        )

    def hurt_ledger(self) -> None:
        """The source of truth is damaged: it is refused by name before anything is written, or the damage did not
        matter. Then the home is put back as it was."""
        kept = self.home.parent / "kept"
        shutil.copytree(self.home, kept, symlinks=True)
        what = wreckage.damage(self.home, self.draw, wreckage.OF_LEDGER)
        if what is not None:
            self.log.append(what)
            verb = self.draw.choice(RUNNING + OTHER)
            code, said = self._say(verb)
            assert "Traceback" not in said, said
            assert code in (0, 1, 2, 3, 5), said
            now = look(self.home)
            for key, values in (now.in_mlflow or {}).items():
                assert len(values) == 1, f"MLflow has {values} of {key}"
        shutil.rmtree(self.home)
        kept.rename(self.home)
        self.log.append("the home is put back")

    def mend(self) -> None:
        """What makes trials fail appears, or disappears."""
        if self.broken.exists():
            self.broken.unlink()
        else:
            self.broken.touch()
        self.log.append(f"trials {'fail' if self.broken.exists() else 'do not fail'} from now on")

    def heal(self) -> None:
        """Whatever was done, a few commands by a user bring the study to its end, and everything is in order."""
        self.broken.unlink(missing_ok=True)
        code, said = self._say(("doctor", "--fix"))
        assert code in (0, 1, 5), said
        code, said = self._say(("resume", "scripted") if self.seen.planned else ("run",))
        self._judge(("resume",), code, said)
        if self.seen.failed:
            code, said = self._say(("retry", "scripted", "--failed"))
            self._judge(("retry",), code, said)
        assert code in (0, 5), said
        code, said = self._say(("doctor", "--fix"))
        self._judge(("doctor",), code, said)
        named = [report.checkpoint for trial in self.seen.trials.values() for report in trial.reports]
        check(self.home, damaged=tuple(filter(None, named)) if self.has_lost_checkpoints else ())

    # -- inside

    def _start(self, verb: tuple[str, ...], **options: Any) -> Driver:
        if verb[0] == "enqueue" and "seed: {" not in (self.home.parent / "spec.yaml").read_text():
            verb = verb[:-1]
        return Driver(self.home, *verb, MLFLOW_TEMPLATE=str(self.database), **options)

    def _say(self, verb: tuple[str, ...]) -> tuple[int, str]:
        code, said = self._start(verb).end()
        self.log.append(f"{' '.join(verb)}: {code}")
        return code, said

    def _judge(self, verb: tuple[str, ...], code: int, said: str) -> None:
        before = self.seen
        self._look()
        judge_words(verb, code, said, before, self.seen)
        has_reason = code != 2 or may_refuse(verb, said, self.seen, self.is_hurt, self.broken.exists())
        assert has_reason, f"refused without a reason:\n{said}"

    def _look(self) -> None:
        if not (self.home / "studies" / "scripted" / "ledger.journal").exists():
            return
        now = look(self.home)
        judge_home(self.home, self.seen, now)
        self.seen = now
        wreckage.keep_copies(self.home)


def run_sequence(seed: int, database: Path) -> list[str]:
    """Run the sequence of a seed in its own home, which begins with a copy of an empty MLflow database.

    Returns:
        What was done.

    Raises:
        Fault: something does not hold.
    """
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="sweeper-sequence-", dir=memory, ignore_cleanup_errors=True) as root:
        home = Path(root) / "home"
        home.mkdir()
        shutil.copyfile(database, home / "mlflow.db")
        sequence = Sequence(seed, home, database)
        text = COMMON.format(broken=sequence.broken) + random.Random(seed).choice(SPECS)
        (home.parent / "spec.yaml").write_text(text)
        sequence.run()
        return sequence.log
