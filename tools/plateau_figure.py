"""The figure of `docs/plateau.md`: errors by fault, and by loss balance with and without all faults."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tools.plateau_variants import BALANCE, LETTERS, Variant

REPORTED, HONEST, CONSTANT = "#c0392b", "#2471a3", "#7f8c8d"


def draw(variants: Sequence[Variant], path: Path) -> None:
    """Write the figure as SVG; the same study gives the same bytes."""
    none = next(variant for variant in variants if not variant.faults)
    most = max(variants, key=lambda variant: len(variant.faults))
    with mpl.rc_context({"svg.hashsalt": "plateau", "font.size": 9, "svg.fonttype": "none"}):
        figure = Figure(figsize=(11, 4.6), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=[3, 2], sharey=True)
        _by_fault(left, [each for each in variants if each.balance == none.balance])
        _by_balance(right, [each for each in variants if each.faults in ((), most.faults)], most.faults)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _by_fault(axes: Axes, variants: Sequence[Variant]) -> None:
    for place, each in enumerate(variants):
        axes.plot([place] * len(each.honest_mm), each.honest_mm, "o", color=HONEST, ms=4, alpha=0.7)
        axes.plot([place] * len(each.reported_mm), each.reported_mm, "_", color=REPORTED, ms=12, mew=2)
        axes.plot(place, each.constant_mm.mean(), "x", color=CONSTANT, ms=6)
    axes.set_xticks(range(len(variants)), [_called(each) for each in variants], rotation=60)
    axes.set_xlabel("mistakes that are switched on")
    axes.set_ylabel("PA-MPJPE (mm)")
    for marker, color, label in (
        ("_", REPORTED, "reported"),
        ("o", HONEST, "honest"),
        ("x", CONSTANT, "constant pose"),
    ):
        axes.plot([], [], marker, color=color, label=label)
    axes.legend(loc="center", bbox_to_anchor=(0.52, 0.72), frameon=False)


def _called(variant: Variant) -> str:
    missing = "".join(letter for letter in LETTERS.values() if letter not in variant.letters)
    match len(missing), len(variant.letters):
        case 0, _:
            return "all"
        case _, 0:
            return "none"
        case 1, _:
            return f"all but {missing}"
    return variant.letters


def _by_balance(axes: Axes, variants: Sequence[Variant], most: tuple[str, ...]) -> None:
    shares = sorted({each.balance for each in variants}, key=lambda weights: weights[1] / (weights[0] + weights[1]))
    for faults, color, label in (((), HONEST, "no mistakes"), (most, REPORTED, "all mistakes")):
        points = [(shares.index(each.balance), each) for each in variants if each.faults == faults]
        points.sort(key=lambda point: point[0])
        places = [place for place, _ in points]
        axes.errorbar(
            places,
            [each.reported_mm.mean() for _, each in points],
            [each.reported_mm.std() for _, each in points],
            marker="o",
            color=color,
            capsize=3,
            label=label,
        )
        axes.plot(
            places, [each.constant_mm.mean() for _, each in points], ":", color=color, label=f"constant pose, {label}"
        )
    axes.set_xticks(range(len(shares)), ["\n".join(f"{weight:g}" for weight in weights) for weights in shares])
    axes.set_xlabel(f"loss balance: {', '.join(BALANCE)}")
    axes.legend(loc="center", frameon=False)
