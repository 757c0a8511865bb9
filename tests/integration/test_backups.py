"""Backups: by themselves at their times, on demand with progress, never two at once, and a record of each attempt."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import time
from pathlib import Path

import pytest
import yaml

from .conftest import INVENTORY, Bench, Run

SERVER = "relevo-pgbackrest-server.service"
HOURLY = {"name": "hourly-full", "type": "full", "calendar": "Sun *-*-* 03:05:00", "jitter_seconds": 120}


def attempts(bench: Bench, host: str = "a-db1") -> list[dict]:
    text = bench.inside(host, "cat", "/var/lib/relevo/backups.jsonl", check=False)
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def with_schedule(bench: Bench, tmp_path: Path, schedule: list[dict], **variables: object) -> Bench:
    """The laboratory with another schedule."""
    shutil.copytree(INVENTORY, tmp_path / "lab", dirs_exist_ok=True)
    path = tmp_path / "lab/group_vars/all.yml"
    path.write_text(path.read_text().replace("dr_pgbackrest_schedule:", "dr_test_unused:"))
    more = {"dr_pgbackrest_schedule": schedule, **variables}
    (tmp_path / "lab/group_vars/dr_database.yml").write_text(yaml.safe_dump(more))
    return bench.with_inventory(tmp_path / "lab")


def timers(bench: Bench, host: str) -> dict[str, str]:
    lines = bench.inside(host, "systemctl", "list-units", "--type=timer", "--all", "--plain", "--no-legend").splitlines()
    return {line.split()[0]: line.split()[2] for line in lines if line.startswith("relevo-backup-")}


def changed(run: Run) -> int:
    return sum(int(number) for number in re.findall(r"changed=(\d+)", run.output))


def passed(run: Run) -> Run:
    assert run.code == 0, run.output[-4000:]
    return run


def refused(run: Run, *says: str) -> None:
    assert run.code != 0, run.output[-3000:]
    assert run.record["verdict"] == "refused", run.record["verdict_reasons"]
    text = " ".join(run.output.split())
    for words in (*says, "Next:"):
        assert words in text, f"{words!r} is not in:\n{run.output[-3000:]}"


@pytest.mark.smoke
def test_a_backup_now_is_shown_measured_and_kept_and_only_the_primary_takes_those_of_the_timers(bench):
    run = passed(bench.run("backup", dr_backup_type="full"))
    measures = run.record["measures"]["backups"]
    assert [gate["verdict"] for gate in run.record["gates"] if gate["id"] == "BACKUP"] == ["pass", "pass"]
    for line in attempts(bench)[-2:]:
        measured = measures[f"repository_{line['repository']}"]
        assert (line["label"], line["run"], line["outcome"]) == (measured["label"], run.record["run_id"], "taken")
        assert measured["type"] == "full"
        assert measured["size_bytes"] > measured["repository_bytes"] > 0

    for host in ("a-db1", "b-db1"):
        assert timers(bench, host) == {"relevo-backup-hourly-full.timer": "active", "relevo-backup-daily-incr.timer": "active"}
        bench.inside(host, "systemctl", "start", "relevo-backup-daily-incr.service")
    taken = [[line[key] for key in ("name", "type", "repository", "outcome")] for line in attempts(bench)[-2:]]
    assert taken == [["daily-incr", "incr", 1, "taken"], ["daily-incr", "incr", 2, "taken"]]
    assert attempts(bench, "b-db1") == []
    assert "is a standby" in bench.inside("b-db1", "journalctl", "--no-pager", "-n", "5", "-u", "relevo-backup-daily-incr.service")


@pytest.fixture
def slow(bench: Bench) -> Bench:
    """Enough data for a backup that takes a while."""
    bench.sql("a-db1", "drop table if exists public.ballast")
    statement = "create table public.ballast as select g, repeat(md5(g::text), 30) from generate_series(1, 500000) g"
    bench.sql("a-db1", statement)
    yield bench
    bench.sql("a-db1", "drop table if exists public.ballast")


def test_a_long_backup_shows_how_far_it_is_and_keeps_every_other_one_out(slow):
    process = slow.start("backup", dr_backup_repository="1")
    busy = ["systemctl", "list-units", "--plain", "--no-legend", "--state=running", "relevo-backup-2*"]
    slow.wait("the backup is at work", lambda: slow.inside("a-db1", *busy) != "")
    # A timer's backup waits; one on demand refuses, and says who it is.
    slow.inside("a-db1", "systemctl", "start", "--no-block", "relevo-backup-daily-incr.service")
    program = "/usr/local/lib/relevo/relevo-backup"
    words = [program, "--name", "impatient", "--type", "incr", "--wait", "0", "--repository", "1"]
    done = slow.inside("a-db1", "runuser", "-u", "postgres", "--", "bash", "-c", f"{' '.join(words)}; echo $?")
    assert done.endswith("75")
    first = passed(slow.finish(process))
    assert re.search(r"a-db1: full backup into repository 1: (\d+\.\d % of|at work)", first.output)
    assert first.record["measures"]["backups"]["repository_1"]["bytes_per_second"] > 0
    slow.wait("the timer's backups were taken", lambda: [line["name"] for line in attempts(slow)[-2:]] == ["daily-incr"] * 2, 180)
    newest = attempts(slow)[-4:]
    assert [(line["name"], line["outcome"]) for line in newest] == [
        ("impatient", "skipped"),
        ("on-demand", "taken"),
        ("daily-incr", "taken"),
        ("daily-incr", "taken"),
    ]
    assert newest[2]["started"] >= newest[1]["ended"]


def test_a_backup_on_demand_names_the_one_that_is_at_work(healthy):
    healthy.inside("a-db1", "systemd-run", "--quiet", "--unit=busy", "flock", "/var/lib/relevo-backup/lock", "sleep", "60")
    try:
        refused(healthy.run("backup"), "another backup is at work: ")
    finally:
        healthy.inside("a-db1", "systemctl", "stop", "busy.service")


def test_what_cannot_be_backed_up_is_refused_in_bounded_time(healthy):
    refused(healthy.run("backup", dr_backup_repository="7"), "repository 7; expected one of")
    healthy.verb("cut", "a-db1", "b-store1")
    try:
        began = time.monotonic()
        run = healthy.run("backup", dr_backup_repository="1")
        assert time.monotonic() - began < 90
    finally:
        healthy.verb("heal-all")
    refused(run, "b-store1:443", "does not answer")


def test_without_a_primary_nothing_is_started_and_a_dead_standby_is_no_reason_to_stop(bench):
    bench.verb("power-off", "b-db1")
    run = passed(bench.run("backup", dr_backup_type="incr"))
    assert run.record["verdict"] == "passed"
    bench.inside("a-db1", "systemctl", "stop", "postgresql@*-main.service")
    refused(bench.run("backup"), "expected one running primary")
    # Nor does protect end without a word when a host is silent.
    refused(bench.run("protect"), "expected an answer of every database host")


def test_damaged_pages_fail_the_run_although_the_backup_exists(bench):
    bench.sql("a-db1", "create table public.victim as select generate_series(1, 1000) n")
    path = bench.sql("a-db1", "select pg_relation_filepath('public.victim')")
    bench.sql("a-db1", "checkpoint")
    damage = f"cd /var/lib/postgresql/*/main && printf xxxx | dd of={path} bs=1 seek=3000 conv=notrunc status=none"
    bench.inside("a-db1", "bash", "-c", damage)
    run = bench.run("backup")
    assert run.code != 0
    assert run.record["verdict"] == "failed"
    gate = next(gate for gate in run.record["gates"] if gate["id"] == "BACKUP")
    assert path.rsplit("/", 1)[1] in gate["observed"]
    assert "pg_amcheck" in gate["next_action"]
    assert attempts(bench)[-1]["outcome"] == "damaged"


def test_the_schedule_is_followed_repaired_and_cleared(bench, tmp_path):
    both = [{**HOURLY, "name": "often", "calendar": "*-*-* *:*:0/5", "jitter_seconds": 0, "type": "incr"}, HOURLY]
    changing = with_schedule(bench, tmp_path, both)
    run = passed(changing.run("protect"))
    assert "relevo-backup-often.timer" in run.output
    assert set(timers(bench, "b-db1")) == {"relevo-backup-often.timer", "relevo-backup-hourly-full.timer"}
    bench.wait("it came by itself, twice", lambda: [line["name"] for line in attempts(bench)].count("often") >= 2, 60)
    often = [line for line in attempts(bench) if line["name"] == "often"]
    assert all(before["ended"] <= after["started"] for before, after in itertools.pairwise(often))
    assert {line["outcome"] for line in often} == {"taken"}
    assert attempts(bench, "b-db1") == []

    quiet = with_schedule(bench, tmp_path, [HOURLY])
    passed(quiet.run("protect"))
    assert set(timers(bench, "a-db1")) == {"relevo-backup-hourly-full.timer"}
    assert "often" not in bench.inside("a-db1", "ls", "/etc/systemd/system")

    for broken in (
        "echo OnCalendar=hourly >> /etc/systemd/system/relevo-backup-hourly-full.timer",
        "systemctl stop relevo-backup-hourly-full.timer",
        "systemctl disable relevo-backup-hourly-full.timer",
        "echo '# x' >> /usr/local/lib/relevo/relevo-backup",
        "rm /var/lib/relevo/backups.jsonl",
    ):
        bench.inside("a-db1", "bash", "-c", broken)
    assert changed(passed(quiet.run("protect"))) > 0
    assert timers(bench, "a-db1") == {"relevo-backup-hourly-full.timer": "active"}
    assert bench.inside("a-db1", "systemctl", "is-enabled", "relevo-backup-hourly-full.timer") == "enabled"
    assert attempts(bench)
    assert changed(passed(quiet.run("protect"))) == 0


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        ([{**HOURLY, "calendar": "every now and then"}], "every now and then"),
        ([HOURLY, HOURLY], "two entries of the name hourly-full"),
        ([{**HOURLY, "repositories": [9]}], "repository 9"),
        ([{**HOURLY, "from": "standby"}], "pg2-host"),
    ],
    ids=["calendar", "double", "repository", "no way to a standby"],
)
def test_a_schedule_that_cannot_be_is_refused_before_anything_is_changed(healthy, tmp_path, schedule, says):
    before = healthy.digest()
    refused(with_schedule(healthy, tmp_path, schedule, dr_pgbackrest_tls={}).run("protect"), "SCHEDULE on", says)
    assert healthy.digest() == before


def listens(bench: Bench, host: str) -> bool:
    return bench.inside(host, "ss", "-Hltn", "sport = :8432") != ""


def answer(bench: Bench, host: str) -> str:
    """What pgBackRest's server on b-db1 says to a host that shows its own, valid certificate."""
    options = {
        "host": "b-db1",
        "host-type": "tls",
        "host-cert-file": "/etc/ssl/relevo-lab/host.pem",
        "host-key-file": "/etc/ssl/relevo-lab/host.key",
        "host-ca-file": "/etc/ssl/relevo-lab/ca.pem",
        "host-config": "/dev/null",
        "path": bench.sql("b-db1", "show data_directory"),
        "socket-path": "/var/run/postgresql",
    }
    words = ["--no-config", "--stanza=minimarket", "--io-timeout=3", "--log-level-file=off", "--log-level-stderr=off", "check"]
    way = [f"--pg1-{name}={value}" for name, value in options.items()]
    return bench.inside(host, "runuser", "-u", "postgres", "--", "pgbackrest", *way, *words, check=False)


