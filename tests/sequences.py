"""Run hundreds of sequences of verbs, kills and damage on a study, overnight: see `sweeper_tests/state_machine.py`.

    PYTHONPATH=.:trainers:tests/sweeper_tests python tests/sequences.py --first 1000 --count 500

Print each sequence that goes wrong, with its steps, and at the end how many did and their seeds. For a single seed:
`--first SEED --count 1`.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from state_machine import Fault, run_sequence

from sweeper.tracking.store.database import prepare_database


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=1000, help="seed of the first sequence")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=600.0, help="begin none after so many minutes")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "mlflow.db"
        prepare_database(f"sqlite:///{database}")
        wrong: list[int] = []
        done, began_s = 0, time.monotonic()
        for seed in range(args.first, args.first + args.count):
            if time.monotonic() - began_s > 60 * args.minutes:
                break
            done += 1
            try:
                run_sequence(seed, database)
            except Fault as fault:
                wrong.append(seed)
                print(fault, end="\n\n", flush=True)
    last = args.first + done - 1
    print(f"{done} sequences (seeds {args.first} to {last}) in {time.monotonic() - began_s:.0f} s")
    print(f"{len(wrong)} went wrong: seeds {', '.join(map(str, wrong))}" if wrong else "none went wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
