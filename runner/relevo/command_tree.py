"""The commands and options of `relevo` as completion reads them: taken from the parser, kept as a file, since loading the parser takes a second."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import typer

from relevo import completion


def build() -> dict[str, Any]:
    """The tree, from the parser as it is now."""
    return _node(typer.main.get_command(import_module("relevo.cli").commands))


def written(tree: dict[str, Any]) -> str:
    """The tree as its file has it."""
    return json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _node(command: Any) -> dict[str, Any]:
    shown = [one for one in command.params if not getattr(one, "hidden", False)]
    return {
        "help": (command.help or "").strip().partition("\n")[0],
        "commands": {name: _node(inner) for name, inner in getattr(command, "commands", {}).items() if not inner.hidden},
        "arguments": [one.name for one in shown if one.param_type_name == "argument"],
        "options": {
            name: {"help": (one.help or "").strip().partition("\n")[0], "takes": _takes(one)}
            for one in shown
            if one.param_type_name == "option"
            for name in one.opts
        },
    }


def _takes(option: Any) -> list[str]:
    """Its choices; a star where anything may stand; nothing of a flag."""
    if option.is_flag:
        return []
    kind = option.type_descriptor.annotation
    return [str(member.value) for member in kind] if hasattr(kind, "__members__") else ["*"]


if __name__ == "__main__":
    completion.TREE.write_text(written(build()), encoding="utf-8")
