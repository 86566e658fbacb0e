"""`sweeper data`: verbs that make and check data sets. Slow modules are imported inside the verb that needs them."""

import json
import sys
from pathlib import Path
from typing import Literal, get_args

import click

from sweeper.cli.options import json_option
from sweeper.errors import EXIT_OK

Layout = Literal["freihand", "ho3d", "dexycb"]


@click.group()
def data() -> None:
    """Make, cut and check data sets.

    \b
    Example:
      sweeper data make --out hands --count 100
    """


@data.command()
@click.option(
    "--format", "layout", type=click.Choice(get_args(Layout)), default="freihand", help="Layout of the files."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to create; it must not exist yet.")
@click.option("--count", type=click.IntRange(min=1), required=True, help="Hand poses; FreiHAND has 4 images of each.")
@click.option(
    "--size", type=click.IntRange(16, 1024), default=64, show_default=True, help="Height of an image, pixels."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same bytes.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes, for freihand; default: all cores.")
def make(layout: Layout, out: Path, count: int, size: int, seed: int, workers: int | None) -> int:
    """Render a licence-free data set of hands with labels.

    \b
    Example:
      sweeper data make --format freihand --out hands --count 1000 --size 64 --seed 0
    """
    from mano_trainers.data.rendering.dexycb import make_dexycb
    from mano_trainers.data.rendering.freihand import make_freihand
    from mano_trainers.data.rendering.ho3d import make_ho3d

    with click.progressbar(
        length=count, label="rendering hands", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:

        def progress(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        match layout:
            case "freihand":
                make_freihand(out, count, size, seed, progress, workers)
            case "ho3d":
                make_ho3d(out, count, size, seed, progress)
            case "dexycb":
                make_dexycb(out, count, size, seed, progress)
    click.echo(out)
    return EXIT_OK


@data.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--count", type=click.IntRange(min=2), required=True, help="Poses to keep, in all their image versions.")
def subset(folder: Path, out: Path, count: int) -> int:
    """Cut a smaller set OUT out of the FreiHAND set in FOLDER; every image keeps its label.

    Image i shows pose i modulo the number of poses, so a set that is cut by hand pairs images with labels of other
    poses. Images are hard links where the file system allows it.

    \b
    Example:
      sweeper data subset FreiHAND freihand_500 --count 500
    """
    from mano_trainers.data.subset import cut_subset

    training, evaluation = cut_subset(folder.expanduser(), out.expanduser(), count)
    click.echo(f"{out}: {training} training images of {count} poses, {evaluation} evaluation images")
    return EXIT_OK


@data.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--format", "layout", type=click.Choice(get_args(Layout)), default="freihand", help="Layout of the files."
)
@click.option("--hand", default="embedded", help="`embedded`, or the path of MANO_RIGHT.pkl for real data sets.")
@json_option
def verify(folder: Path, layout: Layout, hand: str, as_json: bool) -> int:
    """Check every label and image of the data set in FOLDER; the first bad file is named.

    Exit code: 0 sound, 2 not.

    \b
    Example:
      sweeper data verify hands --format freihand
    """
    from dataclasses import asdict

    from mano_trainers.data.verify import verify_set

    with click.progressbar(length=1, label="decoding", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:

        def progress(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        found = verify_set(folder, layout, hand, progress)
    click.echo(json.dumps(asdict(found), indent=2) if as_json else f"OK: {found}")
    return EXIT_OK
