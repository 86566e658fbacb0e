"""The shared image -> MANO trainer. Knows nothing of sweeps; runs alone with ``python -m trainers CONFIG.yaml``."""
