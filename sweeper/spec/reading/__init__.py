"""From text to data: YAML, overrides, and the wording of errors."""
