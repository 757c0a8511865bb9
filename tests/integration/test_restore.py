"""Backups restored on the sandbox and proven: to the end, to a time, an LSN, a named point; refused where they should be; and nothing else is touched."""

from __future__ import annotations

import datetime
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from .conftest import INVENTORY, SNAPSHOT, Bench, Run, kill_all

BASE = "/var/lib/postgresql/relevo-restore"
RUNGS = ["R1", "R2", "R3", "R4", "R5", "R6", "R7", "R8", "LEDGER"]


@pytest.fixture
def breakable(bench: Bench) -> Iterator[Bench]:
    """A laboratory that the next test does not inherit: two primaries, a damaged repository."""
    yield bench
    bench.verb("heal-all")
    bench.verb("reset", SNAPSHOT)


@dataclass(frozen=True)
class Between:
    """Two transactions a moment apart, and what lies between them."""

    name: str
    moment: str
    lsn: str
    point: str


def archived(bench: Bench, primary: str = "a-db1") -> None:
    """Until everything that was written so far is in the archive."""
    segment = bench.sql(primary, "select pg_walfile_name(pg_current_wal_insert_lsn())")
    bench.sql(primary, "select pg_switch_wal()")
    done = "select coalesce(max(last_archived_wal), '') from pg_stat_archiver where last_archived_wal !~ 'backup|history'"
    bench.wait(f"{segment} is archived", lambda: bench.sql(primary, done) >= segment)


def enter(bench: Bench, reference: str) -> None:
    statement = "insert into shop.ledger_entries values ('{}')"
    bench.sql("a-db1", statement.format(reference))


def two_transactions(bench: Bench) -> Between:
    name = f"pair{time.time_ns()}"
    enter(bench, f"{name}-1")
    time.sleep(1.1)
    lsn = bench.sql("a-db1", "select pg_current_wal_insert_lsn()")
    moment = bench.sql(
        "a-db1", """select to_char(now() at time zone interval '-03:00', 'YYYY-MM-DD"T"HH24:MI:SS.US') || '-03:00'"""
    )
    point = f"{name} between"
    bench.sql("a-db1", f"select pg_create_restore_point('{point}')")
    time.sleep(1.1)
    enter(bench, f"{name}-2")
    time.sleep(1.1)
    archived(bench)
    return Between(name, moment, lsn, point)


def inventory_saying(tmp_path: Path, **variables: object) -> Path:
    """A copy of the laboratory's inventory whose sandbox says something else."""
    copy = tmp_path / "lab"
    shutil.copytree(INVENTORY, copy)
    path = copy / "group_vars/dr_sandbox.yml"
    said = yaml.safe_load(path.read_text()) | variables
    path.write_text(yaml.safe_dump(said))
    return copy


def present(name: str) -> dict[str, str]:
    """An invariant that shows which of two transactions is there: the first one alone."""
    sql = "select string_agg(reference, ' ' order by reference) from shop.ledger_entries where reference like '{}-%'"
    return {"name": "which of the two", "sql": sql.format(name), "expect": f"{name}-1"}


def backup(bench: Bench, kind: str = "full") -> str:
    """The label of a backup taken now."""
    call = ["runuser", "-u", "postgres", "--", "pgbackrest", "--config=/etc/pgbackrest/pgbackrest.conf", "--stanza=minimarket"]
    bench.inside("a-db1", *call, "--repo=1", f"--type={kind}", "backup")
    return str(labels(bench)[-1])


def labels(bench: Bench) -> list[str]:
    call = ["runuser", "-u", "postgres", "--", "pgbackrest", "--config=/etc/pgbackrest/pgbackrest.conf", "--stanza=minimarket"]
    info = json.loads(bench.inside("a-db1", *call, "info", "--repo=1", "--output=json"))
    return [entry["label"] for entry in info[0]["backup"]]


def repositories(bench: Bench) -> dict[str, str]:
    """Every object of both buckets with its checksum, but what production archives meanwhile is left out by comparing keys that were there."""
    find = ("find", "/srv/store", "-type", "f", "-exec", "sha256sum", "{}", "+")
    listed = [line for store in ("a-store1", "b-store1") for line in bench.inside(store, *find).splitlines()]
    return {path: digest for digest, path in (line.split(maxsplit=1) for line in listed)}


