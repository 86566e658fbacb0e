"""`sweeper submit`: the run of a spec as a job of a Ray cluster, for a machine that is not a node of it.

Only the spec's file is sent. The driver runs on the head node, with the packages and the environment there: the secrets
it needs (the ledger's password, MLflow's, the token) are there too, and none are in the job.
"""

import asyncio
import logging
import secrets
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from sweeper.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_TRIAL_FAILED, UserError
from sweeper.executor.cluster import TOKEN_HELP, set_environment
from sweeper.spec.resolve import SweepSpec

SERVER_HELP: Final = (
    "it is http://HOST:8265 of a head node that has mano-sweeper[jobs] and was started with --include-dashboard=true "
    "--dashboard-host=HOST"
)

LOG_HELP: Final = "on its head node, /tmp/ray/session_latest/logs/dashboard.log says why"

NOT_FOUND: Final = 127
"""What a shell returns for a command that it does not find."""


def submit(spec: SweepSpec, arguments: Sequence[str], home: str, address: str, *, follow: bool) -> int:
    """Start `sweeper run` of the spec on the cluster's head node.

    Args:
        spec: the checked spec; its file is sent.
        arguments: options of `run`.
        home: the study home, as the head node sees it.
        address: of the Jobs API, `http://HOST:8265`.
        follow: pass on what it says until it ends.

    Returns:
        The exit code of the run; 0 without `follow`.

    Raises:
        UserError: the Jobs API cannot be reached, refuses the token or the job, or is lost while the job runs.
    """
    assert spec.path is not None  # it was read from there
    client = _client(address)
    import aiohttp  # Ray's Jobs API brings it

    job = f"{spec.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    line = ["sweeper", "run", spec.path.name, "--home", home, "--address", "auto", *arguments]
    with tempfile.TemporaryDirectory(prefix="sweeper-submit-") as folder:
        shutil.copy(spec.path, folder)
        env = {"working_dir": folder}
        try:
            client.submit_job(
                entrypoint=shlex.join(line), submission_id=job, runtime_env=env, metadata={"spec": spec.name}
            )
        except (RuntimeError, OSError) as error:
            raise UserError(
                f"the cluster at {address} does not accept jobs: {_last_line(error)}", "--address", LOG_HELP
            ) from None
    shows, ends = (f"`ray job {verb} {job} --address {address}`" for verb in ("logs --follow", "stop"))
    print(f"submitted as {job}; {shows} shows it, {ends} stops it", file=sys.stderr)
    if not follow:
        return EXIT_OK
    try:
        asyncio.run(_follow(client, job))
        return _exit_code(client, job)
    except KeyboardInterrupt:
        print(f"{job} keeps running; {ends} stops it", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (RuntimeError, OSError, aiohttp.ClientError) as error:
        what = f"{address} no longer knows {job}: {_last_line(error)}"
        raise UserError(what, help=f"if the cluster is still up, the job keeps running, and {shows} shows it") from None


def _last_line(error: Exception) -> str:
    """Ray puts whole tracebacks of its server into messages."""
    return next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)


def _client(address: str) -> Any:
    if urlsplit(address).scheme not in ("http", "https"):
        raise UserError(f"`{address}` is not the address of Ray's Jobs API", "--address", SERVER_HELP)
    set_environment(address)
    logging.getLogger("ray.dashboard").setLevel(logging.WARNING)  # the end of the log is not news
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        client = JobSubmissionClient(address)
        client.list_jobs()  # otherwise a wrong token would be reported only later
    except (AuthenticationError, ConnectionError, RuntimeError) as error:
        if isinstance(error, AuthenticationError) or "401" in str(error) or "403" in str(error):
            raise UserError(f"the cluster at {address} refuses the token", "--address", TOKEN_HELP) from None
        raise UserError(f"no Jobs API answers at {address}", "--address", SERVER_HELP) from None
    return client


async def _follow(client: Any, job: str) -> None:
    async for text in client.tail_job_logs(job):
        print(text, end="", flush=True)


def _exit_code(client: Any, job: str) -> int:
    while not (details := client.get_job_info(job)).status.is_terminal():
        time.sleep(0.5)  # the log has ended, and its process is about to
    if details.driver_exit_code is None:
        print(f"{job}: {details.message}", file=sys.stderr)
        return EXIT_TRIAL_FAILED
    if details.driver_exit_code == NOT_FOUND:
        print(
            "the head node does not find `sweeper`: its folder must be on the PATH of `ray start`",
            file=sys.stderr,
        )
    return int(details.driver_exit_code)
