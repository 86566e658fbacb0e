"""optuna-dashboard on loopback, for one person on this machine."""

import importlib.util
import sys
from pathlib import Path
from typing import Final

from sweeper.errors import EXIT_OK, UserError
from sweeper.ledger.dashboard_copy import copy_studies
from sweeper.ledger.studies import open_if_started, study_dirs
from sweeper.tracking.ui.server import require_free, serve_until_stopped

NEEDED: Final = ("optuna_dashboard", "a2wsgi")


def serve_dashboard(home: Path, port: int, study: str | None = None, *, open_browser: bool = False) -> int:
    """Show the trials of `home` in optuna-dashboard until Ctrl-C, as they stand now; print its address once it answers.

    Args:
        home: the study home.
        port: on the loopback interface.
        study: that the address shows at once; None: all that have begun.
        open_browser: open the address in a browser too.

    Returns:
        The exit code 0.

    Raises:
        UserError: it is not installed; there is no such study, or none; the port is taken; the server does not start.
    """
    if not all(map(importlib.util.find_spec, NEEDED)):
        help = "install it: python -m pip install 'mano-sweeper[dashboard]'"
        raise UserError("optuna-dashboard is not installed", help=help)
    require_free(port)
    studies = [study] if study else _begun(home)
    if not studies and study_dirs(home):
        raise UserError(f"no study in {home} has begun and can be read", help="`sweeper doctor` looks at them")
    if not studies:
        raise UserError(f"there are no studies in {home} yet", help="`sweeper run SPEC` starts one")
    copy_studies(home, studies)  # what is wrong with a study is reported here, not in a log
    print("a copy of the trials as they stand now: start it again to see newer ones", file=sys.stderr)
    settings = {"home": str(home.resolve()), "studies": studies}
    place = "/dashboard/studies/0" if study else "/dashboard"
    log = home.resolve() / "dashboard.log"
    serve_until_stopped("dashboard_app", settings, port, log, place, open_browser=open_browser)
    return EXIT_OK


def _begun(home: Path) -> list[str]:
    """The studies that have begun; those that cannot be read are reported, and left out."""
    names = []
    for folder in study_dirs(home):
        try:
            if open_if_started(home, folder.name):
                names.append(folder.name)
        except UserError as error:
            print(error.render(), file=sys.stderr)
    return names
