"""The store of results: SQLite by default, PostgreSQL by URL, one implementation. Stored bytes are never rewritten."""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sql

from relevo import chain, clock, identity, signature, tables
from relevo.chain import Kind, Member, What, Writer
from relevo.entries import Signed
from relevo.errors import ChainError, RecordConflictError, RecordNotFoundError, StoreError
from relevo.history import Summary, summarize
from relevo.record import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from relevo.keyring import Signer
    from relevo.paths import Place
    from relevo.record import Record
    from relevo.signature import SigningKey

T = TypeVar("T")
LATEST = "latest"
LAYOUT = 4
# Of these on there is a chain, there are statements in it, and there is an index for each question.
_CHAINED, _SAID, _INDEXED = 2, 3, 4
_BATCH = 500


@dataclass(frozen=True)
class Stored:
    """One record as it lies in the store: the exact canonical bytes and their detached signature."""

    run_id: str
    document: bytes
    signature: str


@dataclass(frozen=True)
class StoredEntry:
    """One entry of the chain as it lies in the store. sequence: of its row, which a forger may have changed."""

    sequence: int
    document: bytes
    signature: str


class Store:
    """Results by run id. Every method raises StoreError with a sentence when the database is away."""

    def __init__(self, place: Place) -> None:
        self._database = tables.Database(place)
        self._keys = place.keys
        self._memory = place.state / "heads" / hashlib.sha256(self._database.name.encode()).hexdigest()[:16]
        self._ready = False

    @contextmanager
    def one_view(self) -> Iterator[None]:
        """All questions within are answered as of one moment. For one thread; nothing may be added within."""
        self.rows(sql.select(tables.layout.c.version).limit(1))  # brings an earlier form up
        with self._database.one_view():
            yield

    # -- records --

    def add(self, record: Record, document: bytes, signature: str) -> None:
        """Store a record and its entry in the chain; a second time with the same bytes changes nothing, with other bytes it is an error."""
        row = {column.name: getattr(record, column.name) for column in tables.record.c if hasattr(record, column.name)}
        row |= {"verdict": record.verdict.value, "document": document, "signature": signature}
        short, member, _ = summarize(record)._asdict(), Member(chain.digest(document), record.run_id), self._key
        # Alone only for the entry: what may be done side by side is done before.
        with self._database.change() as connection:
            if not self._ready and self._version(connection) < LAYOUT:
                self._database.wait_for_turn(connection)
                self._bring_up(connection)
            if not self._database.insert_once(connection, tables.record, row):
                known = connection.execute(
                    sql.select(tables.record.c.document).where(tables.record.c.run_id == record.run_id)
                ).scalar()
                if _bytes(known) != document:
                    message = f"The store {self._database.name} already holds another record of the run {record.run_id}."
                    raise RecordConflictError(message)
                return
            connection.execute(tables.summary.insert().values(short))
            self._database.wait_for_turn(connection)
            entry = self._append(connection, Kind.RECORD, [member])
        self._ready = True
        self._remember(entry)

    def get(self, run: str) -> Stored:
        """The record of a run id, or the newest one for `latest`. RecordNotFoundError when there is none."""
        query = _newest_first(_records())
        query = query.limit(1) if run == LATEST else query.where(tables.record.c.run_id == run)
        found = self._read(query)
        if not found:
            message = "There are no results yet." if run == LATEST else f"There is no result of a run {run!r}."
            raise RecordNotFoundError(message)
        return found[0]

    def documents(self, run_ids: Sequence[str]) -> dict[str, bytes]:
        """The documents of these runs by run id. RecordNotFoundError when a run that the lists show has none."""
        wanted = list(dict.fromkeys(run_ids))
        found = {run_id: stored.document for run_id, stored in self._named(wanted).items()}
        if missing := [run_id for run_id in wanted if run_id not in found]:
            message = f"There is no result of a run {missing[0]!r}. The store {self._database.name} may have been edited: relevo results verify"
            raise RecordNotFoundError(message)
        return found

    def newest(self, limit: int | None = None, *, cluster: str | None = None, runbook: str | None = None) -> list[Stored]:
        """Records, newest first, optionally of one cluster or runbook."""
        if cluster is None and runbook is None:
            query = _newest_first(_records())
            return self._read(query if limit is None else query.limit(limit))
        # Whose they are is asked of the summaries, which are short and have the indices for it.
        wanted = [summary.run_id for summary in self.summaries(cluster=cluster, runbook=runbook, limit=limit)]
        found = self._named(wanted)
        return [found[run_id] for run_id in wanted if run_id in found]

    def _named(self, run_ids: Sequence[str]) -> dict[str, Stored]:
        """Those of these runs that have a record."""
        found: dict[str, Stored] = {}
        for first in range(0, len(run_ids), _BATCH):  # a question may name only so many
            query = _records().where(tables.record.c.run_id.in_(run_ids[first : first + _BATCH]))
            found |= {stored.run_id: stored for stored in self._read(query)}
        return found

    def each(self) -> Iterator[Stored]:
        """All records by run id, a few at a time: a long history fits in no memory."""
        last = ""
        while True:
            query = _records().where(tables.record.c.run_id > last).order_by(tables.record.c.run_id)
            batch = self._read(query.limit(_BATCH))
            yield from batch
            if len(batch) < _BATCH:
                return
            last = batch[-1].run_id

    def before(self, record: Record, *, verdict: str | None) -> Stored | None:
        """The run of the same runbook and cluster that began last before this one, or the last with that verdict.

        A run that ended before anybody named a cluster may be of any.
        """
        column = tables.record.c
        query = _newest_first(_records()).where(column.runbook == record.runbook, column.opened_at < record.opened_at)
        if record.cluster:
            query = query.where(sql.or_(column.cluster == record.cluster, column.cluster.is_(None)))
        if verdict is not None:
            query = query.where(column.verdict == verdict)
        found = self._read(query.limit(1))
        return found[0] if found else None

    def listed(self) -> dict[str, tuple[Any, ...]]:
        """By run id what the lists are searched by, beside the documents."""
        column = tables.record.c
        query = sql.select(column.run_id, column.runbook, column.cluster, column.mode, column.verdict, column.opened_at)
        return {row[0]: tuple(row[1:]) for row in self.rows(query)}

    # -- in short --

    def summaries(
        self, *, cluster: str | None = None, since: str = "", runbook: str | None = None, limit: int | None = None
    ) -> list[Summary]:
        """Every run in short, newest first, optionally of one cluster, of one runbook and from a time on. No document is read for it."""
        column = tables.summary.c
        query = sql.select(*tables.SUMMARY).order_by(column.opened_at.desc(), column.run_id.desc())
        if cluster is not None:
            query = query.where(column.cluster == cluster)
        if runbook is not None:
            query = query.where(column.runbook == runbook)
        if since:
            query = query.where(column.opened_at >= since)
        return self.each_row(query if limit is None else query.limit(limit), Summary._make)

    def count(self, *, cluster: str | None = None, runbook: str | None = None) -> int:
        """How many runs the summaries hold."""
        query = sql.select(sql.func.count()).select_from(tables.summary)
        if cluster is not None:
            query = query.where(tables.summary.c.cluster == cluster)
        if runbook is not None:
            query = query.where(tables.summary.c.runbook == runbook)
        found = self.rows(query)
        return int(found[0][0]) if found else 0

    def first(self, cluster: str, runbook: str, verdicts: Sequence[str]) -> str | None:
        """When the oldest run of a runbook that ended with one of these verdicts was opened; None when there is none.

        A run in check mode did nothing.
        """
        column = tables.summary.c
        query = sql.select(sql.func.min(column.opened_at)).where(column.cluster == cluster, column.runbook == runbook)
        found = self.rows(query.where(column.verdict.in_(verdicts), column.check_mode.is_(False)))
        return found[0][0] if found else None

    # -- what people say --

    def keep(self, signed: Signed, kind: str, subject: str) -> None:
        """Store a statement and its entry in the chain."""
        row = {"entry_id": signed.entry_id, "kind": kind, "subject": subject}
        with self._writing() as connection:
            connection.execute(tables.statement.insert().values(**row, document=signed.document, signature=signed.signature))
            entry = self._append(connection, Kind.STATEMENT, [_statement(signed.entry_id, signed.document)])
        self._remember(entry)

    def statements(self, kind: str | None = None) -> list[Signed]:
        """What people said, in the order in which they did, optionally of one kind."""
        column = tables.statement.c
        query = sql.select(column.entry_id, column.document, column.signature).order_by(column.number)
        rows = self.rows(query if kind is None else query.where(column.kind == kind))
        return [Signed(row[0], _bytes(row[1]), row[2]) for row in rows]

    def filed(self) -> dict[str, tuple[str, str]]:
        """By the id of a statement under which kind and subject it is found, beside its document; in the order of the rows."""
        column = tables.statement.c
        rows = self.rows(sql.select(column.entry_id, column.kind, column.subject).order_by(column.number))
        return {row[0]: (row[1], row[2]) for row in rows}

    # -- the chain --

    def entries(self) -> list[StoredEntry]:
        """The chain, by the number of each row."""
        query = sql.select(tables.chain.c.sequence, tables.chain.c.document, tables.chain.c.signature)
        return [StoredEntry(row[0], _bytes(row[1]), row[2]) for row in self.rows(query.order_by(tables.chain.c.sequence))]

    def entry(self, sequence: int) -> StoredEntry | None:
        """One entry of the chain; None when this store has none of that number."""
        column = tables.chain.c
        found = self.rows(sql.select(column.sequence, column.document, column.signature).where(column.sequence == sequence))
        return StoredEntry(found[0][0], _bytes(found[0][1]), found[0][2]) if found else None

    def last_entry(self) -> StoredEntry | None:
        """The newest entry; None when this store has no chain yet."""
        query = sql.select(tables.chain.c.sequence, tables.chain.c.document, tables.chain.c.signature)
        found = self.rows(query.order_by(tables.chain.c.sequence.desc()).limit(1))
        return StoredEntry(found[0][0], _bytes(found[0][1]), found[0][2]) if found else None

    def state_signers(self, signers: Sequence[Signer]) -> chain.Entry:
        """Say in the chain, with this controller's signature, that these keys are believed."""
        with self._writing() as connection:
            entry = self._append(connection, Kind.SIGNER, signers=signers)
        self._remember(entry)
        return entry

    def remembered(self) -> chain.Entry | None:
        """The entry that this controller wrote last: a store that is put back to an earlier state no longer holds it."""
        try:
            return chain.parse(self._memory.read_bytes())
        except (OSError, ChainError):
            return None

    def _remember(self, entry: chain.Entry) -> None:
        draft = self._memory.with_name(f".{self._memory.name}.{os.getpid()}.{threading.get_ident()}")
        with suppress(OSError):  # the record is stored; this only helps to see later that it still is
            self._memory.parent.mkdir(mode=0o700, exist_ok=True)
            draft.write_bytes(entry.document)
            draft.rename(self._memory)

    @cached_property
    def _key(self) -> SigningKey:
        return signature.ready_key(self._keys)

    def _append(
        self, connection: sql.Connection, kind: Kind, members: Sequence[Member] = (), signers: Sequence[Signer] = ()
    ) -> chain.Entry:
        """One more entry; the caller writes alone."""
        introduced = connection.execute(sql.select(tables.chain.c.key).where(tables.chain.c.key == self._key.fingerprint).limit(1))
        lines = signers if introduced.first() else [*signature.believed(self._keys), *signers]
        writer = Writer(identity.controller(), self._key.fingerprint, tuple(signer.line for signer in lines))
        end = _end(connection)
        if end is None and kind is not Kind.BEGIN:
            self._append(connection, Kind.BEGIN)
            end = _end(connection)
        now = clock.utc_now()
        entry = chain.first(uuid.uuid4().hex, now, writer) if end is None else chain.following(end, now, writer, kind, members)
        row = {"sequence": entry.sequence, "key": entry.key, "document": entry.document}
        connection.execute(tables.chain.insert().values(**row, signature=signature.sign(self._key, entry.document)))
        return entry

    # -- the form of the store --

    @contextmanager
    def _writing(self) -> Iterator[sql.Connection]:
        """Alone, in a store of the present form: one of an earlier form gets what it has not, all at once or not at all."""
        with self._database.write() as connection:
            if not self._ready:
                self._bring_up(connection)
            yield connection
        self._ready = True

    def _bring_up(self, connection: sql.Connection) -> None:
        """To the present form; the caller writes alone."""
        version = self._version(connection)
        if version == LAYOUT:
            return
        self._database.make_tables(connection)
        if version < _CHAINED:
            self._take_over(connection)
        if version < _SAID:
            self._take_over_statements(connection)
            tables.SUMMARY_BY_RUNBOOK.create(connection, checkfirst=True)
        if version < _INDEXED:
            for index in (tables.SUMMARY_BY_VERDICT, tables.SUMMARY_BY_END, tables.SUMMARY_BY_SCOPE, tables.SUMMARY_MEASURED):
                index.create(connection, checkfirst=True)
        connection.execute(tables.layout.insert().values(version=LAYOUT, since=clock.utc_now()))

    def _version(self, connection: sql.Connection) -> int:
        """The form of this store, 0 before there was a number. StoreError when a newer Relevo has brought it to a form of its own."""
        if not sql.inspect(connection).has_table(tables.layout.name):
            return 0
        version = connection.execute(sql.select(sql.func.max(tables.layout.c.version))).scalar() or 0
        if version > LAYOUT:
            message = f"The store {self._database.name} has the form {version} of a newer Relevo, this one knows {LAYOUT}: install that one."
            raise StoreError(message)
        return version

    def _take_over(self, connection: sql.Connection) -> None:
        self._append(connection, Kind.BEGIN)
        members: list[Member] = []
        last = ""
        while True:
            query = sql.select(tables.record.c.run_id, tables.record.c.document).where(tables.record.c.run_id > last)
            rows = connection.execute(query.order_by(tables.record.c.run_id).limit(_BATCH)).all()
            if not rows:
                break
            members += [Member(chain.digest(_bytes(row.document)), row.run_id) for row in rows if chain.NAME.fullmatch(row.run_id)]
            short = []
            for row in rows:
                with suppress(StoreError):  # no record any more: verify names it
                    short.append({**summarize(parse(_bytes(row.document)))._asdict(), "run_id": row.run_id})
            if short:
                connection.execute(tables.summary.insert(), short)
            last = rows[-1].run_id
        if members:
            self._append(connection, Kind.TAKEOVER, members)

    def _take_over_statements(self, connection: sql.Connection) -> None:
        column = tables.statement.c
        rows = connection.execute(sql.select(column.entry_id, column.document).order_by(column.number)).all()
        members = [_statement(row.entry_id, _bytes(row.document)) for row in rows if chain.NAME.fullmatch(row.entry_id)]
        if members:
            self._append(connection, Kind.TAKEOVER, members)

    def rows(self, query: sql.Select[*tuple[Any, ...]]) -> list[sql.Row[*tuple[Any, ...]]]:
        """Of what came with the present form; nothing, and nothing is made, in a store that is still empty."""
        return self.each_row(query, lambda row: row)

    def each_row(self, query: sql.Select[*tuple[Any, ...]], make: Callable[[sql.Row[*tuple[Any, ...]]], T]) -> list[T]:
        """What is made of the rows, each let go before the next is read: of a long history, half the time of a list of rows first."""
        with self._database.read() as connection:
            if self._ready or self._version(connection) == LAYOUT:
                self._ready = True
                return [make(row) for row in connection.execute(query)]
            found = sql.inspect(connection)
            if not (found.has_table(tables.record.name) or found.has_table(tables.statement.name)):
                return []
        with self._writing():
            pass
        return self.each_row(query, make)

    def _read(self, query: sql.Select[Any]) -> list[Stored]:
        """Of the records, which every form has."""
        with self._database.read() as connection:
            if not sql.inspect(connection).has_table(tables.record.name):
                return []
            rows = connection.execute(query).all()
        return [Stored(row.run_id, _bytes(row.document), row.signature) for row in rows]


