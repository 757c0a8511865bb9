"""An escape pack: one file that begins with a program in clear and holds, sealed, all that a controller needs. `escape.py` opens it."""

from __future__ import annotations

import io
import json
import secrets
import tarfile
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pyrage

from relevo import escape
from relevo.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from relevo.belongings import Kept

# A controller's own lane: ansible-core 2.19 on the first, 2.21 on the others.
PYTHONS = ("3.11", "3.12", "3.13")
SYSTEM = "Linux"
_FEWEST_RECIPIENTS = 2
_PROGRAM_END = "RELEVO_PROGRAM"


@dataclass(frozen=True)
class Claim:
    """What the clear label says. clusters: None where the policy does not want them named there."""

    made_at: datetime
    made_by: str
    commit: str
    version: str
    clusters: tuple[str, ...] | None
    architecture: str
    glibc: tuple[int, int]


@dataclass(frozen=True)
class Contents:
    """What is sealed, by its path in the pack, where the inventory lies in it, and what lies in clear beside it."""

    sealed: Mapping[str, Kept]
    inventory: str
    clear: Mapping[str, bytes]


@dataclass(frozen=True)
class Made:
    """A pack. label: what it says of itself."""

    label: dict[str, Any]
    content: bytes

    @property
    def name(self) -> str:
        """Such as relevo-pack-20261128T081500Z-1f3a9c20.sh."""
        return f"relevo-pack-{self.label['pack_id']}.sh"


def make(contents: Contents, claim: Claim, recipients: Sequence[str], shared: str | None = None) -> Made:
    """Seal for several people, or for the identity that shares make again. UsageError for a recipient that is none, or too few."""
    wanted = sorted({*recipients, *([shared] if shared else [])})
    if len(wanted) < _FEWEST_RECIPIENTS and not shared:
        message = (
            f"A pack for {len(wanted)} recipients: one lost identity would lose it. "
            f"Expected at least {_FEWEST_RECIPIENTS} in dr_keys_recipients, or shares; --recipient names others."
        )
        raise UsageError(message)
    keys = [_recipient(one) for one in wanted]
    program = _program()
    label: dict[str, Any] = {
        "schema": escape.SCHEMA,
        "pack_id": f"{claim.made_at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}",
        "made_at": f"{claim.made_at:%Y-%m-%dT%H:%M:%SZ}",
        "made_by": claim.made_by,
        "commit": claim.commit,
        "version": claim.version,
        "clusters": None if claim.clusters is None else list(claim.clusters),
        "recipients": len(wanted),
        "system": SYSTEM,
        "architecture": claim.architecture,
        "glibc": list(claim.glibc),
        "pythons": list(PYTHONS),
    }
    # What is inside vouches for the label, so the label cannot hold the sum of what is inside as well.
    manifest = {
        "about": dict(label),
        "program_sha256": escape.sha256(program),
        "clear": {name: escape.sha256(content) for name, content in contents.clear.items()},
        "inventory": contents.inventory,
        "files": {name: {"sha256": escape.sha256(kept.content), "mode": kept.mode} for name, kept in contents.sealed.items()},
    }
    inside = _tar(
        {escape.MANIFEST: json.dumps(manifest, sort_keys=True).encode(), **{n: k.content for n, k in contents.sealed.items()}}
    )
    parts = {**contents.clear, escape.SEALED: bytes(pyrage.encrypt(inside, keys))}
    payload = _tar(parts)
    label |= {"payload_bytes": len(payload), "sha256": {name: escape.sha256(content) for name, content in parts.items()}}
    line = escape.LABEL_MARK + json.dumps(label, sort_keys=True).encode()
    return Made(label, program.replace(escape.LABEL_PLACE, line, 1) + escape.PAYLOAD_MARK + payload)


def _program() -> bytes:
    """What a pack begins with, with a place for the label: a few lines of shell, then the program that opens it."""
    own = files("relevo")
    start = own.joinpath("templates", "pack.sh").read_text(encoding="utf-8")
    source = own.joinpath("escape.py").read_text(encoding="utf-8")
    return f"{start}{source}{_PROGRAM_END}".encode()


def _recipient(text: str) -> Any:
    try:
        return pyrage.x25519.Recipient.from_str(text) if text.startswith("age1") else pyrage.ssh.Recipient.from_str(text)
    except pyrage.RecipientError:
        message = f"{text[:24]!r} is no recipient; expected age1... or a line such as ssh-ed25519 AAAA...."
        raise UsageError(message) from None


def _tar(content: Mapping[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(content):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content[name]), 0o600
            archive.addfile(member, io.BytesIO(content[name]))
    return target.getvalue()
