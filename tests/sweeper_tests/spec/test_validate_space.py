"""The exact error pages of search spaces whose parts do not fit together."""

from pathlib import Path

import pytest

from sweeper.errors import SpecError
from sweeper.spec.load import parse_spec
from sweeper.spec.resolve import SweepSpec, resolve
from sweeper.views.spec import describe

FILE = Path("s.yaml")
GOOD = """\
name: tiny
base: {loss: {lambda_joint: 3.0}}
search_space:
  model.backbone: {choices: [resnet_tiny, handformer_small]}
  loss.lambda_joint: {low: 0.1, high: 10.0, log: true, when: {model.backbone: handformer_small}}
  optim.lr: {low: 1e-4, high: 1e-2, log: true}
constraints:
  - optim.lr * 1000 < 9
enqueue:
  - {model.backbone: handformer_small, loss.lambda_joint: 2.0}
objective: {metric: val/pa_mpjpe_mm, mode: min}
trials: 4
"""
GRID = """\
name: tiny
search_space:
  optim.lr: {values: [1e-3, 1e-4]}
  optim.batch_size: {type: int, low: 16, high: 64, step: 16}
objective: {metric: val/pa_mpjpe_mm, mode: min}
sampler: {name: grid}
"""


def page_of(text: str, *overrides: str) -> str:
    with pytest.raises(SpecError) as error:
        parse_spec(text, FILE, overrides)
    return error.value.render()


