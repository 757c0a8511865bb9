"""Test 3: a whole site falls silent under load, and a bare host of the other one, with nothing but the escape pack, brings the service back."""

from __future__ import annotations

import json
import shutil
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyrage
import pytest
from playwright.sync_api import Browser

from tests import chromium

from .bare import BareHost, tree
from .conftest import INVENTORY, ROOT, Bench
from .test_failover import PHASES, load
from .test_pack import checkout

ENVIRONMENT = ". /opt/relevo/escape/environment && export RELEVO_LAB_STATE={state}"
# What the bare host has instead of bin/lab: a management board that lies in neither site, asked over the network.
BOARD = """#!/usr/bin/env python3
import socket, sys
with socket.create_connection(("127.0.0.1", {port}), timeout=20) as board:
    board.sendall(" ".join(sys.argv[1:]).encode() + b"\\n")
    answer = board.makefile().readline().strip()
print(answer)
sys.exit(answer.startswith("error"))
"""
ORDER = """async () => {
  const post = async (path, body) => {
    const answer = await fetch(path, {method: 'POST', headers: {'content-type': 'application/json'}, body: JSON.stringify(body)});
    return [answer.status, await answer.json()];
  };
  const login = await post('/login', {login: 'cliente0001', password: PASSWORD});
  const order = await post('/orders', {lines: [{product_id: 1, quantity: 1}]});
  const account = await (await fetch('/account')).json();
  return {login, order, account};
}"""
pytestmark = pytest.mark.full


class _Board(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        verb, host = self.rfile.readline().decode().split()
        done = subprocess.run([ROOT / "bin/lab", f"power-{verb}", host], capture_output=True, text=True, check=False, timeout=30)
        self.wfile.write(f"{done.stdout.strip() or 'done' if done.returncode == 0 else f'error {done.stderr.strip()}'}\n".encode())


@contextmanager
def management_board() -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Board) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium.started() as found:
        yield found


def inventory_of(bench: Bench, directory: Path, recipients: list[str]) -> Path:
    """The laboratory's, with a board that a controller elsewhere reaches too, and with what else of the controller a run needs."""
    shutil.copytree(INVENTORY, directory, ignore=shutil.ignore_patterns("secrets"))
    settings = directory / "group_vars/all.yml"
    kept = [line for line in settings.read_text().splitlines() if not line.startswith(("dr_fence_command_", "dr_keys_recipients"))]
    more = {
        "dr_fence_command_off": ["/usr/local/sbin/power", "off", "{{ inventory_hostname }}"],
        "dr_fence_command_status": ["/usr/local/sbin/power", "status", "{{ inventory_hostname }}"],
        "dr_keys_recipients": recipients,
        "dr_pack_files": [str(bench.lab.state / "tls/ca.pem"), str(bench.lab.state / "release")],
        "dr_pack_ssh_keys": "on the operator's own stick",
    }
    settings.write_text("\n".join([*kept, *(f"{name}: {json.dumps(value)}" for name, value in more.items())]) + "\n")
    return directory


def packed(bench: Bench, top: Path) -> Path:
    """Made at home, before anything happened."""
    people = [pyrage.x25519.Identity.generate() for _ in range(2)]
    (top / "ana.txt").write_text(f"{people[0]}\n")
    inventory = inventory_of(bench, top / "shop", [str(one.to_public()) for one in people])
    project = checkout(top / "project")
    done = bench.relevo("pack", "-i", str(inventory), "-o", str(top), seconds=1200, RELEVO_PROJECT=str(project))
    assert done.returncode == 0, done.stderr
    assert "no host key is pinned" not in done.stderr
    (file,) = top.glob("relevo-pack-*.sh")
    return file


def bring(bench: Bench, host: BareHost, file: Path, identity: Path, port: int) -> None:
    """All that people bring: the pack, an identity, their ssh key; and the way to the board."""
    shutil.copy(file, host.top / "given/pack.sh")
    shutil.copy(identity, host.top / "given/ana.txt")
    key = bench.lab.state / "ssh/operator"
    host.path(str(key)).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(key, host.path(str(key)))
    host.path(str(key)).chmod(0o600)
    power = host.path("/usr/local/sbin/power")
    power.parent.mkdir(parents=True, exist_ok=True)
    power.write_text(BOARD.format(port=port))
    power.chmod(0o755)


def shop(browser: Browser, address: str, password: str) -> dict[str, Any]:
    """A person logs in, orders, and sees what is kept encrypted of them."""
    page = browser.new_page()
    page.goto(f"http://{address}:8080/", timeout=20000)
    assert page.title() == "Minimarket"
    found: dict[str, Any] = page.evaluate(ORDER.replace("PASSWORD", json.dumps(password)))
    page.close()
    return found


