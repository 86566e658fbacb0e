"""How a study is run, whichever verb runs it. Imports nothing, so the command line can import it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RunOptions:
    """What every verb that trains takes.

    Attributes:
        skip_preflight: a reason not to check the pipeline first; it is recorded. Empty: it is checked.
        accept_drift: continue although spec, code or data are not what the study was started with; the ledger notes it.
        address: of a Ray cluster to run the trials on; None: this machine.
        sync_to: folder or `s3://BUCKET/PREFIX` to keep a copy of the study in; None: no copy.
        sync_every_s: seconds from one copy to the next, at least.
    """

    skip_preflight: str = ""
    accept_drift: bool = False
    address: str | None = None
    sync_to: str | None = None
    sync_every_s: float = 0.0
