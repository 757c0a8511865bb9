"""Protect, on two database hosts and a store of their own: built, adopted, repaired, refused, and guarded at every start."""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from ansible_collections.relevo.dr.plugins.module_utils import pgbackrest_file
from ansible_collections.relevo.lab.plugins.module_utils.laboratory import Laboratory

from .conftest import BIN, ROOT, Bench, Run

INVENTORY = ROOT / "tests/fixtures/protect_laboratory"
GUARD = "/usr/local/lib/relevo/relevo-guard"
OURS, THEIRS = "p-db1", "q-db1"
RELEASE = os.environ.get("RELEVO_TEST_RELEASE", "trixie")
VERSION = {"trixie": "17", "bookworm": "15"}[RELEASE]
UNIT = f"postgresql@{VERSION}-main.service"
DATA, CONFIG = f"/var/lib/postgresql/{VERSION}/main", f"/etc/postgresql/{VERSION}/main"
BINARIES = f"/usr/lib/postgresql/{VERSION}/bin"


# What a refused run must leave as it was on a database host.
STATE = """
import hashlib, os, subprocess
total = hashlib.sha256()
for top in ("/etc", "/var/lib/relevo", "/usr/local/lib"):
    for directory, below, files in sorted(os.walk(top)):
        below.sort()
        for path in sorted(os.path.join(directory, name) for name in files):
            content = os.readlink(path).encode() if os.path.islink(path) else open(path, "rb").read()
            total.update(path.encode() + oct(os.lstat(path).st_mode).encode() + content)
unit = ["systemctl", "show", "--property=ActiveState,ActiveEnterTimestamp,ExecStartPre", "UNIT"]
total.update(subprocess.run(unit, capture_output=True).stdout)
sql = "select setting from pg_settings union all select rolname || coalesce(rolpassword, '') from pg_authid"
sql += " union all select slot_name from pg_replication_slots"
words = ["runuser", "-u", "postgres", "--", "psql", "-XAtqc", "select md5(string_agg(s, ',' order by s)) from (" + sql + ") as state (s)"]
total.update(subprocess.run(words, capture_output=True, cwd="/").stdout)
print(total.hexdigest())
""".replace("UNIT", UNIT)


class Pair(Bench):
    """The small laboratory: p-db1 is made primary, q-db1 has no cluster, q-store1 is the store."""

    def __init__(self, store: Path, inventory: Path = INVENTORY) -> None:
        super().__init__(store, inventory)
        self.lab = Laboratory(Path("/var/lib/relevo-lab-protect"))
        self.environment["RELEVO_LAB_STATE"] = str(self.lab.state)

    def verb(self, *words: str) -> str:
        done = subprocess.run(
            [ROOT / "bin/lab", *words], capture_output=True, text=True, check=False, timeout=300, env=self.environment
        )
        assert done.returncode == 0, f"bin/lab {' '.join(words)}: {done.stderr}"
        return done.stdout.strip()

    def up(self, state: str = "present") -> None:
        words = [BIN / "ansible-playbook", "-i", INVENTORY, ROOT / "playbooks/lab.yml", "-e", f"lab_state={state}"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=1800, cwd=ROOT, env=self.environment)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]

    def seen(self) -> dict[str, str]:
        """Equal means that nothing was changed."""
        hosts = {host: self.inside(host, "python3", "-", text=STATE) for host in (OURS, THEIRS)}
        store = self.inside("q-store1", "find", "/srv/store", "-type", "f", "-printf", "%P %s\n")
        return {**hosts, "store": "\n".join(sorted(store.splitlines()))}

    def streams(self) -> bool:
        statement = "select count(*) from pg_stat_replication where state = 'streaming' and application_name = 'q-db1'"
        return self.sql(OURS, statement, "postgres", check=False) == "1"

    def restart(self, host: str) -> None:
        """A clean stop waits for a standby that is away for as long as wal_sender_timeout says."""
        self.inside(host, "systemctl", "restart", "--no-block", UNIT)
        self.wait("the unit is up", lambda: self.inside(host, "systemctl", "show", "--property=Job", UNIT) in {"", "Job="}, 180)

    def as_owner(self, host: str, *argv: str, check: bool = True) -> str:
        return self.inside(host, "runuser", "-u", "postgres", "--", *argv, check=check)


