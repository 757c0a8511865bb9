# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One variable in a file of assignments: systemd's EnvironmentFile and compose's .env. Pure.

A value that is changed keeps its quotes and escapes: only what differs is written, and what a reader gets of the new text is checked before it is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Optional

# In double quotes systemd lets a backslash escape these alone; elsewhere it stays.
_ESCAPED_IN_DOUBLE_QUOTES = '"\\`$'


class AssignmentError(Exception):
    """The variable cannot be read or changed as it stands; the message shows nothing of its value."""


def value_of(text: str, variable: str) -> Optional[str]:
    """What a service gets: of several assignments the last; None when there is none."""
    found = _assignments(text, variable)
    return decoded(found[-1]["value"]) if found else None


def assigned(text: str) -> dict[str, str]:
    """All of them, by name."""
    names = dict.fromkeys(
        match["name"] for match in re.finditer(r"^[ \t]*(?P<name>[A-Za-z_][A-Za-z0-9_]*)[ \t]*=", text, re.MULTILINE)
    )
    return {name: value_of(text, name) or "" for name in names}


def changed(text: str, variable: str, change: Callable[[str], str]) -> str:
    """The text with another value of the last assignment, the one that counts. change: makes it of the raw text between the quotes. Raises AssignmentError."""
    found = _assignments(text, variable)
    if not found:
        raise AssignmentError("%s is not assigned" % variable)
    raw = found[-1]["value"]
    body = raw.rstrip(" \t")
    quote = body[0] if len(body) > 1 and body[0] in "'\"" and body[-1] == body[0] else ""
    inner = body[1:-1] if quote else body
    after = quote + change(inner) + quote + raw[len(body) :]
    start, end = found[-1].span("value")
    if decoded(after) != change(decoded(raw)):
        raise AssignmentError(
            "%s is quoted in a way that cannot be changed safely: put the whole value in single quotes" % variable
        )
    return text[:start] + after + text[end:]


def _assignments(text: str, variable: str) -> list[re.Match[str]]:
    return list(re.finditer(r"^[ \t]*%s[ \t]*=[ \t]*(?P<value>[^\n]*)$" % re.escape(variable), text, re.MULTILINE))


def decoded(raw: str) -> str:
    """The value as systemd reads it: quotes count at its beginning and where one has just ended."""
    value, position, kept = "", 0, 0
    raw = raw.rstrip("\r").lstrip(" \t")
    while position < len(raw):
        character = raw[position]
        if character in "'\"" and (not value or kept == -1):
            part, position = _quoted(raw, position)
            value, kept = value + part, -1
            continue
        if kept == -1 and character in " \t":
            position += 1
            continue
        if character == "\\" and position + 1 < len(raw):
            position += 1
            character = raw[position]
            kept = len(value) + 1
        elif character not in " \t":
            kept = len(value) + 1
        value, position = value + character, position + 1
    return value if kept == -1 else value[:kept]


def _quoted(raw: str, position: int) -> tuple[str, int]:
    quote, part, position = raw[position], "", position + 1
    while position < len(raw) and raw[position] != quote:
        if quote == '"' and raw[position] == "\\" and position + 1 < len(raw):
            escaped = raw[position + 1]
            part, position = part + (escaped if escaped in _ESCAPED_IN_DOUBLE_QUOTES else "\\" + escaped), position + 2
            continue
        part, position = part + raw[position], position + 1
    return part, position + 1