def leaked(bench: Bench) -> tuple[int, int]:
    found = re.match(r"(\d+) packets leaked, (\d+) packets of a probe", bench.verb("leaked", "b-scratch"))
    assert found
    return int(found[1]), int(found[2])


def sandbox_is_clean(bench: Bench) -> bool:
    left = bench.inside("b-scratch", "sh", "-c", f"ls -d {BASE} 2>/dev/null; pgrep -x postgres; pgrep gunicorn", check=False)
    return left == ""


def proven(run: Run, rungs: list[str] | None = None) -> list[dict]:
    """The tests of a run that passed, each with all its rungs."""
    assert run.code == 0, run.output[-4000:]
    tests = run.record["measures"]["restore_tests"]
    for test in tests:
        assert [rung["id"] for rung in test["rungs"] if rung["verdict"] == "pass"] == (rungs or RUNGS), test
    return tests


def refused(bench: Bench, says: str, **variables: str) -> Run:
    """A run that is refused before anything is restored, with a sentence and the window."""
    run = bench.run("restore_test", **variables)
    assert run.code != 0
    assert re.search(says, run.output), f"{says!r} is not in:\n{run.output[-3000:]}"
    assert "Traceback" not in run.output
    assert "Next:" in run.output
    assert run.record["verdict"] == "refused", run.record["verdict"]
    assert not [phase for phase in run.record["phases"] if phase["name"].startswith(("RESTORE", "PROVE"))]
    assert sandbox_is_clean(bench)
    return run


@pytest.mark.smoke
def test_the_newest_backup_is_proven_up_to_a_user_who_logs_in(healthy):
    enter(healthy, f"restored{time.time_ns()}")
    archived(healthy)
    before = leaked(healthy)
    run = healthy.run("restore_test")
    (test,) = proven(run)
    assert run.record["verdict"] == "passed"
    assert test["restore_bytes_per_second"] > 0
    assert test["predicted_rto_seconds"] > 0
    assert test["live_bytes"] > 0
    assert test["last_commit_at"]
    after = leaked(healthy)
    assert after[0] == before[0] == 0, "packets from the sandbox to production"
    assert after[1] > before[1], "the sandbox did not look for a way to production"
    assert sandbox_is_clean(healthy)


@pytest.mark.full
def test_a_point_between_two_transactions_holds_the_first_and_not_the_second(bench, tmp_path):
    """By time with an offset, by LSN and by name; twice from one repository, and both are as they were."""
    between = two_transactions(bench)
    inventory = inventory_saying(tmp_path, dr_backup_prove_invariants=[present(between.name)])
    before = repositories(bench)
    for target in (
        {"dr_restore_target_time": between.moment},
        {"dr_restore_target_time": between.moment},
        {"dr_restore_target_lsn": between.lsn},
        {"dr_restore_target_name": between.point},
    ):
        (test,) = proven(bench.with_inventory(inventory).run("restore_test", **target))
        assert test["target_kind"] in next(iter(target))
    after = repositories(bench)
    assert {path: after.get(path) for path in before} == before
    new = [path for path in after if path not in before]
    # What production archived meanwhile, and nothing of another timeline, history or backup.
    assert [path for path in new if not re.search(r"/archive/minimarket/\d+-1/00000001\d{8}/00000001[0-9A-F]{16}-", path)] == []


@pytest.mark.full
def test_each_repository_alone_restores_to_the_same_point(bench, tmp_path):
    between = two_transactions(bench)
    inventory = inventory_saying(tmp_path, dr_backup_prove_invariants=[present(between.name)])
    run = bench.with_inventory(inventory).run(
        "restore_test", dr_restore_repository="each", dr_restore_target_time=between.moment, dr_restore_set="latest"
    )
    tests = proven(run)
    assert run.record["verdict"] == "passed", run.record["verdict_reasons"]
    assert [test["repository"] for test in tests] == [1, 2]
    assert len({test["replayed_to_lsn"] for test in tests}) == 1
    assert len({test["last_commit_at"] for test in tests}) == 1
    # A target says nothing of what would be lost.
    assert [test["rpo_seconds"] for test in tests] == [None, None]
    (gate,) = [gate for gate in run.record["gates"] if gate["id"] == "ALIKE"]
    assert gate["verdict"] == "pass"
    for test in tests:
        assert f"of repository {test['repository']}: {test['replayed_to_lsn']}" in gate["observed"]


