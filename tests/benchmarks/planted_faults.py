"""Which planted faults does the preflight find, and how often does it fail sound pipelines?

    python tests/benchmarks/planted_faults.py found --variant a --out found_a.json
    python tests/benchmarks/planted_faults.py sound --counts 30 60 100 --seeds 0 1 2 --layouts freihand ho3d dexycb

Each pipeline runs in a forked process, on rendered poses at 32 px. One core: 3 s a fault that is found by the checks of
its family, 15 s one that is not. The images are rendered on first use, into TRAINERS_CACHE_DIR.
"""

import argparse
import importlib
import itertools
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "trainers_tests"))

FAMILIES = {
    "optimisation": ["training", "loss"],
    "seen": ["seen", "pixels", "images", "figures", "labels"],
    "labels": ["labels", "images", "figures"],
    "evaluation": ["training", "metric"],
    "validation": ["split", "held_out", "figures"],
    "losses": ["training", "loss"],
    "augmentation": ["pixels", "augmentation", "training"],
    "reviewed": ["split", "seen", "loss", "training"],
}
"""Groups of checks that are likely to find a fault of a family. The others run only if those do not."""

MAKERS = {"freihand": 32, "ho3d": 120, "dexycb": 120}
"""Layouts of real sets (right hands; DexYCB's of both), with the height of their pictures in pixels."""


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    if arguments.what == "found":
        _found(arguments.variant, arguments.out)
    else:
        _sound(arguments.counts, arguments.seeds, arguments.layouts)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["found", "sound"])
    parser.add_argument("--variant", choices=["a", "b"], default="a")
    parser.add_argument("--out", type=Path, default=Path("planted_faults.json"))
    parser.add_argument("--counts", type=int, nargs="+", default=[30, 60, 100, 300])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--layouts", nargs="+", choices=["embedded", *MAKERS], default=["embedded"])
    return parser.parse_args()


def _found(variant: str, out: Path) -> None:
    from plants import run_planted

    from mano_trainers.preflight import CHECKS

    kept: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    for family, groups in FAMILIES.items():
        for plant in importlib.import_module(f"plants.{family}").PLANTS:
            if plant.variant != variant or plant.kind in kept:
                continue
            others = [name for name in CHECKS if name not in (*groups, "overfit")]
            for chosen in (groups, others, ["overfit"]):
                result = run_planted([plant.apply], only=chosen, until_found=True)
                if result.get("error") or _failed(result):
                    break
            kept[plant.kind] = result
            out.write_text(json.dumps(kept))
            print(
                f"{'found' if _failed(result) else 'MISSED':6} {plant.kind:55} {', '.join(_failed(result))}", flush=True
            )
            if result.get("error"):
                print(result["trace"], file=sys.stderr)
    print(f"{sum(bool(_failed(result)) for result in kept.values())} of {len(kept)} kinds found")


def _failed(result: dict[str, Any]) -> list[str]:
    return [name for name, (status, *_) in result["checks"].items() if status == "FAIL"]


def _sound(counts: list[int], seeds: list[int], layouts: list[str]) -> None:
    from plants import run_planted
    from plants.case import base_mapping

    from mano_trainers.config import TrainConfig
    from mano_trainers.data.load import load_data

    alarms = 0
    for count, layout, seed in itertools.product(counts, layouts, seeds):
        with tempfile.TemporaryDirectory() as folder:
            mapping = base_mapping(count, seed=seed) | {"seed": seed, "augment": seed % 2 == 0}
            if layout != "embedded":
                root = Path(folder) / layout
                make = importlib.import_module(f"mano_trainers.data.rendering.{layout}")
                getattr(make, f"make_{layout}")(root, count, MAKERS[layout], seed)
                mapping["data"] = {"root": str(root), "format": layout, "image_size": 32}
            load_data(TrainConfig.model_validate(mapping).data)
            result = run_planted(mapping=mapping)
        failed = _failed(result)
        alarms += bool(failed) or "error" in result
        unsure = [name for name, (status, *_) in result["checks"].items() if status == "WARN"]
        verdict = f"FAIL {', '.join(failed)}" if failed else result.get("error", "sound")
        print(f"{layout:8} {count:5} poses, seed {seed}: {verdict}; WARN: {', '.join(unsure)}", flush=True)
    print(f"{alarms} of {len(counts) * len(layouts) * len(seeds)} sound pipelines fail")


if __name__ == "__main__":
    main()