def recap(run: Run) -> int:
    return sum(int(number) for number in re.findall(r"changed=(\d+)", run.output))


def differences(run: Run) -> dict[str, str]:
    """What the run said it would change, by host, before it changed anything."""
    shown = run.output.split("TASK [Show what would change on this host]")[1].split("\nPLAY [")[0]
    parts = re.split(r"^ok: \[([\w-]+)\] => *$", shown, flags=re.MULTILINE)[1:]
    return {host: " ".join(text.split()) for host, text in zip(parts[::2], parts[1::2], strict=True)}


def refused(pair: Pair, run: Run, before: dict[str, str], *says: str) -> None:
    assert run.code != 0, run.output[-3000:]
    for words in says:
        assert words in " ".join(run.output.split()), f"{words!r} is not in:\n{run.output[-3000:]}"
    assert "Next:" in run.output
    assert run.record["verdict"] == "refused", run.record
    assert pair.seen() == before


def passed(run: Run) -> Run:
    assert run.code == 0, run.output[-4000:]
    return run


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A primary without any protection."""
    pair = Pair(tmp_path_factory.mktemp("protect") / "store")
    # There is one such laboratory on a machine, whatever checkout the tests are run from.
    with Path("/run/lock/relevo-lab-protect").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        pair.up("absent")
        pair.up()
        yield pair
        pair.up("absent")


@pytest.fixture(scope="module")
def protected(fresh: Pair) -> Pair:
    """The same after protect; the two tests above it may have done that already."""
    if not fresh.streams():
        passed(fresh.run("protect", dr_allow_restart="true"))
    return fresh


@pytest.fixture
def pair(protected: Pair) -> Pair:
    """The protected cluster, before and after the test."""
    yield protected
    protected.verb("heal-all")
    protected.wait("the standby streams", protected.streams, 120)


# -- before anything is changed --


@pytest.mark.full
def test_check_mode_shows_the_differences_and_changes_nothing(fresh):
    before = fresh.seen()
    run = passed(fresh.run("protect", "--check"))
    assert "standby on q-db1: absent -> restored" in differences(run)[THEIRS]
    assert "file /etc/pgbackrest/pgbackrest.conf: absent" in differences(run)[OURS]
    assert fresh.seen() == before
    assert not (fresh.lab.state / "secrets/relevo_monitor_password").exists()


@pytest.mark.full
def test_a_wrong_secret_key_is_refused_with_403(fresh):
    path = fresh.lab.state / "secrets/store_q_key"
    right = path.read_text()
    before = fresh.seen()
    try:
        path.write_text("wrong" + right)
        refused(fresh, fresh.run("protect"), before, "bucket relevo-q at q-store1:443", "403", "key_secret")
    finally:
        path.write_text(right)


def other_inventory(tmp_path: Path, **variables: object) -> Path:
    """The laboratory, with other variables for its database hosts."""
    content = yaml.safe_load((INVENTORY / "hosts.yml").read_text())
    content["all"]["vars"].update(variables)
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars/lab.yml").write_text((INVENTORY / "group_vars/lab.yml").read_text())
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(content))
    return tmp_path


def repository(**changes: object) -> list[dict[str, object]]:
    content = yaml.safe_load((INVENTORY / "hosts.yml").read_text())
    return [{**content["all"]["vars"]["dr_pgbackrest_repositories"][0], **changes}]


@pytest.mark.full
def test_an_unknown_authority_is_refused_and_its_certificate_shown(fresh, tmp_path):
    inventory = other_inventory(tmp_path, dr_pgbackrest_repositories=repository(ca_file="/etc/ssl/certs/ca-certificates.crt"))
    before = fresh.seen()
    run = Pair(fresh.store, inventory).run("protect")
    refused(fresh, run, before, "not signed by a CA", "notAfter=", "verification stays on")


@pytest.mark.full
def test_a_black_holed_store_is_refused_in_bounded_time(fresh):
    before = fresh.seen()
    fresh.verb("cut", OURS, "q-store1")
    try:
        began = time.monotonic()
        run = fresh.run("protect")
        assert time.monotonic() - began < 90
    finally:
        fresh.verb("heal-all")
    refused(fresh, run, before, "does not answer", "drops packets")


@pytest.mark.full
def test_a_stanza_of_another_cluster_is_refused_with_both_identifiers(fresh, tmp_path):
    theirs = other_stanza(fresh, "/taken")
    ours = system_identifier(fresh, OURS, DATA)
    inventory = other_inventory(tmp_path, dr_pgbackrest_repositories=repository(path="/taken"))
    before = fresh.seen()
    try:
        refused(fresh, Pair(fresh.store, inventory).run("protect"), before, ours, theirs, "never deleted")
    finally:
        fresh.inside(THEIRS, "pg_dropcluster", "--stop", VERSION, "other")
        fresh.inside(THEIRS, "rmdir", f"/etc/postgresql/{VERSION}", f"/var/lib/postgresql/{VERSION}", check=False)
        (fresh.lab.state / "secrets/pgbackrest_repo1_passphrase").unlink()


def system_identifier(pair: Pair, host: str, data: str) -> str:
    shown = pair.as_owner(host, f"{BINARIES}/pg_controldata", data)
    return re.search(r"system identifier: +(\d+)", shown)[1]


def other_stanza(pair: Pair, path: str) -> str:
    """Another cluster takes the stanza's name first; its system identifier."""
    place = pair.lab.state / "secrets"
    (place / "pgbackrest_repo1_passphrase").write_text(secrets.token_urlsafe(48))
    store = repository(ca_file="/etc/ssl/relevo-lab/ca.pem", path=path)
    known = {name: (place / name).read_text().strip() for name in pgbackrest_file.secret_names(store)}
    version = tuple(int(part) for part in pair.inside(OURS, "pgbackrest", "version").split()[-1].split("."))
    options = pgbackrest_file.repository_options(store[0], known, version)
    cluster = {"pg1-path": f"/var/lib/postgresql/{VERSION}/other", "pg1-port": "5444"}
    text = pgbackrest_file.plan("", {"global": options, "minimarket": cluster}, "file").text
    pair.inside(THEIRS, "pg_createcluster", "--port", "5444", "--start", VERSION, "other")
    pair.inside(THEIRS, "install", "-m", "0644", "/dev/stdin", "/var/lib/postgresql/other.conf", text=text)
    pair.as_owner(THEIRS, "pgbackrest", "--config=/var/lib/postgresql/other.conf", "--stanza=minimarket", "stanza-create")
    return system_identifier(pair, THEIRS, cluster["pg1-path"])


