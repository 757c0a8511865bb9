"""Whose signatures are believed, and between which times: lines of an `allowed_signers` file of OpenSSH. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

from relevo.errors import SignatureError

if TYPE_CHECKING:
    from collections.abc import Iterable

PRINCIPAL = "relevo-controller"
NAMESPACE = "dr-test"
_LINE = re.compile(rf"{PRINCIPAL}(?: (?P<options>\S+))? (?P<key>ssh-ed25519 [A-Za-z0-9+/]+=*)(?: .*)?")
_STAMP = "%Y%m%d%H%M%SZ"
_TIME = r'="(\d{14}Z)"'


@dataclass(frozen=True)
class Signer:
    """One key, such as `ssh-ed25519 AAAA...`. since, until: YYYYMMDDHHMMSSZ, None where no bound is known."""

    key: str
    since: str | None = None
    until: str | None = None

    @classmethod
    def of_line(cls, line: str) -> Self:
        """One line of an allowed_signers file. SignatureError when it is none of a controller."""
        found = _LINE.fullmatch(line.strip())
        if found is None:
            message = f"This is no line about a controller's key: {line.strip()[:200]!r}."
            raise SignatureError(message)
        times = [re.search(f"valid-{word}{_TIME}", found["options"] or "") for word in ("after", "before")]
        since, until = (time and time[1] for time in times)
        return cls(found["key"], since, until)

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` prints it."""
        try:
            blob = base64.b64decode(self.key.split()[1], validate=True)
        except binascii.Error as error:
            message = f"The key {self.key!r} is not in base64."
            raise SignatureError(message) from error
        return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")

    @property
    def line(self) -> str:
        """The line for an allowed_signers file."""
        until = self.until
        if self.since and until and until <= self.since:
            # For OpenSSH a file with such a line is no file at all; nothing was ever signed within this second.
            until = f"{datetime.strptime(self.since, _STAMP).replace(tzinfo=UTC) + timedelta(seconds=1):{_STAMP}}"
        bounds = [f'valid-{word}="{time}"' for word, time in (("after", self.since), ("before", until)) if time]
        return " ".join([PRINCIPAL, ",".join([f'namespaces="{NAMESPACE}"', *bounds]), self.key])


def read(text: str) -> tuple[Signer, ...]:
    """The keys of an allowed_signers file; comments and empty lines say nothing."""
    lines = (line.strip() for line in text.splitlines())
    return merged(Signer.of_line(line) for line in lines if line and not line.startswith("#"))


def merged(signers: Iterable[Signer]) -> tuple[Signer, ...]:
    """Each key once, in the order in which it was first named, believed only between the narrowest bounds that were named."""
    found: dict[str, Signer] = {}
    for signer in signers:
        known = found.get(signer.key, signer)
        found[signer.key] = replace(
            known,
            since=max((known.since or "", signer.since or "")) or None,
            until=min(filter(None, (known.until, signer.until)), default=None),
        )
    return tuple(found.values())


def text(signers: Iterable[Signer]) -> str:
    """An allowed_signers file."""
    return "".join(f"{signer.line}\n" for signer in signers)
