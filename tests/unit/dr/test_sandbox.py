from __future__ import annotations

import json
import os
import socket
import struct
from pathlib import Path

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import cluster_identity, host_files, sandbox
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.module_utils.sandbox import Place, Seen
from ansible_collections.relevo.dr.plugins.module_utils.sandbox_application import filled
from ansible_collections.relevo.dr.plugins.module_utils.sandbox_server import recovery_settings
from hypothesis import given
from hypothesis import strategies as st

PRODUCTION = [{"name": "a-db1", "address": "192.0.2.11"}]
RUN = "20261124T120000Z-restore_test-0000"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(host_files, "STATE_DIRECTORY", str(tmp_path / "state"))
    return Place(str(tmp_path / "restore"))


def test_a_host_that_is_not_production_and_cannot_reach_it_is_a_sandbox(place):
    sandbox.check(Seen("b-scratch"), place, PRODUCTION)
    sandbox.check(Seen("b-scratch", base="ours", servers=(place.data,)), place, PRODUCTION)


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        (Seen("a-db1"), "this host is named a-db1"),
        (Seen("b-scratch", local=("192.0.2.11",)), "is this host's own"),
        (Seen("b-scratch", production_data="/var/lib/postgresql/17/main"), "where production keeps its data"),
        (Seen("b-scratch", servers=("/var/lib/postgresql/17/main",)), "a PostgreSQL server runs on"),
        (Seen("b-scratch", base="foreign"), "is not empty and not ours"),
        (Seen("b-scratch", answers=("192.0.2.11:5432 (refused)",)), "production answers from here"),
    ],
)
def test_whatever_could_be_production_or_reach_it_is_refused(place, seen, says):
    with pytest.raises(Refusal, match=says) as refused:
        sandbox.check(seen, place, PRODUCTION)
    assert "Next: " in str(refused.value)


def test_a_server_beside_the_directory_is_not_ours(place):
    with pytest.raises(Refusal, match="runs on"):
        sandbox.check(Seen("b-scratch", servers=(place.base + "-of-somebody",)), place, PRODUCTION)


def test_only_a_directory_with_our_mark_is_ours(place, tmp_path):
    assert sandbox.kind(place) == "absent"
    os.mkdir(place.base)
    assert sandbox.kind(place) == "empty"
    (tmp_path / "restore/file").write_text("somebody's")
    assert sandbox.kind(place) == "foreign"
    (tmp_path / "restore/relevo-restore.json").write_text("{}")
    assert sandbox.kind(place) == "foreign"
    sandbox.write_mark(place, RUN, "restoring")
    assert sandbox.kind(place) == "ours"
    os.symlink(place.base, tmp_path / "link")
    assert sandbox.kind(Place(str(tmp_path / "link"))) == "foreign"


def test_what_is_not_marked_is_never_removed(place, tmp_path):
    os.mkdir(place.base)
    (tmp_path / "restore/file").write_text("somebody's")
    sandbox.clean(place)
    assert (tmp_path / "restore/file").exists()


def test_what_is_ours_is_removed_and_the_mark_goes_last(place, monkeypatch):
    sandbox.write_mark(place, RUN, "proven")
    os.makedirs(place.data)
    monkeypatch.setattr(sandbox.shutil, "rmtree", lambda _path: (_ for _ in ()).throw(OSError("killed here")))
    with pytest.raises(OSError, match="killed here"):
        sandbox.clean(place)
    assert sandbox.kind(place) == "ours"
    monkeypatch.undo()
    sandbox.clean(place)
    assert not os.path.exists(place.base)


def test_a_second_run_waits_for_the_lease_of_the_first_and_then_says_who_it_is(place):
    sandbox.write_mark(place, RUN, "restored")
    with pytest.raises(Refusal, match=f"run {RUN} is at work"), sandbox.held(place, "another", 0.1):
        pass
    with sandbox.held(place, RUN, 0.1):
        pass
    mark = json.loads(Path(place.mark).read_text())
    Path(place.mark).write_text(json.dumps({**mark, "lease_until_boottime": 0}))
    with sandbox.held(place, "another", 0.1):
        pass


def test_a_copy_that_was_left_on_purpose_keeps_nobody_waiting(place):
    sandbox.write_mark(place, RUN, "left")
    with sandbox.held(place, "another", 0.0):
        pass


def test_two_tasks_at_once_are_one_too_many(place):
    with sandbox.held(place, RUN, 0.1), pytest.raises(Refusal, match="is still at work"), sandbox.held(place, "another", 0.1):
        pass


def test_a_door_that_refuses_is_a_way_in_too():
    with socket.create_server(("127.0.0.1", 0)) as open_door:
        assert sandbox.knock("127.0.0.1", open_door.getsockname()[1], 1) == "accepted"
        port = open_door.getsockname()[1]
    assert sandbox.knock("127.0.0.1", port, 1) == "refused"
    assert sandbox.knock("no-such-host.invalid", 22, 1) == ""


def test_an_address_of_this_host_is_known_as_its_own(place, tmp_path):
    own = [{"name": "a-db1", "address": "127.0.0.1"}]
    seen = sandbox.look(place, "b-scratch", own, [1], str(tmp_path), 0.2)
    assert seen.local == ("127.0.0.1",)
    assert sandbox.look(place, "b-scratch", PRODUCTION, [], str(tmp_path), 0.2).local == ()


def test_of_the_settings_in_a_backup_only_the_recovery_is_kept():
    text = (
        "archive_command = 'cp %p /production/%f'\nprimary_conninfo = 'host=a-db1'\n# Recovery settings generated by pgBackRest restore\n"
        "restore_command = 'pgbackrest archive-get %f \"%p\"'\nrecovery_target_time = '2026-11-24 12:00:00+00'\narchive_mode = 'off'\n"
    )
    kept = recovery_settings(text)
    assert "restore_command" in kept
    assert "recovery_target_time" in kept
    assert "primary_conninfo" not in kept
    assert "archive_command" not in kept


def test_placeholders_are_filled_everywhere_and_nothing_else():
    declared = {"url": "http://127.0.0.1:@port@/", "body": {"password": "@shop@"}, "words": ["@socket_directory@"], "seconds": 3}
    words = {"port": "5499", "shop": "s3cret", "socket_directory": "/run/x"}
    assert filled(declared, words) == {
        "url": "http://127.0.0.1:5499/",
        "body": {"password": "s3cret"},
        "words": ["/run/x"],
        "seconds": 3,
    }


def control(identifier: int, size: int) -> bytes:
    body = struct.pack("<Q", identifier) + bytes(range(256))[: size - 8]
    return body + struct.pack("<I", cluster_identity.crc32c(body)) + bytes(8192 - size - 4)


@given(st.integers(1, 2**63), st.integers(16, 60).map(lambda words: words * 4))
def test_pg_control_answers_to_another_name_and_its_checksum_holds(identifier, size):
    changed = cluster_identity.with_identity(control(7, size), identifier)
    assert len(changed) == 8192
    assert struct.unpack_from("<Q", changed)[0] == identifier
    assert struct.unpack_from("<I", changed, size)[0] == cluster_identity.crc32c(changed[:size])
    assert changed[8:size] == control(7, size)[8:size]


def test_what_is_no_pg_control_is_refused():
    with pytest.raises(ValueError, match="no checksum"):
        cluster_identity.with_identity(bytes(range(1, 256)) * 32, 1)


def test_the_checksum_is_castagnolis():
    assert cluster_identity.crc32c(b"123456789") == 0xE3069283