# -- the first run --


@pytest.mark.full
def test_a_running_primary_is_restarted_only_when_that_is_allowed(fresh):
    fresh.sql(OURS, "alter system set archive_mode = off", "postgres")
    fresh.inside(OURS, "systemctl", "restart", UNIT)
    before = fresh.seen()
    refused(
        fresh, fresh.run("protect"), before, "p-db1", "archive_mode = off", "expected archive_mode = on", "dr_allow_restart=true"
    )
    began = fresh.sql(OURS, "select pg_postmaster_start_time()", "postgres")
    run = passed(fresh.run("protect", dr_allow_restart="true"))
    assert fresh.sql(OURS, "select pg_postmaster_start_time()", "postgres") > began
    assert fresh.sql(OURS, "show archive_mode", "postgres") == "on"
    assert "secret pgbackrest_repo1_passphrase" in differences(run)[OURS]


@pytest.fixture(scope="module")
def again(protected: Pair) -> Run:
    """A run that finds everything as it should be, as talkative as it can be."""
    return passed(protected.run("protect", "-vvv"))


@pytest.mark.smoke
def test_a_second_run_changes_nothing_and_neither_does_a_check(protected, again):
    assert recap(again) == 0
    run = passed(protected.run("protect", "--check"))
    assert recap(run) == 0
    assert differences(run) == {OURS: "msg: - nothing", THEIRS: "msg: - nothing"}


@pytest.mark.smoke
def test_what_protection_is(protected, again):
    gates = {(gate["id"], gate["host"]): gate["verdict"] for gate in again.record["gates"]}
    assert gates[("G03", OURS)] == gates[("G05", OURS)] == gates[("GUARD", OURS)] == gates[("GUARD", THEIRS)] == "pass"
    assert protected.streams()
    assert protected.sql(THEIRS, "show ssl", "postgres") == "on"
    assert (
        protected.sql(OURS, "select bool_and(ssl)::text from pg_stat_ssl join pg_stat_replication using (pid)", "postgres")
        == "true"
    )
    assert protected.inside("q-store1", "sh", "-c", "head -c 8 $(find /srv/store -name backup.info)") == "Salted__"
    rules = protected.inside(OURS, "cat", f"{CONFIG}/pg_hba.conf")
    assert rules == protected.inside(THEIRS, "cat", f"{CONFIG}/pg_hba.conf")


