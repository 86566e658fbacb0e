"""`sweeper slurm`."""

import sys
from pathlib import Path

import click

from sweeper.cli.options import accept_drift_option, home_option, skip_preflight_option, spec_options
from sweeper.errors import EXIT_OK


@click.command()
@spec_options
@home_option
@click.option("--nodes", type=click.IntRange(min=1), default=1, show_default=True, help="Number of nodes.")
@click.option("--gpus-per-node", metavar="[TYPE:]N", help="GPUs per node: `4`, or `a100:4`.")
@click.option("--cpus-per-task", type=click.IntRange(min=1), help="Cores per node; by default, what its trials take.")
@click.option("--time", "time_limit", metavar="LIMIT", help="Time limit of one job, `04:00:00`; a study may take many.")
@click.option("--partition", help="Partition to run in.")
@click.option("--account", help="Account to charge.")
@click.option("--mem", help="Memory per node, `64G`.")
@click.option("--constraint", help="Features that nodes must have.")
@click.option("--sbatch", "extra", multiple=True, metavar="OPTION", help="Another option of sbatch: `--qos=long`.")
@click.option("--setup", multiple=True, metavar="COMMAND", help="Run this first: `module load cuda`.")
@click.option(
    "--signal-s",
    type=click.IntRange(min=60),
    default=120,
    show_default=True,
    help="Seconds before the time limit at which trials are to reach their next checkpoint: a little more than an "
    "evaluation takes.",
)
@skip_preflight_option
@accept_drift_option
def slurm(
    spec: Path,
    overrides: tuple[str, ...],
    trials: int | None,
    home: Path,
    nodes: int,
    gpus_per_node: str | None,
    cpus_per_task: int | None,
    time_limit: str | None,
    partition: str | None,
    account: str | None,
    mem: str | None,
    constraint: str | None,
    extra: tuple[str, ...],
    setup: tuple[str, ...],
    signal_s: int,
    skip_preflight: str,
    accept_drift: bool,
) -> int:
    """Print the batch script of a Slurm job that runs the study of SPEC, or continues it. Nothing is submitted.

    The job starts Ray on its nodes, runs as many trials as they have room for, and leaves no process behind. Before its
    time limit it lets trials reach a checkpoint and puts itself back into the queue again. See docs/slurm.md.

    \b
    Example:
      sweeper slurm search_spaces/loss_balance.yaml --nodes 2 --gpus-per-node 4 --time 04:00:00 > job.sbatch
      sbatch job.sbatch
    """
    from sweeper.executor.slurm import Allocation, job_script, option_lines
    from sweeper.spec.load import load_spec

    loaded = load_spec(spec, overrides, trials)
    options = {"time": time_limit, "partition": partition, "account": account, "mem": mem, "constraint": constraint}
    lines = option_lines(options, extra)
    home = home.absolute()
    run = ["sweeper", "run", str(spec.absolute()), "--home", str(home), "--set", "resources.concurrent=all"]
    run += [text for override in overrides for text in ("--set", override)]
    run += ["--trials", str(trials)] if trials else []
    run += ["--skip-preflight", skip_preflight] if skip_preflight else []
    run += ["--accept-drift"] if accept_drift else []
    allocation = Allocation(nodes, cpus_per_task, gpus_per_node, lines, signal_s)
    programs = Path(sys.executable).parent  # not resolved: a virtual environment's python is a link
    click.echo(job_script(loaded, run, home, allocation, setup, programs), nl=False)
    if not sys.stdout.isatty():
        click.echo("next: read it, then `sbatch FILE`", err=True)
    return EXIT_OK
