"""Two servers of this machine that listen at ports of it: an old primary and a new one, for what stands in front of them."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
import pytest
from ansible_collections.relevo.dr.plugins.module_utils.app_provider import Place, Target

from .database_server import Server, serving

PASSWORD = "".join(one for one in map(chr, range(32, 127)))
HERE = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind((HERE, 0))
        return int(taken.getsockname()[1])


@dataclass(frozen=True)
class Database:
    server: Server
    port: int

    @property
    def place(self) -> Place:
        return Place("db", HERE, HERE, self.port)


@contextmanager
def listening() -> Iterator[Database]:
    """A server that listens at a port of this machine, with a user whose password has every printable character."""
    with serving() as server:
        port = free_port()
        with psycopg.connect(host=str(server.directory), user="postgres", dbname="postgres", autocommit=True) as connection:
            connection.execute("create role shop login superuser password '%s'" % PASSWORD.replace("'", "''"))
            connection.execute("create database shop")
        server.control("stop", "-m", "fast")
        hba = server.directory / "data/pg_hba.conf"
        hba.write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        with (server.directory / "data/postgresql.auto.conf").open("a") as settings:
            settings.write(f"port = {port}\n")
        listen(server, port, "start")
        yield Database(server, port)


def listen(server: Server, port: int, *words: str) -> None:
    options = f"-c listen_addresses={HERE} -c unix_socket_directories='{server.directory}' -c fsync=off -p {port}"
    command = [server.binaries / "pg_ctl", "-D", server.directory / "data", "-l", server.directory / "log", "-w", "-o", options]
    subprocess.run(
        ["runuser", "-u", "postgres", "--", *command, *words], check=True, stdout=subprocess.DEVNULL, timeout=120, cwd="/"
    )


@contextmanager
def two_databases() -> Iterator[tuple[Database, Database]]:
    with listening() as old, listening() as new:
        yield old, new


def target(databases: tuple[Database, Database]) -> Target:
    return Target(HERE, databases[1].port, "", (databases[0].place,))


def until(what: str, ready: Callable[[], bool]) -> None:
    for _ in range(200):
        if ready():
            return
        time.sleep(0.05)
    pytest.fail(f"{what}: not within 10 s")
