"""`sweeper init`."""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

import click

from sweeper.errors import EXIT_OK, UserError

TEMPLATES: Final = Path(__file__).parents[1] / "templates"
KINDS: Final = ("function", "script", "lightning", "hand")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
@click.option("--trainer", type=click.Choice(KINDS), default="function", show_default=True, help="What is swept.")
def init(folder: Path, trainer: str) -> int:
    """Write a commented sweep file and a trainer that run, sweep.yaml and train.py, into FOLDER, or the current one.

    `hand` needs no train.py: the hand trainer is included. Files that exist are never overwritten.

    \b
    Example:
      sweeper init --trainer script
    """
    texts = {
        folder / name: template.read_text()
        for name, template in (
            ("sweep.yaml", TEMPLATES / f"{trainer}.yaml"),
            ("train.py", TEMPLATES / f"{trainer}.py"),
        )
        if template.exists()
    }
    for path in texts:
        if path.exists():
            help = "nothing was written; name another folder: `sweeper init FOLDER`"
            raise UserError("it exists, and is not overwritten", str(path), help)
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        with path.open("x") as file:
            file.write(text)
        click.echo(f"wrote {path}")
    if trainer == "lightning" and find_spec("lightning") is None:
        click.echo("note: it needs Lightning: pip install 'mano-sweeper[lightning]'", err=True)
    click.echo(f"next: {'' if folder == Path() else f'cd {folder} && '}sweeper run sweep.yaml")
    return EXIT_OK
