"""Batches of several runs as one: what is done to each image is then started once for all runs."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mano_trainers.training.pipeline import RawBatch


def one_batch(raws: Sequence[RawBatch]) -> RawBatch | None:
    """The images of these batches, one batch after the other; None if they are not augmented in the same ways.

    How strongly each is augmented does not matter. `augment` and `put_behind` do to each image what they would do to it
    in its own batch.
    """
    if any(_form(raw) != _form(raws[0]) for raw in raws):
        return None
    count = len(raws[0].poses)
    joined: RawBatch = _joined([_after(number * count, raw) for number, raw in enumerate(raws)])
    return joined


def _after(first: int, raw: RawBatch) -> RawBatch:
    """A batch whose images follow `first` others: a background's donor is counted from the first of all."""
    if raw.drawn is None or raw.drawn.background is None:
        return raw
    background = raw.drawn.background
    return replace(raw, drawn=replace(raw.drawn, background=replace(background, donor=background.donor + first)))


def _form(inputs: Any) -> Any:
    """Which tensors there are, and of which shapes."""
    if isinstance(inputs, Tensor):
        return inputs.shape, inputs.dtype
    if is_dataclass(inputs):
        return {each.name: _form(getattr(inputs, each.name)) for each in fields(inputs)}
    return inputs


def _joined(inputs: Sequence[Any]) -> Any:
    """Tensors, or those of dataclasses, one after the other along their first dimension."""
    first = inputs[0]
    if isinstance(first, Tensor):
        return torch.cat(list(inputs))
    if is_dataclass(first) and not isinstance(first, type):
        names = [each.name for each in fields(first)]
        return replace(first, **{name: _joined([getattr(each, name) for each in inputs]) for name in names})
    return first
