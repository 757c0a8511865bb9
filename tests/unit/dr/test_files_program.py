"""relevo-files with a restic that is a script: every repository gets its turn, and every attempt leaves a line."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import stat
import sys
import textwrap
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "roles/dr_files/files/relevo_files.py"
# Answers as restic does; what each repository does is told by its address.
RESTIC = """
import json, os, sys
words = sys.argv[1:]
if words == ["version"]:
    print("restic VERSION compiled with go1")
    sys.exit()
url = words[0].split("=", 1)[1]
command = next(word for word in words if not word.startswith("--"))
with open(LOG, "a") as log:
    log.write(json.dumps([command, words, os.environ.get("AWS_SECRET_ACCESS_KEY")]) + "\\n")
if "wrong" in url and command == "backup":
    print("Fatal: wrong password or no key found", file=sys.stderr)
    sys.exit(1)
if command == "backup":
    print(json.dumps({"message_type": "status"}))
    if "unread" in url:
        error = {"message_type": "error", "error": {"message": "open /etc/x: permission denied"}, "item": "/etc/x"}
        print(json.dumps(error), file=sys.stderr)
    print(json.dumps({"message_type": "summary", "snapshot_id": "ab" * 32, "total_files_processed": 3, "total_bytes_processed": 9, "data_added": 1}))
    sys.exit(3 if "unread" in url else 0)
if command == "forget":
    if "keep" in url:
        print("Fatal: Access Denied.", file=sys.stderr)
        sys.exit(1)
    print(json.dumps([{"keep": [], "remove": [1, 2]}]))
