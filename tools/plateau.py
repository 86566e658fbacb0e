"""The write-up of finished forensic studies: `python -m tools.plateau plateau_forensics plateau_prior --out docs`.

Writes `plateau.md` and `plateau.svg`. Every number in them is of the studies; nothing is typed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sweeper.errors import UserError
from sweeper.ledger.studies import open_study
from sweeper.views.study import show_study
from tools.plateau_variants import read_variants, require_same_training


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the document and its figure; the exit code: 0 done, 2 no such study or not finished."""
    parser = argparse.ArgumentParser(prog="python -m tools.plateau", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("studies", nargs="+", metavar="study", help="finished study; the first holds the baseline")
    parser.add_argument("--home", type=Path, default=Path(".sweeper"), help="study home [%(default)s]")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder to write to [%(default)s]")
    options = parser.parse_args(arguments)
    try:
        specs = [open_study(options.home, study)[1] for study in options.studies]
        config = next(iter(specs[0].variants.values()))
        for study, spec in zip(options.studies, specs, strict=True):
            require_same_training(study, next(iter(spec.variants.values())), config)
        variants = [
            variant
            for study, spec in zip(options.studies, specs, strict=True)
            for variant in read_variants(show_study(options.home, study), spec.variants)
        ]
        if not any(variant.faults == () for variant in variants):
            raise UserError("no variant is without faults, so there is nothing to compare with")
    except UserError as error:
        print(error.render(), file=sys.stderr)
        return 2
    # matplotlib takes seconds to import: a typo should not.
    from tools.plateau_figure import draw
    from tools.plateau_text import document

    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "plateau.md").write_text(document(options.studies, variants, config))
    draw(variants, options.out / "plateau.svg")
    print(f"{options.out / 'plateau.md'}, {options.out / 'plateau.svg'}: {len(variants)} variants")
    return 0


if __name__ == "__main__":
    sys.exit(main())
