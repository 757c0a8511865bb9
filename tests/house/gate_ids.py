"""The ids of gates and refusals in a source, as its own calls write them."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# What makes a gate or a refusal takes its id first.
_MAKERS = frozenset({"Gate", "gate", "_gate", "_named_gate", "passed", "required", "faulty", "Refusal"})
_ID = re.compile(r"[A-Z][A-Z0-9]+")


def find(source: str) -> Iterator[str]:
    """Each id that stands there as a word."""
    for node in ast.walk(ast.parse(source)):
        for value in _candidates(node):
            if isinstance(value, ast.Constant) and isinstance(value.value, str) and _ID.fullmatch(value.value):
                yield value.value


def _candidates(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Call):
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        yield from node.args[:1] if name in _MAKERS else ()
        yield from (keyword.value for keyword in node.keywords if keyword.arg == "id")
    elif isinstance(node, ast.Dict):
        yield from (
            value for key, value in zip(node.keys, node.values, strict=True) if isinstance(key, ast.Constant) and key.value == "id"
        )
