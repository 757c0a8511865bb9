"""Connections to PostgreSQL that are forgotten as soon as the server looks wrong."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.rows import dict_row

CONNECT_SECONDS = 2
REQUEST_SECONDS = 2.5

IDENTITY = """
    (select system_identifier::text from pg_catalog.pg_control_system()) as system_identifier,
    host(inet_server_addr()) as server_address,
    pg_is_in_recovery() as in_recovery,
    current_setting('transaction_read_only') = 'on' as read_only,
    case when pg_is_in_recovery() then (select timeline_id from pg_catalog.pg_control_checkpoint())
         else ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int end as timeline
"""


class UnavailableError(Exception):
    """The database did not do the work; `committed` is False when that is certain and None when nobody knows."""

    def __init__(self, error: Exception, *, committed: bool | None) -> None:
        super().__init__(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
        self.sqlstate = getattr(error, "sqlstate", None)
        self.committed = committed


class Database:
    """A few connections, shared by all threads; the newest is lent first."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[psycopg.Connection[dict[str, Any]]] = []
        self._lock = threading.Lock()
        self.host = psycopg.conninfo.conninfo_to_dict(url).get("host")

    def _connect(self) -> psycopg.Connection[dict[str, Any]]:
        # No prepared statements, so that a pooler may stand in between; the kernel gives up on a dead peer after 3 s.
        return psycopg.connect(
            self._url,
            autocommit=True,
            row_factory=dict_row,
            prepare_threshold=None,
            connect_timeout=CONNECT_SECONDS,
            application_name="minimarket",
            tcp_user_timeout=3000,
            keepalives_idle=5,
            keepalives_interval=1,
            keepalives_count=3,
        )

    def _take(self) -> psycopg.Connection[dict[str, Any]]:
        with self._lock:
            while self._idle:
                connection = self._idle.pop()
                # An idle connection has nothing to say: readable means that the server closed it.
                if not select.select([connection.fileno()], [], [], 0)[0]:
                    return connection
                connection.close()
        return self._connect()

    def forget(self) -> None:
        """Close every idle connection: what happened to one will happen to all."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def connection(self, seconds: float = REQUEST_SECONDS) -> Iterator[psycopg.Connection[dict[str, Any]]]:
        """Lend a connection in autocommit mode; the work on it ends after `seconds`, whatever the server does."""
        try:
            connection = self._take()
        except psycopg.Error as error:
            self.forget()
            raise UnavailableError(error, committed=False) from error
        timer = threading.Timer(seconds, _cut, [connection])
        timer.daemon = True
        timer.start()
        try:
            yield connection
        except (psycopg.IntegrityError, psycopg.DataError):
            raise
        except psycopg.Error as error:
            connection.close()
            self.forget()
            raise UnavailableError(error, committed=_committed(error)) from error
        finally:
            timer.cancel()
            self._give_back(connection)

    def _give_back(self, connection: psycopg.Connection[dict[str, Any]]) -> None:
        if not connection.closed and connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            with self._lock:
                self._idle.append(connection)
        else:
            connection.close()


def _cut(connection: psycopg.Connection[dict[str, Any]]) -> None:
    # A frozen server answers nothing and keeps the TCP session alive: only closing our own end wakes the waiting thread.
    try:
        duplicate = socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM)
        duplicate.shutdown(socket.SHUT_RDWR)
        duplicate.close()
    except (OSError, psycopg.Error):
        return


def _committed(error: psycopg.Error) -> bool | None:
    # An ERROR undid the statement; a FATAL (shutdown) or a lost connection may have come after the commit.
    return False if error.diag.severity_nonlocalized == "ERROR" else None
