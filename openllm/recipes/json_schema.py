"""The JSON Schema of a recipe file, for editors: ``python -m openllm.recipes.json_schema`` writes it anew."""

from __future__ import annotations

import json

from openllm.recipes.registry import shipped_folder
from openllm.recipes.schema import Family

FILE = "schema.json"


def json_schema() -> str:
    """The text of ``models/schema.json``. Rules between keys are not in it; the registry checks them."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Family.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the schema beside the shipped recipes."""
    (shipped_folder() / FILE).write_text(json_schema(), encoding="utf-8")


if __name__ == "__main__":
    main()
