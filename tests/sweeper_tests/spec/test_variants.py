"""Named variants instead of a search space: each is one trial, in the order of the file."""

import math
from pathlib import Path

import pytest

from mano_trainers.config import TrainConfig
from mano_trainers.loop import train
from sweeper.errors import SpecError, UserError
from sweeper.ledger.ledger import Ledger, TrialState
from sweeper.reproducibility.drift import spec_differences
from sweeper.spec.load import load_spec, parse_spec
from sweeper.spec.resolve import SweepSpec, control_config, resolve
from sweeper.study.next_trial import TrialsToCome
from sweeper.views.spec import describe

FILE = Path("s.yaml")
SEED_VARIANTS = Path("search_spaces/seed_variants.yaml")
NAMES = (
    "resnet_v1 resnet_v2 transformer_v1 transformer_v2 transformer_v3 transformer_v3.1 "
    "diversity procrustes curriculum handformer_full vit_b16 direct_joints"
).split()
TEXT = """\
name: pair
base:
  optim: {epochs: 2}
variants:
  small: {model.backbone: resnet_tiny, optim.lr: 1.0e-3}
  large.2:
    model.backbone: resnet18
    loss.lambda_joint: 5.0
objective: {metric: val/pa_mpjpe_mm, mode: min}
"""


def errors_of(text: str, *overrides: str) -> str:
    with pytest.raises(SpecError) as error:
        parse_spec(text, FILE, overrides)
    return error.value.render()


def test_a_variant_sets_several_fields_and_leaves_the_others_as_in_base() -> None:
    spec = parse_spec(TEXT, FILE)
    assert spec.trials == 2
    config = resolve(spec, {"variant": "large.2"})
    assert (config["model"]["backbone"], config["loss"]["lambda_joint"]) == ("resnet18", 5.0)
    assert config["optim"] == TrainConfig.model_validate({"optim": {"epochs": 2}}).optim.model_dump()
    assert resolve(spec, {"variant": "small"})["optim"]["lr"] == 1e-3


def test_trials_are_the_variants_in_order_even_after_a_restart(tmp_path: Path) -> None:
    spec = load_spec(SEED_VARIANTS)
    tried = []
    for _ in NAMES:
        ledger = Ledger.create(tmp_path, spec.name)  # as a driver that was killed after each trial
        record = ledger.ask(spec)
        ledger.finish(record.id, TrialState.COMPLETE, "", {}, (5.0,))
        tried.append(record.params["variant"])
    assert tried == NAMES


def test_retrying_a_failed_variant_costs_no_other_its_turn(tmp_path: Path) -> None:
    spec = load_spec(SEED_VARIANTS)
    ledger = Ledger.create(tmp_path, spec.name)
    failed = ledger.ask(spec)
    ledger.finish(failed.id, TrialState.FAILED, "boom", {}, (None,))
    again = ledger.add_retry(ledger.trial(failed.id), spec)
    rest = [ledger.ask(spec).params["variant"] for _ in NAMES[1:]]
    assert (again.params["variant"], rest) == (NAMES[0], NAMES[1:])
    assert TrialsToCome(spec, ledger).is_exhausted
    with pytest.raises(UserError, match="every point of the grid was tried"):
        ledger.ask(spec)


def test_fewer_trials_are_the_first_variants_and_more_are_refused() -> None:
    assert parse_spec(TEXT, FILE, ["trials=1"]).trials == 1
    assert "there are 2 variants, and each is one trial; got 3 trials" in errors_of(TEXT, "trials=3")


def test_overrides_reach_into_a_variant_whose_name_has_dots() -> None:
    spec = parse_spec(TEXT, FILE, ["variants.large.2.loss.lambda_joint=7.5", "variants.small.seed=3"])
    assert resolve(spec, {"variant": "large.2"})["loss"]["lambda_joint"] == 7.5
    assert resolve(spec, {"variant": "small"})["seed"] == 3


def test_the_effective_spec_holds_every_field_of_every_variant() -> None:
    spec = parse_spec(TEXT, FILE)
    assert SweepSpec.model_validate(spec.effective).effective == spec.effective
    other = parse_spec(TEXT, FILE, ["base.seed=4", "variants.small.optim.lr=2e-3"])
    differences = spec_differences(spec.effective, other.effective)
    assert sorted(differences) == [
        "base.seed: 0 -> 4",
        "variants.large.2.seed: 0 -> 4",
        "variants.small.optim.lr: 0.001 -> 0.002",
        "variants.small.seed: 0 -> 4",
    ]


SEEDS = TEXT + "seeds: [3, 0]\n"


def test_the_controls_of_a_resumed_study_are_those_of_its_file() -> None:
    for spec in (parse_spec(TEXT, FILE), load_spec(SEED_VARIANTS)):
        resumed = SweepSpec.model_validate(spec.effective | {"text": "", "path": None}, strict=False)
        for control in spec.control_names:
            assert control_config(resumed, control) == control_config(spec, control)
        for name in spec.variants:
            assert resolve(resumed, {"variant": name}) == resolve(spec, {"variant": name})
    assert control_config(parse_spec(TEXT, FILE), "oracle")["optim"]["epochs"] == 2


