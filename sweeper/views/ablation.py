"""An ablation's result as a terminal, a report, a paper or a script reads it."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final, Literal

from rich.console import Console

from sweeper.analysis.ablation import AblationResult, Effect, Row
from sweeper.analysis.replicates import interval_text, p_text
from sweeper.analysis.statistics import ALPHA, Difference
from sweeper.console import simple_table, to_json
from sweeper.spec.objective import Objective

Format = Literal["table", "markdown", "latex", "csv", "json"]
TOO_SMALL: Final = "n is too small to say"
VARIANTS: Final = (
    "variant",
    "n",
    "mean",
    "95 % interval",
    "difference",
    "95 % interval",
    "p (Holm)",
    "d_z",
    "collapsed",
)
EFFECTS: Final = ("effect", "n", "size", "95 % interval", "p (Holm)", "d_z", "same as")
NOTE: Final = (
    "n: runs that ran to their end; difference: variant minus baseline over the same seeds, with its paired t-test; "
    "d_z: difference over its standard deviation, with Hedges' correction"
)
TextTable = tuple[str, Sequence[str], Sequence[Sequence[str]]]
_LATEX: Final = str.maketrans({symbol: f"\\{symbol}" for symbol in "&%$#_{}"})


def render(result: AblationResult, form: Format) -> str:
    """The result as text in one of the formats."""
    match form:
        case "table":
            return _terminal(result)
        case "markdown":
            return _markdown(result)
        case "latex":
            return _latex(result)
        case "csv":
            return _csv(result)
        case _:
            return to_json(ablation_json(result))


def ablation_json(result: AblationResult) -> dict[str, Any]:
    """The result as a script reads it: the dataclasses as mappings, with each row's mean and interval."""
    data = asdict(result) | {"objective": result.objective.metric, "mode": result.objective.mode}
    for row, written in zip(result.rows, data["rows"], strict=True):
        written["estimate"] = asdict(row.runs.estimate)
        written["runs"]["values"] = [{"seed": seed, "value": value} for seed, value in row.runs.values.items()]
    return data


def tables(result: AblationResult) -> list[TextTable]:
    """Title, header and cells of each table: the variants, and of a factorial its main effects and interactions."""
    found: list[TextTable] = [("variants", VARIANTS, [_variant_cells(row, result.objective) for row in result.rows])]
    for title, effects in (("main effects", result.main_effects), ("interactions", result.interactions)):
        if effects:
            found.append((title, EFFECTS, [_effect_cells(effect, result.objective) for effect in effects]))
    return found


def title_of(result: AblationResult) -> str:
    """What was compared, in one line."""
    roman = {3: "III", 4: "IV", 5: "V"}.get(result.resolution or 0, str(result.resolution))
    resolution = f" of resolution {roman}" if result.resolution else ""
    seeds = f"{len(result.seeds) or 1} seed{'s' if len(result.seeds) > 1 else ''}"
    design = result.design.replace("_", " ")
    best = "lower" if result.objective.mode == "min" else "higher"
    return f"{result.study}: {design}{resolution}, {seeds}; {result.objective.metric}, {best} is better"


def _variant_cells(row: Row, objective: Objective) -> list[str]:
    runs, found = row.runs, row.runs.estimate
    name = f"{row.variant} (baseline)" if row.comparison is None and row.variant != "baseline" else row.variant
    mean = objective.format(found.mean) if found.n else "-"
    interval = TOO_SMALL if found.is_too_small else interval_text(found.low, found.high, objective)
    others = (
        [("-", "-", "-", "-")] if row.comparison is None else [_difference_cells(row.comparison.difference, objective)]
    )
    size, ends, p, effect = others[0]
    if row.comparison is not None and not math.isnan(row.comparison.p_holm):
        p = _p(row.comparison.p_holm)
    lost = [f"{runs.failed} failed"] * bool(runs.failed) + [f"{runs.stopped} stopped"] * bool(runs.stopped)
    collapsed = ", ".join([f"{runs.collapsed} of {runs.runs}", *lost])
    return [name, str(found.n), mean, interval, size, ends, p, effect, collapsed]


def _effect_cells(effect: Effect, objective: Objective) -> list[str]:
    size, ends, p, standard = _difference_cells(effect.difference, objective)
    if not math.isnan(effect.p_holm):
        p = _p(effect.p_holm)
    n = effect.difference.estimate.n
    return [effect.name, str(n), size, ends, p, standard, ", ".join(effect.aliases)]


