"""relevo-backup: whose turn it is, what an attempt came to, and that one backup never runs beside another."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

SOURCE = Path(__file__).parents[3] / "roles/dr_pgbackrest/files/relevo_backup.py"


def load():
    spec = importlib.util.spec_from_file_location("relevo_backup", SOURCE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["relevo_backup"] = module
    spec.loader.exec_module(module)
    return module


program = load()
SETTINGS = program.Settings("minimarket", "/usr/lib/postgresql/17/bin", [1, 2])
TAKEN = "INFO: new backup label = 20261125-030457F\nINFO: backup command end: completed successfully\n"
NO_ANSWER = "2026-11-25 03:00:00.000 P00  ERROR: [049]: unable to connect to 'b-store1:443': timed out\n"


@pytest.mark.parametrize(
    ("output", "code", "judged"),
    [
        (TAKEN, 0, ("taken", "20261125-030457F", None)),
        (
            "WARN: invalid page checksum found in file /var/lib/postgresql/17/main/base/5/16384 at page 0\n" + TAKEN,
            0,
            ("damaged", "20261125-030457F", "page checksum errors in /var/lib/postgresql/17/main/base/5/16384"),
        ),
        ("", 0, ("failed", None, "pgbackrest ended with 0 and named no backup")),
        (
            "P00  ERROR: [050]: unable to acquire lock on file '/tmp/pgbackrest/minimarket-backup.lock'",
            50,
            ("skipped", None, "another pgBackRest command holds this stanza's lock"),
        ),
        (NO_ANSWER, 49, ("failed", None, "ERROR: [049]: unable to connect to 'b-store1:443': timed out")),
        (TAKEN, 1, ("failed", "20261125-030457F", "INFO: backup command end: completed successfully")),
    ],
    ids=["taken", "damaged pages", "silent", "locked", "no answer", "taken but failed"],
)
def test_what_pgbackrest_said_is_judged(output, code, judged):
    assert program.judge(output, code) == judged


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        (["taken"], 0),
        (["taken", "taken"], 0),
        (["taken", "failed"], 3),
        (["failed", "taken"], 3),
        (["taken", "skipped"], 3),
        (["damaged"], 1),
        (["failed", "failed"], 1),
        (["failed", "skipped"], 1),
        (["skipped", "skipped"], 75),
    ],
)
def test_the_exit_code_tells(outcomes, code):
    assert program.exit_code(outcomes) == code


@given(st.lists(st.text(alphabet="abcé", max_size=8), max_size=30), st.integers(0, 100), st.booleans())
def test_a_trimmed_log_holds_the_newest_whole_lines(lines, most, torn):
    text = "".join(line + "\n" for line in lines) + ("torn" if torn else "")
    kept = program.trimmed(text, most)
    assert len(kept.encode()) <= most
    assert kept == "" or kept.endswith("\n")
    whole = "".join(line + "\n" for line in lines)
    assert whole.endswith(kept)
    dropped = whole[: len(whole) - len(kept)].splitlines(keepends=True)
    assert not dropped or len((dropped[-1] + kept).encode()) > most


@pytest.fixture
def host(tmp_path, monkeypatch):
    """This host: a primary whose repositories all answer; what a test bends is in the returned dictionary."""
    found = {"role": ["primary"], "answers": {}, "calls": [], "configured": [1, 2], "by_hand": [], "silent": {}, "asked": []}
    found["promoted_just_now"] = "f"
    monkeypatch.setattr(program, "STATE", tmp_path)
    monkeypatch.setattr(program, "role", lambda _: (found["role"].pop(0) if len(found["role"]) > 1 else found["role"][0], "said"))

    def ask(_settings, sql, *_):
        found["asked"].append(sql)
        return (found["promoted_just_now"] if sql.startswith("select") else ""), ""

    monkeypatch.setattr(program, "ask", ask)

    def call(_work, options, command, _seconds):
        found["calls"].append((command, options[0], list(options)))
        to_standby = next((word for word in options if word.startswith(("--pg2-host=", "--backup-standby"))), None)
        return found["answers"].get((command, to_standby)) or found["answers"].get((command, options[0]), (0, TAKEN))

    monkeypatch.setattr(program, "pgbackrest", call)
    monkeypatch.setattr(program, "configured", lambda _: set(found["configured"]))
    monkeypatch.setattr(program, "hosts_by_hand", lambda *_: found["by_hand"])
    monkeypatch.setattr(program, "silent", lambda standby: found["silent"].get(standby.name, ""))
    return found


def run(*words):
    return program.back_up(program.arguments(SETTINGS, ["--name", "hourly-full", "--type", "full", *words]))


def kept():
    path = program.STATE / "backups.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.usefixtures("host")
def test_on_the_primary_every_repository_gets_one():
    assert run() == 0
    assert [(line["repository"], line["outcome"], line["label"]) for line in kept()] == [
        (1, "taken", "20261125-030457F"),
        (2, "taken", "20261125-030457F"),
    ]
    assert stat.S_IMODE((program.STATE / "backups.jsonl").stat().st_mode) == 0o640
    assert {line["name"] for line in kept()} == {"hourly-full"}
    assert all(line["started"] <= line["ended"] for line in kept())


@pytest.mark.parametrize("role", ["standby", "stopped"])
def test_elsewhere_nothing_is_tried(host, role, capsys):
    host["role"] = [role]
    assert run() == 0
    assert (host["calls"], kept()) == ([], [])
    assert "nothing to do" in capsys.readouterr().out


def test_a_server_that_does_not_answer_is_a_failure_and_not_somebody_elses_turn(host):
    host["role"] = ["silent"]
    assert run() == 1
    assert [line["outcome"] for line in kept()] == ["failed", "failed"]
    assert host["calls"] == []


def test_a_failover_while_it_waited_ends_it(host):
    host["role"] = ["primary", "standby"]
    assert run() == 0
    assert host["calls"] == []


def test_the_backup_after_a_promotion_waits_for_the_checkpoint_that_pgbackrest_asks_for(host):
    """pgBackRest 2.55: ERROR: [058]: WAL timeline 2 does not match pg_control timeline 1."""
    assert run() == 0
    assert "checkpoint" not in host["asked"]
    host["promoted_just_now"] = "t"
    assert run() == 0
    assert host["asked"][-1] == "checkpoint"


def test_a_dead_repository_does_not_keep_the_other_from_its_backup(host):
    host["answers"][("repo-ls", "--repo=1")] = (49, NO_ANSWER)
    assert run() == 3
    lines = kept()
    assert [(line["repository"], line["outcome"]) for line in lines] == [(1, "failed"), (2, "taken")]
    assert lines[0]["reason"].startswith("repository 1 does not answer: ERROR: [049]")
    assert ("backup", "--repo=1") not in [call[:2] for call in host["calls"]]


@pytest.mark.usefixtures("host")
def test_only_the_named_repository():
    assert run("--repository", "2", "--run", "R") == 0
    assert [(line["repository"], line["run"]) for line in kept()] == [(2, "R")]


NO_STANDBY = """2026-11-25 03:00:01.000 P00   WARN: unable to check pg2: [AccessError] raised from remote-0 tls protocol on 'b-db1': access denied
2026-11-25 03:00:01.000 P00  ERROR: [056]: unable to find standby cluster - cannot proceed
"""
LOCKED_THERE = NO_STANDBY.replace("[AccessError]", "[LockAcquireError]").replace(
    "access denied", "unable to acquire lock on file 'x'"
)
BROKEN = "2026-11-25 03:00:09.000 P00  ERROR: [039]: raised from local-2 protocol: b-db1: unexpected eof\n"


def other(name):
    return {"host": name, "host-type": "tls", "host-port": 8432, "path": "/var/lib/postgresql/17/main"}


def asked(monkeypatch, *names):
    """One repository, and ways to these standbys."""
    settings = program.Settings("minimarket", "/bin", [1], standbys=[other(name) for name in names])
    monkeypatch.setattr(sys.modules[__name__], "SETTINGS", settings)
    code = run("--standby")
    return code, kept()[-1]


def backups(host):
    return [
        [word for word in options if "standby" in word or "pg2-host=" in word]
        for command, _, options in host["calls"]
        if command == "backup"
    ]


def test_a_backup_is_copied_from_the_standby_only_where_asked(host, monkeypatch, capsys):
    code, line = asked(monkeypatch, "b-db1")
    assert (code, line["outcome"], line["copied_from"]) == (0, "taken", "standby b-db1")
    assert backups(host) == [["--backup-standby", "--pg2-host=b-db1"]]
    assert {"--pg2-host-type=tls", "--pg2-host-port=8432", "--tcp-keep-alive-idle=10"} < set(host["calls"][-1][2])
    assert "taken as 20261125-030457F, from the standby b-db1" in capsys.readouterr().out
    assert run() == 0
    assert (backups(host)[-1], kept()[-1]["copied_from"]) == ([], "primary")


def test_of_two_standbys_the_one_that_answers_is_asked(host, monkeypatch):
    host["silent"]["b-db1"] = "takes no connection at port 8432 (timed out)"
    assert asked(monkeypatch, "b-db1", "c-db1")[1]["copied_from"] == "standby c-db1"
    assert backups(host) == [["--backup-standby", "--pg2-host=c-db1"]]


@pytest.mark.parametrize(
    ("output", "because"),
    [
        (NO_STANDBY, "[AccessError] raised from remote-0 tls protocol on 'b-db1': access denied"),
        (NO_STANDBY.splitlines()[1], "it is no standby"),
        (LOCKED_THERE, "[LockAcquireError] raised from remote-0 tls protocol on 'b-db1': unable to acquire lock on file 'x'"),
        (BROKEN, "the backup broke off (ERROR: [039]: raised from local-2 protocol: b-db1: unexpected eof)"),
    ],
    ids=["no access", "a primary", "locked over there", "broken while it was copied"],
)
def test_whatever_is_wrong_with_the_standby_the_primary_is_copied_and_the_reason_kept(host, monkeypatch, capsys, output, because):
    host["answers"][("backup", "--backup-standby")] = (56, output)
    code, line = asked(monkeypatch, "b-db1")
    assert (code, line["outcome"], line["reason"]) == (0, "taken", None)
    assert line["copied_from"] == f"primary, because b-db1: {because}"
    assert backups(host) == [["--backup-standby", "--pg2-host=b-db1"], ["--no-backup-standby"]]
    assert f"from the primary, because b-db1: {because}" in capsys.readouterr().out


def test_a_standby_that_is_gone_costs_no_attempt(host, monkeypatch):
    host["silent"]["b-db1"] = "takes no connection at port 8432 (timed out)"
    _, line = asked(monkeypatch, "b-db1")
    assert line["copied_from"] == "primary, because b-db1: takes no connection at port 8432 (timed out)"
    assert backups(host) == [["--no-backup-standby"]]
    assert asked(monkeypatch)[1]["copied_from"] == "primary, because no way to a standby is set up"


def test_what_is_no_fault_of_the_standby_is_not_tried_again(host, monkeypatch):
    host["answers"][("backup", "--backup-standby")] = (50, "P00  ERROR: [050]: unable to acquire lock on file 'x'")
    assert asked(monkeypatch, "b-db1")[1]["outcome"] == "skipped"
    assert len(backups(host)) == 1


def test_when_it_is_told_to_end_the_primary_is_not_copied_either(host):
    host["answers"][("backup", "--backup-standby")] = (1, "ERROR: [063]: terminated on signal [SIGTERM]")
    settings = program.Settings("minimarket", "/bin", [1], standbys=[other("b-db1")])
    work = program.arguments(settings, ["--name", "x", "--type", "full", "--standby"])
    work.stopped = True
    assert program.back_up(work) == 1
    assert len(backups(host)) == 1


def test_a_way_that_somebody_set_up_is_taken_as_it_is(host, monkeypatch):
    host["by_hand"] = ["theirs"]
    assert asked(monkeypatch, "b-db1")[1]["copied_from"] == "standby theirs"
    assert backups(host) == [["--backup-standby"]]
    host["answers"][("backup", "--repo=1")] = (0, "P00   INFO: replay on the standby reached 0/5000028\n" + TAKEN)
    assert run() == 0
    assert kept()[-1]["copied_from"] == "standby, as pgBackRest's own file has it"


def test_a_standby_that_takes_no_connection_is_seen_in_bounded_time():
    with program.socket.create_server(("127.0.0.1", 0)) as server:
        place = server.getsockname()
        assert program.silent(program.Standby("b-db1", place)) == ""
    assert program.silent(program.Standby("b-db1", place)).startswith("takes no connection at port %d (" % place[1])
    assert program.silent(program.Standby("theirs")) == ""


def test_hosts_that_somebody_named_are_read_from_pgbackrests_own_file(tmp_path):
    path = tmp_path / "pgbackrest.conf"
    own = "[minimarket]\npg1-host=y\npg2-host-type=tls\npg2-host = b-db1\n[minimarket:backup]\npg3-host=c-db1\n"
    path.write_text("[global]\nrepo1-host=r\n[other]\npg2-host=x\n" + own)
    assert program.hosts_by_hand(str(path), "minimarket") == ["b-db1", "c-db1"]


def test_a_backup_that_finds_another_at_work_says_that_it_was_skipped(host):
    with (program.STATE / "lock").open("w") as handle:
        handle.write("daily-incr, pid 7, since then")
        handle.flush()
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert run("--wait", "0.1") == 75
    assert host["calls"] == []
    assert [(line["outcome"], line["reason"]) for line in kept()] == [
        ("skipped", "daily-incr, pid 7, since then was still at work after 0.1 s")
    ] * 2


@pytest.mark.usefixtures("host")
def test_the_log_does_not_grow_for_ever(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "SETTINGS", program.Settings("minimarket", "/bin", [1], log_bytes=2000))
    for _ in range(30):
        run()
    assert (program.STATE / "backups.jsonl").stat().st_size <= 2000
    assert kept()[-1]["outcome"] == "taken"


def test_a_command_that_hangs_is_told_to_end(tmp_path, monkeypatch):
    slow = tmp_path / "pgbackrest"
    slow.write_text("#!/bin/sh\necho at work\nexec sleep 60\n")
    slow.chmod(0o755)
    real = program.subprocess.Popen
    monkeypatch.setattr(program.subprocess, "Popen", lambda words, **options: real([str(slow), *words[1:]], **options))
    work = program.Work(SETTINGS, "x", "full", [1])
    code, output = program.pgbackrest(work, [], "backup", 0.5)
    assert (code, work.processes) == (1, [])
    assert "no result within 0.5 s" in output


@pytest.mark.usefixtures("host")
def test_when_it_is_told_to_end_it_begins_no_further_backup():
    work = program.arguments(SETTINGS, ["--name", "x", "--type", "full"])
    work.stopped = True
    assert program.back_up(work) == 1
    assert [line["repository"] for line in kept()] == [1]


def test_a_repository_that_was_left_out_is_passed_over(host):
    host["configured"] = [1]
    assert run() == 0
    assert [line["repository"] for line in kept()] == [1]
    host["configured"] = []
    assert run() == 1


def test_what_is_configured_is_read_from_pgbackrests_own_file(tmp_path):
    path = tmp_path / "pgbackrest.conf"
    path.write_text("[global]\nrepo1-path=/a\n# left out: repo2-path=/b\nrepo10-path=/c\n")
    assert program.configured(str(path)) == {1, 10}
