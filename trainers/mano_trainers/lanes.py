"""Several trainings of one architecture at once, in one process: a lane for each.

A small network leaves most of a GPU idle, since the time goes into starting kernels. Here the weights of K networks are
stacked in tensors (K, ...), and `torch.func.vmap` turns K kernels into one. Their images are augmented as one batch,
and their loss terms weighted together. Everything else is the single run's own: each lane has its optimizer, average of
the weights, learned balance, order, draws of the augmentation and checkpoints, and its network's weights are views of
the stacked ones. So a lane gives the same result as its config alone, except for the rounding of sums, and its
checkpoints are those of a single run.

It pays off for small transformers, which consist of matrix products. Convolutions with K sets of weights are grouped
ones: on a GPU about as fast as in sequence, on a CPU half as fast (docs/benchmarks.md).
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from mano_trainers.config import TrainConfig
from mano_trainers.data.load import LoadedData, load_data
from mano_trainers.device import process
from mano_trainers.device.replay import Replay, on_side_stream, record_on_gpu
from mano_trainers.errors import TrainerError
from mano_trainers.lane_rules import check_lanes
from mano_trainers.loop import Run, begin, evaluated, evaluations, restore, steps_before
from mano_trainers.losses.balance import totals_of
from mano_trainers.losses.terms import Target, loss_terms
from mano_trainers.models import HandNet
from mano_trainers.optimizer import set_learning_rate
from mano_trainers.precision import mixed
from mano_trainers.report import EpochReport, Lane
from mano_trainers.training.one_batch import one_batch
from mano_trainers.training.pipeline import RawBatch, augmented, raw_batch
from mano_trainers.training.steps import StepRange, images_ahead, learning_rate, parts_of, shares_of, step_metrics


def train_lanes(
    next_round: Callable[[], Sequence[Lane]],
) -> Iterator[tuple[Lane, EpochReport | TrainerError | None]]:
    """Train one model for each lane, as `loop.train` does for one, a round after the other.

    A round trains its lanes to the next evaluation of each. They may be at different ones: a lane that is new in a
    round joins those that are there, from its checkpoint if it has one, and one that is left out ends and costs nothing
    from then on.

    Args:
        next_round: called before each round: the lanes that continue or join; none: the end. Their configs may differ
            in seed, loss weights, augmentation and how weights follow their gradients; see `check_lanes`.

    Yields:
        A lane of the round with its report, whose `train/seconds` are those of all lanes together; or with None, where
        it has ended before: after its last report, or one whose loss is not finite; or with the error that ends it.

    Raises:
        TrainerError: as `loop.train`, of all lanes. Any other exception is of one lane or of all, which is not known.
    """
    lanes = next_round()
    if not lanes:
        return
    first: TrainConfig = lanes[0].config
    with process.settings(first) as device:
        data = load_data(first.data, first.needs_masks)
        trained: dict[Lane, _Trained] = {}
        stacks: dict[tuple[Lane, ...], Lanes] = {}
        while lanes:
            trained = {lane: trained[lane] for lane in lanes if lane in trained}
            ranges: dict[Lane, StepRange] = {}
            for lane in lanes:
                try:
                    if lane not in trained:
                        check_lanes([first, lane.config])
                        trained[lane] = _joined(data, lane, device, next(iter(trained.values()), None))
                    if trained[lane].is_over:
                        yield lane, None
                    else:
                        ranges[lane] = steps_before(trained[lane].run.pipeline, trained[lane].evaluations + 1)
                except TrainerError as error:
                    trained.pop(lane, None)
                    yield lane, error
            together = _of_equal_length(ranges)
            stacks = {each: stacks.get(each) or Lanes([trained[lane].run for lane in each]) for each in together}
            for members, stacked in stacks.items():
                metrics = stacked.train_steps([ranges[lane] for lane in members])
                for lane, of_lane in zip(members, metrics, strict=True):
                    yield lane, trained[lane].evaluated(of_lane, lane.workdir)
            lanes = next_round()


@dataclass
class _Trained:
    """A lane's run, and the number of its evaluations so far."""

    run: Run
    evaluations: int
    is_lost: bool = False

    @property
    def is_over(self) -> bool:
        return self.is_lost or self.evaluations == evaluations(self.run.pipeline.config)

    def evaluated(self, metrics: dict[str, float], workdir: Path) -> EpochReport:
        """The next evaluation, after its steps."""
        self.evaluations += 1
        report = evaluated(self.run, metrics, self.evaluations, workdir)
        self.is_lost = not math.isfinite(report.metrics["train/loss"])
        return report


