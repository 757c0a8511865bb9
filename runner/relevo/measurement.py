"""Measurements by name: a path into a record, such as `measures.restore_tests[*].rungs[id=R6].verdict`. Pure.

A step is a name, `[*]` (each element of a list or mapping), or `[id=R6,phase=PROVE]` (each element of a list that says so). What is not there
counts as unobserved, once for every place where it was looked for: the query languages drop it, and one known value of two would pass for both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_STEP = re.compile(r"(?P<name>[A-Za-z_][\w-]*)|\[(?P<each>\*)\]|\[(?P<match>[a-z_]+=[^,\[\]=]+(?:,[a-z_]+=[^,\[\]=]+)*)\]")
UNOBSERVED = None


@dataclass(frozen=True)
class Measurement:
    """One path. several: it may stand for more than one value."""

    text: str
    steps: tuple[str, ...]

    def __str__(self) -> str:
        return self.text

    @property
    def several(self) -> bool:
        """Whether the path names a set of values, of which there must be one at least."""
        return any(step.startswith("[") for step in self.steps)

    def read(self, document: Mapping[str, Any]) -> list[Any]:
        """The values, at least one; None stands for what nobody observed."""
        found: list[Any] = [document]
        for step in self.steps:
            found = [value for one in found for value in _go(one, step)]
        return found


def parse(value: object) -> Measurement:
    """A path from its text. ValueError that says how one is written."""
    if isinstance(value, Measurement):
        return value
    text = value if isinstance(value, str) else ""
    steps, position = [], 0
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None:
            break
        steps.append(match.group())
        position = match.end()
        if text[position : position + 1] == ".":
            position += 1
            if text[position : position + 1] in {"", "["}:
                break
        elif position < len(text) and text[position] != "[":
            break
    else:
        if steps and not steps[0].startswith("["):
            return Measurement(text, tuple(steps))
    message = f"observed {value!r}; expected a path such as measures.ledger.lost, gates[id=G13].verdict or measures.restore_tests[*].verdict"
    raise ValueError(message)


def _go(value: Any, step: str) -> list[Any]:
    if step[0] != "[":
        return [value.get(step)] if isinstance(value, dict) else [UNOBSERVED]
    if step == "[*]":
        elements = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
        return elements or [UNOBSERVED]
    return [one for one in value if _says(one, _wanted(step))] or [UNOBSERVED] if isinstance(value, list) else [UNOBSERVED]


@cache
def _wanted(step: str) -> tuple[tuple[str, str], ...]:
    """What an element has to say, such as id and G13 of [id=G13]."""
    pairs = (pair.partition("=") for pair in step[1:-1].split(","))
    return tuple((name, text) for name, _, text in pairs)


def _says(element: Any, wanted: tuple[tuple[str, str], ...]) -> bool:
    return isinstance(element, dict) and all(str(element.get(name)) == text for name, text in wanted)
