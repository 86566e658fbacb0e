"""How a study is run, whichever verb runs it. Imports nothing, so that the command line may."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RunOptions:
    """What every verb that trains takes.

    Attributes:
        skip_preflight: a reason not to check the pipeline first; it is recorded. Empty: it is checked.
        accept_drift: continue although spec, code or data are not what the study was started with; the ledger notes it.
        address: of a Ray cluster to run the trials on; None: this machine.
    """

    skip_preflight: str = ""
    accept_drift: bool = False
    address: str | None = None
