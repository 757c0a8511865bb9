"""The operator's words: the known shape, or a refusal before anything reads them."""

from __future__ import annotations

import pytest
from ansible_collections.relevo.dr.plugins.module_utils.inputs import (
    Inputs,
    check_confirmation,
    check_extra_variables,
    confirmation,
    context,
    read_inputs,
)
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from hypothesis import given
from hypothesis import strategies as st

COMPLETE = {"dr_mode": "drill", "dr_scope": "site", "dr_target_site": "b"}


def test_reads_a_complete_wish():
    given_words = check_extra_variables({**COMPLETE, "dr_accept_loss_seconds": 5, "dr_confirm": "drill production minimarket to b"})
    inputs = read_inputs(given_words)
    assert inputs == Inputs(
        mode="drill",
        scope="site",
        target_site="b",
        confirm="drill production minimarket to b",
        accept_loss_seconds=5.0,
        given=("dr_accept_loss_seconds", "dr_confirm", "dr_mode", "dr_scope", "dr_target_site"),
    )


def test_what_awx_adds_to_every_job_is_nobodys_word():
    """An operator could not remove it."""
    extra = {**COMPLETE, "awx_job_id": 5, "awx_user_name": "ana", "tower_job_template_name": "Failover {{ x }}"}
    assert check_extra_variables(extra) == COMPLETE


def test_what_a_workflow_of_awx_hands_on_is_nobodys_word_either():
    """The artifacts of a job are extra variables of every job after it: what we told them as relevo comes back."""
    told = {"run": {"cluster": "minimarket"}, "status": {"next": "{{ lookup('pipe', 'id') }}"}}
    assert check_extra_variables({**COMPLETE, "relevo": told}) == COMPLETE
    with pytest.raises(Refusal, match="relevo_x"):
        check_extra_variables({**COMPLETE, "relevo_x": "1"})


def test_a_question_that_nobody_answered_is_nothing_said():
    """So AWX hands on an optional question of a survey; what must be said is missing then."""
    assert check_extra_variables({**COMPLETE, "dr_accept_loss_seconds": "", "dr_accept_unknown": "", "dr_reason": None}) == COMPLETE
    with pytest.raises(Refusal, match="dr_mode is missing"):
        read_inputs(check_extra_variables({**COMPLETE, "dr_mode": ""}))


def test_names_as_people_have_them_can_be_confirmed_and_attested():
    words = {**COMPLETE, "dr_target_site": "EU_west.1", "dr_confirm": confirmation("drill", "Minimarket_prod", "EU_west.1")}
    words = check_extra_variables({**words, "dr_attest_dead": "a_db1,A-DB2.example.org"})
    check_confirmation(read_inputs({**words, "dr_attested_by": "Ana"}), "Minimarket_prod")


def test_the_occasion_is_kept_as_it_was_typed_and_what_nobody_said_is_null():
    words = {"dr_ticket": "CHG-4711", "dr_participants": "Ana Ruiz, Bo  Åkesson,Chu", "dr_bia": "https://wiki.example.org/bia#7"}
    words |= {"dr_observers": "Eva", "dr_exercise": "E-1f3a9c"}
    assert context(check_extra_variables({**COMPLETE, **words})) == {
        "ticket": "CHG-4711",
        "scenario": None,
        "bia": "https://wiki.example.org/bia#7",
        "requester": None,
        "participants": ["Ana Ruiz", "Bo  Åkesson", "Chu"],
        "observers": ["Eva"],
        "third_parties": None,
        "exercise": "E-1f3a9c",
    }
    read_inputs(check_extra_variables({**COMPLETE, **words}))


@pytest.mark.parametrize("missing", sorted(COMPLETE))
def test_refuses_when_a_required_word_is_missing(missing):
    with pytest.raises(Refusal, match=missing):
        read_inputs({name: value for name, value in COMPLETE.items() if name != missing})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dr_confirm", "{{ lookup('pipe', 'id') }}"),
        ("dr_confirm", "{% if true %}x{% endif %}"),
        ("dr_ticket", "{{ lookup('pipe', 'id') }}"),
        ("dr_ticket", "-CHG-1"),
        ("dr_scenario", "a; b"),
        ("dr_bia", "x" * 201),
        ("dr_requester", "two\nlines"),
        ("dr_participants", ", Ana"),
        ("dr_participants", "Ana,,Bo"),
        ("dr_third_parties", "Ana, "),
        ("dr_participants", "x" * 501),
        ("dr_reason", "two\nlines"),
        ("dr_reason", "-o ProxyCommand=id"),
        ("dr_mode", "planned"),
        ("dr_scope", "region"),
        ("dr_target_site", "b; touch x"),
        ("dr_target_site", "'; touch x #"),
        ("dr_accept_loss_seconds", "-1"),
        ("dr_accept_loss_seconds", "nan"),
        ("dr_accept_loss_transactions", "1.5"),
    ],
)
def test_refuses_values_of_the_wrong_shape(name, value):
    with pytest.raises(Refusal) as refusal:
        check_extra_variables({name: value})
    assert name in str(refusal.value)


