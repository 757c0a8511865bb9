"""Configuration, release and systems of the hosts: kept in both stores, verified, restored, and a restored system that boots."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.relevo.lab.plugins.module_utils import container

from .conftest import Bench, Run

HOST = "a-app1"
# The file that only root may read, by which the tests see that content and rights come back.
WITNESS = "/etc/minimarket/pgpass"
ROLE = """
- name: Files
  hosts: "{{ 'HOSTS' }}"
  gather_facts: false
  become: true
  tasks:
    - name: Open the run
      ansible.builtin.include_role: {name: dr_run, tasks_from: open}
      run_once: true
      vars: {dr_run_runbook: files}
    - name: Do it
      ansible.builtin.include_role: {name: dr_files, tasks_from: VERB}
"""


class Files(Bench):
    """The laboratory, and the entry points of the role."""

    directory: Path

    def call(self, verb: str, hosts: str = HOST, *options: str, **variables: object) -> Run:
        """One entry point, with inventory variables that a test changes."""
        playbook = self.directory / f"{verb}.yml"
        playbook.write_text(ROLE.replace("HOSTS", hosts).replace("VERB", verb))
        # Beside the playbook they are stronger than the inventory's own, which those of a second inventory are not.
        (self.directory / "group_vars").mkdir(exist_ok=True)
        (self.directory / "group_vars/all.yml").write_text(json.dumps(variables))
        return self.play(playbook, *options)

    def restore(self, target: str, name: str = "configuration", **more: str) -> Run:
        variables = {"dr_files_host": HOST, "dr_files_set": name, "dr_files_target": target, **more}
        return self.run("restore_files", **variables)

    def attempts(self, host: str = HOST) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.inside(host, "cat", "/var/lib/relevo/files.jsonl").splitlines()]

    def packs(self, store: str, host: str = HOST) -> list[str]:
        """The packs of a host's repository on a store, the biggest first."""
        bucket = f"/srv/store/relevo-{store[0]}/files/{host}/data"
        listed = self.inside(store, "find", bucket, "-type", "f", "-printf", "%s %p\n").splitlines()
        return [line.split()[1] for line in sorted(listed, key=lambda line: -int(line.split()[0]))]

    def flip(self, store: str, path: str) -> None:
        """One bit of the byte in the middle; twice is as it was."""
        code = "import sys; f = open(sys.argv[1], 'r+b'); f.seek(0, 2); n = f.tell() // 2; f.seek(n); b = f.read(1)[0]; f.seek(n); f.write(bytes([b ^ 1]))"
        self.inside(store, "python3", "-c", code, path)
        # rclone remembers what a file was like for as long as its directory cache lasts.
        time.sleep(6)


def gates(run: Run) -> dict[tuple[str, str], dict[str, str]]:
    return {(gate["id"], gate["host"]): gate for gate in run.record["gates"]}


def worst(run: Run, check: str) -> list[dict[str, str]]:
    return [gate for gate in run.record["gates"] if gate["id"] == check and gate["verdict"] != "pass"]


def said(run: Run) -> str:
    return " ".join(run.output.split())


@pytest.fixture
def files(healthy: Bench, tmp_path: Path) -> Iterator[Files]:
    """The protected laboratory; what a test cut or filled is mended."""
    found = Files(healthy.store, healthy.inventory)
    found.directory = tmp_path
    found.inside(HOST, "rm", "-rf", "/var/restored")
    yield found
    found.verb("heal-all")
    found.inside(HOST, "rm", "-rf", "/var/restored")


