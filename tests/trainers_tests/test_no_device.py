"""What can be known about a training on a GPU without one.

The device `meta` has shapes and no values: what waits for a value (`.item()`, `bool()`, `.numpy()`), depends on one (a
boolean mask), or mixes devices, fails there. A step compiled as one graph has no branch on a value either.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dispatch import Started, Waiting
from torch._subclasses.fake_tensor import FakeTensorMode

from mano_trainers import checkpoint
from mano_trainers.checkpoint import Checkpoint
from mano_trainers.config import TrainConfig
from mano_trainers.data.load import LoadedData, load_data
from mano_trainers.device.replay import tensors_in
from mano_trainers.evaluation.predict import predict
from mano_trainers.lanes import Lanes
from mano_trainers.loop import Run, begin, restore, train_on
from mano_trainers.losses.balance import Balance
from mano_trainers.losses.procrustes import best_similarity
from mano_trainers.losses.terms import Target, loss_terms
from mano_trainers.models import HandNet, build_model
from mano_trainers.optimizer import WeightAverage, make_optimizer, raw_weights
from mano_trainers.precision import mixed
from mano_trainers.training.faults import pipeline_of
from mano_trainers.training.pipeline import Pipeline, augmented, raw_batch, training_batch
from mano_trainers.training.steps import StepRange, Training, train_steps

META = torch.device("meta")
DATA = {"embedded_count": 24, "image_size": 32, "val_fraction": 0.25}
TERMS = "param joint angular pca reg vertex procrustes direct shape orient variance entropy".split()
AUGMENTATION = {"zoom": 0.1, "colour": 0.2, "blur": 0.02, "erase": 0.5, "background": 0.5}
EVERYTHING: dict[str, Any] = {
    "model": {"head": "joints", "predict_shape": True, "predict_orient": True},
    "loss": {f"lambda_{name}": 0.5 for name in TERMS},
}
CONFIGS: dict[str, dict[str, Any]] = {
    "every term": EVERYTHING,
    "gradnorm": EVERYTHING | {"loss": EVERYTHING["loss"] | {"balance": "gradnorm"}},
    "uncertainty": EVERYTHING | {"loss": EVERYTHING["loss"] | {"balance": "uncertainty", "joint_form": "mse_m2"}},
    "rot6d in the camera's frame": {
        "model": {"head": "rot6d", "predict_orient": True},
        "loss": {"lambda_joint": 1.0, "joint_frame": "camera", "joint_form": "l1_mm"},
    },
    "transformer with pca": {
        "model": {"head": "pca", "backbone": "vit_tiny"},
        "loss": {"lambda_joint": 1.0, "lambda_pca": 0.01},
    },
    "no augmentation": {"augment": False},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedData]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINERS_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield load_data(config().data, with_masks=True)


def config(**changes: Any) -> TrainConfig:
    return TrainConfig.model_validate({"data": DATA, "eval": {"mesh_images": 4}, "device": "cpu"} | changes)


def made(data: LoadedData, chosen: TrainConfig, device: torch.device) -> tuple[Pipeline, HandNet]:
    pipeline = pipeline_of(data, chosen, device)
    return pipeline, build_model(chosen.model, chosen.data.image_size, data.hand).to(device).train()


def steps(pipeline: Pipeline, model: HandNet, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Two steps of the loop itself; the second one has moments. Its metrics may be read at the end, as zeros."""
    monkeypatch.setattr(torch.Tensor, "tolist", lambda values: [0.0] * values.numel())
    balance = Balance(pipeline.config.loss, META)
    optimizer = make_optimizer(model, pipeline.config.optim)
    order = np.arange(16).reshape(2, 8)
    return train_steps(Training(pipeline, model, optimizer, balance), None, StepRange(order, 0, 2))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_reads_no_value_and_mixes_no_devices(
    data: LoadedData, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, model = made(data, config(**CONFIGS[name]), META)
    assert "train/loss" in steps(pipeline, model, monkeypatch)
    assert all(parameter.device == META for parameter in model.parameters())
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", CONFIGS)
def test_validation_waits_for_the_device_once_and_at_its_end(
    data: LoadedData, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, model = made(data, config(**CONFIGS[name]), META)
    joined: list[torch.Size] = []

    def join(parts: Sequence[torch.Tensor]) -> None:
        assert all(part.device == META for part in parts)
        joined.append(torch.cat(list(parts)).shape)

    monkeypatch.setattr("mano_trainers.evaluation.predict._join", join)
    images = torch.empty(pipeline.images.shape, dtype=torch.uint8, device=META)
    predict(model, images, pipeline.val_images, 4, META)  # the last batch is not full
    count, chosen = len(pipeline.val_images), pipeline.config.model
    there = {(count, 45): True, (count, 10): chosen.predict_shape, (count, 3, 3): chosen.predict_orient}
    assert set(joined) - {(count, 21, 3)} == {shape for shape, is_there in there.items() if is_there}
    assert ((count, 21, 3) in joined) == (chosen.head == "joints")


def test_a_checkpoint_from_the_cpu_is_restored_on_the_models_device(
    data: LoadedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, moments and learned weights of the loss, complete and on the model's device."""
    chosen = config(**CONFIGS["gradnorm"], optim={"ema_decay": 0.9, "epochs": 1, "batch_size": 8})
    (report,) = train_on(data, chosen, torch.device("cpu"), tmp_path)
    assert report.checkpoint is not None
    state = checkpoint.load(report.checkpoint).state
    for device in (torch.device("cpu"), META):
        pipeline, model = made(data, chosen, device)
        optimizer, balance = make_optimizer(model, chosen.optim), Balance(chosen.loss, device)
        average = None if device == META else WeightAverage(model, 0.9)  # timm's does not know `meta`
        run = Run(Training(pipeline, model, optimizer, balance), average)
        assert restore(run, report.checkpoint) == 1
        restored = {"optimizer": optimizer.state_dict(), "balance": balance.state_dict()}
        restored |= {"raw_weights": raw_weights(model, average)} if average else {}
        pairs = list(_tensors(restored, {key: state[key] for key in restored}))
        assert len(pairs) > 100
        for path, ours, saved in pairs:
            assert (ours.shape, ours.dtype) == (saved.shape, saved.dtype), path
            assert path.endswith("/step") or ours.device == device, path
            assert device == META or torch.equal(ours, saved), path


def _tensors(ours: Any, saved: Any, path: str = "") -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """Pairs of tensors at the same place of two states; all else is equal, except what is set anew for a device."""
    match ours:
        case torch.Tensor():
            yield path, ours, saved
        case dict():
            assert ours.keys() == saved.keys(), path
            for key in ours:
                yield from _tensors(ours[key], saved[key], f"{path}/{key}")
        case list() | tuple():
            assert len(ours) == len(saved), path
            for index, pair in enumerate(zip(ours, saved, strict=True)):
                yield from _tensors(*pair, f"{path}/{index}")
        case _:
            assert path.endswith(("/fused", "/lr")) or ours == saved, path


def waits(pipeline: Pipeline, model: HandNet) -> list[str]:
    """What two steps would wait for on a GPU."""
    chosen = pipeline.config
    training = Training(pipeline, model, make_optimizer(model, chosen.optim), Balance(chosen.loss, META))
    with Waiting() as waiting:
        for step in range(2):
            training.step(*augmented(pipeline, raw_batch(pipeline, np.arange(8), step)))
    return waiting.found


@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_calls_nothing_that_waits_for_a_gpu(
    data: LoadedData, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = CONFIGS[name] | {"augmentation": AUGMENTATION}
    pipeline, model = made(data, config(**changes), META)
    assert not waits(pipeline, model)
    shapes = {tuple(each.shape for each in tensors_in(raw_batch(pipeline, np.arange(8), step))) for step in range(5)}
    assert len(shapes) == 1, "a recorded step is of one shape"


def test_what_would_wait_for_a_gpu_is_found(data: LoadedData, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, model = made(data, config(**EVERYTHING), META)
    with monkeypatch.context() as patch:
        patch.setattr("mano_trainers.data.augment.sent", lambda values, device: values.to(device))
        assert "to_copy from the CPU" in waits(pipeline, model)
    monkeypatch.setattr("mano_trainers.losses.procrustes.best_similarity_by_squaring", best_similarity)
    assert "linalg_svd" in waits(pipeline, model)


def test_a_step_of_eight_lanes_waits_for_nothing_and_starts_few_more_kernels_than_one(
    data: LoadedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the update of the weights, which each lane does by itself: its optimizer has one kernel for many weights
    only where there are values."""
    monkeypatch.setattr(Training, "follow_gradients", lambda training: None)
    configs = [config(**CONFIGS["transformer with pca"], augmentation=AUGMENTATION, seed=seed) for seed in range(8)]
    started = {}
    for count in (1, 8):
        first = begin(data, configs[0], META)
        runs = [first, *(begin(data, each, META, beside=first) for each in configs[1:count])]
        lanes = Lanes(runs)
        (raws,) = lanes.batches([StepRange(np.arange(8).reshape(1, 8), 0, 1)] * count)
        with Waiting() as waiting, Started() as started[count]:
            lanes.step(raws)
        assert not waiting.found
    assert started[8].count < 1.15 * started[1].count


@pytest.mark.parametrize("read", ["item", "bool", "mask"])
def test_the_device_without_values_catches_a_step_that_waits_for_one(
    data: LoadedData, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    pipeline, model = made(data, config(), META)
    forward = model.head.forward

    def waiting(outputs: torch.Tensor) -> Any:
        match read:
            case "item":
                outputs.sum().item()
            case "bool":
                assert outputs.sum() > 0
            case "mask":
                outputs[outputs > 0].sum()
        return forward(outputs)

    monkeypatch.setattr(model.head, "forward", waiting)
    with pytest.raises((RuntimeError, NotImplementedError)):
        steps(pipeline, model, monkeypatch)


def test_the_shapes_of_a_checkpoint_do_not_depend_on_the_device(data: LoadedData, tmp_path: Path) -> None:
    _, model = made(data, config(), torch.device("cpu"))
    checkpoint.save(tmp_path / "saved", Checkpoint(1, 1.0, {}, model.state_dict(), {}), {})
    _, there = made(data, config(), META)
    saved = checkpoint.load(tmp_path / "saved")
    assert {name: value.shape for name, value in saved.weights.items()} == {
        name: value.shape for name, value in there.state_dict().items()
    }


@pytest.mark.parametrize(("name", "native"), [*((name, True) for name in CONFIGS), (next(iter(CONFIGS)), False)])
def test_forward_and_losses_run_in_mixed_precision_on_a_fake_gpu(
    data: LoadedData, name: str, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`meta` lets products of two devices through, which this mode does not; backward needs a driver here."""
    pipeline, model = made(data, config(**CONFIGS[name]), torch.device("cpu"))
    _, target = training_batch(pipeline, np.arange(8), 0)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:

        def fake(value: Any) -> Any:
            return mode.from_tensor(value).cuda() if isinstance(value, torch.Tensor) else value

        def moved(module: torch.nn.Module) -> None:
            for each in module.modules():
                for names in (each._parameters, each._buffers):
                    for key, value in names.items():
                        names[key] = None if value is None else fake(value.detach())  # type: ignore[assignment]

        moved(model)
        moved(pipeline.criterion.hand)
        prior, codes = pipeline.criterion.prior, pipeline.criterion.codes
        for holder in (prior, codes, target):
            for key, value in vars(holder).items() if holder is not None else ():
                object.__setattr__(holder, key, fake(value))
        images = torch.empty(8, 3, 32, 32, device="cuda")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # or autocast turns itself off
        # A T4 has bfloat16 only by emulation.
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation
        )
        with mixed(images.device):
            assert model.backbone(images).dtype == (torch.bfloat16 if native else torch.float32)
            prediction = model(images)
        assert prediction.theta.dtype == torch.float32
        terms = loss_terms(pipeline.criterion, prediction, target)
    assert all(term.device.type == "cuda" for term in terms.values())
    assert all(term.dtype == torch.float32 for term in terms.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_forward_and_losses_are_one_graph(data: LoadedData, name: str) -> None:
    pipeline, model = made(data, config(**CONFIGS[name]), torch.device("cpu"))
    images, target = training_batch(pipeline, np.arange(8), 0)

    def losses(images: torch.Tensor, target: Target) -> dict[str, torch.Tensor]:
        return loss_terms(pipeline.criterion, model(images), target)

    torch._dynamo.reset()
    found = torch._dynamo.explain(losses)(images, target)
    assert (found.graph_count, found.graph_break_count) == (1, 0), found.break_reasons
    torch._dynamo.reset()
    compiled = torch.compile(losses, fullgraph=True, backend="aot_eager")(images, target)
    expected = losses(images, target)
    for term, value in compiled.items():
        torch.testing.assert_close(value, expected[term], rtol=1e-4, atol=1e-6)
    sum(compiled.values()).backward()  # type: ignore[union-attr]
