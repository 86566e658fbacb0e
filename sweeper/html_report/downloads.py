"""The trials as files that the page itself contains: CSV for a spreadsheet, LaTeX for a paper."""

import base64
from typing import Final

from sweeper.html_report.data import StudyData
from sweeper.html_report.markdown import study_csv
from sweeper.search_space.paths import column_names
from sweeper.views.ablation import latex_escaped
from sweeper.views.study import BEST_ROWS, best_first
from sweeper.views.tables.trial_table import shown_metrics, trial_columns

NOT_IN_A_PAPER: Final = ("reason",)


def downloads(data: StudyData) -> list[tuple[str, str]]:
    """File name and data URI of each."""
    texts = {
        "trials.csv": study_csv(data.spec, data.trials, data.controls),
        "trials.tex": trials_latex(data),
    }
    return [
        (name, f"data:text/plain;charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}")
        for name, text in texts.items()
    ]


def trials_latex(data: StudyData) -> str:
    """A tabular of the best trials, with the rules of the package booktabs."""
    best = best_first(data.trials, data.spec.objective)[:BEST_ROWS]
    metrics = shown_metrics(data.spec.objectives, data.trials)
    columns = [
        column
        for column in trial_columns(best, column_names(data.spec.search_space), metrics)
        if column.head not in NOT_IN_A_PAPER
    ]
    rows = zip(*(column.cells for column in columns), strict=True)
    lines = [" & ".join(map(latex_escaped, cells)) + r" \\" for cells in rows]
    head = " & ".join(latex_escaped(column.head) for column in columns) + r" \\"
    places = "".join(column.justify[0] for column in columns)
    rules = [
        rf"\begin{{tabular}}{{{places}}}",
        r"\toprule",
        head,
        r"\midrule",
        *lines,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(rules) + "\n"