@pytest.mark.smoke
def test_configuration_is_kept_in_both_stores_verified_and_restored_equal(files: Files):
    """Setting up again changes nothing; a changed file is in the next snapshot, and comes back with its rights."""
    again = files.call("setup")
    assert again.code == 0, again.output[-3000:]
    assert re.search(rf"{HOST}\s+: ok=\d+\s+changed=0", again.output), again.output[-1500:]
    files.inside(
        HOST, "sh", "-c", "date +%s%N > /etc/relevo-test; chmod 0640 /etc/relevo-test; chown root:minimarket /etc/relevo-test"
    )
    taken = files.call("backup", dr_files_backup_sets=["configuration"])
    assert taken.code == 0, taken.output[-3000:]
    measured = taken.record["measures"]["files"][HOST]["configuration"]
    assert {measured[key]["outcome"] for key in ("1", "2")} == {"taken"}
    verified = files.call("verify")
    assert verified.code == 0, verified.output[-3000:]
    assert {gate["verdict"] for gate in verified.record["gates"] if gate["id"] in ("FILESDATA", "FILESSIZE")} == {"pass"}
    assert {gate["verdict"] for key, gate in gates(verified).items() if key[0] == "FILESAGE" and "system" not in key[1]} == {"pass"}

    run = files.restore("/var/restored")
    assert run.code == 0, run.output[-3000:]
    for path in ("/etc/relevo-test", WITNESS):
        for words in (["sha256sum"], ["stat", "-c", "%u:%g %a %Y"]):
            living, restored = (files.inside(HOST, *words, top + path).split(maxsplit=1)[0] for top in ("", "/var/restored"))
            assert living == restored, path
    assert gates(run)[("FILESCANARY", next(host for check, host in gates(run) if check == "FILESCANARY"))]["verdict"] == "pass"
    assert run.record["measures"]["files"][HOST]["restored"]["configuration"]["entries"] > 100
    # A second time nothing may be written over it.
    refused = files.restore("/var/restored")
    assert refused.code != 0
    assert "nothing was changed" in said(refused) or "never overwritten" in said(refused)
    assert refused.record["verdict"] == "refused"


@pytest.mark.full
def test_no_secret_is_in_an_argument_a_log_or_a_readable_file(files: Files):
    state = files.lab.state / "secrets"
    secrets = [(state / name).read_text().strip() for name in (f"files_{HOST}_password", "store_a_key", "store_b_key")]
    # Into a file: nobody reads while the backup runs. Not cut to the width of any terminal.
    with (files.directory / "seen").open("w+") as output:
        command = ["sh", "-c", "while :; do ps -eww -o args; done"]
        words = ["nsenter", "--target", str(files.leader(HOST)), "--mount", "--pid", "--", *command]
        watch = subprocess.Popen(words, stdout=output, start_new_session=True)
        try:
            assert files.call("backup").code == 0
        finally:
            # nsenter has a child in the host.
            os.killpg(watch.pid, signal.SIGKILL)
            watch.wait()
        output.seek(0)
        seen = output.read()
    assert "--password-file" in seen, "restic was not seen at all"
    journal = files.inside(HOST, "journalctl", "-b", "-u", "relevo-files@*")
    record = files.inside(HOST, "cat", "/var/lib/relevo/files.jsonl")
    for secret in secrets:
        assert secret not in seen + journal + record
    modes = files.inside(HOST, "find", "/etc/relevo/files", "-printf", "%m %u %y\n").splitlines()
    assert set(modes) == {"700 root d", "600 root f"}


@pytest.mark.full
def test_no_host_opens_anothers_snapshots(files: Files):
    """Its key pair reaches the other's place in the store; its password does not open it."""
    environment = "set -a; . /etc/relevo/files/1.env; "
    command = "restic --no-cache --cacert /etc/ssl/relevo-lab/ca.pem -o s3.bucket-lookup=path --password-file /etc/relevo/files/1.password "
    tried = files.inside(
        HOST,
        "sh",
        "-c",
        environment + command + "-r s3:https://b-store1:443/relevo-b/files/a-db1 cat config --no-lock 2>&1",
        check=False,
    )
    assert "wrong password" in tried


@pytest.mark.full
def test_what_was_changed_by_hand_is_shown_and_put_back(files: Files):
    files.inside(HOST, "sh", "-c", "echo '# mine' >> /etc/relevo/files.json; chmod 0644 /etc/relevo/files/1.password")
    files.inside(HOST, "systemctl", "disable", "--now", "relevo-files-release.timer")
    files.inside(HOST, "cp", "/etc/systemd/system/relevo-files-release.timer", "/etc/systemd/system/relevo-files-gone.timer")
    shown = files.call("setup", HOST, "--check")
    assert shown.code == 0, shown.output[-2000:]
    assert files.inside(HOST, "stat", "-c", "%a", "/etc/relevo/files/1.password") == "644"
    done = files.call("setup")
    assert done.code == 0, done.output[-2000:]
    assert files.inside(HOST, "stat", "-c", "%a", "/etc/relevo/files/1.password") == "600"
    assert files.inside(HOST, "systemctl", "is-active", "relevo-files-release.timer") == "active"
    assert "gone" not in files.inside(HOST, "ls", "/etc/systemd/system")
    assert re.search(rf"{HOST}\s+: ok=\d+\s+changed=0", files.call("setup").output)


