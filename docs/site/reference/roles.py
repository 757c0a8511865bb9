"""The variables of every role, from its argument specs and defaults, and one list of all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from docs.site.reference import markdown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_HEAD = ("variable", "type", "default", "meaning")


def pages(root: Path) -> dict[str, str]:
    """Below each role's own page its variables; the list of the roles, and that of all variables."""
    found, readers, meanings = dict[str, str](), dict[str, list[str]](), dict[str, str]()
    for role in sorted((root / "roles").iterdir()):
        specs = _load(role / "meta/argument_specs.yml").get("argument_specs", {})
        found[_page(role.name)] = of_role(specs, _load(role / "defaults/main.yml"))
        for name, option in _options(specs).items():
            readers.setdefault(name, []).append(role.name)
            meanings.setdefault(name, markdown.described(option.get("description")))
    listed = "".join(f"- [{name.split('/')[1]}](../../{name})\n" for name in found)
    rows = [
        (markdown.code(name), ", ".join(f"[{role}](../../{_page(role)})" for role in readers[name]), meanings[name])
        for name in sorted(readers)
    ]
    return {
        **found,
        "docs/reference/roles.md": f"# Roles\n\nA role is a noun, its entry points are verbs; each page ends with its variables.\n\n## All\n{listed}",
        "docs/reference/variables.md": "# Variables of an inventory\n\nIn alphabetical order, with the roles that read them; type and default are on the "
        f"role's page.\n\n{markdown.table(('variable', 'read by', 'meaning'), rows)}",
    }


def _page(role: str) -> str:
    return f"roles/{role}/README.md"


def _options(specs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: option for spec in specs.values() for name, option in (spec.get("options") or {}).items()}


def of_role(specs: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """The variables of a role's entry points, as its argument specs have them."""
    text = "\n## Variables\n"
    for entry, spec in specs.items():
        rows = list(_rows(spec.get("options") or {}, defaults))
        text += f"\n### {entry}\n\n{markdown.described(spec.get('short_description'))}.\n\n{markdown.table(_HEAD, rows) or 'It takes none.'}\n"
    return text


def _rows(options: Mapping[str, Any], defaults: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str, str, str]]:
    for name, option in options.items():
        kind = str(option.get("type", "str"))
        if option.get("elements"):
            kind += f" of {option['elements']}"
        meaning = markdown.described(option.get("description"))
        if option.get("choices"):
            meaning += " One of " + ", ".join(map(markdown.value, option["choices"])) + "."
        held = defaults[name] if name in defaults else option.get("default")
        default = "**required**" if option.get("required") else markdown.value(held) if held is not None else ""
        yield markdown.code(above + name), kind, default, meaning
        yield from _rows(option.get("options") or {}, {}, f"{above}{name}.")


def _load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {} if path.exists() else {}
