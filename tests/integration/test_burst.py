"""What the gates say of a reconnect storm, beside what a real server does in one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from ansible_collections.relevo.dr.plugins.module_utils import cluster_facts, connection_room
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import postmaster_pid
from ansible_collections.relevo.dr.plugins.module_utils.server_limits import server_limits
from psycopg.rows import dict_row

from .burst import TOO_MANY, Burst
from .database_server import Server, serving

BACK_SECONDS = 30.0


class Session:
    """What the module asks over its own psql."""

    def __init__(self, server: Server) -> None:
        self._connection = psycopg.connect(
            host=str(server.directory), user="postgres", dbname="postgres", autocommit=True, row_factory=dict_row
        )

    def query(self, statement: str) -> list[dict[str, Any]]:
        return self._connection.execute(statement).fetchall()  # type: ignore[call-overload, no-any-return]

    def row(self, statement: str) -> dict[str, Any]:
        (row,) = self.query(statement)
        return row

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as found:
        with psycopg.connect(host=str(found.directory), user="postgres", dbname="postgres", autocommit=True) as connection:
            connection.execute("create role shop login")
        yield found


def facts(server: Server) -> dict[str, Any]:
    session = Session(server)
    try:
        return cluster_facts._running_facts(session)  # type: ignore[arg-type]
    finally:
        session.close()


def judged(server: Server, expected: int) -> dict[str, bool | None]:
    pid = postmaster_pid(str(server.directory / "data"))
    assert pid is not None
    demand = connection_room.Demand(observed=None, declared=expected, own=0)
    return {one.title: one.ok for one in connection_room.judge(facts(server), server_limits(pid), demand)}


def restart(server: Server, connections: int) -> None:
    server.control_with(connections, "restart", "-m", "immediate")


def probe(server: Server) -> bool:
    """The run itself, over the socket."""
    with psycopg.connect(host=str(server.directory), user="postgres", dbname="postgres", connect_timeout=5) as connection:
        return connection.execute("select 1").fetchone() == (1,)


def test_a_storm_that_fits_comes_back_whole_and_nobody_is_refused(server: Server) -> None:
    restart(server, 40)
    with Burst(30, host=str(server.directory), user="shop", dbname="postgres") as burst:
        assert facts(server)["primary"]["client_connections"] == 30
        restart(server, 40)
        assert burst.wait(30, BACK_SECONDS), burst.storm()
        assert judged(server, 30)["connections for all clients at once"] is True
        storm = burst.storm()
    assert (storm.cut, storm.back) == (30, 30)
    assert storm.refused[TOO_MANY] == 0
    assert storm.seconds is not None and storm.seconds < BACK_SECONDS


def test_a_storm_that_does_not_fit_was_foreseen_and_the_run_gets_in_all_the_same(server: Server) -> None:
    restart(server, 40)
    with Burst(30, host=str(server.directory), user="shop", dbname="postgres") as burst:
        # The other side, which takes fewer.
        restart(server, 20)
        assert burst.wait(17, BACK_SECONDS), burst.storm()
        limit = time.monotonic() + BACK_SECONDS
        while not burst.storm().refused[TOO_MANY]:
            assert time.monotonic() < limit
        for _ in range(20):
            assert probe(server)
        assert judged(server, 30)["connections for all clients at once"] is False
        storm = burst.storm()
    assert storm.back == 17
    assert storm.seconds is None


def test_what_a_server_allows_is_read_from_the_server(server: Server) -> None:
    restart(server, 40)
    found = facts(server)
    assert found["settings"]["max_connections"] == "40"
    assert found["settings"]["superuser_reserved_connections"] == "3"
    assert found["shared_buffers_bytes"] >= 1 << 20
    assert found["work_mem_bytes"] == 4 << 20
    assert judged(server, 37) == dict.fromkeys(judged(server, 37), True)
    assert judged(server, 38)["connections for all clients at once"] is False
