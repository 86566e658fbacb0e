"""Tells somebody who is not looking: the end of a study, a wave of collapses, a budget nearly used up, a failure.

Who is notified is not part of a study, so no spec names it, and no record of the study contains the address, which is
often a secret: it comes from the environment. SWEEPER_WEBHOOK is a URL that gets a POST, SWEEPER_NOTIFY_COMMAND a
command that gets standard input; both get `{"event", "study", "text", "time_s"}` as JSON. Chat services show `text`.
"""

import json
import os
import queue
import shlex
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

from sweeper.errors import UserError
from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.study.callback import StudyCallback
from sweeper.study.controller import StudyController
from sweeper.study.controls import final_word
from sweeper.study.usage.budget import left, used_text
from sweeper.views.study import outcome

WEBHOOK: Final = "SWEEPER_WEBHOOK"
COMMAND: Final = "SWEEPER_NOTIFY_COMMAND"
WAVE: Final = 3
"""Collapsed trials that count as a wave, if they are half of those that ended."""
BUDGET_SHARE: Final = 0.8
POST_S: Final = 5.0
COMMAND_S: Final = 30.0
FLUSH_S: Final = 10.0
TRIES: Final = 2

EventName = Literal["end", "collapse", "budget", "failure"]


@dataclass(frozen=True)
class Channels:
    """Where notifications go; from the environment."""

    webhook: str | None
    command: tuple[str, ...]


def channels(environment: Mapping[str, str] = os.environ) -> Channels | None:
    """The channels that the environment names; None without any.

    Raises:
        UserError: the URL is neither http nor https, or the command cannot be split. The URL is not repeated.
    """
    webhook = environment.get(WEBHOOK) or None
    if webhook is not None and (urlsplit(webhook).scheme not in ("http", "https") or not urlsplit(webhook).hostname):
        raise UserError("not an http or https URL", where=WEBHOOK, help=f"{WEBHOOK}=https://host/path, or unset it")
    try:
        command = tuple(shlex.split(environment.get(COMMAND, "")))
    except ValueError as error:
        raise UserError(f"no command: {error}", where=COMMAND, help="quote it as in a shell, or unset it") from None
    return Channels(webhook, command) if webhook or command else None


def attach(study: StudyController, to: Channels | None, complain: Callable[[str], None]) -> "Notifier | None":
    """Notify the channels about the study from now on; None without any. `complain` gets what could not be sent."""
    if to is None:
        return None
    notifier = Notifier(to, study, complain)
    study.add_callback(notifier)
    return notifier


class Notifier(StudyCallback):
    """Told by the study what happens; a separate thread sends, so that no trial waits for a slow service."""

    def __init__(self, to: Channels, study: StudyController, complain: Callable[[str], None]) -> None:
        self._to, self._spec, self._spent, self._complain = to, study.spec, study.meter.spent, complain
        self._study = study.ledger.study
        self._told: set[EventName] = set()
        self._ended = self._collapsed = 0
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._deliver, daemon=True, name="notify")
        self._thread.start()

    def trial_reported(self, record: TrialRecord) -> None:
        used = self._spent()
        for name, rest in left(self._spec.budget, used).items():
            if rest <= (1 - BUDGET_SHARE) * getattr(self._spec.budget, name):
                self._once("budget", f"{BUDGET_SHARE:.0%} of a budget is used up: {used_text(self._spec.budget, used)}")

    def trial_finished(self, record: TrialRecord) -> None:
        if record.state is TrialState.FAILED:
            self._once("failure", f"{record.id} failed: {record.reason}")
        if record.control is not None:
            return
        self._ended += 1
        self._collapsed += record.state is TrialState.COLLAPSED
        if self._collapsed >= WAVE and 2 * self._collapsed >= self._ended:
            self._once(
                "collapse", f"{self._collapsed} of the {self._ended} trials that ended here have collapsed to one pose"
            )

    def close(self, study: StudyController) -> None:
        """The run of the study ends; waits a little for what is still being sent."""
        trials, objective = study.ledger.trials(), study.spec.objective
        first = "has finished" if study.is_done else study.over or "was interrupted"
        word = final_word(trials, study.ledger.controls(), objective)
        self._once("end", "\n".join((first, *outcome(trials, objective), *word.lines)))
        self._queue.put(None)
        self._thread.join(FLUSH_S)
        if self._thread.is_alive():
            self._complain("a notification was not sent in time")

    def _once(self, event: EventName, text: str) -> None:
        if event not in self._told:
            self._told.add(event)
            message = {"event": event, "study": self._study, "text": f"{self._study}: {text}", "time_s": time.time()}
            self._queue.put(json.dumps(message))

    def _deliver(self) -> None:
        while (message := self._queue.get()) is not None:
            if self._to.webhook:
                self._try("webhook", lambda: _post(self._to.webhook or "", message))
            if self._to.command:
                self._try("command", lambda: _run(self._to.command, message))

    def _try(self, channel: str, send: Callable[[], None]) -> None:
        for attempt in range(TRIES):
            try:
                send()
                return
            except (OSError, subprocess.SubprocessError) as error:
                if attempt + 1 == TRIES:
                    self._complain(f"the notification by {channel} failed: {_shown(error)}")


def _post(url: str, message: str) -> None:
    headers = {"Content-Type": "application/json", "User-Agent": "sweeper"}
    with urllib.request.urlopen(urllib.request.Request(url, message.encode(), headers), timeout=POST_S):
        pass


def _run(command: tuple[str, ...], message: str) -> None:
    subprocess.run(
        command,
        input=message,
        text=True,
        check=True,
        timeout=COMMAND_S,
        stdout=subprocess.DEVNULL,  # stdout is ours
        stderr=subprocess.DEVNULL,
    )


def _shown(error: Exception) -> str:
    """What went wrong, without the address."""
    match error:
        case urllib.error.HTTPError():
            return f"the service answers {error.code}"
        case urllib.error.URLError():
            return str(error.reason)
        case subprocess.CalledProcessError():
            return f"it ended with code {error.returncode}"
        case subprocess.TimeoutExpired():
            return f"it took over {COMMAND_S:g} s"
        case OSError():
            return error.strerror or type(error).__name__
    return type(error).__name__
