"""All tests of the matrix from one command: production really moves, comes home, and the calendar is filled; and a storm at the cutover."""

from __future__ import annotations

import getpass
import json
import re
import secrets
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .burst import TOO_MANY, Burst
from .conftest import BIN, DRILL, ROOT, Bench, kill_all
from .test_keys import Keys, keys  # noqa: F401 - a fixture
from .test_refusals import approvers_of, inventory_with, refused

PEOPLE = ["-e", "dr_participants=Ana, Bo", "-e", "dr_observers=Eva", "-e", "dr_ticket=CHG-4711"]
MOVES = ["--moves-production", "minimarket", "-e", "dr_target_site=b"]
CLIENTS, BACK_SECONDS = 30, 60.0
ANEW = """
update shop.users set
  email_encrypted = extensions.pgp_sym_encrypt(extensions.pgp_sym_decrypt(email_encrypted, :'old'), :'new'),
  phone_encrypted = extensions.pgp_sym_encrypt(extensions.pgp_sym_decrypt(phone_encrypted, :'old'), :'new');
update shop.key_check set sample_encrypted = extensions.pgp_sym_encrypt(extensions.pgp_sym_decrypt(sample_encrypted, :'old'), :'new');
"""
SHORT = """
schema: relevo-policy/1
exercises:
  short:
    title: Short exercise
    goal: There and back
    steps: [{runbook: failover, scope: site}]
"""


def command(bench: Bench, *words: str) -> tuple[list[str | Path], dict[str, str]]:
    environment = {**bench.environment, "SSL_CERT_FILE": str(bench.lab.state / "tls/ca.pem")}
    return [BIN / "relevo", "drill", *words, "-i", str(bench.inventory)], environment