@pytest.mark.smoke
def test_no_secret_is_shown_or_recorded(protected, again):
    recorded = "".join(path.read_text(errors="replace") for path in protected.store.rglob("*") if path.is_file())
    for path in (protected.lab.state / "secrets").iterdir():
        value = path.read_text().strip()
        if path.name != "ca.key":
            assert value not in again.output, path.name
            assert value not in recorded, path.name
    stored = protected.sql(OURS, "select string_agg(rolpassword, ' ') from pg_authid where rolname ~ '^relevo'", "postgres")
    assert stored.count("SCRAM-SHA-256$") == len(stored.split())


# -- drift --

DRIFTS = {
    # what: (host, how it is broken, what the run calls it)
    "pgbackrest option": (
        OURS,
        "sed -i 's/^process-max=.*/process-max=7/' /etc/pgbackrest/pgbackrest.conf",
        "[global] process-max: 7 -> 1",
    ),
    "pgbackrest file gone": (THEIRS, "rm /etc/pgbackrest/pgbackrest.conf", "file /etc/pgbackrest/pgbackrest.conf: absent"),
    "archive parameter": (
        OURS,
        f"sed -i 's/^archive_timeout.*/archive_timeout = 5/' {CONFIG}/conf.d/60-relevo-pgbackrest.conf",
        "parameter archive_timeout: ",
    ),
    "archive_command by ALTER SYSTEM": (
        OURS,
        "runuser -u postgres -- psql -Xqc \"alter system set archive_command = '/bin/true'\" -c 'select pg_reload_conf()'",
        "parameter archive_command: /bin/true by ALTER SYSTEM",
    ),
    "archive parameters gone": (THEIRS, f"rm {CONFIG}/conf.d/60-relevo-pgbackrest.conf", "parameter archive_timeout: 900 -> 900"),
    "standby parameter": (
        THEIRS,
        f"sed -i 's/^max_slot_wal_keep_size.*/max_slot_wal_keep_size = -1/' {CONFIG}/conf.d/60-relevo-standby.conf",
        "parameter max_slot_wal_keep_size",
    ),
    "parameter that is not ours": (
        OURS,
        f"echo 'fsync = off' >> {CONFIG}/conf.d/60-relevo-standby.conf",
        "parameter fsync: off in",
    ),
    "access rule gone": (
        OURS,
        f"sed -i '/^hostssl replication/d' {CONFIG}/pg_hba.conf",
        f"file {CONFIG}/pg_hba.conf: other content",
    ),
    "access rule more": (
        THEIRS,
        f"echo 'host all all 192.0.2.0/24 trust' >> {CONFIG}/pg_hba.conf",
        f"file {CONFIG}/pg_hba.conf: other content",
    ),
    "password file": (
        THEIRS,
        "sed -i 's/relevo_replication:.*/relevo_replication:x/' /etc/relevo/pgpass",
        "file /etc/relevo/pgpass: other content",
    ),
    "password file rights": (OURS, "chmod 0644 /etc/relevo/pgpass", "file /etc/relevo/pgpass: postgres:postgres 0644"),
    "role's password": (
        OURS,
        "runuser -u postgres -- psql -Xqc \"alter role relevo_monitor password 'other'\"",
        "role relevo_monitor password: another one",
    ),
    "role's rights": (
        OURS,
        "runuser -u postgres -- psql -Xqc 'alter role relevo_monitor superuser'",
        "role relevo_monitor: other rights",
    ),
    "role's group": (
        OURS,
        "runuser -u postgres -- psql -Xqc 'revoke pg_monitor from relevo_monitor'",
        "role relevo_monitor: not in pg_monitor",
    ),
    "slot that nobody uses": (
        OURS,
        "runuser -u postgres -- psql -Xqtc \"select pg_create_physical_replication_slot('relevo_gone', true)\"",
        "replication slot relevo_gone: unused",
    ),
    "controller's key": (
        OURS,
        "echo somebody-else > /etc/relevo/allowed_signers",
        "file /etc/relevo/allowed_signers: other content",
    ),
    "guard's settings": (OURS, "sed -i 's/q-db1/nobody/' /etc/relevo/guard.json", "file /etc/relevo/guard.json: other content"),
    "guard": (THEIRS, f"echo '# x' >> {GUARD}", f"file {GUARD}: other content"),
    "guard's rights": (OURS, f"chmod -x {GUARD}", f"file {GUARD}: root:root 0644"),
    "drop-in gone": (
        OURS,
        f"rm /etc/systemd/system/{UNIT}.d/relevo-guard.conf",
        f"file /etc/systemd/system/{UNIT}.d/relevo-guard.conf: absent",
    ),
    "drop-in not loaded": (
        THEIRS,
        f"rm /etc/systemd/system/{UNIT}.d/relevo-guard.conf; systemctl daemon-reload",
        f"unit {UNIT}: does not ask the guard",
    ),
    "state directory": (THEIRS, "chmod 0777 /var/lib/relevo", "directory /var/lib/relevo: root:root 0777"),
    "standby stopped": (THEIRS, f"systemctl stop {UNIT}", "standby on q-db1: stopped"),
}