@pytest.mark.full
def test_the_store_of_the_lost_site_is_gone_and_the_other_repository_restores_with_its_loss_stated(breakable):
    enter(breakable, f"kept{time.time_ns()}")
    marked = datetime.datetime.now(datetime.UTC)
    archived(breakable)
    breakable.verb("power-off", "b-store1")
    lost = datetime.datetime.now(datetime.UTC)
    time.sleep(5)
    run = breakable.run("restore_test")
    ended = datetime.datetime.now(datetime.UTC)
    (test,) = proven(run)
    assert run.record["verdict"] == "passed", run.record["verdict_reasons"]
    assert test["repository"] == 2
    answers = {gate["id"]: (gate["verdict"], gate["required"]) for gate in run.record["gates"] if gate["id"].startswith("REPO")}
    assert answers == {"REPO1": ("fail", False), "REPO2": ("pass", True)}
    # What was archived before is not lost, and what came after the newest commit in the archive is.
    newest = datetime.datetime.fromisoformat(test["archive_end_commit_at"])
    assert marked - datetime.timedelta(seconds=1) <= newest
    assert (lost - newest).total_seconds() + 5 <= test["rpo_seconds"] <= (ended - newest).total_seconds()


@pytest.mark.full
def test_every_word_that_could_mean_something_else_is_refused_with_the_window(bench):
    between = two_transactions(bench)
    shown = "Restorable: repository 1: timeline 1 from "
    naive = between.moment.removesuffix("-03:00")
    for says, variables in (
        ("has no offset", {"dr_restore_target_time": naive}),
        ("cannot be read", {"dr_restore_target_time": "yesterday"}),
        ("cannot be read", {"dr_restore_target_time": "2026-01-02 10:00 EDT"}),
        ("does not exist", {"dr_restore_target_time": "2026-02-30T10:00:00Z"}),
        ("is in the future", {"dr_restore_target_time": "2999-01-01T00:00:00Z"}),
        ("is before the end of the oldest backup", {"dr_restore_target_time": "2020-01-01T00:00:00Z"}),
        ("is after the last commit in the archive", {"dr_restore_target_time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}),
        ("is after the end of the archive", {"dr_restore_target_lsn": "FF/0"}),
        ("is before the end of the oldest backup", {"dr_restore_target_lsn": "0/1000000"}),
        ("the form X/X", {"dr_restore_target_lsn": "0/XYZ"}),
        ("at most 63 printable characters", {"dr_restore_target_name": "x" * 64}),
        ("is not in the archive", {"dr_restore_target_name": "nobody made this"}),
        ("two targets at once", {"dr_restore_target_lsn": between.lsn, "dr_restore_target_time": between.moment}),
        ("holds no backup 20200101-000000F", {"dr_restore_set": "20200101-000000F"}),
        ("has no timeline 7", {"dr_restore_timeline": "7", "dr_restore_target_lsn": between.lsn}),
        ("there is no repository 9", {"dr_restore_repository": "9"}),
    ):
        run = refused(bench, says, **variables)
        assert shown in run.output or "no repository 9" in says, run.output[-2000:]
    refused(bench, "-e dr_restore_directory", dr_restore_directory="/var/lib/postgresql")


@pytest.mark.full
def test_a_timeline_that_was_left_must_be_named(breakable, tmp_path):
    """The standby is promoted while the primary goes on for a while: two histories of the same time."""
    enter(breakable, "left-1")
    archived(breakable)
    breakable.verb("cut", "a-db1", "b-db1")
    breakable.sql("b-db1", "select pg_promote()")
    breakable.wait("b-db1 is writable", lambda: breakable.writable("b-db1"))
    enter(breakable, "left-2")
    time.sleep(1.1)
    lsn = breakable.sql("a-db1", "select pg_current_wal_insert_lsn()")
    moment = breakable.sql("a-db1", """select to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')""")
    time.sleep(1.1)
    enter(breakable, "left-3")
    archived(breakable)
    time.sleep(1.1)
    breakable.sql("b-db1", "insert into shop.ledger_entries values ('newer-1')")
    breakable.sql("b-db1", "select pg_switch_wal()")
    history = "find /srv/store -name 00000002.history"
    breakable.wait("timeline 2 is archived", lambda: breakable.inside("b-store1", "sh", "-c", history) != "")
    breakable.wait(
        "a segment of timeline 2 is archived",
        lambda: breakable.inside("b-store1", "sh", "-c", "find /srv/store -name '000000020*-*'") != "",
    )
    for target in ({"dr_restore_target_lsn": lsn}, {"dr_restore_target_time": moment}):
        run = refused(breakable, "is also on timeline 1, which was left at", **target)
        said = " ".join(run.output.split())
        assert re.search(r"dr_restore_timeline=1 .*Restorable: repository \d: timeline 2 from .*; timeline 1 from ", said), said[
            -3000:
        ]
    there = {"name": "both of the old timeline", "expect": "left-1 left-2"}
    sql = "select string_agg(reference, ' ' order by reference) from shop.ledger_entries where reference ~ '^(left|newer)-'"
    inventory = inventory_saying(tmp_path, dr_backup_prove_invariants=[{**there, "sql": sql}])
    (test,) = proven(
        breakable.with_inventory(inventory).run("restore_test", dr_restore_target_time=moment, dr_restore_timeline="1")
    )
    assert test["timeline"] == 1
    newer = inventory_saying(
        tmp_path / "newer", dr_backup_prove_invariants=[{"name": "the new one", "expect": "left-1 newer-1", "sql": sql}]
    )
    run = breakable.with_inventory(newer).run("restore_test")
    (test,) = run.record["measures"]["restore_tests"]
    assert test["timeline"] == 2
    # It holds its own history, and so not what the application wrote to the old primary meanwhile: the witness knows.
    assert [rung["id"] for rung in test["rungs"] if rung["verdict"] != "pass"] == ["LEDGER"]
    assert "transactions that were acknowledged before the point are missing" in run.output
    assert run.record["verdict"] == "failed"


@pytest.mark.full
def test_every_backup_of_the_window_is_proven_one_after_the_other(bench):
    first = labels(bench)[-1]
    enter(bench, "every-1")
    second = backup(bench, "incr")
    enter(bench, "every-2")
    third = backup(bench)
    enter(bench, "every-3")
    archived(bench)
    tests = proven(bench.run("restore_test", dr_restore_set="all"))
    assert [test["label"] for test in tests[:2]] == [third, second]
    assert first in [test["label"] for test in tests]
    # The first copy is whole, the next ones bring over what differs.
    assert [test["delta"] for test in tests] == [False, *[True] * (len(tests) - 1)]
    (test,) = proven(bench.run("restore_test", dr_restore_set=second))
    assert test["label"] == second


@pytest.mark.full
def test_a_rung_that_is_left_out_makes_the_verdict_partial(healthy, tmp_path):
    archived(healthy)
    inventory = inventory_saying(
        tmp_path, dr_backup_prove_skip=["R6"], dr_backup_prove_invariants=[], dr_backup_prove_application={}
    )
    run = healthy.with_inventory(inventory).run("restore_test")
    (test,) = proven(run, ["R1", "R2", "R3", "R4", "R5", "LEDGER"])
    assert test["proven_up_to"] == "target reached"
    assert run.record["verdict"] == "partial"
    assert {gate["id"] for gate in run.record["gates"] if gate["verdict"] == "unknown"} == {"R6", "R7", "R8"}


@pytest.mark.full
def test_a_rung_that_does_not_hold_fails_the_run_and_names_it(healthy, tmp_path):
    archived(healthy)
    wrong = {"name": "nobody ever bought anything", "sql": "select count(*) from shop.orders", "expect": "0"}
    run = healthy.with_inventory(inventory_saying(tmp_path, dr_backup_prove_invariants=[wrong])).run("restore_test")
    assert run.code != 0
    assert run.record["verdict"] == "failed"
    assert re.search(r"R7 \(application invariants\): nobody ever bought anything: \d+, not 0", run.output)
    verdicts = {rung["id"]: rung["verdict"] for rung in run.record["measures"]["restore_tests"][0]["rungs"]}
    assert (verdicts["R7"], verdicts["R8"]) == ("fail", "unknown")
    assert sandbox_is_clean(healthy)


@pytest.mark.full
def test_a_backup_with_a_flipped_byte_fails_at_its_checksums(breakable):
    """In the newest backup's largest object."""
    newest = backup(breakable)
    find = f"find /srv/store -path '*backup/minimarket/{newest}/bundle/*' -type f -printf '%s %p\\n' | sort -n | tail -1 | cut -d' ' -f2"
    victim = breakable.inside("b-store1", "sh", "-c", find)
    flip = "import sys\nf = open(sys.argv[1], 'r+b')\nf.seek(-2000, 2)\nb = f.read(1)[0]\nf.seek(-2000, 2)\nf.write(bytes([b ^ 0xFF]))\n"
    breakable.inside("b-store1", "python3", "-c", flip, victim)
    run = breakable.run("restore_test")
    assert run.code != 0
    (test,) = run.record["measures"]["restore_tests"]
    assert test["label"] == newest
    assert {rung["id"]: rung["verdict"] for rung in test["rungs"]}["R2"] == "fail"
    assert test["proven_up_to"] == "exists"


@pytest.mark.full
def test_a_missing_segment_is_named_before_anything_is_restored(breakable):
    enter(breakable, "gap-1")
    archived(breakable)
    segment = breakable.sql("a-db1", "select last_archived_wal from pg_stat_archiver")
    enter(breakable, "gap-2")
    archived(breakable)
    gone = breakable.inside("b-store1", "sh", "-c", f"find /srv/store -name '{segment}-*'")
    breakable.inside("b-store1", "rm", gone)
    time.sleep(6)  # the store's own listing is a few seconds old
    run = breakable.run("restore_test")
    assert run.code != 0
    rungs = {rung["id"]: rung for rung in run.record["measures"]["restore_tests"][0]["rungs"]}
    assert rungs["R1"]["verdict"] == "fail"
    assert segment in rungs["R1"]["evidence"]


@pytest.mark.full
def test_production_is_never_a_sandbox(healthy, tmp_path):
    """By group, by address, by name, by data directory, by a server that runs there, by a route."""
    hosts = (INVENTORY / "hosts.yml").read_text()
    sandbox = "    dr_sandbox:\n      hosts:\n        b-scratch:\n"
    address = re.search(r'b-scratch: \{ansible_host: "([^"]+)"', hosts)[1]
    database = re.search(r'b-db1: \{ansible_host: "([^"]+)"', hosts)[1]
    digest = healthy.digest()
    for number, (old, new, says) in enumerate(
        (
            (sandbox, "    dr_sandbox:\n      hosts:\n        b-db1:\n", "b-db1 is in dr_database too"),
            (sandbox, "    dr_sandbox:\n      hosts:\n", "dr_sandbox holds nobody"),
            (address, database, "b-scratch and b-db1 are one host"),
        )
    ):
        copy = tmp_path / str(number)
        shutil.copytree(INVENTORY, copy)
        (copy / "hosts.yml").write_text(hosts.replace(old, new))
        refused(healthy.with_inventory(copy), says)
    assert healthy.digest() == digest

    version = healthy.inside("b-scratch", "sh", "-c", "ls /usr/lib/postgresql")
    main = f"/var/lib/postgresql/{version}/main"
    initdb = f"/usr/lib/postgresql/{version}/bin/initdb"
    owner = ("runuser", "-u", "postgres", "--")
    healthy.inside("b-scratch", *owner, initdb, "-D", "/var/lib/postgresql/elsewhere", "--no-sync")
    control = f"/usr/lib/postgresql/{version}/bin/pg_ctl"
    try:
        healthy.inside(
            "b-scratch", *owner, control, "-D", "/var/lib/postgresql/elsewhere", "-l", "/var/tmp/elsewhere.log", "-w", "start"
        )
        run = healthy.run("restore_test")
        assert "a PostgreSQL server runs on /var/lib/postgresql/elsewhere" in run.output
        assert run.record["verdict"] == "refused"
        healthy.inside("b-scratch", *owner, control, "-D", "/var/lib/postgresql/elsewhere", "-m", "fast", "-w", "stop")
        healthy.inside("b-scratch", *owner, "mkdir", "-p", f"/var/lib/postgresql/{version}")
        healthy.inside("b-scratch", *owner, "mv", "/var/lib/postgresql/elsewhere", main)
        refused(healthy, f"a cluster in {main}, where production keeps its data")
    finally:
        healthy.inside("b-scratch", "sh", "-c", f"rm -rf /var/lib/postgresql/elsewhere {main}")
    healthy.inside("b-scratch", "mkdir", BASE)
    healthy.inside("b-scratch", "touch", f"{BASE}/somebodys-file")
    run = healthy.run("restore_test")
    assert "is not empty and not ours" in run.output
    assert healthy.inside("b-scratch", "ls", BASE) == "somebodys-file"
    healthy.inside("b-scratch", "rm", "-r", BASE)


@pytest.mark.full
def test_a_sandbox_that_can_reach_production_is_refused(healthy):
    table = healthy.lab.name.replace("-", "_")
    handle = subprocess.run(
        ["nft", "-a", "list", "chain", "bridge", table, "sender"], capture_output=True, text=True, check=True
    ).stdout
    back = subprocess.run(
        ["nft", "-a", "list", "chain", "bridge", table, "receiver"], capture_output=True, text=True, check=True
    ).stdout
    for chain, listed, port in (("sender", handle, "from_b_scratch"), ("receiver", back, "to_b_scratch")):
        number = re.search(rf"jump {port} # handle (\d+)", listed)[1]
        subprocess.run(["nft", "delete", "rule", "bridge", table, chain, "handle", number], check=True)
    try:
        refused(healthy, "production answers from here: .*:5432 \\(accepted\\)")
    finally:
        subprocess.run(["nft", "--file", str(healthy.lab.state / "network.nft")], check=True)
    assert leaked(healthy)[0] == 0


@pytest.mark.full
@pytest.mark.parametrize("victim", ["controller", "sandbox"])
def test_a_restore_that_was_killed_is_recognised_and_done_again(healthy, victim):
    archived(healthy)
    process = healthy.start("restore_test")
    mark = ("cat", f"{BASE}/relevo-restore.json")
    healthy.wait("a restore is going on", lambda: "restoring" in healthy.inside("b-scratch", *mark, check=False), 120)
    if victim == "sandbox":
        healthy.verb("power-off", "b-scratch")
    kill_all(process.pid)
    process.wait()
    if victim == "sandbox":
        healthy.verb("power-on", "b-scratch")
        assert json.loads(healthy.inside("b-scratch", *mark))["state"] == "restoring"
    # A task that the dead controller left behind is waited for.
    proven(healthy.run("restore_test"))
    assert sandbox_is_clean(healthy)


@pytest.mark.full
def test_a_copy_that_is_kept_is_labelled_and_removed_by_the_next_test(healthy, tmp_path):
    archived(healthy)
    inventory = inventory_saying(tmp_path, dr_backup_sandbox_keep=True)
    run = healthy.with_inventory(inventory).run("restore_test")
    proven(run)
    mark = json.loads(healthy.inside("b-scratch", "cat", f"{BASE}/relevo-restore.json"))
    assert (mark["state"], mark["run_id"]) == ("left", run.record["run_id"])
    assert healthy.inside("b-scratch", "sh", "-c", "pgrep -x postgres", check=False) == ""
    proven(healthy.run("restore_test"))
    assert sandbox_is_clean(healthy)


@pytest.mark.full
def test_what_the_restored_files_would_archive_or_run_does_not_happen(breakable):
    """The backup holds commands that leave a trace: at the end of recovery, at restartpoints, and for every segment, of a standby's recovery too."""
    trace = "/var/tmp/relevo-reached-out"
    command = breakable.sql("a-db1", "show archive_command")
    assert "'" not in command
    settings = {
        "recovery_end_command": f"touch {trace}-end",
        "archive_cleanup_command": f"touch {trace}-cleanup",
        "archive_command": f"touch {trace}-archive; {command}",
        # Waits for a restart of the primary, and is in its files.
        "archive_mode": "always",
    }
    try:
        for name, value in settings.items():
            breakable.sql("a-db1", f"alter system set {name} = '{value}'", "postgres")
        breakable.sql("a-db1", "select pg_reload_conf()", "postgres")
        label = backup(breakable)
        enter(breakable, f"traced{time.time_ns()}")
        archived(breakable)
        # The trap is there: production's own command leaves its trace, and the backup is the one with it.
        assert breakable.inside("a-db1", "ls", f"{trace}-archive") == f"{trace}-archive"
        (test,) = proven(breakable.run("restore_test"))
        assert test["label"] == label
        assert "archive_mode=off" in next(rung for rung in test["rungs"] if rung["id"] == "R4")["evidence"]
        assert breakable.inside("b-scratch", "sh", "-c", f"ls {trace}* 2>/dev/null", check=False) == ""
    finally:
        for name in settings:
            breakable.sql("a-db1", f"alter system reset {name}", "postgres")
        breakable.sql("a-db1", "select pg_reload_conf()", "postgres")
        breakable.inside("a-db1", "sh", "-c", f"rm -f {trace}*")
