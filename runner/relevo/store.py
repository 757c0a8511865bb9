"""The store of results: SQLite by default, PostgreSQL by URL, one implementation. Stored bytes are never rewritten."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sql
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from relevo.errors import RecordNotFoundError, StoreError
from relevo.history import summarize
from relevo.paths import make_private_directory
from relevo.record import parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from relevo.history import Summary
    from relevo.paths import Place
    from relevo.record import Record

LATEST = "latest"
_WAIT_SECONDS = 30
_CONNECT_SECONDS = 5

_metadata = sql.MetaData()
_record = sql.Table(
    "record",
    _metadata,
    sql.Column("run_id", sql.String(100), primary_key=True),
    sql.Column("runbook", sql.String(64), nullable=False),
    sql.Column("cluster", sql.String(100)),
    sql.Column("mode", sql.String(20)),
    sql.Column("verdict", sql.String(20), nullable=False),
    sql.Column("opened_at", sql.String(27), nullable=False),
    sql.Column("document", sql.LargeBinary, nullable=False),
    sql.Column("signature", sql.Text, nullable=False),
    # Newest first, also among the runs of one microsecond.
    sql.Index("record_by_time", "opened_at", "run_id"),
)


@dataclass(frozen=True)
class Stored:
    """One record as it lies in the store: the exact canonical bytes and their detached signature."""

    run_id: str
    document: bytes
    signature: str


def _make_private(database: str | None) -> None:
    """An SQLite file that only its owner reads; made by SQLite itself it would be readable by all."""
    if database and database != ":memory:":
        with suppress(OSError):  # SQLite's own message says more
            os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


class Store:
    """Results by run id. Every method raises StoreError with a sentence when the database is away."""

    def __init__(self, place: Place) -> None:
        url = sql.make_url(place.store_url)
        if url.drivername in {"postgresql", "postgres"}:
            url = url.set(drivername="postgresql+psycopg")
        arguments: dict[str, Any] = {"connect_timeout": _CONNECT_SECONDS}
        if url.get_backend_name() == "sqlite":
            make_private_directory(place.state)
            _make_private(url.database)
            arguments = {"timeout": _WAIT_SECONDS}
        self._name = url.render_as_string(hide_password=True)
        self._engine = sql.create_engine(url, poolclass=NullPool, connect_args=arguments)

    @contextmanager
    def read(self) -> Iterator[sql.Connection]:
        """Look at what is kept beside the records."""
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise self._away(error) from error

    @contextmanager
    def write(self) -> Iterator[sql.Connection]:
        """Change what is kept beside the records; all of it or nothing."""
        try:
            with self._engine.begin() as connection:
                if self._engine.dialect.name == "sqlite":
                    connection.exec_driver_sql("BEGIN IMMEDIATE")  # two first writers, one after the other
                yield connection
        except SQLAlchemyError as error:
            raise self._away(error) from error

    def add(self, record: Record, document: bytes, signature: str) -> None:
        """Store a record; a second time with the same bytes changes nothing, with other bytes it is an error."""
        row = {
            "run_id": record.run_id,
            "runbook": record.runbook,
            "cluster": record.cluster,
            "mode": record.mode,
            "verdict": record.verdict.value,
            "opened_at": record.opened_at,
            "document": document,
            "signature": signature,
        }
        try:
            self._make_tables()
            with self._engine.begin() as connection:
                connection.execute(_record.insert().values(row))
        except IntegrityError as error:
            if self.get(record.run_id).document != document:
                message = f"The store {self._name} already holds another record of the run {record.run_id}."
                raise StoreError(message) from error
        except SQLAlchemyError as error:
            raise self._away(error) from error

    def get(self, run: str) -> Stored:
        """The record of a run id, or the newest one for `latest`. RecordNotFoundError when there is none."""
        query = sql.select(_record.c.run_id, _record.c.document, _record.c.signature)
        newest = query.order_by(_record.c.opened_at.desc(), _record.c.run_id.desc()).limit(1)
        query = newest if run == LATEST else query.where(_record.c.run_id == run)
        found = self._read(query)
        if not found:
            message = "There are no results yet." if run == LATEST else f"There is no result of a run {run!r}."
            raise RecordNotFoundError(message)
        return found[0]

    def newest(self, limit: int | None = None, *, cluster: str | None = None, runbook: str | None = None) -> list[Stored]:
        """Records, newest first, optionally of one cluster or runbook."""
        query = sql.select(_record.c.run_id, _record.c.document, _record.c.signature)
        query = query.order_by(_record.c.opened_at.desc(), _record.c.run_id.desc())
        if cluster is not None:
            query = query.where(_record.c.cluster == cluster)
        if runbook is not None:
            query = query.where(_record.c.runbook == runbook)
        return self._read(query if limit is None else query.limit(limit))

    def summaries(self, *, cluster: str | None = None, since: str = "") -> list[Summary]:
        """Every run in short, newest first, optionally of one cluster and from a time on."""
        found = self.newest(cluster=cluster)
        return [summary for stored in found if (summary := summarize(parse(stored.document))).opened_at >= since]

    def before(self, record: Record, *, verdict: str | None) -> Stored | None:
        """The run of the same runbook and cluster that began last before this one, or the last with that verdict.

        A run that ended before anybody named a cluster may be of any.
        """
        query = sql.select(_record.c.run_id, _record.c.document, _record.c.signature)
        query = query.where(_record.c.runbook == record.runbook, _record.c.opened_at < record.opened_at)
        if record.cluster:
            query = query.where(sql.or_(_record.c.cluster == record.cluster, _record.c.cluster.is_(None)))
        if verdict is not None:
            query = query.where(_record.c.verdict == verdict)
        found = self._read(query.order_by(_record.c.opened_at.desc(), _record.c.run_id.desc()).limit(1))
        return found[0] if found else None

    def first(self, cluster: str, runbook: str, verdicts: Sequence[str]) -> str | None:
        """When the oldest run of a runbook that ended with one of these verdicts was opened; None when there is none.

        A run in check mode did nothing.
        """
        query = sql.select(_record.c.run_id, _record.c.document, _record.c.signature)
        query = query.where(_record.c.cluster == cluster, _record.c.runbook == runbook, _record.c.verdict.in_(verdicts))
        documents = (json.loads(stored.document) for stored in self._read(query.order_by(_record.c.opened_at)))
        return next((str(document["opened_at"]) for document in documents if not document["check_mode"]), None)

    def _make_tables(self) -> None:
        """Two first writers at once both try: what counts is that the table is there afterwards."""
        try:
            _metadata.create_all(self._engine)
        except SQLAlchemyError:
            if not sql.inspect(self._engine).has_table(_record.name):
                raise

    def _read(self, query: sql.Select[Any]) -> list[Stored]:
        try:
            if not sql.inspect(self._engine).has_table(_record.name):
                return []
            with self._engine.connect() as connection:
                rows = connection.execute(query).all()
        except SQLAlchemyError as error:
            raise self._away(error) from error
        return [Stored(row.run_id, bytes(row.document), row.signature) for row in rows]

    def _away(self, error: SQLAlchemyError) -> StoreError:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        return StoreError(f"The store {self._name} cannot be used: {reason}.")