@pytest.fixture(scope="module")
def drifted(protected: Pair) -> dict[str, str]:
    """Everything broken by hand at once, then one run; what it said, by host."""
    for host, break_it, _ in DRIFTS.values():
        protected.inside(host, "bash", "-c", break_it)
    run = passed(protected.run("protect"))
    assert recap(run) > 0
    return differences(run)


@pytest.mark.full
@pytest.mark.parametrize(("host", "said"), [(host, said) for host, _, said in DRIFTS.values()], ids=DRIFTS)
def test_drift_is_named_before_it_is_repaired(drifted, host, said):
    if host == THEIRS and said.startswith("parameter"):
        # It was stopped too, so its values are compared with the file alone.
        said = said.split(":")[0]
    assert said in drifted[host]


@pytest.mark.full
@pytest.mark.usefixtures("drifted")
def test_drift_is_repaired(pair):
    assert recap(passed(pair.run("protect"))) == 0
    pair.wait("the standby streams", pair.streams)
    assert "pgbackrest" in pair.sql(OURS, "show archive_command", "postgres")
    assert pair.sql(OURS, "select rolsuper::text from pg_roles where rolname = 'relevo_monitor'", "postgres") == "false"
    assert pair.inside(OURS, "cat", "/etc/relevo/allowed_signers").startswith("somebody-else\nrelevo-controller ")


# -- what is there --


@pytest.mark.full
def test_a_standby_made_by_hand_is_adopted(pair):
    pair.inside(THEIRS, "systemctl", "stop", UNIT)
    pair.inside(THEIRS, "bash", "-c", f"rm -r {DATA}/* {CONFIG}/conf.d/60-relevo-standby.conf")
    pair.sql(OURS, "create role theirs replication login password 'x'", "postgres")
    pair.inside(
        OURS,
        "bash",
        "-c",
        f"sed -i '1i hostssl replication theirs all scram-sha-256' {CONFIG}/pg_hba.conf; systemctl reload {UNIT}",
    )
    pair.as_owner(THEIRS, f"{BINARIES}/pg_basebackup", "-D", DATA, "-R", "-d", "host=p-db1 user=theirs password=x sslmode=require")
    pair.inside(THEIRS, "systemctl", "start", UNIT)
    inode = pair.inside(THEIRS, "stat", "-c", "%i", f"{DATA}/PG_VERSION")
    run = passed(pair.run("protect"))
    assert "by ALTER SYSTEM" in differences(run)[THEIRS] or "primary_conninfo" in differences(run)[THEIRS]
    assert pair.inside(THEIRS, "stat", "-c", "%i", f"{DATA}/PG_VERSION") == inode
    pair.wait(
        "it streams as our role",
        lambda: pair.sql(OURS, "select usename from pg_stat_replication", "postgres") == "relevo_replication",
    )
    assert recap(passed(pair.run("protect"))) == 0


