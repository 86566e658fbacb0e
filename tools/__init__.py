"""Programs of the project itself, run from its folder: `python -m tools.NAME`."""
