"""Tables and words of Markdown, with whatever the words hold."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Ansible's own marks in descriptions: C(code), I(option), F(file), U(link), and the newer O(option), V(value), E(variable), M(module), B(bold).
_MARK = re.compile(r"\b([A-Z])\(([^()]*(?:\([^()]*\)[^()]*)*)\)")
_CODE = frozenset("CFOVEMIP")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; empty without rows."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *lines]) + "\n" if lines else ""


def cell(text: str) -> str:
    """Prose as it may stand in a cell."""
    return " ".join(text.split()).replace("|", "\\|")


def code(text: str) -> str:
    """Words as a program reads them, in a cell too."""
    return f"`{cell(text)}`" if text else ""


def value(content: Any) -> str:
    """A value as an inventory has it."""
    return code(content if isinstance(content, str) and content else json.dumps(content, ensure_ascii=False))


def described(description: Any) -> str:
    """A description of Ansible's: a sentence or a list of them, with its marks."""
    text = " ".join(description) if isinstance(description, list) else str(description or "")
    return cell(escaped(_MARK.sub(lambda mark: f"`{mark[2]}`" if mark[1] in _CODE else mark[2], text)))


def escaped(text: str) -> str:
    """Prose in which no bracket, star or angle means anything, but for what stands in backquotes."""
    return "".join(
        part if index % 2 else re.sub(r"([<>\[\]*_{}\\])", r"\\\1", part) for index, part in enumerate(re.split(r"(`[^`]*`)", text))
    )
