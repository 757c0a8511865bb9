"""The old primary's last word: this run's message, then its shutdown, and nothing that only looks like them."""

from __future__ import annotations

import pytest
from ansible_collections.relevo.dr.plugins.module_utils.handover_message import HandoverError, chain, content, judge, last_written

HANDOVER = {
    "run_id": "20261124T121530Z-switchover-1f3a",
    "nonce": "5f" * 16,
    "from_lsn": "0/2000640",
    "message_lsn": "0/2000690",
    "shutdown_lsn": "0/2000760",
    "timeline": 1,
}


def message(text=None, prefix="relevo"):
    payload = (text or content(HANDOVER["run_id"], HANDOVER["nonce"])).encode()
    said = " ".join(f"{byte:02X}" for byte in payload)
    return (
        "rmgr: LogicalMessage len (rec/tot):     76/    76, tx:        725, lsn: 0/02000640, prev 0/02000128, desc: MESSAGE transactional,"
        f' prefix "{prefix}"; payload ({len(payload)} bytes): {said}'
    )


COMMIT = "rmgr: Transaction len (rec/tot):     34/    34, tx:        726, lsn: 0/02000738, prev 0/020006F8, desc: COMMIT 2026-11-27 05:45:44 UTC"


def shutdown(lsn="0/02000760"):
    return f"rmgr: XLOG        len (rec/tot):    114/   114, tx:          0, lsn: {lsn}, prev 0/02000738, desc: CHECKPOINT_SHUTDOWN redo {lsn}; tli 1"


def test_message_and_shutdown_are_a_hand_over():
    judge(f"{message()}\n{COMMIT}\n{shutdown()}", HANDOVER)


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ([COMMIT, shutdown()], "before the message"),
        ([message(content("20261124T121530Z-switchover-0000", "5f" * 16)), shutdown()], "before the message"),
        ([message(content(HANDOVER["run_id"], "00" * 16)), shutdown()], "before the message"),
        ([message(prefix="other"), shutdown()], "before the message"),
        ([message(), COMMIT], "no shutdown after"),
        ([message(), shutdown("0/02000700"), COMMIT, shutdown()], "started in between"),
        ([], "not the message"),
    ],
    ids=["a bare shutdown", "another run", "another nonce", "another sender", "no shutdown", "a restart in between", "nothing"],
)
def test_whatever_else_is_none(printed, said):
    with pytest.raises(HandoverError, match=said):
        judge("\n".join(printed), HANDOVER)


def test_the_newest_message_counts_until_the_server_was_opened_again():
    first = {"phase": "HANDOVER", "kind": "result", "handover": {"run_id": "one"}}
    second = {"phase": "HANDOVER", "kind": "result", "handover": {"run_id": "two"}}
    taken = {"run_id": "two", "taken_over": "one"}
    assert last_written([first, taken, second], "two") == {"run_id": "two"}
    assert last_written([first, taken], "two") == {"run_id": "one"}
    assert last_written([first, {"phase": "REOPEN", "kind": "intent"}], "one") is None
    assert last_written([], "one") is None


def test_a_standby_that_handed_over_long_ago_hands_nothing_over_now():
    long_ago = {"phase": "HANDOVER", "kind": "result", "handover": {"run_id": "long ago"}}
    assert last_written([long_ago], "now") is None


def test_a_run_speaks_for_the_dead_ones_before_it_and_for_no_other():
    entries = [{"run_id": "b", "taken_over": "a"}, {"run_id": "c", "taken_over": "b"}, {"run_id": "x", "taken_over": "y"}]
    assert chain(entries, "c") == ["c", "b", "a"]
    assert chain(entries, "d") == ["d"]
    assert chain([{"run_id": "a", "taken_over": "b"}, {"run_id": "b", "taken_over": "a"}], "a") == ["a", "b"]
