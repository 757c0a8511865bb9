# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One server line in HAProxy's configuration: read its address, and give it another one. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SECTION = re.compile(
    r"(global|defaults|frontend|backend|listen|peers|resolvers|userlist|mailers|program|http-errors|ring|cache|fcgi-app)\b[ \t]*(\S*)"
)
_SERVER = re.compile(r"(?P<head>[ \t]*server[ \t]+(?P<name>\S+)[ \t]+)(?P<address>\S+)(?P<rest>[^\n]*)")
_ADDRESS = re.compile(r"(?P<family>(?:ipv4@|ipv6@)?)(?P<host>\[[^\]]+\]|[^:\[\]]+|[0-9A-Fa-f:]+:)(?::(?P<port>\d+))?")


class HaproxyFileError(Exception):
    """The server is not there, or is of a kind that has no address of its own; the message is a sentence."""


@dataclass(frozen=True)
class ServerLine:
    """start, end: of the address in the text. checked: whether HAProxy tests it by itself."""

    host: str
    port: int
    start: int
    end: int
    checked: bool


def server_line(text: str, backend: str, server: str) -> ServerLine:
    """Raises HaproxyFileError."""
    found, position, here = [], 0, False
    for line in text.splitlines(keepends=True):
        section = _SECTION.match(line)
        if section:
            here = section[1] in ("backend", "listen") and section[2] == backend
        match = _SERVER.match(line) if here else None
        if match and match["name"] == server:
            found.append((position, match))
        position += len(line)
    if len(found) != 1:
        raise HaproxyFileError("backend %s has %d servers %s, not one" % (backend, len(found), server))
    position, match = found[0]
    words = match["rest"].partition("#")[0].split()
    if "resolvers" in words:
        raise HaproxyFileError("server %s/%s has resolvers: they would undo another address" % (backend, server))
    place = _ADDRESS.fullmatch(match["address"])
    if place is None or not place["port"] or match["address"].startswith(("/", "unix@", "${")):
        raise HaproxyFileError("server %s/%s has no address of the form host:port" % (backend, server))
    start = position + match.start("address")
    return ServerLine(place["host"].strip("[]"), int(place["port"]), start, position + match.end("address"), "check" in words)


def readdressed(text: str, backend: str, server: str, host: str, port: int) -> str:
    """The text with another address of that server. Raises HaproxyFileError."""
    line = server_line(text, backend, server)
    place = "[%s]" % host if ":" in host else host
    return "%s%s:%d%s" % (text[: line.start], place, port, text[line.end :])