def _joined(data: LoadedData, lane: Lane, device: torch.device, other: _Trained | None) -> _Trained:
    """A lane at its start, or where its checkpoint was written, beside another one."""
    run = begin(data, lane.config, device, fresh=lane.resume is None, beside=None if other is None else other.run)
    return _Trained(run, 0 if lane.resume is None else restore(run, lane.resume))


def _of_equal_length(ranges: Mapping[Lane, StepRange]) -> list[tuple[Lane, ...]]:
    """Lanes with as many steps to their next evaluations: the parts of an epoch may differ by a step."""
    found: dict[int, list[Lane]] = {}
    for lane, steps in ranges.items():
        found.setdefault(len(steps.order), []).append(lane)
    return [tuple(members) for members in found.values()]


class Lanes:
    """Runs whose networks' weights are made views of stacked ones, (lanes, ...).

    Args:
        runs: of configs that `check_lanes` accepts.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        self.trainings = [run.training for run in runs]
        models = [training.model.train() for training in self.trainings]
        self.weights, self.buffers = stack_module_state(models)
        for lane, model in enumerate(models):
            for name, weight in model.named_parameters():
                weight.data = self.weights[name].detach()[lane]
                weight.grad = None
            for name, buffer in model.named_buffers():
                buffer.data = self.buffers[name][lane]
        self.totals = totals_of([each.balance for each in self.trainings])
        self.sums = torch.stack([each.sums for each in self.trainings])
        for lane, training in enumerate(self.trainings):
            training.sums = self.sums[lane]
        recorded = self.trainings[0].pipeline.device.type == "cuda" and all(each.replay for each in self.trainings)
        self.replay = Replay(self.step, record_on_gpu) if recorded else None
        self.last = next(name for name, each in models[0].named_parameters() if each is models[0].last_layer.weight)

    def train_steps(self, ranges: Sequence[StepRange]) -> list[dict[str, float]]:
        """The steps of every lane, as many of each; the `train/` metrics of each."""
        weights = [training.balance.weights() for training in self.trainings]
        self.sums.zero_()
        for training in self.trainings:
            training.model.train()
        device, started_s = self.runs[0].pipeline.device, time.perf_counter()
        for number, raws in enumerate(self.batches(ranges)):
            for run, steps in zip(self.runs, ranges, strict=True):
                rate = learning_rate(run.pipeline.config.optim, steps.first_step + number, steps.total_steps)
                set_learning_rate(run.training.optimizer, rate)
            if number == 0:
                with on_side_stream(device):
                    self.step(raws, weights)
            elif self.replay is None:
                self.step(raws)
            else:
                self.replay(raws)
            for run, steps in zip(self.runs, ranges, strict=True):
                if run.average is not None:
                    run.average.update(run.training.model, steps.first_step + number)
        return [
            step_metrics(training, steps, each, started_s)
            for training, steps, each in zip(self.trainings, ranges, weights, strict=True)
        ]

    def step(self, raws: Sequence[RawBatch], weights: Sequence[Mapping[str, float]] | None = None) -> None:
        """A step of every lane, from what `batches` yields. With `weights` of the terms, their shares are taken too."""
        images, target = self._images_and_target(raws)
        for weight in self.weights.values():
            weight.grad = None
        for training in self.trainings:
            training.balance.zero_grad()
        config = self.runs[0].pipeline.config
        for rows in parts_of(images.shape[1], config.optim.micro_batches):
            terms = self._terms(images[:, rows], {name: value[:, rows] for name, value in target.items()})
            columns = torch.stack(list(terms.values()), dim=1)
            losses = self.totals(columns)
            if weights is not None and rows.start == 0:
                self._take_shares(terms, weights)
            share = (rows.stop - rows.start) / images.shape[1]
            (share * losses.sum()).backward()
            self.sums += share * torch.cat((losses[:, None], columns), dim=1).detach()
        for lane, training in enumerate(self.trainings):
            for name, weight in training.model.named_parameters():
                slope = self.weights[name].grad
                weight.grad = None if slope is None else slope[lane]
            training.follow_gradients()

    def batches(self, ranges: Sequence[StepRange]) -> Iterator[tuple[RawBatch, ...]]:
        """The batches of all lanes, step by step: as one where they are augmented in the same ways, else each."""
        ahead = [images_ahead(run.pipeline, steps.order) for run, steps in zip(self.runs, ranges, strict=True)]
        for number, gathered in enumerate(zip(*ahead, strict=True)):
            raws = tuple(
                raw_batch(run.pipeline, steps.order[number], steps.first_step + number, None, there)
                for run, steps, there in zip(self.runs, ranges, gathered, strict=True)
            )
            joined = one_batch(raws)
            yield raws if joined is None else (joined,)

    def _images_and_target(self, raws: Sequence[RawBatch]) -> tuple[Tensor, dict[str, Tensor]]:
        """Augmented images (lanes, B, 3, S, S), and what of a `Target` there is, (lanes, B, ...)."""
        made = [augmented(self.runs[0].pipeline, raw) for raw in raws]  # images and labels are those of all lanes
        images = torch.cat([pair[0] for pair in made])
        targets = [vars(pair[1]) for pair in made]
        target = {
            name: self._by_lane(torch.cat([each[name] for each in targets]))
            for name, value in targets[0].items()
            if value is not None
        }
        return self._by_lane(images), target

    def _by_lane(self, values: Tensor) -> Tensor:
        return torch.unflatten(values, 0, (len(self.runs), -1))

    def _terms(self, images: Tensor, target: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss terms (lanes,) of images (lanes, B, 3, S, S)."""
        model: HandNet = self.trainings[0].model
        criterion, device = self.runs[0].pipeline.criterion, images.device

        def of_lane(
            weights: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor, target: dict[str, Tensor]
        ) -> dict[str, Tensor]:
            with mixed(device):
                prediction = functional_call(model, (weights, buffers), (images,))
            return loss_terms(criterion, prediction, Target(**target))

        with _LanesAreABatch():
            terms: dict[str, Tensor] = vmap(of_lane)(self.weights, self.buffers, images, target)
        return terms

    def _take_shares(self, terms: Mapping[str, Tensor], weights: Sequence[Mapping[str, float]]) -> None:
        """As `gradient_shares` for every lane: lanes do not depend on each other, so one slope serves all."""
        norms = []
        for name, term in terms.items():
            weighed = torch.stack([each[name] * term[lane] for lane, each in enumerate(weights)]).sum()
            (slope,) = torch.autograd.grad(weighed, self.weights[self.last], retain_graph=True)
            norms.append(slope.flatten(1).norm(dim=1))
        shares = shares_of(torch.stack(norms))
        for lane, training in enumerate(self.trainings):
            training.shares = shares[:, lane]


class _LanesAreABatch(TorchFunctionMode):
    """Attention of lanes is one call with a larger batch.

    vmap's own rule keeps the rows' sums in a layout that the gradient of a GPU's fused attention refuses ("LSE is not
    correctly aligned"), and on a CPU lanes would take turns.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, key, value = args
        assert not any((kwargs or {}).values()), "no mask and no dropout in these networks"
        return _Attention.apply(query, key, value)


class _Attention(torch.autograd.Function):
    """`scaled_dot_product_attention` of (B, heads, tokens, width). Its gradient is that of the call in `vmap`."""

    @staticmethod
    def forward(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Nothing is kept: `forward` is never what lanes call."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int, ...], *given: Tensor) -> tuple[Tensor, int]:
        query, key, value = (each.movedim(axis, 0).flatten(0, 1) for each, axis in zip(given, in_dims, strict=True))
        attended = F.scaled_dot_product_attention(query, key, value)
        return attended.view(info.batch_size, -1, *attended.shape[1:]), 0