@pytest.mark.full
def test_an_archive_command_with_another_configuration_file_is_adopted(pair):
    theirs = "pgbackrest --config=/etc/pgbackrest/theirs.conf --stanza=minimarket archive-push %p"
    script = f"""
    sed -i 1d /etc/pgbackrest/pgbackrest.conf
    sed -i 's/^process-max=.*/lock-path=\\/tmp\\/theirs/' /etc/pgbackrest/pgbackrest.conf
    mv /etc/pgbackrest/pgbackrest.conf /etc/pgbackrest/theirs.conf
    rm {CONFIG}/conf.d/60-relevo-pgbackrest.conf
    runuser -u postgres -- psql -Xqc "alter system set archive_command = '{theirs}'" -c 'select pg_reload_conf()'
    """
    pair.inside(OURS, "bash", "-ec", script)
    passed(pair.run("protect"))
    assert pair.sql(OURS, "show archive_command", "postgres") == theirs
    assert "lock-path=/tmp/theirs" in pair.inside(OURS, "cat", "/etc/pgbackrest/pgbackrest.conf")
    assert recap(passed(pair.run("protect"))) == 0
    pair.sql(OURS, "alter system reset archive_command", "postgres")
    pair.inside(OURS, "bash", "-ec", "rm /etc/pgbackrest/theirs.conf /etc/pgbackrest/pgbackrest.conf")
    passed(pair.run("protect"))


def backups(pair: Pair) -> list[str]:
    info = pair.as_owner(
        OURS, "pgbackrest", "--config=/etc/pgbackrest/pgbackrest.conf", "--stanza=minimarket", "info", "--output=json"
    )
    return [entry["label"] for entry in json.loads(info)[0]["backup"]]


def lose_a_segment(pair: Pair) -> None:
    segment = pair.sql(OURS, "select pg_walfile_name(pg_current_wal_insert_lsn())", "postgres")
    pair.sql(OURS, "select pg_logical_emit_message(true, 'test', 'lost'); select pg_switch_wal()", "postgres")
    done = "select coalesce(last_archived_wal, '') from pg_stat_archiver"
    pair.wait(f"{segment} seems archived", lambda: pair.sql(OURS, done, "postgres") >= segment)


@pytest.mark.full
def test_wal_that_was_lost_while_the_archive_pretended_gets_a_new_backup(pair):
    """No repair brings it back: without a new backup no standby could be built, and nothing restored to the present."""
    before = backups(pair)
    pair.sql(OURS, "alter system set archive_command = 'true'", "postgres")
    pair.sql(OURS, "select pg_reload_conf()", "postgres")
    pair.wait("the archive pretends", lambda: pair.sql(OURS, "show archive_command", "postgres") == "true")
    lose_a_segment(pair)
    lose_a_segment(pair)
    passed(pair.run("protect"))
    assert len(backups(pair)) == len(before) + 1
    assert recap(passed(pair.run("protect"))) == 0


@pytest.mark.full
def test_an_unfinished_build_goes_on_and_a_foreign_directory_is_left_alone(pair):
    pair.inside(THEIRS, "systemctl", "stop", UNIT)
    pair.inside(THEIRS, "bash", "-c", f"rm -r {DATA}/* && touch {DATA}/precious && chown postgres: {DATA}/precious")
    before = pair.seen()
    refused(pair, pair.run("protect"), before, "STANDBY on q-db1", "is not empty", "move it away")
    mark = json.dumps({"run_id": "killed", "data_directory": DATA, "restored": False})
    pair.inside(THEIRS, "install", "-m", "0600", "/dev/stdin", "/var/lib/relevo/standby-build.json", text=mark)
    run = passed(pair.run("protect"))
    assert "an unfinished build of run killed" in differences(run)[THEIRS]
    pair.wait("the standby streams", pair.streams)
    assert "standby-build" not in pair.inside(THEIRS, "ls", "/var/lib/relevo")


# -- the boot guard --


def mark(pair: Pair, name: str) -> dict:
    return json.loads(pair.inside(OURS, "cat", f"/var/lib/relevo/{name}.json"))


@pytest.mark.full
def test_a_planned_restart_of_a_healthy_primary_costs_little(pair):
    pair.restart(OURS)
    assert pair.writable(OURS)
    decided = pair.journal(OURS)[-1]
    assert decided["decision"] == "start"
    assert "q-db1 answers and is a standby" in decided["reason"]


