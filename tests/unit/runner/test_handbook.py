"""A runbook on paper: the reader's own names and commands, people, times, and the point of no return."""

from __future__ import annotations

import io
from dataclasses import replace

import pypdfium2
import pytest

from relevo import handbook, policy_file
from relevo.errors import UsageError
from relevo.estate import Host
from relevo.handbook import About, Form, Here
from relevo.policy import Contact, Step
from relevo.prediction import Past, predict
from tests.house.tree import ROOT
from tests.unit.runner.past import run

NOTHING = dict.fromkeys(handbook.ASKED)
DATABASE = {**NOTHING, "dr_cluster_unit": "postgresql@16-shop.service", "dr_fence_command_off": ["/sbin/power", "off", "tokyo-1"]}
DATABASE["dr_fence_command_status"] = ["/sbin/power", "status", "tokyo-1"]
HOSTS = [
    Host("osaka-1", "192.0.2.11", "ops", 2222, None, False, "osaka", ("dr_database",), "shop", DATABASE),
    Host("tokyo-1", "192.0.2.12", "ops", None, None, False, "tokyo", ("dr_database",), "shop", DATABASE),
    Host(
        "tokyo-2",
        "192.0.2.13",
        None,
        None,
        None,
        False,
        "tokyo",
        ("dr_application",),
        "shop",
        {**NOTHING, "dr_app_unit": "shop.service"},
    ),
    Host("localhost", "localhost", None, None, None, True, "", ("dr_controller",), "shop", NOTHING),
]
ABOUT = About("shop", "osaka", "/etc/dr/inventory", "2026-11-28T08:15:00Z", "ana on ctl-a", "f" * 40)
BUILT_IN = policy_file.load(None, ROOT / "docs", {}).policy
POLICY = BUILT_IN.model_copy(
    update={
        "contacts": {"ana": Contact(name="Ana <b>Sosa</b>", role="on call", phone="+54 11 5550 0100")},
        "escalation": [Step(after="15 min", contacts=["ana"], then="decide")],
    }
)
NO_PAST = predict(Past("shop", "failover", [], [], []), "2026-11-28T08:15:00Z")


def page(runbook: str, here: Here, about: About = ABOUT) -> str:
    return handbook.render(handbook.read(ROOT, runbook), about, here, Form.HTML).decode()


HERE = Here(HOSTS, POLICY, NO_PAST)


def test_commands_name_the_readers_own_hosts_sites_units_and_inventory() -> None:
    text = page("failover", HERE)
    assert "relevo run failover -i /etc/dr/inventory -e dr_mode=disaster -e dr_scope=site -e dr_target_site=osaka " in text
    assert "<code>failover shop to osaka</code>" in text
    assert "ssh -p 2222 ops@192.0.2.11" in text and "ssh ops@192.0.2.12" in text and "ssh 192.0.2.13" in text
    assert "systemctl status postgresql@16-shop.service" in text and "systemctl status shop.service" in text
    assert "/sbin/power off tokyo-1" in text
    # By hand: the example's a-db1 is the database of the site that is left.
    assert "tokyo-1# cat /var/lib/relevo/fence.json" in text and "osaka-1# flock" in text
    code = [part.partition("</code>")[0] for part in text.split("<code>")[1:]]
    assert not [part for part in code if any(word in part for word in ("INVENTORY", "minimarket", "a-db1", "b-db1", "@17-main"))]


def test_who_is_called_stands_there_with_telephone_and_is_no_markup() -> None:
    text = page("failover", HERE)
    assert "Ana &lt;b&gt;Sosa&lt;/b&gt;" in text and "+54 11 5550 0100" in text and "15 min 00 s" in text
    nobody = page("failover", replace(HERE, policy=BUILT_IN))
    assert "nobody is on this list" in nobody


def test_times_are_those_of_this_cluster_and_without_any_nothing_is_promised() -> None:
    assert "Not known: no run of this runbook came through here yet" in page("failover", HERE)
    record = run("20261124T121530Z-failover-1f3a", "2026-11-24T12:20:00.000000Z")
    known = predict(Past(record.cluster or "", "failover", [record], [], [record]), "2026-11-28T08:15:00Z")
    text = page("failover", replace(HERE, prediction=known))
    row = text.partition("</span>PROMOTE<br>")[2].partition("</tr>")[0]
    assert "POINT OF NO RETURN" in row and " s</td>" in row and "1 run, too few for a P90" in row


def test_every_runbook_of_this_project_can_be_printed() -> None:
    for playbook in sorted((ROOT / "playbooks").glob("*.yml")):
        texts = handbook.read(ROOT, playbook.stem)
        moves = "dr_target_site=" in texts.sections["Command"]
        about = replace(ABOUT, target=handbook.target_of(texts, HOSTS, "osaka"))
        assert (about.target is not None) == moves
        text = handbook.render(texts, about, HERE, Form.HTML).decode()
        assert "](" not in text and "| --- |" not in text and "|---" not in text, playbook.stem
        assert ("It asks for the words" in text) == moves


def test_to_which_site_is_asked_where_nobody_said_it() -> None:
    texts = handbook.read(ROOT, "failover")
    for wanted in (None, "kyoto"):
        with pytest.raises(UsageError, match="Give --to with one of osaka, tokyo"):
            handbook.target_of(texts, HOSTS, wanted)
    with pytest.raises(UsageError, match=r"nothing\.md cannot be read"):
        handbook.read(ROOT, "nothing")


def test_the_page_is_printed_with_what_is_typed_on_its_first_sheet() -> None:
    document = pypdfium2.PdfDocument(io.BytesIO(handbook.render(handbook.read(ROOT, "switchover"), ABOUT, HERE, Form.PDF)))
    first = document[0].get_textpage().get_text_range().replace("\r\n", " ")
    assert "relevo run switchover -i /etc/dr/inventory -e dr_scope=site -e dr_target_site=osaka" in first
    assert "+54 11 5550 0100" in first and f"Page 1 of {len(document)}" in first
