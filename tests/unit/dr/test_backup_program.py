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
    found = {"role": ["primary"], "answers": {}, "calls": [], "configured": [1, 2]}
    monkeypatch.setattr(program, "STATE", tmp_path)
    monkeypatch.setattr(program, "role", lambda _: (found["role"].pop(0) if len(found["role"]) > 1 else found["role"][0], "said"))

    def call(_work, options, command, _seconds):
        found["calls"].append((command, options[0], list(options)))
        return found["answers"].get((command, options[0]), (0, TAKEN))

    monkeypatch.setattr(program, "pgbackrest", call)
    monkeypatch.setattr(program, "configured", lambda _: set(found["configured"]))
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


def test_a_dead_repository_does_not_keep_the_other_from_its_backup(host):
    host["answers"][("repo-ls", "--repo=1")] = (49, NO_ANSWER)
    assert run() == 3
    lines = kept()
    assert [(line["repository"], line["outcome"]) for line in lines] == [(1, "failed"), (2, "taken")]
    assert lines[0]["reason"].startswith("repository 1 does not answer: ERROR: [049]")
    assert ("backup", "--repo=1") not in [call[:2] for call in host["calls"]]


def test_only_the_named_repository_and_only_from_a_standby_where_asked(host):
    assert run("--repository", "2", "--standby", "--run", "R") == 0
    assert [(line["repository"], line["run"]) for line in kept()] == [(2, "R")]
    assert "--backup-standby" in host["calls"][-1][2]
    assert run("--repository", "2") == 0
    assert "--backup-standby" not in host["calls"][-1][2]


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
