"""One trial explained: the sentence, and the tables behind it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sweeper.analysis.explain import Explanation
from sweeper.console import output_console
from sweeper.search_space.value_text import value_text
from sweeper.spec.objective import Objective, metric_number
from sweeper.study.decisions import apart
from sweeper.views.tables.columns import Column, fitted, lines_of

if TYPE_CHECKING:
    from rich.console import Console  # slow to import, and no JSON needs it

TEXTS: Final = ("TRIAL", "TERM", "STATE", "WITH", "")
SHORTEST_WITH: Final = 16
OF_A_RUNG: Final = ("value", "cutoff")
"""What a rung's evidence calls values of the objective."""
EPOCHS: Final = ("epoch", "epochs", "best_epoch", "rung_epoch")


def print_explanation(found: Explanation) -> None:
    """Print the sentence and the tables behind it on stdout."""
    console, objective = output_console(), found.objective
    console.print(found.sentence, markup=False)
    if found.rungs:
        console.print("\nrungs, as it reached them")
        rows = []
        for rung in found.rungs:
            value, cutoff = apart(rung.value, rung.cutoff, objective.number)
            cutoff = cutoff if rung.front is None else f"front {rung.front}"
            said = "continues" if rung.keep else "stops"
            rows.append((f"{rung.rung_epoch:g}", f"{rung.rank} of {rung.of}", value, cutoff, said))
        _print_table(
            console, ("EPOCH", "RANK", "BEST SO FAR", "CUTOFF" if found.rungs[0].front is None else "FRONT", ""), rows
        )
    if found.evidence:
        numbers = ", ".join(f"{key} {_evidence_text(key, value, objective)}" for key, value in found.evidence.items())
        console.print(f"\ndetails: {numbers}", markup=False)
    if found.neighbours:
        console.print("\nnearest configurations")
        rows = []
        for each in found.neighbours:
            value = "-" if each.value is None else objective.format(each.value)
            differs = ", ".join(f"{path} {value_text(other)}" for path, other in each.differs.items())
            rows.append((each.trial, f"{each.distance:.2f}", value, each.state, differs))
        _print_table(console, ("TRIAL", "DISTANCE", "VALUE", "STATE", "WITH"), rows)
    if found.gradient_shares:
        console.print("\nshare of the gradient")
        shares = [(term, f"{first:.0%}", f"{last:.0%}") for term, (first, last) in found.gradient_shares.items()]
        _print_table(console, ("TERM", "FIRST", "LAST"), shares)


def _print_table(console: "Console", heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """As wide as the terminal: what a trial differs in is cut first, its distance goes next."""
    columns = [
        Column(
            head,
            cells,
            "left" if head in TEXTS else "right",
            shrinks_to=SHORTEST_WITH if head == "WITH" else None,
            dropped=1 if head == "DISTANCE" else 0,
        )
        for head, cells in zip(heads, zip(*rows, strict=True), strict=True)
    ]
    for line in lines_of(fitted(columns, console.width if console.is_terminal else None)[0]):
        console.print(line, soft_wrap=True)


def _evidence_text(name: str, value: object, objective: Objective) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_evidence_text(name, each, objective) for each in value)}]"
    if not isinstance(value, float):
        return str(value)
    if name in EPOCHS:
        return f"{value:g}"
    return metric_number(objective.metric if name in OF_A_RUNG else name, value)