@pytest.mark.full
def test_one_byte_in_a_pack_turns_verify_red_until_it_is_whole(files: Files):
    pack = files.packs("b-store1")[0]
    name = Path(pack).name
    files.flip("b-store1", pack)
    red = files.call("verify", dr_files_read_all=True)
    assert red.code != 0
    assert name in said(red)
    assert [gate["host"] for gate in worst(red, "FILESDATA")] == [f"{HOST}, repository 1 (bucket relevo-b at b-store1:443)"]
    # It is due until it is whole, without being asked for.
    assert name in said(files.call("verify"))
    files.flip("b-store1", pack)
    green = files.call("verify")
    assert green.code == 0, green.output[-2000:]
    assert worst(green, "FILESDATA") == []


@pytest.mark.full
def test_a_pack_that_is_gone_is_named_and_a_restore_takes_the_other_store(files: Files):
    # One that the newest snapshot needs: the biggest that came with it.
    before = files.packs("b-store1")
    files.inside(HOST, "dd", "if=/dev/urandom", "of=/etc/relevo-test", "bs=1M", "count=1", "status=none")
    assert files.call("backup", dr_files_backup_sets=["configuration"]).code == 0
    pack = next(each for each in files.packs("b-store1") if each not in before)
    files.inside("b-store1", "mv", pack, "/srv/store/kept")
    time.sleep(6)
    try:
        red = files.call("verify")
        assert red.code != 0
        assert Path(pack).name in said(red)
        run = files.restore("/var/restored")
        assert files.inside(HOST, "test", "-s", "/var/restored" + WITNESS) == ""
        assert run.record["measures"]["files"][HOST]["restored"]["configuration"]["repository"] == 2
    finally:
        files.inside("b-store1", "mv", "/srv/store/kept", pack)
        time.sleep(6)


@pytest.mark.full
def test_a_store_that_is_silent_is_unknown_soon_and_keeps_nobody_waiting(files: Files):
    files.verb("cut", HOST, "b-store1")
    began = time.monotonic()
    taken = files.call("backup", dr_files_backup_sets=["configuration"])
    assert time.monotonic() - began < 60
    assert taken.code == 0, taken.output[-2000:]
    assert [(line["repository"], line["outcome"]) for line in files.attempts()[-2:]] == [(1, "unreachable"), (2, "taken")]
    assert taken.record["verdict"] == "partial"
    verified = files.call("verify")
    assert [gate["verdict"] for gate in worst(verified, "FILESREPO")] == ["unknown"]
    assert "does not answer" in worst(verified, "FILESREPO")[0]["observed"]
    assert verified.code == 0
    assert verified.record["verdict"] == "partial"
    assert files.call("setup").code == 0
    run = files.restore("/var/restored")
    assert run.record["measures"]["files"][HOST]["restored"]["configuration"]["repository"] == 2
    # None at all: nothing could be kept.
    files.verb("cut", HOST, "a-store1")
    began = time.monotonic()
    refused = files.call("setup")
    assert time.monotonic() - began < 60
    assert refused.code != 0
    assert "does not answer" in said(refused)
    assert refused.record["verdict"] == "refused"


@pytest.mark.full
@pytest.mark.parametrize("wrong", ["password", "key", "authority", "bucket"])
def test_what_does_not_open_the_repository_is_refused_and_nothing_is_changed(files: Files, wrong: str):
    secrets = files.lab.state / "secrets"
    changed = {"password": f"files_{HOST}_password", "key": "store_b_key"}.get(wrong)
    repositories = [
        {
            "id": 1,
            "endpoint": "b-store1",
            "bucket": "relevo-none" if wrong == "bucket" else "relevo-b",
            "region": "lab",
            "ca_file": "/etc/ssl/certs/ca-certificates.crt" if wrong == "authority" else "/etc/ssl/relevo-lab/ca.pem",
            "key_id_secret": "store_b_key_id",
            "key_secret": "store_b_key",
        }
    ]
    says = {"password": "does not open", "key": "403", "authority": "not trusted", "bucket": "no such bucket"}[wrong]
    kept = (secrets / changed).read_text() if changed else ""
    before = files.digest(HOST)
    try:
        if changed:
            (secrets / changed).write_text("wrong\n")
        began = time.monotonic()
        run = files.call("setup", dr_files_repositories=repositories)
    finally:
        if changed:
            (secrets / changed).write_text(kept)
    assert time.monotonic() - began < 60
    assert run.code != 0
    assert says in said(run), run.output[-2000:]
    assert "Next:" in said(run)
    assert run.record["verdict"] == "refused"
    assert files.digest(HOST) == before