def _difference_cells(difference: Difference, objective: Objective) -> tuple[str, str, str, str]:
    found = difference.estimate
    if not found.n:
        return "-", "-", "-", "-"
    size = f"+{objective.format(found.mean)}" if found.mean > 0 else objective.format(found.mean)
    if difference.is_too_small:
        return size, TOO_SMALL, "-", "-"
    if math.isnan(difference.p):
        return size, "the same with every seed", "-", "-"
    return size, interval_text(found.low, found.high, objective), "", f"{difference.effect:.2f}"


def _p(p: float) -> str:
    mark = " *" if p < ALPHA else ""
    return p_text(p).removeprefix("p = ").removeprefix("p ") + mark


def _terminal(result: AblationResult) -> str:
    out = io.StringIO()
    console = Console(file=out, width=200, highlight=False, markup=False)
    console.print(title_of(result), markup=False)
    for title, header, rows in tables(result):
        console.print(f"\n{title}")
        table = simple_table(header)
        table.columns[-1].justify = "left"
        for cells in rows:
            table.add_row(*cells)
        console.print(table)
    console.print(f"\n{NOTE}; * below {ALPHA:g}", markup=False, soft_wrap=True)
    console.print()
    for line in result.sentences:
        console.print(line, markup=False, soft_wrap=True)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _markdown(result: AblationResult) -> str:
    lines = [f"# {title_of(result)}", ""]
    for title, header, rows in tables(result):
        escaped = [[cell.replace("|", "\\|").replace("*", "\\*") for cell in cells] for cells in rows]
        lines += [f"## {title.capitalize()}", ""]
        lines += ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *escaped)]
        lines.append("")
    return "\n".join([*lines, f"{NOTE}; \\* below {ALPHA:g}.", "", *(f"- {line}" for line in result.sentences)])


def latex_escaped(text: str) -> str:
    """Text as LaTeX sets it."""
    return text.translate(_LATEX).replace("<", "$<$")


def _latex(result: AblationResult) -> str:
    """A tabular for each table, with the rules of the package booktabs."""
    blocks = []
    for title, header, rows in tables(result):
        body = [" & ".join(map(latex_escaped, cells)) + r" \\" for cells in rows]
        head = " & ".join(name.translate(_LATEX) for name in header) + r" \\"
        caption = f"{title_of(result)}: {title}".translate(_LATEX)
        frame = [rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\toprule", head, r"\midrule"]
        blocks += [r"\begin{table}", r"\centering", rf"\caption{{{caption}}}", *frame, *body, r"\bottomrule"]
        blocks += [r"\end{tabular}", r"\end{table}", ""]
    return "\n".join([*blocks, f"% {NOTE}", *(f"% {line}" for line in result.sentences)])


def _csv(result: AblationResult) -> str:
    """The table of variants with all digits; effects are rows of the same columns, by `kind`."""
    out = io.StringIO()
    fields = ["kind", "name", "n", "mean", "low", "high", "difference", "difference_low", "difference_high"]
    fields += ["p_holm", "d_z", "runs", "collapsed", "failed", "stopped"]
    writer = csv.DictWriter(out, fields, lineterminator="\n", restval="")
    writer.writeheader()
    for row in result.rows:
        found, runs = row.runs.estimate, row.runs
        cells: dict[str, Any] = {"kind": "variant", "name": row.variant, "n": found.n, "mean": found.mean}
        cells |= {"low": found.low, "high": found.high, "runs": runs.runs, "collapsed": runs.collapsed}
        cells |= {"failed": runs.failed, "stopped": runs.stopped}
        if row.comparison is not None:
            cells |= _csv_difference(row.comparison.difference, row.comparison.p_holm)
        writer.writerow(_numbers(cells))
    for kind, effects in (("main effect", result.main_effects), ("interaction", result.interactions)):
        for effect in effects:
            cells = {"kind": kind, "name": effect.name, "n": effect.difference.estimate.n}
            writer.writerow(_numbers(cells | _csv_difference(effect.difference, effect.p_holm)))
    return out.getvalue().rstrip("\n")


def _csv_difference(difference: Difference, p_holm: float) -> dict[str, Any]:
    found = difference.estimate
    ends = {"difference": found.mean, "difference_low": found.low, "difference_high": found.high}
    return ends | {"p_holm": p_holm, "d_z": difference.effect}


def _numbers(cells: dict[str, Any]) -> dict[str, Any]:
    """Without the numbers that there are none of: an empty cell."""
    return {key: "" if isinstance(value, float) and math.isnan(value) else value for key, value in cells.items()}