BAD = {
    "unknown parent": (
        "{model.backbone: handformer_small}}",
        "{model.bakbone: handformer_small}}",
        "error: the search space has no parameter `model.bakbone`\n"
        "  --> s.yaml:5:63 search_space.loss.lambda_joint.when.model.bakbone\n"
        "help: did you mean `model.backbone`?",
    ),
    "value the parent never has": (
        "{model.backbone: handformer_small}}",
        "{model.backbone: handformer_smal}}",
        "error: `model.backbone` is never `handformer_smal`\n"
        "  --> s.yaml:5:79 search_space.loss.lambda_joint.when.model.backbone\n"
        "help: did you mean `handformer_small`?",
    ),
    "one value of a list": (
        "{model.backbone: handformer_small}}",
        "{model.backbone: [resnet_tiny, resnet18]}}",
        "error: `model.backbone` is never `resnet18`\n"
        "  --> s.yaml:5:93 search_space.loss.lambda_joint.when.model.backbone.1\n"
        "help: did you mean `resnet_tiny`?",
    ),
    "cycle": (
        "handformer_small]}",
        "handformer_small], when: {loss.lambda_joint: 1.0}}",
        "error: a parameter cannot depend on itself: model.backbone -> loss.lambda_joint -> model.backbone\n"
        "  --> s.yaml:4:62 search_space.model.backbone.when\n"
        "help: remove one of these `when`",
    ),
    "bound the config refuses of a child": (
        "low: 0.1, high: 10.0, log: true",
        "low: -1, high: 10.0",
        "error: expected a number >= 0 but got -1\n  --> s.yaml:5:28 search_space.loss.lambda_joint.low",
    ),
    "constraint that is none": (
        "optim.lr * 1000 < 9",
        "optim.lr * 1000",
        "error: expected a comparison but got `optim.lr * 1000`\n  --> s.yaml:8:5 constraints.0\n"
        "help: a constraint consists of names of parameters, numbers, + - * / **, comparisons, and, or, not, min, max, "
        "log",
    ),
    "constraint on an unknown parameter": (
        "optim.lr * 1000 < 9",
        "optim.rl * 1000 < 9",
        "error: the search space has no parameter `optim.rl`\n  --> s.yaml:8:5 constraints.0\n"
        "help: did you mean `optim.lr`?",
    ),
    "constraint on a text": (
        "optim.lr * 1000 < 9",
        "model.backbone < 9",
        "error: `model.backbone` is not a number, so a constraint cannot use it\n  --> s.yaml:8:5 constraints.0",
    ),
    "constraints that nothing meets": (
        "optim.lr * 1000 < 9",
        "optim.lr > 1",
        "error: no point of the search space that was tried meets the constraints\n  --> s.yaml:7:1 constraints\n"
        "help: widen the ranges or loosen a constraint\n\n"
        "error: this configuration violates the constraint `optim.lr > 1`\n  --> s.yaml:10:5 enqueue.0",
    ),
    "unknown parameter of an entry": (
        "loss.lambda_joint: 2.0",
        "loss.lamda_joint: 2.0",
        "error: the search space has no parameter `loss.lamda_joint`\n"
        "  --> s.yaml:10:40 enqueue.0.loss.lamda_joint\n"
        "help: did you mean `loss.lambda_joint`?",
    ),
    "value outside its dimension": (
        "loss.lambda_joint: 2.0",
        "loss.lambda_joint: 20",
        "error: `loss.lambda_joint` cannot be 20\n  --> s.yaml:10:59 enqueue.0.loss.lambda_joint\n"
        "help: it must be between 0.1 and 10",
    ),
    "entry with a child without its parent": (
        "{model.backbone: handformer_small, loss",
        "{loss",
        "error: `loss.lambda_joint` exists only for certain values of `model.backbone`, which this entry does not set\n"
        "  --> s.yaml:10:6 enqueue.0.loss.lambda_joint\n"
        "help: add it, or leave this out",
    ),
    "entry that breaks a constraint": (
        "loss.lambda_joint: 2.0",
        "optim.lr: 0.0095",
        "error: this configuration violates the constraint `optim.lr * 1000 < 9`\n  --> s.yaml:10:5 enqueue.0",
    ),
    "range in a grid": (
        "trials: 4",
        "sampler: {name: grid}",
        "error: a grid needs lists, and `loss.lambda_joint` is a range of real numbers\n"
        "  --> s.yaml:5:3 search_space.loss.lambda_joint\n"
        "help: give it `values: [...]` or a `step`\n\n"
        "error: a grid needs lists, and `optim.lr` is a range of real numbers\n"
        "  --> s.yaml:6:3 search_space.optim.lr\n"
        "help: give it `values: [...]` or a `step`\n\n"
        "error: a grid has its own order, nothing can come first\n  --> s.yaml:9:1 enqueue",
    ),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_parts_that_do_not_fit_together_are_refused(case: tuple[str, str, str]) -> None:
    old, new, expected = case
    assert old in GOOD
    assert page_of(GOOD.replace(old, new)) == expected


def test_more_entries_than_trials_are_refused() -> None:
    page = page_of(GOOD, "trials=1", "enqueue=[{}, {}]")
    assert page == "error: 2 configurations come first, but there is 1 trial\n  --> --set 'enqueue=[{}, {}]'"


def test_a_good_spec_is_described_in_words() -> None:
    text = describe(parse_spec(GOOD, FILE))
    assert "    lambda_joint  0.1 to 10, log scale; only if model.backbone is handformer_small\n" in text
    assert "  constraint  optim.lr * 1000 < 9\n" in text
    assert text.endswith("  enqueue     model.backbone: handformer_small, loss.lambda_joint: 2.0")


def test_a_parameter_that_does_not_exist_keeps_the_value_of_base() -> None:
    spec = parse_spec(GOOD, FILE)
    assert resolve(spec, {"model.backbone": "resnet_tiny", "optim.lr": 1e-3})["loss"]["lambda_joint"] == 3.0
    assert spec.effective["base"]["loss"]["lambda_joint"] == 3.0
    assert "lr" not in spec.effective["base"]["optim"]
    assert SweepSpec.model_validate(spec.effective).effective == spec.effective


def test_overrides_reach_a_condition_and_an_entry() -> None:
    spec = parse_spec(
        GOOD,
        FILE,
        [
            "search_space.loss.lambda_joint.when.model.backbone=resnet_tiny",
            "enqueue.0.model.backbone=resnet_tiny",
            "enqueue.0.loss.lambda_joint=4",
        ],
    )
    assert spec.search_space["loss.lambda_joint"].when == {"model.backbone": ("resnet_tiny",)}
    assert spec.enqueue == ({"model.backbone": "resnet_tiny", "loss.lambda_joint": 4},)
    assert page_of(GOOD, "enqueue.0.loss.lambda_joint=40").startswith(
        "error: `loss.lambda_joint` cannot be 40\n  --> --set 'enqueue.0.loss.lambda_joint=40'"
    )


def test_a_grid_has_as_many_trials_as_points_unless_fewer_are_requested() -> None:
    spec = parse_spec(GRID, FILE)
    assert spec.trials == 8
    assert "  sampler     grid of 8 points, in written order, the last parameter changing fastest\n" in describe(spec)
    assert parse_spec(GRID, FILE, ["trials=3"]).trials == 3
    assert page_of(GRID, "trials=9") == (
        "error: the grid has 8 points, and each is one trial; got 9 trials\n  --> --set 'trials=9'"
    )
    assert SweepSpec.model_validate(spec.effective).effective == spec.effective


def test_a_grid_too_large_to_count_or_empty_is_refused() -> None:
    large = GRID.replace("high: 64, step: 16", "high: 9000000")
    assert page_of(large) == "error: the grid has more than 100000 points\n  --> s.yaml:2:1 search_space"
    assert page_of(GRID, "constraints=['optim.lr > 1']") == (
        "error: no point of the grid meets the constraints\n  --> --set 'constraints=['optim.lr > 1']'"
    )


def test_a_grid_leaves_out_the_points_that_break_a_constraint() -> None:
    assert parse_spec(GRID, FILE, ["constraints=['optim.lr * optim.batch_size < 0.03']"]).trials == 5


def test_values_cannot_be_combined_or_repeated() -> None:
    assert page_of(GRID.replace("[1e-3, 1e-4]", "[1e-3, 1e-4], log: true")) == (
        "error: `values` cannot be combined with `low`, `high`, `log` or `step`\n"
        "  --> s.yaml:3:13 search_space.optim.lr"
    )
    assert page_of(GRID.replace("[1e-3, 1e-4]", "[1e-3, 1e-3]")) == (
        "error: `values` contains 0.001 more than once\n  --> s.yaml:3:13 search_space.optim.lr"
    )


def test_several_objectives_are_described_and_read_back_as_written() -> None:
    two = GOOD.replace(
        "{metric: val/pa_mpjpe_mm, mode: min}", "[{metric: val/pa_mpjpe_mm, mode: min}, {metric: val/auc, mode: max}]"
    )
    spec = parse_spec(two, FILE)
    assert spec.objective.metric == "val/pa_mpjpe_mm"
    assert "  objective   lowest val/pa_mpjpe_mm, then highest val/auc\n" in describe(spec)
    assert spec.effective["objective"] == [
        {"metric": "val/pa_mpjpe_mm", "mode": "min"},
        {"metric": "val/auc", "mode": "max"},
    ]
    assert SweepSpec.model_validate(spec.effective).effective == spec.effective
    assert parse_spec(GOOD, FILE).effective["objective"] == {"metric": "val/pa_mpjpe_mm", "mode": "min"}
    assert page_of(two.replace("val/auc", "val/pa_mpjpe_mm")) == (
        "error: two objectives have the metric `val/pa_mpjpe_mm`\n  --> s.yaml:11:12 objective"
    )
    assert page_of(two.replace("mode: max", "mode: most")) == (
        "error: expected one of `min`, `max`, but got `most`\n  --> s.yaml:11:75 objective.1.mode"
    )
    assert page_of(GOOD, "objective=[]") == "error: expected at least 1 objective\n  --> --set 'objective=[]'"


@pytest.mark.parametrize(
    ("override", "page"),
    [
        (
            "warm_start={study: tiny}",
            "error: a study cannot start from itself\n  --> {}\nhelp: give this one another `name`",
        ),
        (
            "warm_start={study: early, trials: bst 3}",
            "error: expected `all` or `best N`, but got `bst 3`\n  --> {}",
        ),
        ("warm_start={}", "error: missing key `study`\n  --> {}\nhelp: add `study:`"),
    ],
)
def test_an_impossible_warm_start_is_refused(override: str, page: str) -> None:
    assert page_of(GOOD, override) == page.replace("{}", f"--set '{override}'", 1)


def test_the_built_in_trainer_gets_at_most_one_gpu() -> None:
    assert page_of(GOOD, "resources.gpus=2") == (
        "error: mano_trainers.loop:train trains on one GPU, but got 2: the others would be idle\n"
        "  --> --set 'resources.gpus=2'\n"
        "help: set it to 1 and let several trials run at once: resources.concurrent"
    )
    parse_spec(GOOD, FILE, ["resources.gpus=0.5"])


def test_a_sampler_that_does_not_learn_takes_no_warm_start() -> None:
    page = page_of(GOOD, "sampler.name=qmc", "warm_start={study: early}")
    assert page.startswith("error: the sampler `qmc` does not learn from trials, not even those of a warm start\n")


def test_the_guides_search_space_is_valid() -> None:
    section = Path("docs/guide.md").read_text().split("## What varies\n")[1]
    block = section.split("```yaml\n")[1].split("```")[0]
    spec = parse_spec(f"name: readme\ntrials: 20\n{block}", FILE)
    assert spec.search_space["model.pca_components"].when == {"model.head": ("pca",)}
    assert (len(spec.objectives), len(spec.constraints), len(spec.enqueue)) == (2, 1, 1)