@pytest.mark.full
def test_an_old_and_an_empty_snapshot_turn_verify_red(files: Files):
    sets = [
        {
            "name": "trial",
            "paths": ["/srv/trial"],
            "calendar": "Sun *-*-* 03:00:00",
            "keep": {"last": 9},
            "max_age_seconds": 3600,
        }
    ]
    files.inside(HOST, "sh", "-c", "mkdir -p /srv/trial; for n in $(seq 20); do head -c 5000 /dev/urandom > /srv/trial/$n; done")
    try:
        assert files.call("setup", dr_files_sets=sets).code == 0
        for _ in range(2):
            assert files.call("backup", dr_files_sets=sets, dr_files_backup_sets=["trial"]).code == 0
        assert worst(files.call("verify"), "FILESSIZE") == []
        files.inside(HOST, "sh", "-c", "rm /srv/trial/*")
        assert files.call("backup", dr_files_sets=sets, dr_files_backup_sets=["trial"]).code == 0
        small = files.call("verify")
        assert small.code != 0
        assert len(worst(small, "FILESSIZE")) == 2
        sets[0]["max_age_seconds"] = 1
        assert files.call("setup", dr_files_sets=sets).code == 0
        old = files.call("verify")
        assert len(worst(old, "FILESAGE")) == 2
    finally:
        files.inside(HOST, "rm", "-rf", "/srv/trial")
        assert files.call("setup").code == 0


@pytest.mark.full
def test_the_lock_of_a_killed_restic_does_not_stay(files: Files):
    files.inside(HOST, "systemctl", "start", "--no-block", "relevo-files@system.service")
    files.wait("restic works", lambda: "backup" in files.inside(HOST, "ps", "-ww", "-C", "restic", "-o", "args=", check=False), 30)
    locks = ["find", f"/srv/store/relevo-b/files/{HOST}/locks", "-type", "f"]
    files.wait("it has its lock", lambda: bool(files.inside("b-store1", *locks, check=False)), 30)
    files.inside(HOST, "systemctl", "kill", "--signal=SIGKILL", "--kill-whom=all", "relevo-files@system.service")
    assert files.inside("b-store1", *locks)
    assert files.call("backup", dr_files_backup_sets=["configuration"]).code == 0
    # The store drops an empty directory.
    assert files.inside("b-store1", *locks, check=False) == ""


@pytest.mark.full
def test_the_files_of_a_host_that_is_gone_are_restored_on_another_one(files: Files):
    files.verb("power-off", HOST)
    try:
        run = files.restore("/var/restored", "release", dr_files_destination="b-app1")
        assert run.code == 0, run.output[-2000:]
        files.inside("b-app1", "test", "-s", "/var/restored/opt/minimarket/minimarket/web.py")
    finally:
        files.inside("b-app1", "rm", "-rf", "/var/restored")
        files.verb("power-on", HOST)
        files.wait_until_serving()


@pytest.mark.full
def test_a_restore_by_time_takes_the_snapshot_of_that_time(files: Files):
    moments = []
    for content in ("first", "second"):
        files.inside(HOST, "sh", "-c", f"echo {content} > /etc/relevo-test")
        assert files.call("backup", dr_files_backup_sets=["configuration"]).code == 0
        time.sleep(1.1)
        moments.append(files.inside(HOST, "date", "-u", "+%Y-%m-%dT%H:%M:%SZ"))
    run = files.restore("/var/restored", dr_files_time=moments[0])
    assert run.code == 0, run.output[-2000:]
    assert files.inside(HOST, "cat", "/var/restored/etc/relevo-test") == "first"
    files.inside(HOST, "rm", "-rf", "/var/restored")
    refused = files.restore("/var/restored", dr_files_time="2020-01-01T00:00:00Z")
    assert refused.code != 0
    assert "no snapshot of set configuration" in said(refused)


