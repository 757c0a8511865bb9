"""The tables of a store, and how its database is entered: read, or written by one writer at a time. SQLite and PostgreSQL."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from relevo.errors import StoreError
from relevo.history import Summary
from relevo.paths import make_private_directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from relevo.paths import Place

_CONNECT_SECONDS = 5
# How long a writer waits for the others, and how long a database that has stopped answering may hold a run up.
_WAIT_SECONDS = 30
_SILENT_SECONDS = 60
# One writer at a time in one PostgreSQL database: the digits of "relevo" on a telephone.
_LOCK = 735386

_metadata = sql.MetaData()
record = sql.Table(
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
# Beside the documents and not among them: a list of many runs reads none.
summary = sql.Table(
    "summary",
    _metadata,
    sql.Column("run_id", sql.String(100), primary_key=True),
    sql.Column("runbook", sql.Text, nullable=False),
    sql.Column("cluster", sql.Text),
    sql.Column("mode", sql.Text),
    sql.Column("scope", sql.Text),
    sql.Column("verdict", sql.Text, nullable=False),
    sql.Column("objectives_met", sql.Boolean),
    sql.Column("check_mode", sql.Boolean, nullable=False),
    sql.Column("opened_at", sql.Text, nullable=False),
    sql.Column("closed_at", sql.Text, nullable=False),
    sql.Column("duration_seconds", sql.Float(53), nullable=False),
    sql.Column("operator", sql.Text, nullable=False),
    sql.Column("rto_seconds", sql.Float(53)),
    sql.Column("rpo_seconds", sql.Float(53)),
    sql.Column("acknowledged", sql.BigInteger),
    sql.Column("lost", sql.BigInteger),
    sql.Index("summary_by_time", "opened_at", "run_id"),
    sql.Index("summary_by_cluster", "cluster", "opened_at", "run_id"),
)
# A prediction reads the newest of one runbook, which may be a handful among thousands of nights.
SUMMARY_BY_RUNBOOK = sql.Index("summary_by_runbook", summary.c.cluster, summary.c.runbook, summary.c.opened_at, summary.c.run_id)
# Of these are counts made and the newest of each kind found; the columns after the first are read from the index itself.
SUMMARY_BY_VERDICT = sql.Index(
    "summary_by_verdict",
    *(summary.c[name] for name in ("cluster", "runbook", "check_mode", "verdict", "opened_at", "run_id")),
)
SUMMARY_BY_END = sql.Index("summary_by_end", *(summary.c[name] for name in ("cluster", "closed_at", "runbook", "verdict")))
# What counts as a test of one scope may be a handful among thousands of the other.
SUMMARY_BY_SCOPE = sql.Index(
    "summary_by_scope",
    *(summary.c[name] for name in ("cluster", "runbook", "scope", "opened_at", "run_id", "mode", "check_mode")),
)
# Few runs of many measure anything.
_MEASURED = sql.or_(summary.c.rto_seconds.is_not(None), summary.c.rpo_seconds.is_not(None))
SUMMARY_MEASURED = sql.Index(
    "summary_measured",
    *(summary.c[name] for name in ("cluster", "runbook", "opened_at", "run_id", "check_mode", "rto_seconds", "rpo_seconds")),
    sqlite_where=_MEASURED,
    postgresql_where=_MEASURED,
)
SUMMARY = tuple(summary.c[name] for name in Summary._fields)
chain = sql.Table(
    "chain",
    _metadata,
    sql.Column("sequence", sql.BigInteger, primary_key=True, autoincrement=False),
    # Whether a key has introduced itself here is asked before each entry.
    sql.Column("key", sql.String(100), nullable=False, index=True),
    sql.Column("document", sql.LargeBinary, nullable=False),
    sql.Column("signature", sql.Text, nullable=False),
)
# What people say about runs. number: in the order in which it was said, as the chain has it.
statement = sql.Table(
    "entry",
    _metadata,
    sql.Column("number", sql.Integer, primary_key=True, autoincrement=True),
    sql.Column("entry_id", sql.String(100), unique=True, nullable=False),
    sql.Column("kind", sql.String(20), nullable=False, index=True),
    sql.Column("subject", sql.String(100), nullable=False),
    sql.Column("document", sql.LargeBinary, nullable=False),
    sql.Column("signature", sql.Text, nullable=False),
)
# The forms that these tables have had: 1, the records alone; 2, with summaries and chain; 3, with statements in the chain; 4, with indices for
# a history of any length.
layout = sql.Table("layout", _metadata, sql.Column("version", sql.Integer, primary_key=True), sql.Column("since", sql.Text))


class Database:
    """Enters the database of a place. Whatever it does raises StoreError with a sentence when the database is away."""

    def __init__(self, place: Place) -> None:
        url = sql.make_url(place.store_url)
        if url.drivername in {"postgresql", "postgres"}:
            url = url.set(drivername="postgresql+psycopg")
        self._local = url.get_backend_name() == "sqlite"
        arguments: dict[str, Any] = {"connect_timeout": _CONNECT_SECONDS}
        if self._local:
            make_private_directory(place.state)
            _make_private(url.database)
            arguments = {"timeout": _WAIT_SECONDS}
        self.name = url.render_as_string(hide_password=True)
        self._view: sql.Connection | None = None
        self._engine = sql.create_engine(url, poolclass=NullPool, connect_args=arguments)
        if self._local:
            sql.event.listen(self._engine, "connect", _leave_transactions_to_us)
        else:  # what is read after the lock was waited for must be of after that
            self._engine = self._engine.execution_options(isolation_level="READ COMMITTED")
            sql.event.listen(self._engine, "before_cursor_execute", _heard)

    @contextmanager
    def read(self) -> Iterator[sql.Connection]:
        """Look, in one consistent view."""
        if self._view is not None:
            yield self._view
            return
        with self._explained(), self._engine.connect() as connection, self._watched(connection):
            if self._local:
                connection.exec_driver_sql("BEGIN")
            else:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    @contextmanager
    def one_view(self) -> Iterator[None]:
        """All looks within are one, of one moment. For one thread; and nothing may be changed within, which would wait for itself."""
        with self.read() as self._view:
            try:
                yield
            finally:
                self._view = None

    @contextmanager
    def change(self) -> Iterator[sql.Connection]:
        """Change, all of it or nothing; alone only from :meth:`wait_for_turn` on, because who is alone keeps everybody else waiting."""
        with self._explained(), self._engine.connect() as connection, self._watched(connection), connection.begin():
            if self._local:  # it knows one writer only
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.execute(sql.text(f"SET LOCAL lock_timeout = '{_WAIT_SECONDS}s'"))
            yield connection

    def wait_for_turn(self, connection: sql.Connection) -> None:
        """From here on nobody else changes anything until this change is done."""
        if not self._local:
            connection.execute(sql.select(sql.func.pg_advisory_xact_lock(_LOCK)))

    @contextmanager
    def write(self) -> Iterator[sql.Connection]:
        """Change, alone from the beginning."""
        with self.change() as connection:
            self.wait_for_turn(connection)
            yield connection

    def insert_once(self, connection: sql.Connection, table: sql.Table, row: Mapping[str, Any]) -> bool:
        """Whether it was not there yet; waits for somebody else who is adding the same row."""
        statement = (sqlite if self._local else postgresql).insert(table).values(row).on_conflict_do_nothing()
        # Of an insertion the drivers count nothing that can be relied on.
        return connection.execute(statement.returning(*table.primary_key)).first() is not None

    def make_tables(self, connection: sql.Connection) -> None:
        """Whatever is not there yet."""
        _metadata.create_all(connection)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            message = f"The store {self.name} cannot be used: {reason}."
            raise StoreError(message) from error

    @contextmanager
    def _watched(self, connection: sql.Connection) -> Iterator[None]:
        """A server that takes what it is sent and never answers would hold a failover for ever; the driver knows no limit."""
        if self._local:
            yield
            return
        watch = _Watch(connection.connection.driver_connection.fileno())  # type: ignore[union-attr]
        connection.info[_Watch] = watch
        try:
            yield
        finally:
            watch.end()


class _Watch:
    """Hangs up on a server that has said nothing for too long; each statement begins anew, so that long work is no silence."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._timer = self._started()

    def _started(self) -> threading.Timer:
        timer = threading.Timer(_SILENT_SECONDS, _hang_up, (self._descriptor,))
        timer.daemon = True
        timer.start()
        return timer

    def begin_anew(self) -> None:
        """The server has answered, and is asked something else."""
        self._timer.cancel()
        self._timer = self._started()

    def end(self) -> None:
        """Nothing is asked any more."""
        self._timer.cancel()


def _heard(connection: sql.Connection, *_: Any) -> None:
    watch = connection.info.get(_Watch)
    if watch:
        watch.begin_anew()


def _hang_up(descriptor: int) -> None:
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as connection:
        connection.shutdown(socket.SHUT_RDWR)


def _leave_transactions_to_us(connection: Any, _: Any) -> None:
    """Python's own driver would begin a transaction too late, as a reader."""
    connection.isolation_level = None


def _make_private(database: str | None) -> None:
    """An SQLite file that only its owner reads; made by SQLite itself it would be readable by all.

    The file is never opened here once it is a database: closing it again would drop the locks that other threads hold on it.
    """
    if not database or database == ":memory:" or Path(database).exists():
        return
    draft = Path(f"{database}.{os.getpid()}.{threading.get_ident()}")
    with suppress(OSError):  # SQLite's own message says more
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with suppress(FileExistsError):
            Path(database).hardlink_to(draft)
        draft.unlink()
