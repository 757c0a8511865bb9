# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Databases in PgBouncer's configuration: read their addresses, and give them another one; passwords beside them stay as they are written. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SECTION = re.compile(r"[ \t]*\[(?P<name>[^\]]*)\]")
_DATABASE = re.compile(r"[ \t]*(?P<name>\"(?:[^\"]|\"\")*\"|[^\s=\";#]+)[ \t]*=[ \t]*(?P<value>[^\n]*)")
_PAIR = re.compile(r"(?P<key>[A-Za-z_]+)[ \t]*=[ \t]*(?P<value>'(?:[^']|'')*'|[^\s']\S*)")


class PgbouncerFileError(Exception):
    """A database is not there, or has no single address; the message shows nothing of its credentials."""


def _pairs(text: str, database: str) -> dict[str, re.Match[str]]:
    """Where the pairs of a database stand. The offsets are those in the whole text."""
    found: list[dict[str, re.Match[str]]] = []
    position, here = 0, False
    for line in text.splitlines(keepends=True):
        section = _SECTION.match(line)
        here = section["name"].strip() == "databases" if section else here
        match = _DATABASE.match(line) if here and not section and not line.lstrip().startswith((";", "#")) else None
        if match and match["name"].strip('"').replace('""', '"') == database:
            start, end = position + match.start("value"), position + match.end("value")
            found.append({pair["key"]: pair for pair in _PAIR.finditer(text, start, end)})
        position += len(line)
    if len(found) != 1:
        raise PgbouncerFileError("the database %s is there %d times, not once" % (database, len(found)))
    return found[0]


def address(text: str, database: str) -> tuple[str, int]:
    """Host and port. Raises PgbouncerFileError."""
    pairs = _pairs(text, database)
    host = _plain(pairs["host"]["value"]) if "host" in pairs else ""
    if not host or host.startswith("/") or "," in host:
        raise PgbouncerFileError("the database %s has no single host" % database)
    port = _plain(pairs["port"]["value"]) if "port" in pairs else "5432"
    if not port.isdigit():
        raise PgbouncerFileError("the database %s has no single port" % database)
    return host, int(port)


def readdressed(text: str, databases: Sequence[str], host: str, port: int) -> str:
    """The text with another host and port of these databases. Raises PgbouncerFileError."""
    for database in databases:
        if address(text, database) == (host, port):
            continue
        pairs = _pairs(text, database)
        edits = [(pairs["host"].span("value"), host if "port" in pairs else "%s port=%d" % (host, port))]
        if "port" in pairs:
            edits.append((pairs["port"].span("value"), str(port)))
        for (start, end), value in sorted(edits, reverse=True):
            text = text[:start] + value + text[end:]
    return text


def _plain(value: str) -> str:
    return value[1:-1].replace("''", "'") if value.startswith("'") else value
