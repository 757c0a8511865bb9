"""A standby that lets its files be copied: who may ask, for what, and only as long as it is a standby."""

from __future__ import annotations

import configparser
import importlib.util
import os
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from ansible_collections.relevo.dr.plugins.filter import protection
from ansible_collections.relevo.dr.plugins.module_utils import backup_server, pgbackrest_file
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.modules import backup_schedule

SOURCE = Path(__file__).parents[3] / "roles/dr_pgbackrest/files/relevo_pgbackrest_server.py"
TLS = {"certificate": "/etc/ssl/host.pem", "key": "/etc/ssl/host.key", "authority": "/etc/ssl/ca.pem"}
SERVER = {**TLS, "data_directory": "/var/lib/postgresql/17/main", "clients": ["a-db1", "c-db1"]}
PEER = {"inventory_hostname": "b-db1", "dr_cluster_data_directory": "/var/lib/postgresql/17/main", "dr_cluster_port": 5433}


def load():
    spec = importlib.util.spec_from_file_location("relevo_pgbackrest_server", SOURCE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["relevo_pgbackrest_server"] = module
    spec.loader.exec_module(module)
    return module


program = load()


def unit(**changes):
    text = backup_server.unit({**SERVER, **changes}, "minimarket", "/etc/pgbackrest/pgbackrest.conf", "postgres")
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read_string(text)
    return parser


def given(**changes):
    """What the program is told by the unit, as systemd reads it."""
    words = shlex.split(unit(**changes)["Service"]["ExecStart"])
    assert words[:3] == ["/usr/bin/python3", "-I", backup_server.PROGRAM]
    return program.arguments(words[3:])


def test_only_the_other_database_hosts_may_ask_and_only_for_this_cluster():
    words = program.command(given())
    assert [word for word in words if "auth" in word] == [
        "--tls-server-auth=a-db1=minimarket",
        "--tls-server-auth=c-db1=minimarket",
    ]
    assert {
        "--tls-server-cert-file=/etc/ssl/host.pem",
        "--tls-server-key-file=/etc/ssl/host.key",
        "--tls-server-ca-file=/etc/ssl/ca.pem",
        "--tls-server-port=8432",
    } < set(words)
    assert program.command(given(port=9000, address="192.0.2.1")).count("--tls-server-address=192.0.2.1") == 1


def test_it_can_write_nothing_of_the_cluster_and_read_no_key_of_a_repository():
    service = unit()["Service"]
    assert (service["User"], service["ProtectSystem"], service["ReadWritePaths"]) == ("postgres", "strict", "/tmp")
    assert service["InaccessiblePaths"] == "-/etc/pgbackrest/pgbackrest.conf"
    assert "--no-config" in program.command(given())
    # The lock of pgBackRest is in /tmp: with a /tmp of its own a `pgbackrest stop` on the host would not count.
    assert "PrivateTmp" not in service


def test_words_reach_the_program_as_they_are_in_the_inventory():
    assert '"--certificate=/etc/100%% \\"sure\\"/$$x.pem"' in unit(certificate='/etc/100% "sure"/$x.pem')["Service"]["ExecStart"]


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A standby with certificates, on which pgBackRest's server can be started."""
    for name in ("pem", "key", "ca", "standby.signal"):
        (tmp_path / name).touch()
    fake = tmp_path / "pgbackrest"
    fake.write_text("#!/bin/sh\nexec sleep 5\n")
    fake.chmod(0o755)
    monkeypatch.setattr(program, "PGBACKREST", str(fake))
    monkeypatch.setattr(program, "LOOK_SECONDS", 0.02)
    files = {"certificate": tmp_path / "pem", "key": tmp_path / "key", "authority": tmp_path / "ca"}
    return given(data_directory=tmp_path, **files)


@pytest.mark.parametrize(
    ("happens", "says"),
    [
        (lambda place: (place / "standby.signal").unlink(), "PostgreSQL here is no standby any more"),
        (lambda place: os.utime(place / "pem", (1, 1)), "a certificate, key or authority is new"),
    ],
    ids=["promoted", "renewed"],
)
def test_it_ends_when_the_host_is_promoted_or_its_certificate_renewed(host, tmp_path, capsys, happens, says):
    threading.Timer(0.2, happens, [tmp_path]).start()
    assert program.serve(host) == 0
    assert f"ends: {says}" in capsys.readouterr().out


def test_a_server_that_ends_by_itself_is_a_failure(host, tmp_path):
    (tmp_path / "pgbackrest").write_text("#!/bin/sh\nexit 41\n")
    assert program.serve(host) == 1


def test_a_primary_is_never_offered(host, tmp_path, monkeypatch):
    (tmp_path / "standby.signal").unlink()
    looks = []

    def look(_seconds):
        looks.append(None)
        if len(looks) == 3:
            (tmp_path / "standby.signal").touch()

    monkeypatch.setattr(program, "arguments", lambda: host)
    monkeypatch.setattr(program.time, "sleep", look)
    monkeypatch.setattr(program, "serve", lambda _: 7 if len(looks) == 3 else 8)
    assert program.main() == 7


def refused(server, unreadable=()):
    with pytest.raises(Refusal) as caught:
        backup_server.judge("a-db1", server, unreadable, "postgres")
    assert caught.value.gate["id"] == "SCHEDULE"
    return str(caught.value)


def test_a_certificate_that_is_half_described_or_cannot_be_read_is_refused():
    backup_server.judge("a-db1", SERVER, [], "postgres")
    assert "dr_pgbackrest_tls has no key, authority" in refused({"certificate": "/x"})
    assert "key /etc/ssl/host.key of dr_pgbackrest_tls cannot be read by postgres" in refused(SERVER, ["key /etc/ssl/host.key"])


def test_a_peer_is_reached_by_the_name_in_its_certificate_and_shown_our_own():
    options = protection.backup_standby(
        {**PEER, "dr_address": "db.b.example.org", "dr_pgbackrest_tls": {"port": 9000}}, TLS, "postgres"
    )
    assert (options["host"], options["host-port"], options["port"]) == ("db.b.example.org", 9000, 5433)
    assert (options["host-cert-file"], options["host-key-file"]) == (TLS["certificate"], TLS["key"])
    assert protection.backup_standby(PEER, TLS, "postgres")["host-port"] == 8432
    assert protection.backup_client(PEER) == "b-db1"
    assert protection.backup_client({**PEER, "dr_pgbackrest_tls": {"common_name": "db b"}}) == "db b"


def test_a_way_that_somebody_set_up_is_seen():
    text = "[global]\nrepo1-host=r\n[minimarket]\npg1-host=a\npg2-host-type=tls\npg2-host=b\n[other]\npg2-host=x\n[minimarket:backup]\npg3-host=c\n"
    assert pgbackrest_file.other_hosts(text, "minimarket") == ["b", "c"]
    assert pgbackrest_file.other_hosts("", "minimarket") == []


class AnsweredError(Exception):
    """What a module would have answered."""


class Asked:
    """The module of the schedule as Ansible would call it, in check mode."""

    check_mode = True

    def __init__(self, **changes):
        self.params = {
            "schedule": [],
            "repositories": [{"id": 1}],
            "stanza": "minimarket",
            "config": "/nowhere/pgbackrest.conf",
            "stanza_options": {},
            "adopt": "keep",
            "backup_from": "primary",
            "server": {},
            "timeout": 86400.0,
            "owner": "postgres",
            "host_name": "a-db1",
            **changes,
        }

    def exit_json(self, **answer):
        raise AnsweredError([change["item"] + " " + change["wanted"] for change in answer["changes"]])


@pytest.fixture
def schedule(tmp_path, monkeypatch):
    """The module on a host without any unit, whose owner of the cluster can read everything but keys named secret."""
    monkeypatch.setattr(backup_schedule.rules, "UNITS", str(tmp_path))
    monkeypatch.setattr(backup_schedule, "others", lambda _: [])
    monkeypatch.setattr(backup_schedule, "run", lambda words: subprocess.CompletedProcess(words, 0, "", ""))
    monkeypatch.setattr(backup_schedule, "awake", lambda _: True)
    monkeypatch.setattr(backup_schedule, "may_read", lambda _, path: "secret" not in path)

    def ask(**changes):
        with pytest.raises((AnsweredError, Refusal)) as caught:
            backup_schedule.manage(Asked(**changes))
        return caught.value.args[0]

    return ask


def test_the_server_comes_with_whoever_asks_for_it_and_goes_with_him(schedule, tmp_path):
    assert schedule() == []
    assert schedule(server=SERVER, backup_from="standby") == [f"file {tmp_path}/{backup_server.UNIT} root:root 0644"]
    (tmp_path / backup_server.UNIT).touch()
    assert schedule() == [f"unit {backup_server.UNIT} absent"]


def test_a_wish_for_the_standby_without_a_way_to_it_is_refused(schedule):
    entry = {"name": "weekly", "type": "full", "calendar": "daily", "from": "standby"}
    assert "entry weekly has from: standby, but dr_pgbackrest_tls is not given" in str(schedule(schedule=[entry]))
    assert "dr_backup_from is standby, but dr_pgbackrest_tls is not given" in str(schedule(backup_from="standby"))
    assert schedule(backup_from="standby", stanza_options={"pg2-host": "theirs"}) == []
    assert "key /secret of dr_pgbackrest_tls cannot be read" in str(
        schedule(backup_from="standby", server={**SERVER, "key": "/secret"})
    )