class Restored:
    """A restored root, booted as the laboratory boots its hosts, in a network of its own without any link."""

    def __init__(self, bench: Bench, host: str) -> None:
        root = bench.lab.root(bench.lab.host(host)) / "var/restored"
        self.groups = [top / bench.lab.name / "restored" for top in container.group_roots()]
        for group in self.groups:
            group.mkdir(parents=True, exist_ok=True)
        words = ["systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--link-journal=no", "--settings=no"]
        words += ["--console=passive", "--resolv-conf=off", "--timezone=off", "--private-network"]
        words += [f"--directory={root}", "--machine=restored", f"--hostname={host}"]
        self.process = subprocess.Popen(
            container.in_groups(self.groups, words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            cwd="/",
            start_new_session=True,
        )

    def leader(self) -> int:
        """Its process 1, as this machine numbers it; 0 while there is none."""
        for pid in container.processes_in(self.groups[0] / "payload"):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            numbers = next(line for line in lines if line.startswith("NSpid:")).split()
            if numbers[-1] == "1" and len(numbers) > 2:
                return pid
        return 0

    def active(self) -> set[str]:
        leader = self.leader()
        return active(leader) if leader else set()

    def inside(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*entered(self.leader()), *argv], capture_output=True, text=True, check=False, timeout=30)

    def end(self) -> None:
        for group in self.groups:
            if (group / "cgroup.kill").exists():
                container.kill_group(group)
        self.process.wait(15)
        for group in self.groups:
            for directory, _below, _files in os.walk(group, topdown=False):
                Path(directory).rmdir()


def entered(leader: int) -> list[str]:
    return ["nsenter", "--target", str(leader), "--mount", "--uts", "--ipc", "--net", "--pid", "--"]


def active(leader: int) -> set[str]:
    words = [
        *entered(leader),
        "systemctl",
        "list-units",
        "--type=service,timer",
        "--state=active",
        "--plain",
        "--no-legend",
        "--no-pager",
    ]
    listed = subprocess.run(words, capture_output=True, text=True, check=False, timeout=20).stdout
    return {line.split()[0] for line in listed.splitlines() if line.strip()}


def restore_the_database(files: Files, host: str) -> None:
    """PGDATA is not in a snapshot: pgBackRest restores it into the restored root, with the WAL that it needs, for the system will boot without any network."""
    pgbackrest = ["/usr/bin/pgbackrest", "--stanza=minimarket", "--repo=1"]
    files.inside(host, "runuser", "-u", "postgres", "--", *pgbackrest, "--type=full", "--archive-copy", "backup")
    files.inside(host, "chroot", "--userspec=postgres:postgres", "/var/restored", *pgbackrest, "--type=none", "restore")


@pytest.mark.full
@pytest.mark.parametrize("host", [HOST, "a-db1"])
def test_a_restored_system_boots_with_the_same_units_active(files: Files, host: str):
    database = host == "a-db1"
    files.inside(host, "rm", "-rf", "/var/restored")
    taken = files.call("backup", host, dr_files_backup_sets=["system"])
    assert taken.code == 0, taken.output[-2000:]
    run = files.restore("/var/restored", "system", dr_files_host=host)
    assert run.code == 0, run.output[-2000:]
    assert {gate["verdict"] for gate in run.record["gates"]} == {"pass"}
    assert run.record["measures"]["files"][host]["restored"]["system"]["bytes_per_second"] > 0
    if database:
        restore_the_database(files, host)
    living = active(files.leader(host))
    wanted = {unit for unit in living if unit.startswith(("minimarket", "postgresql@", "ssh.", "relevo-"))}
    assert {"ssh.service", "relevo-files-system.timer"} <= wanted
    assert any(unit.startswith("postgresql@" if database else "minimarket.service") for unit in wanted)
    restored = Restored(files, host)
    try:
        # The boot guard of a database host asks the others first, for 20 s.
        files.wait("the declared units are active", lambda: wanted <= restored.active(), 180 if database else 90)
        # What runs beside them is there too, but for logins and what runs once after an upgrade.
        once = re.compile(
            r"user@|user-runtime-dir@|session|ldconfig|systemd-(?:update-done|sysusers|journal-catalog-update|networkd-wait)"
        )
        assert {unit for unit in living - restored.active() if not once.search(unit)} == set()
        if database:
            assert_read_only(restored)
    finally:
        restored.end()
        files.inside(host, "rm", "-rf", "/var/restored")
    assert not database or files.writable(host)


def assert_read_only(restored: Restored) -> None:
    """Nobody answers the boot guard there, so it cannot know that no other host is primary: the data are there, and nothing can be written."""
    held = json.loads(restored.inside("cat", "/var/lib/relevo/guard-held.json").stdout)
    assert "no other host of the cluster answers" in held["reason"]
    ask = ["runuser", "-u", "postgres", "--", "psql", "-XAtq", "-d", "minimarket", "-c"]
    assert restored.inside(*ask, "select pg_is_in_recovery()").stdout.strip() == "t"
    assert int(restored.inside(*ask, "select count(*) from shop.orders").stdout) > 0
    refused = restored.inside(*ask, "create table public.written ()")
    assert refused.returncode != 0
    assert "read-only transaction" in refused.stderr
