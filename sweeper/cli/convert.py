"""`sweeper convert`."""

from pathlib import Path

import click

from sweeper.errors import EXIT_OK


@click.command()
@click.argument("sweep", type=click.Path(path_type=Path))
def convert(sweep: Path) -> int:
    """Write the sweep file that means the same as SWEEP, a W&B sweep configuration, to stdout.

    What has no counterpart is a comment in the result, and is listed on stderr.

    \b
    Example:
      sweeper convert sweep.yaml > spec.yaml
    """
    from sweeper.spec.wandb.sweep import convert_wandb

    converted = convert_wandb(sweep)
    click.echo(converted.text, nl=False)
    for note in converted.notes:
        click.echo(f"note: {note}", err=True)
    return EXIT_OK
