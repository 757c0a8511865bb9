"""A PostgreSQL server of a test's own, as a process of this machine, reached by a socket in its directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg


@dataclass(frozen=True)
class Server:
    """directory: data, socket and log; binaries: of the newest version that is installed."""

    directory: Path
    binaries: Path

    def control(self, *words: str) -> None:
        """pg_ctl, as somebody else than root, who may not run a server."""
        self.control_with(300, *words)

    def control_with(self, connections: int, *words: str) -> None:
        """The same for a server that takes so many connections."""
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.directory}' -c fsync=off -c autovacuum=off -c max_connections={connections}"
        command = [
            self.binaries / "pg_ctl",
            "-D",
            self.directory / "data",
            "-l",
            self.directory / "log",
            "-w",
            "-o",
            options,
            *words,
        ]
        subprocess.run([*_somebody(), *command], check=True, stdout=subprocess.DEVNULL, timeout=120, cwd="/")

    def cpu_seconds(self) -> float:
        """What the server has used of CPU so far, with all its processes, those that have ended among them."""
        postmaster = int((self.directory / "data" / "postmaster.pid").read_text().splitlines()[0])
        ticks = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended meanwhile, and is counted with its parent
            if int(path.parent.name) == postmaster:
                ticks += sum(map(int, fields[11:15]))
            elif int(fields[1]) == postmaster:
                ticks += sum(map(int, fields[11:13]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def database(self, name: str) -> str:
        """The URL of a new, empty database."""
        with psycopg.connect(host=str(self.directory), user="postgres", dbname="postgres", autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[call-overload]  # a name of ours
        return f"postgresql://postgres@/{name}?host={self.directory}"


def _somebody() -> list[str]:
    return ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    assert found, "this test needs a PostgreSQL server on this machine: apt-get install postgresql"
    return found[-1].parent


@contextmanager
def serving() -> Iterator[Server]:
    """Made, started, and gone without a trace afterwards."""
    server = Server(Path(tempfile.mkdtemp(prefix="relevo-database-")), _binaries())
    try:
        if os.geteuid() == 0:
            shutil.chown(server.directory, "postgres")
        initdb = [server.binaries / "initdb", "-D", server.directory / "data", "-U", "postgres", "-A", "trust", "-N"]
        subprocess.run([*_somebody(), *initdb], check=True, stdout=subprocess.DEVNULL, timeout=120, cwd="/")
        server.control("start")
        try:
            yield server
        finally:
            server.control("stop", "-m", "immediate")
    finally:
        shutil.rmtree(server.directory, ignore_errors=True)