def assert_accounted(moved: dict[str, Any], sent: int, opened_seconds: float) -> None:
    """The record has every phase, the time by the ledger, each acknowledged transaction, and what went with the site."""
    assert (moved["verdict"], moved["controller"], moved["scope"]) == ("passed", "b-bare1", "site"), moved["verdict_reasons"]
    assert {phase["name"] for phase in moved["phases"]} == PHASES
    # The application of the silent site cannot be stopped: its database's fence stands for it.
    assert {(phase["name"], phase["host"]) for phase in moved["phases"] if phase["outcome"] != "ok"} == {("QUIESCE", "a-app1")}
    assert all(phase["duration_seconds"] >= 0 for phase in moved["phases"])
    measures, ledger = moved["measures"], moved["measures"]["ledger"]
    # The site fell silent before the pack was opened: that time is outage too.
    assert opened_seconds < measures["rto_seconds"] < 3600
    assert measures["rpo_seconds"] <= 60
    assert measures["writable_overlap_seconds"] == 0
    # Nobody could measure the application before; its numbered writes were.
    assert 0 < measures["writes"]["p95_before_seconds"] < 0.5 and 0 < measures["application"]["p95_seconds"] < 0.5
    assert ledger["acknowledged"] >= sent and ledger["present"] + ledger["lost"] == ledger["acknowledged"]
    assert moved["fence"]["class"] == "powered_off"
    lost = {
        gate["title"].partition(" (")[0]: gate
        for gate in moved["gates"]
        if gate["id"] == "DEPENDS" and "being left" in gate["observed"]
    }
    assert {"backups, repository 2", "keys in escrow, store-a", "certificate of PostgreSQL on a-db1"} <= set(lost)
    assert "backups, repository 1 answers outside it" in lost["backups, repository 2"]["observed"]


def test_a_silent_site_is_left_from_a_bare_host_that_has_only_the_pack(bench: Bench, browser: Browser, tmp_path: Path) -> None:
    password = (bench.lab.state / "secrets/minimarket_user_password").read_text().strip()
    addresses = {host.name: host.address for host in bench.lab.hosts()}
    file = packed(bench, tmp_path)
    host = BareHost("b-bare1", tree("bookworm"), tmp_path / "bare", connected=True).ready()
    environment = ENVIRONMENT.format(state=bench.lab.state)

    def relevo(words: str, code: int = 0) -> str:
        return host.run(f"{environment} && relevo {words}", code=code)

    def record() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(relevo("results show latest --json"))
        return found

    with management_board() as port:
        bring(bench, host, file, tmp_path / "ana.txt", port)
        assert shop(browser, addresses["a-app1"], password)["order"][0] == 201
        load(bench, 100)
        bench.verb("cut-site", "a")
        sent = bench.acknowledged()
        began = time.monotonic()

        # From here on nothing of site a, and nothing of the home controller, is used.
        host.run("sh /given/pack.sh unpack /opt/relevo -i /given/ana.txt")
        opened_seconds = time.monotonic() - began
        confirmed = "-e dr_mode=drill -e dr_scope=site -e dr_target_site=b -e dr_confirm='drill production minimarket to b'"
        relevo(f"run failover {confirmed} -e dr_accept_loss_seconds=60")
        moved = record()

        assert_accounted(moved, sent, opened_seconds)
        relevo("results verify latest")

        bought = shop(browser, addresses["b-app1"], password)
        assert (bought["login"][0], bought["order"][0]) == (200, 201), bought
        assert bought["account"]["email"] == "cliente1@example.com"
        assert bench.sql("b-db1", "select max(order_id) from shop.orders") == str(bought["order"][1]["order_id"])
        assert bench.writable("b-db1") and not bench.writable("a-db1")

        # The site comes back, and the same host brings everybody home.
        bench.verb("heal-all")
        bench.verb("power-on", "a-db1")
        bench.wait(
            "the guard has decided",
            lambda: bench.inside("a-db1", "systemctl", "is-system-running", check=False) in ("running", "degraded"),
            90,
        )
        assert not bench.writable("a-db1")
        relevo("run failback -e dr_target_site=a -e dr_confirm='failback minimarket to a'")
        # The store of site a was left out, and a planned change wants everything to answer.
        relevo("run protect -e dr_allow_restart=true")
        relevo("run switchover -e dr_scope=site -e dr_target_site=a -e dr_confirm='switchover minimarket to a'")
        home = record()
        assert (home["verdict"], home["measures"]["ledger"]["lost"]) == ("passed", 0)
    bench.wait_until_serving()
    assert bench.writable("a-db1") and not bench.writable("b-db1")
    assert shop(browser, addresses["a-app1"], password)["order"][0] == 201
    assert [one["runbook"] for one in json.loads(relevo("results list --json"))] == [
        "switchover",
        "protect",
        "failback",
        "failover",
    ]
