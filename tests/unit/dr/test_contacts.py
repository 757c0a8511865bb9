"""Without contacts a change of site goes on, and says that nobody hears of it."""

from __future__ import annotations

import pytest
from ansible_collections.relevo.dr.plugins.module_utils.contacts import judge
from ansible_collections.relevo.dr.plugins.module_utils.gates import blocking
from ansible_collections.relevo.dr.plugins.plugin_utils import contacts
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Control


@pytest.mark.parametrize(
    ("file", "mode", "lines", "words"),
    [
        ("", None, None, "names no contacts"),
        ("/s/urls", None, None, "/s/urls cannot be read"),
        ("/s/urls", 0o100644, ["mailtos://x"], "others may read"),
        ("/s/urls", 0o100600, ["# mailtos://x", " "], "is empty"),
    ],
    ids=["none", "missing", "open", "empty"],
)
def test_what_is_no_contact_is_found_and_stops_nothing(file, mode, lines, words):
    gate = judge(file, mode, lines, named=False)
    assert gate.verdict == "fail"
    assert words in gate.observed
    assert gate.next_action
    assert blocking([gate]) == []


def test_contacts_pass_and_so_does_whom_the_run_itself_names():
    assert judge("/s/urls", 0o100600, ["mailtos://x", "slack://y"], named=False).observed == "2 contacts"
    assert judge("", None, None, named=True).verdict == "pass"


def test_what_the_opening_task_kept_is_looked_at(tmp_path):
    control = Control("run", str(tmp_path))
    control.write("contacts", {"file": str(tmp_path / "urls")})
    assert contacts.seen(control).verdict == "fail"
    (tmp_path / "urls").write_text("mailtos://x\n")
    (tmp_path / "urls").chmod(0o600)
    assert contacts.seen(control).verdict == "pass"
    (tmp_path / "urls").unlink()
    (tmp_path / "notify.json").write_text("{}")
    assert contacts.seen(control).observed == "those whom this run names"
