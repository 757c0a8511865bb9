"""What people say about runs, as entries that are only ever added: findings, acknowledgements, sign-offs. Each is signed as records are.

:func:`append` is the one way in: what should hold for every entry, such as its place in a chain, is done there.
"""

from __future__ import annotations

import json
import secrets
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import sqlalchemy as sql

from relevo import signature
from relevo.clock import parse_utc, utc
from relevo.errors import SignatureError, StoreError
from relevo.record import canonical

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from datetime import datetime

    from relevo.signature import SigningKey

SCHEMA: Literal["relevo-entry/1"] = "relevo-entry/1"

_metadata = sql.MetaData()
_entry = sql.Table(
    "entry",
    _metadata,
    sql.Column("number", sql.Integer, primary_key=True, autoincrement=True),
    sql.Column("entry_id", sql.String(100), unique=True, nullable=False),
    sql.Column("kind", sql.String(20), nullable=False, index=True),
    sql.Column("subject", sql.String(100), nullable=False),
    sql.Column("document", sql.LargeBinary, nullable=False),
    sql.Column("signature", sql.Text, nullable=False),
)


class Database(Protocol):
    """Where entries are kept: the store's own database. Both raise StoreError with a sentence when it is away."""

    def read(self) -> AbstractContextManager[sql.Connection]:
        """Look."""

    def write(self) -> AbstractContextManager[sql.Connection]:
        """Change; all of it or nothing."""


@dataclass(frozen=True)
class Entry:
    """One thing that was said.

    kind: finding, contact or sign_off; subject: what it is about; event: what happened to it; by: the operator's account, on controller.
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
        entry = Entry(**tree)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"A stored entry is no {SCHEMA} document: {error}"
        raise StoreError(message) from error
    if not known:
        message = f"A stored entry is of another schema than {SCHEMA}: a newer Relevo wrote it."
        raise StoreError(message)
    return entry


def append(
    database: Database, entry: Entry, key: SigningKey, also: Callable[[sql.Connection, Signed], None] | None = None
) -> Signed:
    """Add an entry. also: what happens in the same transaction, such as the link of a chain. StoreError when the store is away: nothing is kept then."""
    signed = sign(entry, key)
    row = {
        "entry_id": entry.entry_id,
        "kind": entry.kind,
        "subject": entry.subject,
        "document": signed.document,
        "signature": signed.signature,
    }
    with database.write() as connection:
        _metadata.create_all(connection)
        connection.execute(_entry.insert().values(row))
        if also is not None:
            also(connection, signed)
    return signed


def read(database: Database, kind: str | None = None) -> list[Signed]:
    """All entries in the order in which they were added, optionally of one kind."""
    query = sql.select(_entry.c.entry_id, _entry.c.document, _entry.c.signature).order_by(_entry.c.number)
    if kind is not None:
        query = query.where(_entry.c.kind == kind)
    with database.read() as connection:
        if not sql.inspect(connection).has_table(_entry.name):
            return []
        rows = connection.execute(query).all()
    return [Signed(row.entry_id, bytes(row.document), row.signature) for row in rows]


def problem(signed: Signed, allowed_signers: Path) -> str | None:
    """What is wrong with a stored entry: its form, its name or its signature; None when all hold."""
    with tempfile.TemporaryDirectory() as directory:
        beside = Path(directory) / "entry.sig"
        beside.write_text(signed.signature, encoding="ascii")
        try:
            entry = parse(signed.document)
            signature.verify(allowed_signers, signed.document, beside, parse_utc(entry.at))
        except (StoreError, SignatureError, ValueError) as error:
            return str(error)
    return None if entry.entry_id == signed.entry_id else f"The document is of the entry {entry.entry_id}."
