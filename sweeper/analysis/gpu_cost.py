"""What a study would take on GPUs that are not here, from what its trainer says about an epoch and their rates."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from mano_trainers.report import EpochWork, GpuRate
from sweeper.entrypoint.epoch_work import epoch_work
from sweeper.errors import UserError
from sweeper.search_space.dimensions import AnyDimension, extremes
from sweeper.search_space.paths import set_path
from sweeper.spec.model import VARIANT, SpecFile
from sweeper.spec.resolve import SweepSpec, accepted_example, resolve
from sweeper.study.usage.budget import HOUR_S

NOTHING: Final = EpochWork(0.0, "", ())
PRICES: Final = {"T4": 0.5, "A100": 1.5, "H100": 3.0, "H200": 4.0}
"""Euros per hour, rounded: mid-range on-demand cloud prices, from price comparisons of May 2026."""
PRICES_FROM: Final = "on demand, May 2026; providers differ by half to twice that"


@dataclass(frozen=True)
class GpuCost:
    """A study on one kind of GPU: GPU-hours, and euros if a price is known.

    Attributes:
        gpu: its kind, as the trainer names it.
        images_per_epoch: as the trainer says for the first config.
        images_from: where that number comes from.
        images_per_s: for the first config.
        within: the hours are expected within this factor, either way.
        rate_from: who measured the rate, or how it was estimated.
        seconds_per_epoch: on average over what the study varies.
        expected_hours: if trials are stopped early as expected.
        worst_hours: if none are.
        euros_per_hour: the price; None: unknown.
        price_from: where it comes from.
        expected_euros: for the expected hours.
        worst_euros: for the worst ones.
        trials_in_budget: about how many of the trials fit the budget, where the expected hours do not.
    """

    gpu: str
    images_per_epoch: float
    images_from: str
    images_per_s: float
    within: float
    rate_from: str
    seconds_per_epoch: float
    expected_hours: float
    worst_hours: float
    euros_per_hour: float | None
    price_from: str
    expected_euros: float | None
    worst_euros: float | None
    trials_in_budget: int | None


def gpu_costs(
    spec: SweepSpec, expected_epochs: float, worst_epochs: float, prices: Mapping[str, float]
) -> tuple[GpuCost, ...]:
    """The cost on each GPU that the trainer names; empty if the study asks for no GPU, or the trainer says nothing.

    Trials that share a GPU are counted as if one after the other.

    Args:
        spec: the study.
        expected_epochs: of all trials.
        worst_epochs: of all trials.
        prices: euros per hour of a GPU, by its name in any case; they take precedence over the spec's and the usual
            ones.

    Raises:
        UserError: the trainer fails when asked, or a price is for a GPU that it does not name.
    """
    asked = {gpu.upper(): price for gpu, price in prices.items()}
    work, seconds = NOTHING, dict[str, float]()
    if spec.resources.gpus:
        work, seconds = _mean_of_variants(spec) if spec.variants else _mean_of_space(spec)
    if unknown := sorted(asked.keys() - {gpu.upper() for gpu in seconds}):
        known = f"those on {', '.join(seconds)} are" if seconds else "for this study none are"
        raise UserError(f"no hours on a {unknown[0]} are estimated; {known}", f"--price {unknown[0]}")
    epochs = (expected_epochs, worst_epochs)
    return tuple(
        _cost(spec, work, rate, seconds[rate.gpu], epochs, asked) for rate in work.rates if rate.gpu in seconds
    )


def _cost(
    spec: SpecFile,
    work: EpochWork,
    rate: GpuRate,
    seconds: float,
    epochs: tuple[float, float],
    asked: Mapping[str, float],
) -> GpuCost:
    gpus_held = max(1.0, spec.resources.trial_gpus)
    expected_hours, worst_hours = (each * gpus_held * seconds / HOUR_S for each in epochs)
    price, price_from = _price(spec, rate.gpu, asked)
    expected_euros, worst_euros = (None if price is None else hours * price for hours in (expected_hours, worst_hours))
    return GpuCost(
        rate.gpu,
        work.images,
        work.source,
        rate.images_per_s,
        rate.within,
        rate.source,
        seconds,
        expected_hours,
        worst_hours,
        price,
        price_from,
        expected_euros,
        worst_euros,
        _trials_in_budget(spec, expected_hours, expected_euros),
    )


def _price(spec: SpecFile, gpu: str, asked: Mapping[str, float]) -> tuple[float | None, str]:
    if gpu.upper() in asked:
        return asked[gpu.upper()], "--price"
    if spec.budget.euros_per_gpu_hour is not None:
        return spec.budget.euros_per_gpu_hour, "the spec's budget"
    return PRICES.get(gpu), PRICES_FROM if gpu in PRICES else "unknown"


def _trials_in_budget(spec: SpecFile, hours: float, euros: float | None) -> int | None:
    """About how many trials fit, by the tightest limit; None: all do."""
    budget, at_once = spec.budget, spec.resources.concurrent
    parts = [] if budget.gpu_seconds is None else [budget.gpu_seconds / HOUR_S / hours]
    if budget.euros is not None and euros:
        parts.append(budget.euros / euros)
    if budget.wall_clock_s is not None and at_once != "all":  # otherwise nobody knows how many GPUs there will be
        parts.append(budget.wall_clock_s / HOUR_S / hours * max(1.0, at_once * spec.resources.trial_gpus))
    tightest = min(parts, default=1.0)
    return int(spec.trials * tightest) if tightest < 1 else None


def _epoch(spec: SweepSpec, config: Mapping[str, Any]) -> EpochWork:
    return epoch_work(spec.trainer, config) or NOTHING


def _seconds(work: EpochWork) -> dict[str, float]:
    """Of an epoch, by GPU."""
    return {rate.gpu: work.images / rate.images_per_s for rate in work.rates}


def _means(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of seconds by GPU, of the GPUs that all of them have."""
    everywhere = [gpu for gpu in found[0] if all(gpu in each for each in found)]
    return {gpu: statistics.mean(each[gpu] for each in found) for gpu in everywhere}


