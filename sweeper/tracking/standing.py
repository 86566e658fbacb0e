"""What MLflow lacks of a study, determined from the files of its outbox. One rule for all verbs: `Standing.code`."""

from dataclasses import dataclass
from pathlib import Path

from sweeper.errors import EXIT_NOT_RECORDED, EXIT_OK
from sweeper.home import command_line
from sweeper.tracking.outbox import REJECTS, waiting_records


@dataclass(frozen=True)
class Standing:
    """What MLflow lacks.

    Attributes:
        study: its name.
        waiting: records that are not delivered yet.
        refused: records that MLflow, or whatever read the outbox, will never accept.
        rejects: the file that names the refused ones.
    """

    study: str
    waiting: int
    refused: int
    rejects: Path

    @property
    def sentence(self) -> str:
        """What is missing and the command for it; empty if nothing is."""
        parts = []
        if self.refused:
            parts.append(f"MLflow lacks {self.refused} records of `{self.study}` that were refused, see {self.rejects}")
        if self.waiting:
            parts.append(f"{self.waiting} records of `{self.study}` wait for MLflow")
        sync = command_line(self.rejects.parents[2], "sync", self.study)
        return f"{'; '.join(parts)}: `{sync}` sends them again" if parts else ""

    def code(self, otherwise: int) -> int:
        """The exit code of a verb that has nothing worse to say: 5 where something was refused for good."""
        return EXIT_NOT_RECORDED if self.refused and otherwise == EXIT_OK else otherwise


def standing_of(study_dir: Path) -> Standing:
    """Look at a study's outbox, without opening it, which would repair it."""
    rejects = study_dir / REJECTS
    refused = rejects.read_bytes().count(b"\n") if rejects.is_file() else 0
    return Standing(study_dir.name, waiting_records(study_dir), refused, rejects)
