"""JSON schema of a sweep file, for editors: `python -m sweeper.spec.schema > search_spaces/schema.json`.

The schema also describes `base` by the config of the default trainer; other trainers' configs pass unchecked.
"""

import json
from typing import Any

from mano_trainers.config import TrainConfig
from sweeper.entrypoint.resolve import DEFAULT_TRAINER
from sweeper.spec.model import SpecFile


def spec_schema() -> dict[str, Any]:
    """The schema as plain data; `base` is TrainConfig's where the trainer is the default one."""
    schema = SpecFile.model_json_schema()
    base = TrainConfig.model_json_schema(ref_template="#/$defs/base/$defs/{model}")
    schema["required"] = [key for key in schema["required"] if key not in ("search_space", "trials")]
    named = {"anyOf": [{"required": ["variants"]}, {"required": ["ablation"]}]}
    schema["oneOf"] = [{"required": ["search_space"]}, named]
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "sweep"
    schema["$defs"]["base"] = base
    schema["if"] = {"properties": {"trainer": {"const": DEFAULT_TRAINER}}}
    schema["then"] = {"properties": {"base": {"$ref": "#/$defs/base"}}}
    return schema


if __name__ == "__main__":
    print(json.dumps(spec_schema(), indent=2))