def drill(bench: Bench, *words: str, seconds: float = 3600) -> tuple[int, dict[str, Any], str]:
    argv, environment = command(bench, *words, "--json")
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, cwd=ROOT, env=environment, timeout=seconds, stdin=subprocess.DEVNULL
    )
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def told(bench: Bench, *words: str) -> Any:
    done = bench.relevo(*words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def calendar(bench: Bench) -> dict[str, dict[str, Any]]:
    tests = told(bench, "calendar", "--json", "--cluster", "minimarket")["tests"]
    return {entry["test"]: entry for entry in tests}


def readiness(bench: Bench, weight: str) -> list[str]:
    (found,) = told(bench, "readiness", "--json", "--cluster", "minimarket")["clusters"]
    return [reason["sentence"] for reason in found["reasons"] if reason["weight"] == weight]


def is_at_home(bench: Bench) -> bool:
    bench.wait_until_serving()
    return bench.writable("a-db1") and not bench.writable("b-db1")


def rotate(bench: Bench) -> None:
    """The application's key as its operators would: everything is encrypted anew, then every host has the new key."""
    old, new = bench.inside("a-app1", "cat", "/etc/minimarket/key"), secrets.token_hex(16)
    statements = f"\\set old '{old}'\n\\set new '{new}'\n{ANEW}"
    psql = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", "minimarket"]
    bench.inside("a-db1", "runuser", "-u", "postgres", "--", *psql, text=statements)
    for host in ("a-app1", "b-app1"):
        bench.inside(host, "tee", "/etc/minimarket/key", text=new)


@pytest.mark.full
def test_all_four_tests_run_from_one_command_and_fill_the_calendar(keys: Keys, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    assert keys.run("escrow_keys").code == 0
    code, ended, said = drill(keys, "full", *MOVES, *PEOPLE)
    assert [one["runbook"] for one in ended["ran"]] == [
        *("check", "verify_backup", "restore_test", "recover_keys"),
        *("failover", "failback", "switchover") * 2,
    ], said[-4000:]
    assert {one["verdict"] for one in ended["ran"]} == {"passed"}, ended["reasons"]
    assert is_at_home(keys)
    assert (ended["home_site"], ended["target_site"], ended["production"]) == ("a", "b", "a")
    # Each run says of which exercise it is, and each move what it cost.
    for one in ended["ran"]:
        record = keys.record(one["run_id"])
        assert (record["run"]["exercise"], record["run"]["observers"]) == (ended["id"], ["Eva"])
        if one["runbook"] in ("failover", "switchover"):
            assert record["objectives_met"] is True, record["objectives"]
            assert record["measures"]["ledger"]["lost"] == 0
            assert record["measures"]["writable_overlap_seconds"] == 0
    found = calendar(keys)
    ran = {one["run_id"] for one in ended["ran"]}
    assert set(found) == {"backup_restoration", "encryption_keys", "partial_failover", "full_site"}
    for name, entry in found.items():
        assert entry["last_attempt"]["run_id"] in ran, name
        assert entry["state"] == "CURRENT", entry
    assert (ended["verdict"], code) == ("passed", 0), ended["reasons"]
    assert readiness(keys, "blocks") == []
    assert told(keys, "exercises", "show", ended["id"], "--json") == ended
    for form in ("html", "pdf", "markdown", "junit", "json"):
        file = tmp_path / f"report.{form}"
        assert keys.relevo("report", ended["id"], "--format", form, "-o", str(file)).returncode == 0
        assert file.stat().st_size > 1000
    assert keys.relevo("results", "verify").returncode == 0
    # Another key is another thing to prove.
    rotate(keys)
    escrowed = keys.run("escrow_keys")
    assert escrowed.code == 0, escrowed.output[-3000:]
    entry = calendar(keys)["encryption_keys"]
    assert entry["state"] == "NEEDS VERIFIED"
    assert "encryption keys" in {one["what"] for one in entry["changed"]}
    assert any(sentence.startswith("Encryption key recovery: NEEDS VERIFIED") for sentence in readiness(keys, "doubt"))


@pytest.mark.full
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_exercise_that_dies_while_production_moves_is_gone_on_with_and_comes_home(
    bench: Bench, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "policy.yml").write_text(SHORT)
    policy = ["--policy", str(tmp_path / "policy.yml")]
    argv, environment = command(bench, "short", *MOVES, *PEOPLE, *policy)
    process = subprocess.Popen(
        argv,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    bench.wait("production is being moved", lambda: bench.begun("b-db1", "PROMOTE"), 240, 0.02)
    if number == signal.SIGKILL:
        kill_all(process.pid)
    else:
        process.send_signal(number)
    process.wait(180)
    code, ended, said = drill(bench, "short", "--moves-production", "minimarket", *policy)
    assert [(one["runbook"], one["verdict"]) for one in ended["ran"][-2:]] == [("failback", "passed"), ("switchover", "passed")], (
        said[-3000:]
    )
    assert {one["verdict"] for one in ended["ran"][:-2]} <= {"interrupted", "passed", "partial"}
    assert (ended["production"], ended["verdict"], code) == ("a", "partial", 5), ended["reasons"]
    assert is_at_home(bench)


@pytest.mark.full
def test_an_exercise_pauses_for_the_second_person_before_each_move(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "policy.yml").write_text(SHORT.replace("scope: site", "scope: site, approval: dual"))
    words = ("short", *MOVES, *PEOPLE, "--policy", str(tmp_path / "policy.yml"))
    argv, environment = command(bench, *words)
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL)
    assert done.returncode == 4
    assert "expected dr_approval: dual in the inventory" in done.stderr
    people = approvers_of(tmp_path, getpass.getuser(), "mira")
    said = f"dr_approval: dual\ndr_approvers: {json.dumps(people)}\ndr_cluster:"
    two = bench.with_inventory(inventory_with(tmp_path, "dr_cluster:", said, "group_vars/all.yml"))
    for runbook in ("failover", "failback", "switchover"):
        code, paused, told_people = drill(two, *words)
        assert (code, paused["ran"][-1]["runbook"], paused["ran"][-1]["waits"]) == (2, runbook, True), told_people[-3000:]
        request = paused["ran"][-1]["run_id"]
        assert f"relevo approve {request}" in told_people
        shown = two.relevo("approve", request, "--as", "mira", "--key", str(tmp_path / "mira"), "--confirm", "?")
        [digest] = re.findall(r"approve [0-9a-f]{12}", shown.stderr)
        assert two.relevo("approve", request, "--as", "mira", "--key", str(tmp_path / "mira"), "--confirm", digest).returncode == 0
    _, ended, said = drill(two, *words)
    assert [one["verdict"] for one in ended["ran"]] == ["refused", "passed"] * 3, said[-3000:]
    assert ended["production"] == "a"
    assert is_at_home(bench)


@pytest.mark.full
def test_a_storm_at_the_cutover_is_back_in_time_and_nobody_is_locked_out(bench: Bench) -> None:
    hosts = [bench.lab.host(name) for name in ("a-db1", "b-db1")]
    logs = [bench.lab.root(bench.lab.host(name)) / "var/lib/relevo-ledger/observer.jsonl" for name in ("wit1", "b-app1")]
    seen = [log.stat().st_size for log in logs]
    clients = Burst(
        CLIENTS,
        host=",".join(host.name for host in hosts),
        hostaddr=",".join(host.address for host in hosts),
        user="minimarket_app",
        password=(bench.lab.state / "secrets/minimarket_app_password").read_text().strip(),
        dbname="minimarket",
        sslmode="verify-full",
        sslrootcert=str(bench.lab.state / "tls/ca.pem"),
    )
    with clients as burst:
        run = bench.run("failover", **DRILL)
        assert run.code == 0, run.output[-3000:]
        assert burst.wait(CLIENTS, BACK_SECONDS), burst.storm()
        storm = burst.storm()
        served = bench.sql("b-db1", "select count(*) from pg_stat_activity where usename = 'minimarket_app'")
    assert (storm.cut, storm.back, storm.refused[TOO_MANY]) == (CLIENTS, CLIENTS, 0)
    assert int(served) >= CLIENTS
    # The outage of the whole storm is that of one client, and a little more.
    assert storm.seconds is not None
    assert storm.seconds < run.record["measures"]["outage_seconds"] + 15
    limits = {gate["title"]: gate for gate in run.record["gates"] if gate["id"] == "G12"}
    assert limits["connections for all clients at once"]["verdict"] == "pass"
    counted = re.match(r"at least (\d+): none declared", limits["connections for all clients at once"]["expected"])
    assert counted and int(counted[1]) >= CLIENTS
    # The observers' own probes were never turned away.
    for log, before in zip(logs, seen, strict=True):
        with log.open() as lines:
            lines.seek(before)
            assert not [line for line in lines if "too many clients" in line or "connection slots" in line]


@pytest.mark.full
def test_a_storm_that_the_other_side_cannot_take_is_refused_beforehand(bench: Bench, tmp_path: Path) -> None:
    words = "dr_cluster_connections_expected: 500\ndr_cluster_port: 5432"
    small = bench.with_inventory(inventory_with(tmp_path, "dr_cluster_port: 5432", words, "group_vars/all.yml"))
    refused(small, "G12 on b-db1.*connections for all clients at once", **DRILL)
