"""HAProxy and PgBouncer as Debian has them, in front of two servers of this machine: re-pointed while clients hold on to the old one."""

from __future__ import annotations

import os
import shutil
import signal
import string
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from ansible_collections.relevo.dr.plugins.module_utils import app_units, provider_haproxy, provider_pgbouncer
from ansible_collections.relevo.dr.plugins.module_utils.app_component import Part
from ansible_collections.relevo.dr.plugins.module_utils.app_provider import ApplicationError, Deadline, Target
from ansible_collections.relevo.dr.plugins.module_utils.provider_haproxy import Haproxy
from ansible_collections.relevo.dr.plugins.module_utils.provider_pgbouncer import Pgbouncer

from .database_pair import HERE, PASSWORD, Database, free_port, listen, target, two_databases, until
from .debian import installed

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def databases() -> Iterator[tuple[Database, Database]]:
    installed("haproxy", "pgbouncer")
    with two_databases() as both:
        yield both


class Units:
    """What systemd would do, for a process of this test."""

    def __init__(self, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._command, self.process = command, None
        for name in ("is_active", "is_enabled", "start", "processes"):
            monkeypatch.setattr(app_units, name, getattr(self, name))
        for module in (provider_haproxy, provider_pgbouncer):
            assert module.units is app_units

    def is_active(self, _unit: str) -> bool:
        return self.process is not None and self.process.poll() is None

    is_enabled = is_active

    def start(self, _unit: str, _deadline: Deadline | None = None) -> bool:
        if self.is_active(""):
            return False
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return True

    def processes(self, _unit: str) -> list[int]:
        """The first and its children, as a control group would have them."""
        first = self.process.pid
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [first, *map(int, children)]

    def stop(self) -> None:
        if self.process is not None:
            for process in reversed(self.processes("")):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            self.process.wait(10)


@pytest.fixture
def place() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="relevo-pool-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def asked(connection: psycopg.Connection) -> int:
    """Which server answers."""
    return int(connection.execute("select inet_server_port()").fetchone()[0])


class Proxy:
    """A running HAProxy of ours."""

    def __init__(self, place: Path, old: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.port, self.config = free_port(), place / "haproxy.cfg"
        self.config.write_text(
            f"global\n  stats socket {place}/admin.sock mode 600 level admin\n  stats timeout 30s\n"
            "defaults\n  mode tcp\n  timeout connect 2s\n  timeout client 1h\n  timeout server 1h\n"
            f"listen shop\n  bind {HERE}:{self.port}\n  # server primary is the database\n"
            f"  server primary {HERE}:{old.port} check inter 200ms fall 2 rise 2 on-marked-down shutdown-sessions\n"
        )
        self.units = Units(["haproxy", "-W", "-db", "-f", str(self.config), "-p", f"{place}/pid"], monkeypatch)
        self.units.start("")
        settings = {"config": str(self.config), "socket": f"{place}/admin.sock", "backend": "shop", "server": "primary"}
        self.provider = Haproxy("database", settings)
        self.part = Part(self.provider, settings)
        until("HAProxy serves", (place / "admin.sock").exists)

    def client(self) -> psycopg.Connection:
        return psycopg.connect(
            host=HERE, port=self.port, user="shop", dbname="shop", password=PASSWORD, autocommit=True, connect_timeout=3
        )


@pytest.fixture
def proxy(place, databases, monkeypatch) -> Iterator[Proxy]:
    found = Proxy(place, databases[0], monkeypatch)
    yield found
    found.units.stop()


def test_haproxy_leads_to_the_new_primary_and_ends_who_holds_the_old_one(proxy, databases):
    old, new = databases
    pinned = proxy.client()
    assert asked(pinned) == old.port
    assert proxy.part.check([])["wrong"] == []
    assert proxy.provider.verify([old.place])["sessions_on_old"] == 1

    wanted = target(databases)
    proxy.provider.prepare(wanted)
    done = proxy.part.cutover(wanted, Deadline(10))
    assert done.changed
    assert done.more["sessions_on_old"] == 0
    assert done.more["address"] == f"{HERE}:{new.port}"
    with pytest.raises(psycopg.OperationalError):
        asked(pinned)
    with proxy.client() as fresh:
        assert asked(fresh) == new.port
    assert not proxy.part.cutover(wanted, Deadline(10)).changed


def test_haproxy_started_again_leads_to_the_new_primary_too(proxy, databases):
    proxy.part.cutover(target(databases), Deadline(10))
    assert f"server primary {HERE}:{databases[1].port} check inter 200ms" in proxy.config.read_text()
    assert "# server primary is the database" in proxy.config.read_text()
    proxy.units.stop()
    assert proxy.part.cutover(target(databases), Deadline(10)).changed
    until("it listens", lambda: _answers(proxy.client))
    with proxy.client() as fresh:
        assert asked(fresh) == databases[1].port


def _answers(connect) -> bool:
    with suppress(psycopg.Error):
        connect().close()
        return True
    return False


def test_a_pool_that_a_reload_left_to_an_old_worker_is_ended_too(proxy, databases):
    pinned = proxy.client()
    before = proxy.units.processes("")
    proxy.units.process.send_signal(signal.SIGUSR2)
    until("a second worker", lambda: len(set(proxy.units.processes("")) - set(before)) == 1)
    until("it has the socket", lambda: proxy.provider._tell("show info").find(f"Pid: {max(proxy.units.processes(''))}") > 0)
    assert asked(pinned) == databases[0].port
    done = proxy.part.cutover(target(databases), Deadline(10))
    assert done.more["sessions_on_old"] == 0
    with pytest.raises(psycopg.OperationalError):
        asked(pinned)


def test_a_cutover_of_haproxy_that_died_before_it_ended_the_old_sessions_is_finished(proxy, databases):
    pinned = proxy.client()
    assert asked(pinned) == databases[0].port
    proxy.provider._write(target(databases))
    proxy.provider._tell(f"set server shop/primary addr {HERE} port {databases[1].port}")
    assert asked(pinned) == databases[0].port
    done = proxy.part.cutover(target(databases), Deadline(10))
    assert (done.changed, done.more["sessions_on_old"]) == (True, 0)


def test_haproxy_with_a_dead_primary_serves_at_once_and_not_after_its_next_checks(proxy, databases):
    old, _ = databases
    listen(old.server, old.port, "stop", "-m", "immediate")
    try:
        until("HAProxy sees it", lambda: not proxy.provider._running()["up"])
        proxy.part.quiesce(Deadline(5), leaves=False)
        proxy.part.cutover(target(databases), Deadline(5))
        with proxy.client() as fresh:
            assert asked(fresh) == databases[1].port
    finally:
        listen(old.server, old.port, "start")


def test_haproxy_is_opened_again_where_it_led(proxy, databases):
    proxy.part.quiesce(Deadline(5), leaves=False)
    assert not _answers(proxy.client)
    assert not proxy.part.quiesce(Deadline(5), leaves=False).changed
    proxy.part.revert(Deadline(5))
    with proxy.client() as again:
        assert asked(again) == databases[0].port


def test_what_would_break_haproxy_is_seen_before_anything_stops(proxy, databases):
    text = proxy.config.read_text()
    proxy.config.write_text(text + "  unheard-of word\n")
    with pytest.raises(ApplicationError, match="haproxy does not take"):
        proxy.provider.prepare(target(databases))
    assert [path.name for path in proxy.config.parent.iterdir() if "relevo" in path.name] == []
    assert "haproxy does not take" in proxy.part.check([])["wrong"][0]
    proxy.config.write_text(text)
    nowhere = Target("nowhere.invalid", 5432, "")
    with pytest.raises(ApplicationError, match=r"nowhere\.invalid has no address"):
        proxy.provider.prepare(nowhere)
    assert "nowhere.invalid has no address" in proxy.part.check([{"name": "nowhere.invalid", "port": 5432}])["wrong"][0]


class Pooler:
    """A running PgBouncer of ours."""

    def __init__(self, place: Path, old: Database, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
        self.port, self.config = free_port(), place / "pgbouncer.ini"
        quoted = PASSWORD.replace("'", "''")
        self.config.write_text(
            f"[databases]\n; shop = host=commented\nother = host={HERE} port={old.port} dbname=postgres user=shop password='{quoted}'\n"
            f"shop = host={HERE} port={old.port} dbname=shop user=shop password='{quoted}' pool_size=5\n"
            f"[pgbouncer]\nlisten_addr = {HERE}\nlisten_port = {self.port}\nauth_type = any\npool_mode = {mode}\n"
            f"unix_socket_dir = {place}\nserver_login_retry = 1\nquery_wait_timeout = 20\n"
        )
        shutil.chown(place, "postgres")
        shutil.chown(self.config, "postgres")
        self.config.chmod(0o640)
        self.units = Units(["runuser", "-u", "postgres", "--", "pgbouncer", str(self.config)], monkeypatch)
        self.units.start("")
        settings = {"config": str(self.config), "databases": ["shop"], "socket_directory": str(place), "port": self.port}
        self.provider = Pgbouncer("pool", settings)
        self.part = Part(self.provider, settings)
        until("PgBouncer serves", (place / f".s.PGSQL.{self.port}").exists)

    def client(self) -> psycopg.Connection:
        return psycopg.connect(
            host=HERE, port=self.port, user="shop", dbname="shop", autocommit=True, prepare_threshold=None, connect_timeout=5
        )


@pytest.fixture(params=["session", "transaction"])
def pooler(request, place, databases, monkeypatch) -> Iterator[Pooler]:
    found = Pooler(place, databases[0], monkeypatch, request.param)
    yield found
    found.units.stop()


def test_pgbouncer_leads_to_the_new_primary_and_lets_nobody_keep_the_old_one(pooler, databases):
    old, new = databases
    pinned = pooler.client()
    assert asked(pinned) == old.port
    assert pooler.part.check([]) | {"background": None} == {
        "active": True,
        "enabled": True,
        "address": f"{HERE}:{old.port}",
        "wrong": [],
        "background": None,
    }
    assert pooler.provider.verify([old.place])["sessions_on_old"] == 1
    before = pooler.config.read_text()

    done = pooler.part.cutover(target(databases), Deadline(10))
    assert done.changed
    assert done.more["sessions_on_old"] == 0
    assert done.more["address"] == f"{HERE}:{new.port}"
    with pytest.raises(psycopg.OperationalError):
        asked(pinned)
    with pooler.client() as fresh:
        assert asked(fresh) == new.port
    # Nothing else in the file is another: not the password, not the database beside it.
    changed = [pair for pair in zip(before.splitlines(), pooler.config.read_text().splitlines(), strict=True) if pair[0] != pair[1]]
    assert [(one.replace(f"port={old.port}", f"port={new.port}"), other) for one, other in changed] == [
        (other, other) for _, other in changed
    ]
    assert len(changed) == 1
    assert changed[0][0].startswith("shop = ")
    assert pooler.config.stat().st_mode & 0o777 == 0o640
    assert pooler.config.owner() == "postgres"
    assert not pooler.part.cutover(target(databases), Deadline(10)).changed


def test_clients_that_come_while_pgbouncer_is_quiet_wait_for_the_new_primary(pooler, databases):
    pooler.part.quiesce(Deadline(5), leaves=False)
    assert not pooler.part.quiesce(Deadline(5), leaves=False).changed
    assert pooler.provider.verify([databases[0].place])["sessions_on_old"] == 0
    waiting = subprocess.Popen(
        ["psql", "-XAtq", "-h", HERE, "-p", str(pooler.port), "-U", "shop", "-c", "select inet_server_port()", "shop"],
        stdout=subprocess.PIPE,
        text=True,
    )
    time.sleep(0.5)
    assert waiting.poll() is None
    pooler.part.cutover(target(databases), Deadline(10))
    assert waiting.communicate(timeout=10)[0].strip() == str(databases[1].port)


def test_pgbouncer_is_opened_again_where_it_led(pooler, databases):
    pooler.part.quiesce(Deadline(5), leaves=False)
    assert pooler.part.revert(Deadline(5)).changed
    with pooler.client() as again:
        assert asked(again) == databases[0].port


def test_a_cutover_that_died_after_the_file_was_written_is_finished_by_the_next(pooler, databases):
    """The file is new, the process still leads to the old primary: a plain look at the file would call it done."""
    pinned = pooler.client()
    assert asked(pinned) == databases[0].port
    pooler.provider._write(target(databases))
    assert "now and at" in pooler.part.check([])["wrong"][0]
    assert pooler.part.cutover(target(databases), Deadline(10)).changed
    with pooler.client() as fresh:
        assert asked(fresh) == databases[1].port


def test_no_password_is_in_any_argument_or_message(pooler, databases):
    pooler.config.write_text(pooler.config.read_text().replace("shop = host=127.0.0.1", "shop = host='a,b'"))
    with pytest.raises(ApplicationError) as refused:
        pooler.part.cutover(target(databases), Deadline(5))
    assert string.ascii_uppercase not in str(refused.value)