def _mean_of_variants(spec: SweepSpec) -> tuple[EpochWork, dict[str, float]]:
    """The work of the first variant, and seconds per epoch by GPU, averaged over all."""
    found = [_epoch(spec, resolve(spec, {VARIANT: name})) for name in spec.variants]
    return found[0], _means([_seconds(work) for work in found])


def _mean_of_space(spec: SweepSpec) -> tuple[EpochWork, dict[str, float]]:
    """The same over the ends of each parameter: if the backbone varies, so does the length of an epoch. Parameters are
    assumed to lengthen it independently."""
    config = resolve(spec, accepted_example(spec))
    first = _epoch(spec, config)
    one = mean = _seconds(first)
    for path, dimension in spec.search_space.items() if one else ():
        along = _means([*_along(spec, config, path, dimension)] or [one])
        mean = {gpu: mean[gpu] * along[gpu] / one[gpu] for gpu in mean if gpu in along}
    return first, mean


def _along(
    spec: SweepSpec, config: Mapping[str, Any], path: str, dimension: AnyDimension
) -> Iterator[dict[str, float]]:
    for _, value in extremes(dimension):
        changed = deepcopy(dict(config))
        set_path(changed, path, value)
        try:
            yield _seconds(_epoch(spec, changed))
        except ValidationError:  # a combination that no trial has
            continue


def gpu_lines(costs: tuple[GpuCost, ...]) -> list[str]:
    """The costs for people; two digits, since more would be meaningless."""
    if not costs:
        return []
    images, source = costs[0].images_per_epoch, costs[0].images_from
    lines = [f"  estimates   one GPU, {images:,.0f} images per epoch ({source}); not measured here:"]
    for cost in costs:
        hours = f"{_rounded(cost.expected_hours)} h, worst case {_rounded(cost.worst_hours)} h"
        euros = ""
        if cost.expected_euros is not None and cost.worst_euros is not None:
            euros = f"; {_rounded(cost.expected_euros)} euros, worst case {_rounded(cost.worst_euros)}"
            euros += f", at {cost.euros_per_hour:g} an hour"
        fits = "" if cost.trials_in_budget is None else f"; over the budget: about {cost.trials_in_budget} trials fit"
        lines.append(f"    {cost.gpu:<9} {hours}{euros}{fits}")
        lines.append(f"{'':14}{_rounded(cost.images_per_s)} images/s, within {cost.within:g} x: {cost.rate_from}")
    if any(cost.price_from == PRICES_FROM for cost in costs):
        lines.append(f"  prices      {PRICES_FROM}; --price GPU=EUROS sets yours")
    return lines


def _rounded(value: float) -> str:
    """Two digits, whole numbers from 10 up."""
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:g}"
