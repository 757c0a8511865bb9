"""What people say about runs, as entries that are only ever added: findings, acknowledgements, sign-offs. Each is signed as records are.

:func:`append` is the one way in: what should hold for every entry, such as its place in a chain, is done there.
"""

from __future__ import annotations

import json
import secrets
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sql
from sqlalchemy.exc import SQLAlchemyError

from relevo import signature
from relevo.clock import parse_utc, utc
from relevo.errors import SignatureError, StoreError
from relevo.record import canonical

if TYPE_CHECKING:
    from collections.abc import Callable
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
    engine: sql.Engine, entry: Entry, key: SigningKey, also: Callable[[sql.Connection, Signed], None] | None = None
) -> Signed:
    """Add an entry. also: what happens in the same transaction, such as the link of a chain. StoreError when the store is away."""
    signed = sign(entry, key)
    row = {
        "entry_id": entry.entry_id,
        "kind": entry.kind,
        "subject": entry.subject,
        "document": signed.document,
        "signature": signed.signature,
    }
    try:
        _make_table(engine)
        with engine.begin() as connection:
            connection.execute(_entry.insert().values(row))
            if also is not None:
                also(connection, signed)
    except SQLAlchemyError as error:
        message = f"The store cannot be used: {_reason(error)}. Nothing was kept; say it again when the store is back."
        raise StoreError(message) from error
    return signed


def read(engine: sql.Engine, kind: str | None = None) -> list[Signed]:
    """All entries in the order in which they were added, optionally of one kind."""
    query = sql.select(_entry.c.entry_id, _entry.c.document, _entry.c.signature).order_by(_entry.c.number)
    if kind is not None:
        query = query.where(_entry.c.kind == kind)
    try:
        if not sql.inspect(engine).has_table(_entry.name):
            return []
        with engine.connect() as connection:
            rows = connection.execute(query).all()
    except SQLAlchemyError as error:
        message = f"The store cannot be used: {_reason(error)}."
        raise StoreError(message) from error
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


def _make_table(engine: sql.Engine) -> None:
    """Two first writers at once both try: what counts is that the table is there afterwards."""
    try:
        _metadata.create_all(engine)
    except SQLAlchemyError:
        if not sql.inspect(engine).has_table(_entry.name):
            raise


def _reason(error: SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]
