"""`python -m lean_node start ...` is `ray start ...` without the processes that no trial needs, as the sweeper starts
Ray on one machine: they take more than half of the processor time of a node."""

import sys

from ray.scripts.scripts import main

from sweeper.executor.lean_ray import lean_ray

if __name__ == "__main__":
    with lean_ray():
        sys.exit(main())
