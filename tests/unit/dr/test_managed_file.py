"""Managed files, blocks and lines: each kind of drift is seen, named and repaired; others' lines stay."""

from __future__ import annotations

import grp
import os
import pwd

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import managed_file
from ansible_collections.relevo.dr.plugins.module_utils.managed_file import BEGIN, END, WantedFile

USER, GROUP = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name


def wanted(path, **kinds):
    return WantedFile(str(path), owner=USER, group=GROUP, **kinds)


def apply(file):
    managed_file.apply(file, managed_file.observe(file.path))


def differences(file):
    return managed_file.plan(file, managed_file.observe(file.path))


KINDS = {
    "content": {"content": "all of it\n"},
    "block": {"block": "one\ntwo"},
    "line": {"line": "relevo-controller ssh-ed25519 AAAA"},
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_made_once_and_then_left_alone(tmp_path, kind):
    file = wanted(tmp_path / "deep/er/file", mode="0640", **kind)
    assert [change.current for change in differences(file)] == ["absent"]
    apply(file)
    assert differences(file) == []
    assert os.stat(file.path).st_mode & 0o777 == 0o640


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("drift", ["content", "rights", "gone"])
def test_drift_is_named_and_repaired(tmp_path, kind, drift):
    file = wanted(tmp_path / "file", mode="0640", **kind)
    apply(file)
    if drift == "content":
        (tmp_path / "file").write_text("something else\n")
    elif drift == "rights":
        os.chmod(file.path, 0o600)
    else:
        os.unlink(file.path)
    assert differences(file)
    apply(file)
    assert differences(file) == []


def test_a_directory(tmp_path):
    file = wanted(tmp_path / "state", directory=True, mode="0700")
    apply(file)
    assert differences(file) == []
    os.chmod(file.path, 0o500)
    assert [change.item for change in differences(file)] == ["directory %s" % file.path]


def test_the_lines_of_others_stay():
    text = managed_file.with_block("theirs\n%s\nold\n%s\nalso theirs\n" % (BEGIN, END), "new")
    assert text == "theirs\n%s\nnew\n%s\nalso theirs\n" % (BEGIN, END)


def test_a_new_block_goes_where_it_counts():
    assert managed_file.with_block("theirs\n", "ours", first=True).splitlines() == [BEGIN, "ours", END, "theirs"]
    assert managed_file.with_block("theirs\n", "ours").splitlines() == ["theirs", BEGIN, "ours", END]


def test_a_key_of_another_controller_stays():
    file = WantedFile("/f", line="ours")
    assert managed_file.text_after(file, "theirs\n") == "theirs\nours\n"
    assert managed_file.text_after(file, "theirs\nours\n") == "theirs\nours\n"


def test_a_secret_is_never_shown(tmp_path):
    file = wanted(tmp_path / "pgpass", content="*:*:*:relevo_monitor:hunter2\n", secret=True)
    (tmp_path / "pgpass").write_text("old\n")
    assert "hunter2" not in str(differences(file))


def test_what_is_no_file_is_not_replaced(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    assert managed_file.observe(str(tmp_path / "link")).kind == "other"
