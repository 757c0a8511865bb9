"""Where the signed heads of a chain are kept, out of reach of whoever can change the store: a locked bucket, or a directory elsewhere."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from relevo.errors import AnchorError, UsageError
from relevo.head import SignedHead

# How many of the heads that reached farthest are judged: more than one, so that one that was written over hides nothing.
NEWEST = 5
NAME = re.compile(r"(\d{10})-\d{14}Z\.head")
_OPTIONS = frozenset({"endpoint", "region", "ca_file", "key_id_file", "secret_file", "days", "mode"})
MODES = ("COMPLIANCE", "GOVERNANCE")


class Anchor(Protocol):
    """A place for heads."""

    def keep(self, name: str, content: bytes) -> str:
        """Keep one; a sentence about where, and until when. AnchorError when it is not kept there for sure."""

    def newest(self) -> list[SignedHead]:
        """The heads that reach farthest. AnchorError when the place cannot be read, or never got one."""


def name(sequence: int, stamp: str) -> str:
    """The name of a head, in the order of the chain."""
    return f"{sequence:010d}-{stamp}.head"


def find(words: str) -> Anchor:
    """The anchor that a path or an s3:// URL names. UsageError says what is wrong with it."""
    if "://" not in words:
        return Directory(Path(words).expanduser().absolute())
    parts = urlsplit(words)
    if parts.scheme == "file":
        return Directory(Path(unquote(parts.path)))
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme != "s3" or not parts.hostname or parts.username or parts.password:
        message = (
            "An anchor is a directory, or s3://BUCKET/PREFIX?days=400&endpoint=https://...&key_id_file=...&secret_file=...&ca_file=...; "
            "secrets only as files."
        )
        raise UsageError(message)
    unknown = sorted(options.keys() - _OPTIONS)
    if unknown or not options.get("days", "1").isdigit() or options.get("mode", MODES[0]) not in MODES:
        message = (
            f"The anchor's options are {', '.join(sorted(_OPTIONS))} (days: a number; mode: {' or '.join(MODES)}); "
            f"not understood: {', '.join(unknown) or 'days or mode'}."
        )
        raise UsageError(message)
    if not options.get("endpoint", "https://").startswith("https://"):
        message = f"The anchor's endpoint is {options['endpoint']}, expected https://: a head that anybody can change on its way proves nothing."
        raise UsageError(message)
    prefix = unquote(parts.path).strip("/")
    # What speaks to a bucket is slow to import: only who has one waits for it.
    made: Anchor = import_module("relevo.locked_bucket").Bucket(parts.hostname, f"{prefix}/" if prefix else "", options)
    return made


@dataclass(frozen=True)
class Directory:
    """Files in a directory, such as one of another machine; nothing but its own rights keeps it."""

    path: Path

    def keep(self, name: str, content: bytes) -> str:
        """A file that is on the disk when this returns."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            with os.fdopen(descriptor, "wb") as target:
                target.write(content)
                target.flush()
                os.fsync(target.fileno())
        except FileExistsError:
            return f"{self.path / name} is there already."
        except OSError as error:
            message = f"The head cannot be written to {self.path}: {error.strerror}. Nothing was anchored."
            raise AnchorError(message) from error
        return f"Kept as {self.path / name}. Only the rights of that directory protect it."

    def newest(self) -> list[SignedHead]:
        """The last files by name."""
        try:
            names = sorted(path.name for path in self.path.iterdir() if NAME.fullmatch(path.name))[-NEWEST:]
            found = [SignedHead.of_file((self.path / name).read_bytes(), str(self.path / name)) for name in names]
        except OSError as error:
            message = f"The anchor {self.path} cannot be read: {error.strerror}."
            raise AnchorError(message) from error
        return holding(found, str(self.path))


def holding(found: list[SignedHead], place: str) -> list[SignedHead]:
    """These heads, of which there must be one at least."""
    if not found:
        message = (
            f"The anchor {place} holds no head: nothing was ever anchored there, or it was emptied. Next: relevo results anchor."
        )
        raise AnchorError(message)
    return found
