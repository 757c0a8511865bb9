"""The JSON Schema of a user's policy file, for editors: what such a file may leave out to the built-in policy is not required."""

from __future__ import annotations

from typing import Any

from relevo.policy import Policy

# Mappings that are laid over the built-in ones key by key.
_LAID_OVER = ("Test", "Exercise", "Tier", "LossObjectives", "Team", "EscapePack")


def build() -> dict[str, Any]:
    """The schema, as it is shipped in relevo/data/policy.schema.json."""
    tree = Policy.model_json_schema(by_alias=True)
    tree["required"] = ["schema"]
    for name in _LAID_OVER:
        tree["$defs"][name].pop("required", None)
    for name in ("tests", "exercises", "tiers"):
        named = tree["properties"][name]["patternProperties"]
        # null takes a built-in entry out
        tree["properties"][name]["patternProperties"] = {key: {"anyOf": [one, {"type": "null"}]} for key, one in named.items()}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "relevo-policy/1", **_bare(tree)}


def _bare(tree: Any) -> Any:
    """Without the titles that only repeat the keys."""
    if isinstance(tree, dict):
        return {
            key: {name: _bare(one) for name, one in value.items()} if key in {"properties", "$defs"} else _bare(value)
            for key, value in tree.items()
            if not (key == "title" and isinstance(value, str))
        }
    return [_bare(one) for one in tree] if isinstance(tree, list) else tree
