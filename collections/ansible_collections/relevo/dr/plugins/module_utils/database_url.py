# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A database URL by the rules of libpq, which are not those of the web: a password may hold anything but @ and /, as it stands or percent-encoded.

Nothing here ever renders credentials into a message.
"""

from __future__ import annotations

import re
import urllib.parse
from dataclasses import dataclass, replace
from typing import Optional

# libpq takes everything up to the first of @ and / as credentials, if that is an @; only then host, database and parameters begin.
_URL = re.compile(
    r"(?P<scheme>postgres(?:ql)?://)(?:(?P<credentials>[^@/]*)@)?(?P<hosts>[^/?]*)(?P<rest>/(?P<database>[^?]*)(?:\?(?P<query>.*))?)",
    re.DOTALL,
)
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^:,@\s\[\]\\]+)(?::(?P<port>\d{1,5}))?")


class UrlError(Exception):
    """It is not the URL of one database on one host; the message shows nothing of it."""


@dataclass(frozen=True)
class DatabaseUrl:
    """credentials: as written, None without any. rest: database and parameters, as written."""

    scheme: str
    credentials: Optional[str]
    host: str
    port: int
    rest: str
    database: str
    query: str

    @property
    def address(self) -> str:
        """host:port, as people and gates read it."""
        return "%s:%d" % (self.host, self.port)

    @property
    def user(self) -> str:
        """Decoded; empty when the URL has none."""
        return urllib.parse.unquote((self.credentials or "").partition(":")[0])

    @property
    def password(self) -> Optional[str]:
        """Decoded; None when the URL has none."""
        _, colon, password = (self.credentials or "").partition(":")
        return urllib.parse.unquote(password) if colon and password else None

    @property
    def parameters(self) -> dict[str, str]:
        """Those behind the question mark, decoded."""
        pairs = (part.partition("=") for part in self.query.split("&") if part)
        return {urllib.parse.unquote(name): urllib.parse.unquote(value) for name, _, value in pairs}

    def at(self, host: str, port: int) -> DatabaseUrl:
        """The same at another address."""
        return replace(self, host=host, port=port)

    @property
    def text(self) -> str:
        """The URL. It may hold a password."""
        credentials = "" if self.credentials is None else self.credentials + "@"
        return "%s%s%s:%d%s" % (self.scheme, credentials, self.host, self.port, self.rest)


def parse(text: str) -> DatabaseUrl:
    """Raises UrlError."""
    match = _URL.fullmatch(text)
    if match is None or not match["database"]:
        raise UrlError("not a postgresql:// URL with host and database")
    place = _HOST.fullmatch(match["hosts"])
    if place is None:
        raise UrlError("not a postgresql:// URL with exactly one host: a list of hosts would find the old side too")
    return DatabaseUrl(
        match["scheme"],
        match["credentials"],
        place["host"],
        int(place["port"] or 5432),
        match["rest"],
        urllib.parse.unquote(match["database"]),
        match["query"] or "",
    )


def readdressed(text: str, host: str, port: int) -> str:
    """The same URL with another host and port. Raises UrlError."""
    return parse(text).at(host, port).text