@pytest.mark.full
def test_a_backup_from_the_standby_is_one_and_falls_back_with_a_word(bench, tmp_path):
    asking = with_schedule(bench, tmp_path, [{**HOURLY, "from": "standby", "repositories": [1]}])
    passed(asking.run("protect"))
    bench.wait("the standby lets its files be copied", lambda: listens(bench, "b-db1"), 30)
    assert not listens(bench, "a-db1")
    assert changed(passed(asking.run("protect"))) == 0
    assert "[AccessError]" in answer(bench, "a-app1")
    # The same question is answered to who may ask: a standby is there, and no primary.
    assert "primary database not found" in answer(bench, "a-db1")

    def taken() -> dict:
        before = len(attempts(bench))
        bench.inside("a-db1", "systemctl", "start", "--no-block", "relevo-backup-hourly-full.service")
        bench.wait("the backup is over", lambda: len(attempts(bench)) > before, 180)
        return attempts(bench)[-1]

    first = taken()
    assert (first["outcome"], first["copied_from"]) == ("taken", "standby b-db1")
    copied = bench.inside(
        "a-db1", "grep", "-c", "backup file b-db1:/var/lib/postgresql/", "/var/log/pgbackrest/minimarket-backup.log"
    )
    assert int(copied) > 500
    run = passed(asking.run("backup", dr_backup_type="incr", dr_backup_repository="1", dr_backup_from="standby"))
    assert run.record["measures"]["backups"]["repository_1"]["copied_from"] == "standby b-db1"
    assert next(gate["observed"] for gate in run.record["gates"] if gate["id"] == "BACKUP").endswith(
        "copied from the standby b-db1"
    )
    restored = passed(asking.run("restore_test", dr_restore_repository="1", dr_restore_set=first["label"]))
    assert restored.record["verdict"] == "passed"

    bench.verb("cut", "a-db1", "b-db1")
    second = taken()
    bench.verb("heal-all")
    assert second["outcome"] == "taken"
    assert second["copied_from"].startswith("primary, because b-db1: takes no connection at port 8432 (")
    journal = bench.inside("a-db1", "journalctl", "--no-pager", "-n", "5", "-u", "relevo-backup-hourly-full.service")
    assert "from the primary, because b-db1: takes no connection" in journal

    bench.wait_until_serving()
    passed(bench.run("protect"))
    for host in ("a-db1", "b-db1"):
        assert SERVER not in bench.inside(host, "ls", "/etc/systemd/system")
        assert not listens(bench, host)
    refused(bench.run("backup", dr_backup_from="standby"), "this host was told of none")


