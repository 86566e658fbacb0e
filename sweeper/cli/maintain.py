"""The verbs that keep a study home in order, and MLflow up to date."""

from pathlib import Path

import click

from sweeper.cli.options import complete_study, home_option, json_option, study_argument
from sweeper.errors import EXIT_OK


@click.command()
@home_option
@click.option("--fix", is_flag=True, help="Fix what can be fixed without data loss.")
@json_option
def doctor(home: Path, fix: bool, as_json: bool) -> int:
    """Look for what is wrong with the installation, left-over processes, open ports and the studies.

    Without --fix nothing is changed. What a driver is working on is never touched.
    Exit code: 0 nothing is left to be fixed, 1 something is, 5 only records that MLflow refused are.

    \b
    Example:
      sweeper doctor --fix
    """
    from sweeper.maintenance.doctor import doctor as examine

    return examine(home, fix=fix, as_json=as_json)


@click.command()
@study_argument
@home_option
@json_option
def sync(study: str, home: Path, as_json: bool) -> int:
    """Send to MLflow what it lacks of STUDY: after the server was down, or MLFLOW_TRACKING_URI was wrong.

    What MLflow has lost, or refused before, is sent again.
    Exit code: 0 MLflow is up to date, 1 records still wait, 2 bad input, 5 MLflow refused records for good.

    \b
    Example:
      sweeper sync loss_balance
    """
    from sweeper.console import to_json
    from sweeper.maintenance.sync import sync_study

    synced = sync_study(home, study)
    click.echo(to_json(vars(synced)) if as_json else synced.sentence())
    return synced.code


@click.command()
@click.argument("studies", nargs=-1, shell_complete=complete_study)
@click.option("--delete", is_flag=True, help="Delete the files. Without it they are only listed.")
@home_option
@json_option
def gc(studies: tuple[str, ...], delete: bool, home: Path, as_json: bool) -> int:
    """List the files of STUDIES (default: all) that are no longer needed, and with --delete delete them.

    These are checkpoints of ended trials that MLflow holds too or that the spec's `retention` does not keep, incomplete
    checkpoints, and artifacts of runs that are no longer in MLflow. What a study may resume from stays, and so does all
    that `sweeper reproduce` reads.

    \b
    Example:
      sweeper gc loss_balance --delete
    """
    from sweeper.console import to_json
    from sweeper.maintenance.gc import find_garbage, remove

    found, left = find_garbage(home, studies)
    rows = []
    for garbage in found:
        removed = delete and remove(home, garbage)
        said = "removed" if removed else "kept" if delete else "would go"
        why = (
            garbage.why if removed or not delete else "MLflow's copy differs, so one of the two is not what was stored"
        )
        rows.append(
            {"study": garbage.study, "path": garbage.place, "bytes": garbage.bytes, "why": why, "removed": removed}
        )
        if not as_json:
            click.echo(f"{said}  {garbage.bytes / 2**20:8.1f} MiB  {garbage.place}  ({why})")
    for line in left:
        click.echo(line, err=True)
    total = sum(each.bytes for each, row in zip(found, rows, strict=True) if row["removed"] or not delete)
    if as_json:
        click.echo(to_json({"deleted": delete, "bytes": total, "found": rows, "left_alone": left}))
    elif not rows or (delete and not any(row["removed"] for row in rows)):
        click.echo("nothing to do")
    else:
        click.echo(f"{total / 2**20:.1f} MiB " + ("removed" if delete else "would be deleted; --delete deletes them"))
    return EXIT_OK
