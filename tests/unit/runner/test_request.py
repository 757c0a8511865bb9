from __future__ import annotations

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import inputs
from hypothesis import given
from hypothesis import strategies as st

from relevo import request
from relevo.errors import InputRefusedError

GOOD = ["dr_mode=drill", "dr_scope=site", "dr_target_site=b"]


def judged(*pairs: str) -> request.Inputs:
    return request.judge(request.read_pairs(pairs))


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        ("dr_mode=Drill", "expected drill"),
        ("dr_scope=all", "expected database"),
        ("dr_target_site=B!", "letters, digits"),
        ("dr_accept_loss_seconds=many", "number of seconds"),
        ("dr_accept_loss_seconds=-5", "begins with a hyphen"),
        ("dr_accept_loss_transactions=1.5", "whole number"),
        ("dr_accept_unknown=g02", "ids of gates"),
        ("dr_failed_at=2026-01-02 10:00", "2026-11-24T03:12:00Z"),
        ("dr_failed_at=2026-01-02T10:00:00", "2026-11-24T03:12:00Z"),
        ("dr_failed_at=2999-01-02T10:00:00Z", "in the future"),
        ("dr_reason={{ lookup('pipe', 'id') }}", "holds a template"),
        ("dr_reason={% if x %}", "holds a template"),
        ("dr_reason={# x", "holds a template"),
        ("dr_reason=two\nlines", "control characters"),
        ("dr_reason=bell\x07", "control characters"),
        ("dr_reason=--become", "begins with a hyphen"),
        (f"dr_reason={'x' * 501}", "at most 500"),
        ("app_password=hunter2", "looks like a secret"),
        ("vault_token=x", "looks like a secret"),
        ("ansible_host=192.0.2.1", "put it into the inventory"),
        ("dr_mode", "expected name=value"),
        ("@file.yml", "expected name=value"),
        ('{"dr_mode": "drill"}', "expected name=value"),
    ],
)
def test_refuses_with_a_sentence(pair: str, expected: str) -> None:
    with pytest.raises(InputRefusedError, match=expected.replace("(", r"\(")):
        judged(pair)


def test_a_secret_is_not_repeated_in_its_refusal() -> None:
    with pytest.raises(InputRefusedError) as refused:
        judged("db_passphrase=hunter2")
    assert "hunter2" not in str(refused.value)


def test_a_variable_that_is_given_twice_is_refused() -> None:
    with pytest.raises(InputRefusedError, match="given twice"):
        request.read_pairs(["dr_mode=drill", "dr_mode=disaster"])


@pytest.mark.parametrize("missing", range(3))
def test_a_failover_needs_mode_scope_and_site(missing: int) -> None:
    inputs = judged(*(pair for number, pair in enumerate(GOOD) if number != missing))
    with pytest.raises(InputRefusedError, match=GOOD[missing].partition("=")[0]):
        request.require("failover", inputs)
    request.require("check", inputs)


def test_the_confirmation_says_that_a_drill_moves_production() -> None:
    assert request.confirmation(judged(*GOOD), "minimarket") == "drill production minimarket to b"
    disaster = judged("dr_mode=disaster", "dr_scope=site", "dr_target_site=b")
    assert request.confirmation(disaster, "minimarket") == "failover minimarket to b"


def test_values_reach_ansible_as_text_that_is_never_evaluated() -> None:
    assert judged("dr_accept_loss_seconds=5").unsafe() == {"dr_accept_loss_seconds": {"__ansible_unsafe": "5"}}


def test_a_refused_run_still_knows_what_was_fit() -> None:
    assert request.salvage(["dr_mode=maybe", "dr_target_site=b", "x"]).shown() == {"target_site": "b"}


@given(st.text())
def test_whatever_is_accepted_holds_no_template_and_no_control_character(value: str) -> None:
    try:
        accepted = request.judge({"dr_reason": value}).values["dr_reason"]
    except InputRefusedError:
        return
    assert accepted == value
    assert not any(mark in accepted for mark in ("{{", "{%", "{#"))
    assert all(character.isprintable() or not character.isascii() for character in accepted)
    assert not accepted.startswith("-")


def test_the_runner_and_the_playbooks_know_the_same_inputs() -> None:
    assert set(request.FORMS) == set(inputs.SCHEMA)
    for mode, cluster, site in (("drill", "minimarket", "b"), ("disaster", "shop", "east")):
        own = request.confirmation(judged(f"dr_mode={mode}", f"dr_target_site={site}"), cluster)
        assert own == inputs.confirmation(mode, cluster, site)
