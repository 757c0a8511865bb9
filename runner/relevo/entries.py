"""What people say about runs, as entries that are only ever added: findings, acknowledgements, sign-offs, exercises. Each is signed as records are.

The chain of the store vouches for each; there, and in a bundle, they are called statements, because a chain has entries of its own.
:func:`append` is the one way in.
"""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from relevo import signature
from relevo.clock import parse_utc, utc
from relevo.errors import StoreError
from relevo.record import canonical

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from relevo.signature import Checker, SigningKey

SCHEMA: Literal["relevo-entry/1"] = "relevo-entry/1"


@dataclass(frozen=True)
class Entry:
    """One thing that was said.

    kind: finding, contact, sign_off, exercise, verification or pack; subject: what it is about; event: what happened to it;
    by: the operator's account, on controller.
    """

    entry_id: str
    kind: str
    subject: str
    event: str
    at: str
    by: str
    controller: str
    said: dict[str, Any]


@dataclass(frozen=True)
class Signed:
    """An entry as it lies in the store: the exact canonical bytes and their detached signature."""

    entry_id: str
    document: bytes
    signature: str


class Keeper(Protocol):
    """Where entries are kept: the store. Both raise StoreError with a sentence when it is away."""

    def keep(self, signed: Signed, kind: str, subject: str) -> None:
        """Add one, with its place in the chain; both or nothing."""

    def statements(self, kind: str | None = None) -> list[Signed]:
        """All of them in the order in which they were added, optionally of one kind."""


@dataclass(frozen=True)
class Speaker:
    """Who says it, where, and when."""

    operator: str
    controller: str
    at: datetime


def make(speaker: Speaker, kind: str, subject: str, event: str, said: dict[str, Any]) -> Entry:
    """A new entry, with an id that nothing else has."""
    name = f"{speaker.at:%Y%m%dT%H%M%SZ}-{kind}-{secrets.token_hex(4)}"
    return Entry(name, kind, subject, event, utc(speaker.at), speaker.operator, speaker.controller, said)


def sign(entry: Entry, key: SigningKey) -> Signed:
    """The bytes that are kept, and their signature."""
    document = canonical({"schema": SCHEMA, **asdict(entry), "signature": key.signer()})
    return Signed(entry.entry_id, document, signature.sign(key, document))


def parse(document: bytes) -> Entry:
    """A stored document as an entry. StoreError when it is none."""
    try:
        tree = json.loads(document)
        known = tree.pop("schema") == SCHEMA
        tree.pop("signature")
        entry = Entry(**{**tree, "said": dict(tree["said"])})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"A stored entry is no {SCHEMA} document: {error}"
        raise StoreError(message) from error
    if not known:
        message = f"A stored entry is of another schema than {SCHEMA}: a newer Relevo wrote it."
        raise StoreError(message)
    return entry


def append(keeper: Keeper, entry: Entry, key: SigningKey) -> Signed:
    """Add an entry. StoreError when the store is away: nothing is kept then."""
    signed = sign(entry, key)
    keeper.keep(signed, entry.kind, entry.subject)
    return signed


def read(keeper: Keeper, kind: str | None = None) -> list[Signed]:
    """All entries in the order in which they were added, optionally of one kind."""
    return keeper.statements(kind)


def problems(signed: Signed, checker: Checker) -> list[str]:
    """What is wrong with a stored entry: its form, its name or its signature."""
    try:
        entry = parse(signed.document)
        when = parse_utc(entry.at)
    except (StoreError, ValueError, TypeError) as error:
        return [f"unreadable: {error}"]
    forged = checker.problem(signed.document, signed.signature, when)
    found = [f"its signature does not hold: {forged}"] if forged else []
    return found if entry.entry_id == signed.entry_id else [*found, f"replaced: the document is of the statement {entry.entry_id}."]


def about(said: Iterable[Signed], runs: Collection[str]) -> list[Signed]:
    """What was said about some runs, and whatever else was said about the same things; what nobody can read may be about anything."""
    parsed = [(signed, _parsed(signed)) for signed in said]
    named = [(entry, {entry.subject, str(entry.said.get("run_id"))}) for _, entry in parsed if entry]
    things = {(entry.kind, entry.subject) for entry, names in named if not names.isdisjoint(runs)}
    return [signed for signed, entry in parsed if entry is None or (entry.kind, entry.subject) in things]


def _parsed(signed: Signed) -> Entry | None:
    with suppress(StoreError):
        return parse(signed.document)
    return None