@pytest.mark.parametrize(
    "name", ["dr_site", "ansible_host", "dr_cluster_unit", "__dr_fence_result", "relevo_token", "groups", "db_password"]
)
def test_refuses_names_that_would_override_what_a_host_is(name):
    with pytest.raises(Refusal, match=name):
        check_extra_variables({name: "x"})


@given(st.text(max_size=200))
def test_no_text_that_ansible_would_render_passes(text):
    try:
        checked = check_extra_variables({"dr_reason": "because " + text})
    except Refusal:
        return
    assert not any(opening in checked["dr_reason"] for opening in ("{{", "{%", "{#"))
    assert checked["dr_reason"].isprintable() or not any(ord(letter) < 32 for letter in checked["dr_reason"])


def test_unknown_needs_a_reason_and_attestation_a_person():
    with pytest.raises(Refusal, match="dr_reason"):
        read_inputs({**COMPLETE, "dr_accept_unknown": "G17"})
    with pytest.raises(Refusal, match="dr_attested_by"):
        read_inputs({**COMPLETE, "dr_attest_dead": "a-db1"})
    with pytest.raises(Refusal, match="dr_reason"):
        read_inputs({**COMPLETE, "dr_accept_fence": "lease_expired"})
    with pytest.raises(Refusal, match="dr_accept_fence"):
        check_extra_variables({"dr_accept_fence": "unknown"})
    assert read_inputs({**COMPLETE, "dr_accept_fence": "lease_expired", "dr_reason": "x"}).accept_fence == ("lease_expired",)


def test_time_of_failure_needs_a_zone():
    with pytest.raises(Refusal, match="dr_failed_at"):
        read_inputs({**COMPLETE, "dr_failed_at": "2026-11-24T03:12:00.0"})
    assert read_inputs({**COMPLETE, "dr_failed_at": "2026-11-24T03:12:00Z"}).failed_at


@pytest.mark.parametrize(
    "words", ["", "yes", "drill production minimarket to a", "failover minimarket to b", "Drill production minimarket to b"]
)
def test_confirmation_names_mode_cluster_and_site(words):
    with pytest.raises(Refusal, match="drill production minimarket to b"):
        check_confirmation(Inputs(mode="drill", scope="site", target_site="b", confirm=words), "minimarket")


def test_a_drill_says_that_it_moves_production():
    assert confirmation("drill", "minimarket", "b") == "drill production minimarket to b"
    assert confirmation("disaster", "minimarket", "b") == "failover minimarket to b"


PLANNED = {"dr_scope": "site", "dr_target_site": "b"}


def test_a_planned_change_needs_no_mode_and_says_its_name():
    wish = read_inputs(PLANNED, "switchover")
    assert wish.mode == "planned"
    assert confirmation(wish.mode, "minimarket", "b", "switchover") == "switchover minimarket to b"
    assert confirmation("drill", "minimarket", "b", "switchover") == "drill production minimarket to b"
    with pytest.raises(Refusal, match="switchover minimarket to b"):
        check_confirmation(
            read_inputs({**PLANNED, "dr_confirm": "failover minimarket to b"}, "switchover"), "minimarket", "switchover"
        )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dr_accept_loss_seconds", "5"),
        ("dr_accept_loss_transactions", "5"),
        ("dr_accept_unknown", "G12"),
        ("dr_attest_dead", "a-db1"),
        ("dr_failed_at", "2026-11-24T03:12:00Z"),
        ("dr_mode", "disaster"),
    ],
)
def test_a_planned_change_accepts_no_loss_and_nothing_unseen(name, value):
    with pytest.raises(Refusal, match=name):
        read_inputs({**PLANNED, "dr_reason": "x", name: value}, "switchover")


def test_a_failback_names_the_site_that_comes_back():
    wish = read_inputs({"dr_target_site": "a", "dr_failback_method": "delta"}, "failback")
    assert (wish.mode, wish.scope, wish.method) == ("planned", "", "delta")
    assert confirmation(wish.mode, "minimarket", "a", "failback") == "failback minimarket to a"
    with pytest.raises(Refusal, match="dr_target_site"):
        read_inputs({}, "failback")
