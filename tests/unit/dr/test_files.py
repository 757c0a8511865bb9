"""Repositories, sets, units and restored trees of files, as data."""

from __future__ import annotations

import hashlib
import json
import os

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import file_record, file_repositories, file_schedule, restored_tree
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal

GIVEN = [
    {
        "id": "1",
        "endpoint": "store",
        "bucket": "b",
        "path": "/files/{host}",
        "key_id_secret": "k",
        "key_secret": "s",
        "port": None,
        "region": None,
    },
    {
        "id": 2,
        "endpoint": "other",
        "port": 8443,
        "bucket": "b",
        "key_id_secret": "k2",
        "key_secret": "s2",
        "password_secret": "mine",
        "prune": True,
    },
]
SET = {"name": "configuration", "paths": ["/etc"], "calendar": "*-*-* 02:30:00", "keep": {"daily": 14}, "max_age_seconds": 93600}


def test_each_host_has_its_own_place_and_password():
    one, two = file_repositories.of_host(GIVEN, "a-db1")
    assert one["url"] == "s3:https://store:443/b/files/a-db1"
    assert one["password_secret"] == "files_a-db1_password"
    assert (two["url"], two["password_secret"], two["prune"], one["prune"]) == (
        "s3:https://other:8443/b/files/a-db1",
        "mine",
        True,
        False,
    )
    assert file_repositories.password_names(GIVEN, ["a-db1", "b-db1"]) == ["files_a-db1_password", "files_b-db1_password", "mine"]
    assert file_repositories.secret_names([one]) == ["files_a-db1_password", "k", "s"]


def test_secrets_go_into_files_of_root_alone():
    entries = file_repositories.secret_files(file_repositories.of_host(GIVEN, "h"))
    assert [(entry["path"], entry["mode"]) for entry in entries if not entry.get("directory")] == [
        ("/etc/relevo/files/1.password", "0600"),
        ("/etc/relevo/files/1.env", "0600"),
        ("/etc/relevo/files/2.password", "0600"),
        ("/etc/relevo/files/2.env", "0600"),
    ]
    assert "AWS_SECRET_ACCESS_KEY=@s@\n" in entries[2]["content"]


def test_the_settings_hold_no_secret_and_no_set_that_is_not_this_hosts():
    found = file_repositories.settings(
        "h", file_repositories.of_host(GIVEN, "h"), [SET, {**SET, "name": "release", "paths": []}], {"answer_seconds": 5}
    )
    assert list(found["sets"]) == ["configuration"]
    assert found["sets"]["configuration"]["tag"] == "relevo-configuration"
    assert not {"key_secret", "key_id_secret", "password_secret"} & set(found["repositories"][0])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "Bad Name"}, "small letters"),
        ({"name": "a/../b"}, "small letters"),
        ({"paths": ["etc"]}, "absolute"),
        ({"keep": {}}, "above 0"),
        ({"keep": {"daily": 0}}, "above 0"),
        ({"keep": {"dayly": 3}}, "at least one"),
    ],
)
def test_what_is_no_set_is_refused_before_anything_is_changed(change, says):
    with pytest.raises(Refusal, match=says):
        file_schedule.judge([{**SET, **change}], "h")


def test_two_sets_of_one_name_are_refused():
    with pytest.raises(Refusal, match="two sets"):
        file_schedule.judge([SET, SET], "h")


def test_a_timer_for_each_set_and_one_service():
    units = file_schedule.units(file_schedule.judge([{**SET, "jitter_seconds": 60}, {**SET, "name": "none", "paths": []}], "h"), 2)
    assert sorted(units) == ["relevo-files-configuration.timer", "relevo-files@.service"]
    timer = units["relevo-files-configuration.timer"]
    for line in (
        "OnCalendar=*-*-* 02:30:00",
        "RandomizedDelaySec=60",
        "Persistent=true",
        "Unit=relevo-files@configuration.service",
    ):
        assert line in timer.splitlines()
    assert "KillSignal=SIGINT" in units["relevo-files@.service"]
    assert file_schedule.ours(["relevo-files-gone.timer", "relevo-files@.service", "relevo-backup-x.timer"]) == [
        "relevo-files-gone.timer"
    ]


def test_the_record_is_read_up_to_its_last_whole_line(tmp_path):
    lines = [
        {"at": "2026-11-25T01:00:00.000000Z", "set": "a", "repository": 1, "outcome": "failed"},
        {"at": "2026-11-25T02:00:00.000000Z", "set": "a", "repository": 1, "outcome": "taken"},
        {"at": "2026-11-25T02:00:01.000000Z", "set": "b", "repository": 1, "outcome": "taken"},
    ]
    (tmp_path / "files.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"at": "20')
    found = file_record.attempts({"state_directory": str(tmp_path)})
    assert found == lines
    assert file_record.of_run(found, "a", "2026-11-25T00:00:00.000000Z") == [lines[1]]
    assert file_record.of_run(found, "a", "2026-11-25T03:00:00.000000Z") == []
    assert file_record.attempts({"state_directory": str(tmp_path / "none")}) == []


def test_a_host_that_was_not_set_up_is_told_how():
    with pytest.raises(Refusal, match=r"protect\.yml"):
        file_record.read_settings("h", "/nonexistent/files.json")


@pytest.mark.parametrize("target", ["/", "relative", "/tmp/../etc", "/tmp/", ""])
def test_a_restore_never_goes_to_the_root_or_to_a_doubtful_place(target):
    with pytest.raises(Refusal):
        restored_tree.judge(target, "h")


def test_a_restore_goes_only_where_nothing_is(tmp_path):
    restored_tree.judge(str(tmp_path / "new"), "h")
    (tmp_path / "empty").mkdir()
    restored_tree.judge(str(tmp_path / "empty"), "h")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/.hidden").touch()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "file").touch()
    for name in ("full", "link", "link/new", "file"):
        with pytest.raises(Refusal):
            restored_tree.judge(str(tmp_path / name), "h")


def test_counting_takes_every_kind_of_entry_and_each_inode_once(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a").write_bytes(b"12345")
    os.link(tmp_path / "d/a", tmp_path / "d/b")
    (tmp_path / "l").symlink_to("nowhere")
    (tmp_path / "to-d").symlink_to("d")
    os.mkfifo(tmp_path / "p")
    assert restored_tree.count(str(tmp_path)) == restored_tree.Counted(6, 5)


def test_what_a_failed_attempt_wrote_is_removed_and_nothing_else(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").touch()
    target = tmp_path / "target"
    (target / "d").mkdir(parents=True)
    (target / "d/x").touch()
    (target / "l").symlink_to(outside)
    restored_tree.empty(str(target))
    assert list(target.iterdir()) == []
    assert (outside / "keep").exists()


def test_a_canary_is_compared_inside_the_restored_tree_alone(tmp_path):
    target = tmp_path / "target"
    (target / "etc").mkdir(parents=True)
    (target / "etc/a").write_text("a")
    living = tmp_path / "living"
    living.write_text("a")
    (target / "etc/b").symlink_to(living)
    digest = hashlib.sha256(b"a").hexdigest()
    assert restored_tree.differing(str(target), {"/etc/a": digest, "/etc/b": digest, "/etc/c": digest, "/etc/d": None}) == [
        "/etc/b",
        "/etc/c",
    ]
    assert restored_tree.manifest(str(target), "/var/lib/relevo", "configuration") is None
