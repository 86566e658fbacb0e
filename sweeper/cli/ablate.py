"""The verb of ablations."""

from pathlib import Path
from typing import Literal

import click

from sweeper.cli.options import complete_study, home_option, json_option
from sweeper.errors import EXIT_OK, UserError


@click.command()
@click.argument("study", metavar="STUDY|SPEC", shell_complete=complete_study)
@home_option
@click.option("--baseline", metavar="VARIANT", help="Compare with this one, instead of the spec's baseline.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "latex", "csv", "json"]),
    default="table",
    show_default=True,
    help="How to print it.",
)
@json_option
def ablate(
    study: str,
    home: Path,
    baseline: str | None,
    form: Literal["table", "markdown", "latex", "csv", "json"],
    as_json: bool,
) -> int:
    """Compare the variants of STUDY (or of the study of SPEC) with the baseline, over the seeds they share.

    For each the mean with its 95 % interval, the paired difference with p (corrected by Holm) and effect size, and how
    many runs collapsed; of factorial designs the main effects and interactions too. `sweeper run SPEC` trains them.

    \b
    Example:
      sweeper ablate alignment --format latex
    """
    if as_json and form not in ("table", "json"):
        raise UserError(f"--json and --format {form} cannot be used together", help="leave one of the two out")
    from sweeper.analysis.ablation import ablation_result
    from sweeper.ledger.studies import open_study
    from sweeper.spec.load import load_spec
    from sweeper.views.ablation import render

    name = load_spec(Path(study)).name if study.endswith((".yaml", ".yml")) else study
    ledger, spec = open_study(home, name)
    result = ablation_result(name, spec, ledger.trials(), baseline)
    click.echo(render(result, "json" if as_json else form))
    return EXIT_OK
