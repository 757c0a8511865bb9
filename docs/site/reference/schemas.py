"""The record of a run and the policy, as their JSON Schemas have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docs.site.reference import markdown
from relevo import policy_schema, schema

if TYPE_CHECKING:
    from collections.abc import Mapping


def pages() -> dict[str, str]:
    """One page for each schema."""
    return {
        "docs/reference/record.md": page(
            "Record of a run", "dr-test/1: `relevo results schema` prints it for programs.", schema.build()
        ),
        "docs/reference/policy_file.md": page(
            "Policy file", "relevo-policy/1: `relevo policy --schema` prints it for editors.", policy_schema.build()
        ),
    }


def page(title: str, words: str, tree: Mapping[str, Any]) -> str:
    """The top of a schema and each of its definitions, as tables."""
    text = f"# {title}\n\n{words}\n\n## The document\n\n{_table(tree)}"
    for name, definition in sorted(tree.get("$defs", {}).items()):
        text += f"\n## {name}\n\n{_said(definition)}\n\n{_table(definition)}"
    return text


def _table(tree: Mapping[str, Any]) -> str:
    required = tree.get("required", ())
    named = {**tree.get("properties", {}), **{f"/{pattern}/": one for pattern, one in tree.get("patternProperties", {}).items()}}
    rows = [(markdown.code(name), _kind(one), "yes" if name in required else "", _said(one)) for name, one in named.items()]
    return markdown.table(("key", "type", "required", "meaning"), rows) or markdown.escaped(_kind(tree)) + "\n"


def _said(tree: Mapping[str, Any]) -> str:
    return markdown.cell(markdown.escaped(str(tree.get("description", ""))))


def _kind(tree: Mapping[str, Any]) -> str:
    if "$ref" in tree:
        name = str(tree["$ref"]).rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in tree or "const" in tree:
        return ", ".join(markdown.value(one) for one in tree.get("enum", [tree.get("const")]))
    if "anyOf" in tree:
        return " or ".join(_kind(one) for one in tree["anyOf"])
    kind = str(tree.get("type", "anything"))
    inner = tree.get("items") or tree.get("additionalProperties")
    if not inner and tree.get("patternProperties"):
        inner = next(iter(tree["patternProperties"].values()))
    return f"{kind} of {_kind(inner)}" if isinstance(inner, dict) else kind