def _end(connection: sql.Connection) -> chain.End | None:
    """Where the chain goes on, also behind entries that somebody broke; None where there is no entry."""
    column = tables.chain.c
    query = sql.select(column.sequence, column.document).order_by(column.sequence.desc())
    last = connection.execute(query.limit(1)).first()
    if last is None:
        return None
    with suppress(ChainError):
        return chain.End(last[0], _bytes(last[1]), chain.parse(_bytes(last[1])))
    for _, document in connection.execute(query):
        with suppress(ChainError):
            return chain.End(last[0], _bytes(last[1]), chain.parse(_bytes(document)))
    return chain.End(last[0], _bytes(last[1]), chain.first(uuid.uuid4().hex, "", Writer("", "")))


def _statement(entry_id: str, document: bytes) -> Member:
    return Member(chain.digest(document), entry_id, What.STATEMENT)


def _bytes(value: Any) -> bytes:
    """Stored bytes; a forger may have put text there, which SQLite does not mind."""
    return value.encode() if isinstance(value, str) else bytes(value)


def _records() -> sql.Select[Any]:
    return sql.select(tables.record.c.run_id, tables.record.c.document, tables.record.c.signature)


def _newest_first(query: sql.Select[Any]) -> sql.Select[Any]:
    return query.order_by(tables.record.c.opened_at.desc(), tables.record.c.run_id.desc())
