"""One trial explained: the sentence, and the tables behind it."""

from sweeper.analysis.explain import Explanation
from sweeper.console import output_console, simple_table


def print_explanation(found: Explanation) -> None:
    """Print the sentence and the tables behind it on stdout."""
    console, objective = output_console(), found.objective
    console.print(found.sentence, markup=False)
    if found.rungs:
        console.print("\nrungs, when it came there")
        table = simple_table(("EPOCH", "RANK", "VALUE", "CUTOFF", ""))
        for rung in found.rungs:
            cells = (f"{rung.rung_epoch:g}", f"{rung.rank} of {rung.of}", objective.format(rung.value))
            table.add_row(*cells, objective.format(rung.cutoff), "goes on" if rung.keep else "does not go on")
        console.print(table)
    if found.evidence:
        numbers = ", ".join(f"{key} {_text(value)}" for key, value in found.evidence.items())
        console.print(f"\ndetails: {numbers}", markup=False)
    if found.neighbours:
        console.print("\nnearest configurations")
        table = simple_table(("TRIAL", "DISTANCE", "VALUE", "STATE", "WITH"))
        table.columns[-1].justify = "left"
        for each in found.neighbours:
            value = "-" if each.value is None else objective.format(each.value)
            differs = ", ".join(f"{path} {_text(other)}" for path, other in each.differs.items())
            table.add_row(each.trial, f"{each.distance:.2f}", value, each.state, differs)
        console.print(table)
    if found.gradient_shares:
        console.print("\nshare of the gradient")
        table = simple_table(("TERM", "FIRST", "LAST"))
        for term, (first, last) in found.gradient_shares.items():
            table.add_row(term, f"{first:.0%}", f"{last:.0%}")
        console.print(table)


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
