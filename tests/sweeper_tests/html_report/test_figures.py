"""The figures of the report: axes, colours and symbols, and what is drawn in them."""

import random
import re
from importlib.resources import files
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from report_page import WINNER_WIDTH, page_of
from report_study import SPACE, USUAL, Trial, fill
from studies import make_spec

from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import TrialState


def test_a_control_near_zero_makes_no_axis_logarithmic(tmp_path: Path) -> None:
    fill(tmp_path, USUAL[:4], controls={"oracle": 6.1e-6, "constant_pose": 21.6})
    layout = page_of(tmp_path).figures["curves"]["layout"]
    assert "type" not in layout["yaxis"]  # linear
    assert -2 < layout["yaxis"]["range"][0] < 0 < 22.0 < layout["yaxis"]["range"][1] < 24.0


def test_a_state_has_one_colour_and_one_symbol_everywhere(tmp_path: Path) -> None:
    fill(tmp_path, USUAL)
    looks: dict[str, set[tuple[str, str]]] = {}
    colours: dict[str, set[str]] = {}
    for figure in page_of(tmp_path).figures.values():
        for trace in figure["data"]:
            if state := trace.get("meta", {}).get("state"):
                if trace.get("line", {}).get("width") == WINNER_WIDTH:
                    continue
                marked = trace.get("marker") or trace["line"]
                colours.setdefault(state, set()).add(marked["color"])
                if "symbol" in marked:
                    looks.setdefault(state, set()).add((marked["symbol"], marked["color"]))
    assert {state: {f"var(--{state.lower()})"} for state in colours} == colours
    assert set(looks) == {state.value for state, _, _ in USUAL if state} | {"RUNNING"}
    assert len(set.union(*looks.values())) == len(looks)


SIGHT = {  # linear RGB as it is seen; Machado, Oliveira and Fernandes 2009, severity 1
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_state_colours_can_be_told_apart_by_every_eye(scheme: int, sight: str) -> None:
    css = (files("sweeper.html_report") / "page.css").read_text()
    seen = {}
    for state in TrialState:
        code = re.findall(rf"--{state.value.lower()}: #(\w{{6}})", css)[scheme]
        rgb = np.array([int(code[at : at + 2], 16) / 255 for at in (0, 2, 4)])
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
        x, y, z = np.cbrt(to_xyz @ np.clip(SIGHT[sight] @ linear, 0, 1) / [0.9505, 1.0, 1.089])
        seen[state] = np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])  # CIE Lab
    assert min(np.linalg.norm(seen[one] - seen[other]) for one, other in combinations(seen, 2)) >= 18


def test_log_dimensions_have_log_axes_and_titles_have_units(tmp_path: Path) -> None:
    fill(tmp_path, USUAL)
    figures = page_of(tmp_path).figures
    layouts = [figures[f"parameter-{place}"]["layout"] for place in range(3)]
    assert [layout["xaxis"].get("type") for layout in layouts] == ["log", "linear", None]
    assert layouts[2]["xaxis"]["ticktext"] == ["theta", "pca"]
    assert layouts[0]["yaxis"]["title"]["text"] == "pa_mpjpe (mm)"
    assert figures["cost"]["layout"]["xaxis"]["title"]["text"] == "CPU-seconds"


def test_rungs_are_marked_in_the_curves(tmp_path: Path) -> None:
    fill(tmp_path, USUAL, scheduler={"grace_epochs": 1, "eta": 2})
    shapes = page_of(tmp_path).figures["curves"]["layout"]["shapes"]
    assert [shape["x0"] for shape in shapes if shape["line"]["dash"] == "dot"] == [1, 2]


def test_gradient_shares_are_drawn_for_the_winner_and_for_all_trials(tmp_path: Path) -> None:
    fill(tmp_path, USUAL)
    figures = page_of(tmp_path).figures
    assert [(t["name"], t["y"]) for t in figures["shares-winner"]["data"]] == [
        ("param", [0.25] * 4),
        ("joint", [0.75] * 4),
    ]
    assert figures["shares-trials"]["data"][0]["customdata"][0] == "toy-0000"


def test_the_collapsed_region_is_drawn_where_trials_collapsed(tmp_path: Path) -> None:
    draw = random.Random(0)
    trials: list[Trial] = []
    spec = make_spec(search_space=SPACE, trials=40, sampler={"name": "random"})
    probe = Ledger.create(tmp_path, "probe")
    for _ in range(40):
        weak = float(probe.ask(spec).params["loss.lambda_joint"]) < 0.3
        trials.append((TrialState.COLLAPSED if weak else TrialState.COMPLETE, "as planted", [20 + draw.random()]))
    fill(tmp_path, trials, sampler={"name": "random"}, scheduler={"grace_epochs": 1})
    figures = page_of(tmp_path).figures
    [region] = figures["parameter-0"]["layout"]["shapes"]
    assert region["x0"] == 0.01
    assert 0.15 < region["x1"] < 0.6
    assert figures["parameter-1"]["layout"]["shapes"] == []
    important = figures["importance"]["data"][0]
    assert set(important["y"]) == {"lambda_joint", "lambda_pca", "head", "(noise)"}
    assert sum(important["x"]) == pytest.approx(1.0, abs=1e-3)
    share = figures["map-loss.lambda_joint-loss.lambda_pca"]["data"][0]
    assert share["type"] == "contour"
    assert share["z"][16][0] > 0.9
    assert share["z"][16][-1] < 0.1