THEIRS = "15 * * * * postgres pgbackrest --stanza=minimarket --type=incr backup"


def test_backups_that_cron_takes_already_are_adopted_or_replaced_where_asked(bench, tmp_path):
    unit = "[Service]\nType=oneshot\nUser=postgres\nExecStart=/usr/local/bin/theirs %i\n"
    script = "#!/bin/sh\nexec pgbackrest --stanza=$1 \\\n  --type=full backup\n"
    timer = "[Timer]\nOnCalendar=Mon 04:00\n[Install]\nWantedBy=timers.target\n"
    bench.inside("a-db1", "bash", "-c", "mkdir -p /etc/cron.d && cat > /etc/cron.d/theirs", text=f"{THEIRS}\n")
    bench.inside("b-db1", "install", "-m", "0755", "/dev/stdin", "/usr/local/bin/theirs", text=script.replace("$1", "minimarket"))
    bench.inside("b-db1", "install", "-m", "0644", "/dev/stdin", "/etc/systemd/system/theirs@.service", text=unit)
    bench.inside("b-db1", "install", "-m", "0644", "/dev/stdin", "/etc/systemd/system/theirs@x.timer", text=timer)
    bench.inside("b-db1", "systemctl", "enable", "--now", "theirs@x.timer")

    run = passed(bench.run("protect"))
    said = {gate["host"]: gate["observed"] for gate in run.record["gates"] if gate["id"] == "SCHEDULE"}
    assert "/etc/cron.d/theirs:1" in said["a-db1"]
    assert "theirs@x.timer" in said["b-db1"]
    assert (timers(bench, "a-db1"), timers(bench, "b-db1")) == ({}, {})
    assert changed(passed(bench.run("protect"))) == 0
    assert bench.inside("a-db1", "cat", "/etc/cron.d/theirs") == THEIRS

    replacing = with_schedule(bench, tmp_path, [HOURLY], dr_pgbackrest_schedule_adopt="replace")
    passed(replacing.run("protect"))
    assert bench.inside("a-db1", "cat", "/etc/cron.d/theirs") == f"# replaced by Relevo's timers: {THEIRS}"
    assert bench.inside("b-db1", "systemctl", "is-enabled", "theirs@x.timer", check=False) == "disabled"
    for host in ("a-db1", "b-db1"):
        assert timers(bench, host) == {"relevo-backup-hourly-full.timer": "active"}
    assert changed(passed(replacing.run("protect"))) == 0
