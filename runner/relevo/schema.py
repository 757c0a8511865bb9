"""The JSON Schema of a record: made from the model, shipped as a file, so that others check records without us."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from relevo.record import SCHEMA, Record

NAME = "dr-test-1.schema.json"


def build() -> dict[str, Any]:
    """The schema, from the model as it is now."""
    tree = Record.model_json_schema(mode="serialization")
    tree["properties"]["schema"] = tree["properties"].pop("schema_")
    tree["required"] = ["schema" if name == "schema_" else name for name in tree["required"]]
    tree["properties"]["schema"]["title"] = "Schema"
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": SCHEMA,
        **{k: v for k, v in tree.items() if k != "title"},
    }


def written(tree: dict[str, Any]) -> str:
    """A schema as its file has it."""
    return json.dumps(tree, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def shipped() -> str:
    """The file of this package."""
    return files("relevo").joinpath("schemas", NAME).read_text(encoding="utf-8")