@pytest.mark.full
def test_a_primary_that_sees_nobody_is_read_only_until_an_operator_says_so(pair):
    pair.verb("power-off", THEIRS)
    pair.restart(OURS)
    assert pair.sql(OURS, "select pg_is_in_recovery()", "postgres") == "t"
    assert "no other host" in mark(pair, "guard-held")["reason"]
    assert "READ-ONLY" in pair.inside(OURS, "journalctl", "-u", UNIT, "--no-pager", "-n", "20")
    pair.inside(OURS, GUARD, "start", "--reason", "q-db1 is switched off, I did it myself")
    assert pair.writable(OURS)
    permitted = [line for line in pair.journal(OURS) if line.get("decision") == "start-permitted"]
    assert permitted[-1]["reason"] == "q-db1 is switched off, I did it myself"
    assert pair.inside(OURS, f"{BINARIES}/pg_controldata", DATA).split("TimeLineID:")[1].split()[0] == "1"
    # One start only; then the standby comes back, and a restart is enough.
    pair.restart(OURS)
    assert not pair.writable(OURS)
    pair.verb("power-on", THEIRS)
    pair.wait("the standby answers", lambda: pair.sql(THEIRS, "select 1", "postgres", check=False) == "1")
    pair.restart(OURS)
    assert pair.writable(OURS)


def fenced_by_its_guard(pair: Pair, words: str) -> None:
    """Down, marked, and read-only even for whoever goes past systemd and the guard."""
    pair.wait("the guard has decided", lambda: "fence" in pair.inside(OURS, "ls", "/var/lib/relevo", check=False), 120)
    fence = mark(pair, "fence")
    assert fence["kind"] == "guard"
    assert words in fence["reason"]
    pair.wait("the unit has failed", lambda: pair.inside(OURS, "systemctl", "is-active", UNIT, check=False) == "failed")
    assert "must NOT start" in pair.inside(OURS, GUARD, "start", "--reason", "I insist", check=False)
    log = "/var/log/postgresql/bare-hands.log"
    options = ["-D", DATA, "-o", f"-c config_file={CONFIG}/postgresql.conf", "-l", log, "-w", "-t", "20"]
    pair.as_owner(OURS, f"{BINARIES}/pg_ctl", *options, "start", check=False)
    assert "entering standby mode" in pair.inside(OURS, "cat", log)
    assert not pair.writable(OURS)
    pair.as_owner(OURS, f"{BINARIES}/pg_ctl", "-D", DATA, "-m", "immediate", "stop", check=False)
    assert pair.writable(THEIRS)


# The last test: it turns the pair round.
@pytest.mark.full
def test_a_former_primary_never_comes_back_writable_but_as_a_standby(protected):
    pair = protected
    # It outlasts the power: when the host comes back, only the archive can tell it.
    pair.verb("cut", OURS, THEIRS)
    pair.verb("power-off", OURS)
    pair.sql(THEIRS, "select pg_promote()", "postgres")
    pair.wait("q-db1 is writable", lambda: pair.writable(THEIRS))
    store = ["find", "/srv/store", "-name", "*.history*"]
    pair.wait("the new timeline is archived", lambda: "00000002.history" in pair.inside("q-store1", *store))
    pair.verb("power-on", OURS)
    fenced_by_its_guard(pair, "the archive holds timeline 2")
    # The new primary tells it.
    pair.verb("heal-all")
    pair.inside(OURS, "rm", "/var/lib/relevo/fence.json", f"{DATA}/standby.signal")
    pair.inside(OURS, "systemctl", "restart", UNIT, check=False)
    fenced_by_its_guard(pair, "q-db1 is the primary, on timeline 2")
    # The way back that its own message names.
    assert "a fence mark" in " ".join(pair.run("protect").output.split())
    pair.inside(OURS, "bash", "-ec", f"rm /var/lib/relevo/fence.json; mv {DATA} {DATA}.old")
    run = passed(pair.run("protect"))
    assert "standby on p-db1: absent -> restored" in differences(run)[OURS]
    streams = "select application_name from pg_stat_replication where state = 'streaming'"
    pair.wait("p-db1 streams from q-db1", lambda: pair.sql(THEIRS, streams, "postgres") == OURS)
    assert recap(passed(pair.run("protect"))) == 0
