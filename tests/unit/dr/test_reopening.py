"""Only one of the two ways is taken: the promotion, or back; and back only while it is certain that nothing was promoted."""

from __future__ import annotations

import pytest
from ansible_collections.relevo.dr.plugins.module_utils.plan import Plan
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Aborted, Control
from ansible_collections.relevo.dr.plugins.plugin_utils.reopening import NotReopened, Reopening, claim_promotion

PLAN = Plan(
    source_site="a",
    target_site="b",
    scope="site",
    primary="a-db1",
    promote="b-db1",
    fence=("a-db1",),
    quiesce=("a-app1",),
    cutover=("b-app1",),
    witness=("wit1",),
    system_identifier="77",
    done=False,
    resume=False,
    parent_run_id=None,
    planned=True,
    follow=("a-db1",),
)


@pytest.fixture
def control(tmp_path):
    return Control("run", str(tmp_path))


class Hosts:
    """Answers for the modules; asked: what was asked for, in order."""

    def __init__(self, **answers):
        self.asked, self._answers = [], answers

    def __call__(self, module, _arguments):
        name = module.rsplit(".", 1)[1]
        self.asked.append(name)
        good = {"phase": {"name": "REOPEN", "outcome": "ok"}, "in_recovery": True}
        return self._answers.get(name, good)


def part(control, host, hosts, *, refused=False, served=True):
    database = {"host": host} if host.endswith("db1") else {}
    application = [{"host": host}] if host == "a-app1" else []
    return Reopening(control, PLAN, host, hosts, 0.05).go(database, application, refused=refused, served=served)


def test_each_host_opens_its_part_and_gives_the_lock_back(control):
    hosts = Hosts()
    with pytest.raises(NotReopened):  # nobody has heard from the standby yet
        part(control, "a-db1", hosts)
    assert hosts.asked == []
    with pytest.raises(NotReopened, match="reopened/a-db1"):
        part(control, "b-db1", hosts)
    part(control, "a-db1", hosts)
    part(control, "a-app1", hosts)
    part(control, "b-db1", hosts)
    assert hosts.asked == [
        *("standby_promote", "server_reopen", "run_lock"),
        *("app_component", "run_lock"),
        *("standby_promote", "run_lock"),
    ]


def test_nothing_is_promoted_once_the_way_back_is_taken(control):
    with pytest.raises(NotReopened):
        part(control, "a-db1", Hosts())
    with pytest.raises(Aborted, match="a-db1 ended this hand-over"):
        claim_promotion(control)


def test_a_promotion_without_an_answer_opens_nothing(control):
    claim_promotion(control)
    hosts = Hosts()
    with pytest.raises(NotReopened, match="asked to promote itself"):
        part(control, "b-db1", hosts)
    with pytest.raises(NotReopened, match="not certain"):
        part(control, "a-db1", hosts)
    assert hosts.asked == []


@pytest.mark.parametrize(
    ("answer", "certain"),
    [({"in_recovery": True}, True), ({"in_recovery": False}, False), ({"unreachable": True, "msg": "gone"}, False)],
    ids=["a standby", "a primary", "silent"],
)
def test_after_a_refused_promotion_the_standby_must_say_what_it_is(control, answer, certain):
    claim_promotion(control)
    with pytest.raises(NotReopened):
        part(control, "b-db1", Hosts(standby_promote=answer), refused=True)
    assert control.read("handover/withdrawn")["certain"] is certain


def test_a_standby_that_was_never_asked_and_is_lost_promoted_nothing(control):
    with pytest.raises(NotReopened, match="reopened"):
        part(control, "b-db1", Hosts(standby_promote={"unreachable": True, "msg": "gone"}))
    assert control.read("handover/withdrawn")["certain"] is True


def test_an_application_is_not_started_on_a_server_that_stays_closed(control):
    with pytest.raises(NotReopened, match="reopened"):
        part(control, "b-db1", Hosts())
    with pytest.raises(NotReopened, match="the lock is gone"):
        part(control, "a-db1", Hosts(server_reopen={"failed": True, "msg": "the lock is gone"}))
    hosts = Hosts()
    with pytest.raises(NotReopened, match="the lock is gone"):
        part(control, "a-app1", hosts)
    assert hosts.asked == []


def test_an_application_that_was_not_running_is_not_started(control):
    control.write("handover/withdrawn", {"certain": True, "said": ""})
    control.write("handover/reopened/a-db1", {"ok": True, "said": None})
    hosts = Hosts()
    part(control, "a-app1", hosts, served=False)
    assert hosts.asked == ["run_lock"]


def test_of_two_claims_the_first_stands(control):
    assert control.claim("handover/turn", {"to": "reopen", "by": "a"})["by"] == "a"
    assert control.claim("handover/turn", {"to": "promote"})["by"] == "a"
    assert control.read("handover/turn")["by"] == "a"
