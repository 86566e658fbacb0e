"""The image -> MANO trainer. Knows nothing of sweeps; runs alone with ``python -m mano_trainers CONFIG.yaml``."""
