"""An ablation's result as a terminal, a report, a paper or a script reads it."""

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final, Literal

from sweeper.analysis.ablation import AblationResult, Effect, Row
from sweeper.analysis.replicates import TOO_SMALL, interval_text, mean_interval_text, p_text
from sweeper.analysis.statistics import ALPHA, Difference
from sweeper.console import to_json
from sweeper.spec.objective import Objective
from sweeper.views.tables.columns import Column, fitted, lines_of

Format = Literal["table", "markdown", "latex", "csv", "json"]
VARIANTS: Final = (
    "variant",
    "n",
    "mean",
    "sd",
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
    "d_z: difference over its standard deviation, with Hedges' correction; p: corrected for all rows of all tables "
    "together; collapsed: of the runs that have ended, with the 95 % interval of the share"
)
SHORTEST_ALIASES: Final = 12
DROPPED: Final = {("d_z", 8): 5, ("95 % interval", 4): 4, ("sd", 3): 3, ("d_z", 5): 2, ("same as", 6): 3, ("n", 1): 1}
"""Heads of columns with their priorities: a narrow terminal drops those with the largest number first."""
SHARE: Final = re.compile(r" \([^)]*%\)")
"""The interval of a share, which a narrow terminal drops."""
TextTable = tuple[str, Sequence[str], Sequence[Sequence[str]]]
_LATEX: Final = str.maketrans({symbol: f"\\{symbol}" for symbol in "&%$#_{}"})


def render(result: AblationResult, form: Format, width: int | None = None) -> str:
    """The result as text in one of the formats; `width`: of the terminal that shows a table; None: no limit."""
    match form:
        case "table":
            return _terminal(result, width)
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
    sd = "-" if math.isnan(found.sd) else objective.number(found.sd)
    interval = mean_interval_text(found, objective)
    others = (
        [("-", "-", "-", "-")] if row.comparison is None else [_difference_cells(row.comparison.difference, objective)]
    )
    size, ends, p, effect = others[0]
    if row.comparison is not None and not math.isnan(row.comparison.p_holm):
        p = _p(row.comparison.p_holm)
    lost = [f"{runs.failed} failed"] * bool(runs.failed) + [f"{runs.stopped} stopped"] * bool(runs.stopped)
    collapsed = ", ".join([runs.collapses_text, *lost])
    return [name, str(found.n), mean, sd, interval, size, ends, p, effect, collapsed]


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


def _terminal(result: AblationResult, width: int | None) -> str:
    lines = [title_of(result), *result.opening]
    for title, header, rows in tables(result):
        cells = list(zip(*rows, strict=True))
        columns = [
            Column(
                head,
                cells[place],
                "left" if place in (0, len(header) - 1) else "right",
                shrinks_to=SHORTEST_ALIASES if head == "same as" else None,
                dropped=DROPPED.get((head, place), 0),
                short_cells=tuple(SHARE.sub("", cell) for cell in cells[place]) if head == "collapsed" else (),
            )
            for place, head in enumerate(header)
        ]
        kept, gone = fitted(columns, width)
        lines += ["", title, *lines_of(kept)]
        if gone:
            lines.append(f"not shown: {', '.join(gone)}; `--format csv` has all")
    return "\n".join([*lines, "", f"{NOTE}; * below {ALPHA:g}", "", *result.sentences])


def _markdown(result: AblationResult) -> str:
    lines = [f"# {title_of(result)}", "", *(f"- {line}" for line in result.opening), ""]
    for title, header, rows in tables(result):
        lines += [f"## {title.capitalize()}", "", *markdown_table(header, rows), ""]
    return "\n".join([*lines, f"{NOTE}; \\* below {ALPHA:g}.", "", *(f"- {line}" for line in result.sentences)])


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    escaped = [[cell.replace("|", "\\|").replace("*", "\\*") for cell in cells] for cells in rows]
    return ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *escaped)]


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
    return "\n".join([*blocks, f"% {NOTE}", *(f"% {line}" for line in (*result.opening, *result.sentences))])


def _csv(result: AblationResult) -> str:
    """The table of variants with all digits; effects are rows of the same columns, by `kind`."""
    out = io.StringIO()
    fields = ["kind", "name", "n", "mean", "sd", "low", "high", "difference", "difference_low", "difference_high"]
    fields += ["p_holm", "d_z", "runs", "collapsed", "failed", "stopped"]
    fields += [f"with_collapses_{name}" for name in ("difference", "low", "high")]
    writer = csv.DictWriter(out, fields, lineterminator="\n", restval="")
    writer.writeheader()
    for row in result.rows:
        found, runs = row.runs.estimate, row.runs
        cells: dict[str, Any] = {
            "kind": "variant",
            "name": row.variant,
            "n": found.n,
            "mean": found.mean,
            "sd": found.sd,
        }
        cells |= {"low": found.low, "high": found.high, "runs": runs.runs, "collapsed": runs.collapsed}
        cells |= {"failed": runs.failed, "stopped": runs.stopped}
        if row.comparison is not None:
            cells |= _csv_difference(row.comparison.difference, row.comparison.p_holm)
            if (counted := row.comparison.with_collapses) is not None:
                ends = (counted.mean, counted.low, counted.high)
                cells |= dict(zip(fields[-3:], ends, strict=True))
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
    """Missing numbers become empty cells."""
    return {key: "" if isinstance(value, float) and math.isnan(value) else value for key, value in cells.items()}