"""


@pytest.fixture
def program():
    spec = importlib.util.spec_from_file_location("relevo_files", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def host(tmp_path, monkeypatch, program):
    """Settings of a host with one set; calls: what restic was called with."""

    class Host:
        version = "0.18.0"

        def run(self, *urls, name="configuration", **changes):
            script = RESTIC.replace("VERSION", self.version).replace("LOG", repr(str(tmp_path / "calls")))
            binary = tmp_path / "restic"
            binary.write_text(f"#!{sys.executable}\n" + script)
            binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
            (tmp_path / "env").write_text("AWS_ACCESS_KEY_ID=id\nAWS_SECRET_ACCESS_KEY=se=cret\n")
            (tmp_path / "file").write_text("content")
            wanted = {
                "tag": "relevo-configuration",
                "paths": [str(tmp_path / "file"), str(tmp_path / "gone")],
                "excludes": ["*.bak"],
                "canaries": [str(tmp_path / "file"), str(tmp_path / "gone")],
                "keep": {"daily": 14, "weekly": 0},
                "timeout_seconds": 20,
            }
            self.settings = {
                "host": "h1",
                "restic": str(binary),
                "state_directory": str(tmp_path / "state"),
                "cache_directory": str(tmp_path),
                "lock_file": str(tmp_path / "lock"),
                "lock_wait_seconds": 1,
                "retry_lock_seconds": 300,
                "answer_seconds": 1,
                "limit_upload_kib": 0,
                "record_max_bytes": 1 << 20,
                "repositories": [
                    {
                        "id": number,
                        "url": url,
                        "endpoint": "store",
                        "port": 443,
                        "ca_file": "/ca.pem",
                        "password_file": "/run/password",
                        "environment_file": str(tmp_path / "env"),
                        "forget": True,
                        "prune": "prune" in url,
                    }
                    for number, url in enumerate(urls, 1)
                ],
                "sets": {"configuration": {**wanted, **changes.pop("wanted", {})}},
                **changes,
            }
            path = tmp_path / "files.json"
            path.write_text(json.dumps(self.settings))
            monkeypatch.setattr(sys, "argv", ["relevo-files", "backup", name, f"--settings={path}"])
            monkeypatch.setattr(program, "unanswered", lambda about, _: "no answer" if "silent" in about["url"] else "")
            program.version.cache_clear()
            return program.main()

        @property
        def lines(self):
            return [json.loads(line) for line in (tmp_path / "state/files.jsonl").read_text().splitlines()]

        @property
        def calls(self):
            return [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]

        def words(self, command):
            return next(words for verb, words, _ in self.calls if verb == command)

    return Host()


def test_every_repository_gets_a_snapshot_and_a_line(host):
    assert host.run("s3:one", "s3:two") == 0
    assert [(line["repository"], line["outcome"], line["files"], line["forgotten"]) for line in host.lines] == [
        (1, "taken", 3, 2),
        (2, "taken", 3, 2),
    ]
    assert [verb for verb, *_ in host.calls] == ["unlock", "backup", "forget"] * 2


def test_no_secret_is_an_argument(host):
    host.run("s3:one")
    assert {secret for *_, secret in host.calls} == {"se=cret"}
    assert "se=cret" not in json.dumps([words for _, words, _ in host.calls])


def test_a_silent_or_failing_repository_does_not_keep_the_next_one_from_its_turn(host):
    assert host.run("s3:silent", "s3:wrong", "s3:good") == 1
    assert [line["outcome"] for line in host.lines] == ["unreachable", "failed", "taken"]
    assert "wrong password" in host.lines[1]["reason"]


def test_files_that_could_not_be_read_make_it_incomplete_and_are_named(host):
    assert host.run("s3:unread") == 1
    assert host.lines[0]["outcome"] == "incomplete"
    assert host.lines[0]["snapshot"] == "ab" * 32
    assert "/etc/x open /etc/x: permission denied" in host.lines[0]["reason"]


def test_a_store_that_lets_nothing_be_deleted_still_has_the_snapshot(host):
    assert host.run("s3:keep") == 0
    assert host.lines[0]["outcome"] == "taken"
    assert "Access Denied" in host.lines[0]["forget_reason"]


def test_forgetting_follows_the_policy_and_prunes_only_where_it_may(host):
    host.run("s3:one")
    words = host.words("forget")
    assert "--keep-daily=14" in words
    assert not [word for word in words if word.startswith(("--keep-weekly", "--prune"))]
    host.run("s3:prune")
    assert "--prune" in [words for verb, words, _ in host.calls if verb == "forget"][-1]


@pytest.mark.parametrize(("version", "waits"), [("0.14.0", False), ("0.15.2", False), ("0.16.0", True), ("0.18.0", True)])
def test_newer_restics_wait_for_a_lock(host, version, waits):
    host.version = version
    assert host.run("s3:one") == 0
    assert any(word.startswith("--retry-lock") for word in host.words("backup")) is waits


def test_a_path_that_is_gone_is_said_and_the_rest_is_kept(host, tmp_path):
    host.run("s3:one")
    assert host.lines[0]["missing_paths"] == [str(tmp_path / "gone")]
    assert str(tmp_path / "gone") not in host.words("backup")


def test_nothing_to_keep_is_a_failure(host):
    assert host.run("s3:one", "s3:two", wanted={"paths": ["/nowhere/at/all"]}) == 1
    assert [line["outcome"] for line in host.lines] == ["failed", "failed"]


def test_the_snapshot_carries_the_digests_of_its_canaries(host, tmp_path):
    host.run("s3:one")
    manifest = tmp_path / "state/files-canaries/configuration.json"
    assert str(manifest) in host.words("backup")
    noted = json.loads(manifest.read_text())
    assert noted["host"] == "h1"
    assert noted["files"] == {str(tmp_path / "file"): hashlib.sha256(b"content").hexdigest(), str(tmp_path / "gone"): None}


def test_a_manifest_below_a_kept_path_is_not_named_twice(host):
    host.run("s3:one", wanted={"paths": ["/"]})
    assert host.words("backup")[-1] == "/"


def test_two_never_run_at_once(host, tmp_path):
    with (tmp_path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert host.run("s3:one") == 1
    assert [line["outcome"] for line in host.lines] == ["busy"]
    assert not (tmp_path / "calls").exists()


def test_the_record_stays_within_its_size_and_keeps_the_newest(host):
    for _ in range(12):
        host.run("s3:one", record_max_bytes=2000)
    assert os.path.getsize(os.path.join(host.settings["state_directory"], "files.jsonl")) <= 2500
    assert host.lines[-1]["outcome"] == "taken"


def test_a_line_that_a_power_cut_left_unfinished_does_not_swallow_the_next(host, tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state/files.jsonl").write_text('{"at": "2026')
    host.run("s3:one")
    text = (tmp_path / "state/files.jsonl").read_text().splitlines()
    assert json.loads(text[1])["outcome"] == "taken"


def test_a_set_that_nobody_declared_is_no_snapshot(host):
    assert host.run("s3:one", name="unknown") == 2


def test_an_interrupted_restic_is_told_to_stop(host, tmp_path):
    host.run("s3:one")
    slow = tmp_path / "restic"
    slow.write_text(
        f"#!{sys.executable}\n"
        + textwrap.dedent(
            f"""
            import signal, sys, time
            if "version" in sys.argv:
                print("restic 0.18.0 compiled")
                sys.exit()
            def end(*_):
                open({str(tmp_path / "unlocked")!r}, "w").close()
                sys.exit(130)
            signal.signal(signal.SIGINT, end)
            time.sleep(0 if "unlock" in sys.argv else 60)
            """
        )
    )
    settings = json.loads((tmp_path / "files.json").read_text())
    settings["sets"]["configuration"]["timeout_seconds"] = 1
    (tmp_path / "files.json").write_text(json.dumps(settings))
    spec = importlib.util.spec_from_file_location("again", PROGRAM)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    program.unanswered = lambda *_: ""
    assert program.main() == 1
    assert "stopped after 1 s" in host.lines[-1]["reason"]
    assert (tmp_path / "unlocked").exists()
