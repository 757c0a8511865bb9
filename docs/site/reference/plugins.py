"""Modules, the lookup and the callback of the collections, from the documentation that `ansible-doc` shows."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

import yaml

from docs.site.reference import markdown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_KINDS = ("modules", "lookup", "callback")
_NAMES = ("DOCUMENTATION", "EXAMPLES", "RETURN")
_HEAD = ("option", "type", "default", "meaning")


def pages(root: Path) -> dict[str, str]:
    """A page for each collection of ours."""
    top = root / "collections/ansible_collections/relevo"
    return {f"docs/reference/collection_{place.name}.md": of_collection(place) for place in sorted(top.iterdir()) if place.is_dir()}


def of_collection(place: Path) -> str:
    """Every plugin of a collection that documents itself, in alphabetical order."""
    text = f"# Collection relevo.{place.name}\n\nThe same in a terminal: `ansible-doc relevo.{place.name}.NAME`.\n"
    for kind in _KINDS:
        for path in sorted((place / "plugins" / kind).glob("*.py")):
            documented = strings(path.read_text(encoding="utf-8"))
            if "DOCUMENTATION" in documented:
                text += of_plugin(f"relevo.{place.name}.{path.stem}", documented)
    return text


def strings(source: str) -> dict[str, str]:
    """What a plugin says of itself, without running it."""
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            found.update(
                {target.id: node.value.value for target in node.targets if isinstance(target, ast.Name) and target.id in _NAMES}
            )
    return found


def of_plugin(name: str, documented: Mapping[str, str]) -> str:
    """One plugin: what it does, takes and returns, and its examples as they are."""
    about = yaml.safe_load(documented["DOCUMENTATION"])
    returned = yaml.safe_load(documented.get("RETURN", "")) or {}
    text = f"\n## {name}\n\n{markdown.described(about['short_description'])}.\n\n"
    description = about.get("description") or []
    text += "".join(f"{markdown.described(one)}\n\n" for one in ([description] if isinstance(description, str) else description))
    check = (about.get("attributes") or {}).get("check_mode", {})
    if check:
        text += f"Check mode: {check['support']}. {markdown.described(check.get('description'))}\n\n"
    text += markdown.table(_HEAD, _options(about.get("options") or {})) + "\n"
    if returned:
        rows = [
            (markdown.code(key), str(one.get("type", "")), markdown.described(one.get("description")))
            for key, one in returned.items()
        ]
        text += markdown.table(("returned", "type", "meaning"), rows) + "\n"
    if documented.get("EXAMPLES", "").strip():
        text += f"```yaml\n{documented['EXAMPLES'].strip()}\n```\n"
    return text


def _options(options: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str, str, str]]:
    for name, option in options.items():
        kind = str(option.get("type", "str")) + (f" of {option['elements']}" if option.get("elements") else "")
        meaning = markdown.described(option.get("description"))
        if option.get("choices"):
            meaning += " One of " + ", ".join(map(markdown.value, option["choices"])) + "."
        default = "**required**" if option.get("required") else markdown.value(option["default"]) if "default" in option else ""
        yield markdown.code(above + name), kind, default, meaning
        yield from _options(option.get("suboptions") or {}, f"{above}{name}.")