def test_every_variant_is_tried_with_every_seed_one_variant_after_the_other(tmp_path: Path) -> None:
    spec = parse_spec(SEEDS, FILE)
    assert spec.trials == 4
    tried = []
    for _ in range(4):
        ledger = Ledger.create(tmp_path, spec.name)  # as a driver that was killed after each trial
        record = ledger.ask(spec)
        ledger.finish(record.id, TrialState.COMPLETE, "", {}, (5.0,))
        tried.append((record.params["variant"], record.params["seed"]))
        assert resolve(spec, record.params)["seed"] == record.params["seed"]
    assert tried == [("small", 3), ("small", 0), ("large.2", 3), ("large.2", 0)]
    assert "each variant once with each seed" in describe(spec)


def test_the_effective_spec_with_seeds_reads_back_and_shows_a_changed_seed() -> None:
    spec = parse_spec(SEEDS, FILE)
    assert SweepSpec.model_validate(spec.effective).effective == spec.effective
    other = parse_spec(SEEDS, FILE, ["seeds=[3, 1]"])
    assert sorted(spec_differences(spec.effective, other.effective)) == [
        "search_space.seed.choices.1: 0 -> 1",
        "seeds.1: 0 -> 1",
    ]
    assert parse_spec(SEEDS, FILE, ["trials=3"]).trials == 3


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("trials=5", "there are 2 variants, and each is once with each of 2 seeds; got 5 trials"),
        ("seeds=[1, 1]", "a seed is named twice"),
        ("seeds=[-1]", "expected a number >= 0 but got -1"),
        ("seeds=[one]", "but got `one`"),
        ("base.seed=4", "`seeds` sets this field too"),
        ("variants.small.seed=4", "`seeds` sets this field too"),
        ("replicate_seed=per_trial", "`seeds` says which seeds there are"),
    ],
)
def test_what_does_not_go_together_with_seeds_is_refused(override: str, told: str) -> None:
    assert told in errors_of(SEEDS, override)


def test_seeds_without_variants_are_refused() -> None:
    space = TEXT[: TEXT.index("variants")] + "search_space: {optim.lr: {low: 0.1, high: 1.0}}\ntrials: 2\n"
    assert "`seeds` repeats `variants`" in errors_of(space + TEXT[TEXT.index("objective") :] + "seeds: [1]\n")


@pytest.mark.parametrize(
    ("old", "new", "page"),
    [
        (
            "optim.lr: 1.0e-3",
            "optim.rl: 1.0e-3",
            "error: unknown key `rl`\n  --> s.yaml:5:40 variants.small.optim.rl\nhelp: did you mean `optim.lr`?",
        ),
        (
            "loss.lambda_joint: 5.0",
            "loss.lambda_joint: -5.0",
            "error: expected a number >= 0 but got -5\n  --> s.yaml:8:24 variants.large.2.loss.lambda_joint",
        ),
        (
            "loss.lambda_joint: 5.0",
            "model.head: joints",
            "error: model.head joints learns nothing without loss.lambda_direct\n"
            "  --> s.yaml:8:17 variants.large.2.model.head",
        ),
        ("epochs: 2", "epochs: 0", "error: expected a number >= 1 but got 0\n  --> s.yaml:3:19 base.optim.epochs"),
        (
            "objective",
            "search_space: {seed: {choices: [1]}}\nobjective",
            "error: `search_space` and `variants` cannot be used together\n  --> s.yaml:1:1",
        ),
    ],
)
def test_an_error_in_a_variant_is_reported_at_its_place(old: str, new: str, page: str) -> None:
    assert errors_of(TEXT.replace(old, new, 1)) == page


def test_the_variants_of_the_first_study_have_its_weights_and_learning_rates() -> None:
    spec = load_spec(SEED_VARIANTS)
    assert list(spec.variants) == NAMES
    weights = ("param", "joint", "angular", "pca", "reg")
    expected = {
        "resnet_v1": ("resnet18", 1e-4, (1, 0, 0, 0, 0.01)),
        "resnet_v2": ("resnet18", 1e-4, (1, 25, 0, 0, 0.001)),
        "transformer_v1": ("handformer_small", 5e-5, (0.5, 25, 0, 0, 0.001)),
        "transformer_v2": ("handformer_small", 7.5e-5, (0.5, 25, 0, 0, 0.001)),
        "transformer_v3": ("handformer_small", 7.5e-5, (0.5, 5, 1, 0.1, 0.001)),
        "transformer_v3.1": ("handformer_small", 7.5e-5, (1, 1, 2, 0.5, 0.001)),
    }
    for name, (backbone, lr, lambdas) in expected.items():
        config = resolve(spec, {"variant": name})
        assert (config["model"]["backbone"], config["optim"]["lr"]) == (backbone, lr)
        assert tuple(config["loss"][f"lambda_{term}"] for term in weights) == lambdas
        assert (config["optim"]["batch_size"], config["optim"]["epochs"]) == (64, 50)


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_variant_of_the_first_study_trains_on_the_embedded_data(
    name: str, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINERS_CACHE_DIR", str(cache_dir))
    small = ("optim.epochs=1", "optim.batch_size=8", "data.embedded_count=64", "data.image_size=32", "device=cpu")
    spec = load_spec(SEED_VARIANTS, [f"base.{change}" for change in small])
    (report,) = train(TrainConfig.model_validate(resolve(spec, {"variant": name})), tmp_path)
    assert all(math.isfinite(value) for value in report.metrics.values())
    assert report.metrics["train/optimizer_steps"] == 58 // 8
