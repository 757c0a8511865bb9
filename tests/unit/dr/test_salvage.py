"""What an old primary's own WAL tells without a server: files, transactions, references."""

from __future__ import annotations

import pytest
from ansible_collections.relevo.dr.plugins.action.salvaged import found, whole
from ansible_collections.relevo.dr.plugins.module_utils import salvage
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import Leg

MIB16 = 16 << 20


def test_the_segments_from_the_fork_on_are_kept_and_holes_are_named():
    names = [
        "000000010000000000000004",
        "000000010000000000000005",
        "000000010000000000000007",
        "000000010000000000000008.partial",
        "000000020000000000000005",
        "00000002.history",
        "archive_status",
    ]
    kept = salvage.chosen(names, (Leg(1, 0x5000140),), MIB16)
    assert kept.segments == ["000000010000000000000005", "000000010000000000000007", "000000010000000000000008.partial"]
    assert kept.histories == ["00000002.history"]
    assert kept.missing == ["000000010000000000000006"]


def test_nothing_behind_the_fork_is_a_hole_of_one():
    kept = salvage.chosen(["000000010000000000000004"], (Leg(1, 0x5000140),), MIB16)
    assert (kept.segments, kept.missing) == ([], ["000000010000000000000005"])


def test_a_hole_at_the_end_is_one_too():
    """The server is known to have come further than its segments."""
    names = ["000000010000000000000005"]
    assert salvage.chosen(names, (Leg(1, 0x5000140),), MIB16, 0x7000028).missing == [
        "000000010000000000000006",
        "000000010000000000000007",
    ]


def test_a_timeline_that_was_begun_here_is_read_behind_the_one_that_it_left():
    """The segment in which it began is there twice: the newer one begins with a copy of the older."""
    names = [
        "000000010000000000000005",
        "000000010000000000000006.partial",
        "000000010000000000000007",
        "000000020000000000000006",
        "000000020000000000000007",
        "000000030000000000000007",
    ]
    kept = salvage.chosen(names, (Leg(1, 0x5000140, 0x6000100), Leg(2, 0x6000100)), MIB16)
    assert kept.segments == [
        "000000010000000000000005",
        "000000010000000000000006.partial",
        "000000020000000000000006",
        "000000020000000000000007",
    ]
    assert kept.read == {5: "000000010000000000000005", 6: "000000020000000000000006", 7: "000000020000000000000007"}
    assert kept.missing == []
    away = salvage.chosen(names[:1] + names[4:], (Leg(1, 0x5000140, 0x6000100), Leg(2, 0x6000100)), MIB16)
    assert away.missing == ["000000020000000000000006"]


def page(content, *, first=False):
    header = bytearray(40 if first else 24)
    header[2] = 2 if first else 0
    return bytes(header) + content


def short(text):
    return bytes([((len(text) + 1) << 1) | 1]) + text.encode()


def test_a_record_that_crosses_a_page_is_whole_in_the_stream():
    text = short("relevo-5f3a90c1-1234")
    body = b"\0" * (8192 - 40 - 10) + text[:10]
    stream = salvage.record_stream(page(body, first=True) + page(text[10:] + b"\0" * 100))
    assert salvage.references(stream, "relevo-5f3a90c1") == {"relevo-5f3a90c1-1234"}


def test_a_digit_of_the_next_column_is_none_of_the_reference():
    stream = b"\0" + short("relevo-5f3a90c1-12") + b"345" + b"\0relevo-5f3a90c1-99"
    assert salvage.references(stream, "relevo-5f3a90c1") == {"relevo-5f3a90c1-12"}
    assert salvage.references(stream, "relevo-00000000") == set()
    assert salvage.references(b"relevo-5f3a90c1-12", "relevo-5f3a90c1") == set()


def line(rmgr, xid, desc, lsn="0/5000140"):
    return f"rmgr: {rmgr:<11} len (rec/tot):     57/    57, tx: {xid:>10}, lsn: {lsn}, prev 0/02000690, desc: {desc}"


WAL = [
    line("Heap", 726, "INSERT off 2 flags 0x00, blkref #0: rel 1663/5/16384 blk 0"),
    line("Btree", 726, "INSERT_LEAF off 2, blkref #0: rel 1663/5/16389 blk 1"),
    line("Heap", 727, "HOT_UPDATE off 1 xmax 727, blkref #0: rel 1663/5/16384 blk 0"),
    line("Heap2", 727, "MULTI_INSERT+INIT ntuples: 7 flags 0x02, blkref #0: rel 1663/5/16400 blk 0"),
    line("Heap2", 727, "MULTI_INSERT 3 tuples flags 0x02, blkref #0: rel 1663/5/16400 blk 0"),
    line("Heap", 728, "INSERT+INIT off 1 flags 0x08, blkref #0: rel 1663/5/16384 blk 0"),
    line("Transaction", 726, "COMMIT 2026-11-27 05:45:44.897709 UTC"),
    line("Transaction", 727, "COMMIT 2026-11-27 05:45:45.000000 UTC; subxacts: 728"),
    line("Heap", 729, "DELETE off 1 flags 0x00 KEYS_UPDATED , blkref #0: rel 1663/5/16384 blk 0"),
    line("Transaction", 729, "ABORT 2026-11-27 05:45:46.000000 UTC"),
    line("Heap", 730, "DELETE off 1 flags 0x00 KEYS_UPDATED , blkref #0: rel 1663/5/16384 blk 0", lsn="0/5000900"),
]


def test_transactions_are_counted_by_what_they_touched():
    told = salvage.transactions(WAL)
    assert [(one["xid"], one["committed_at"]) for one in told["committed"]] == [
        (726, "2026-11-27 05:45:44.897709 UTC"),
        (727, "2026-11-27 05:45:45.000000 UTC"),
    ]
    assert told["committed"][1]["rows"] == {"1663/5/16384": {"updated": 1, "inserted": 1}, "1663/5/16400": {"inserted": 10}}
    assert (told["aborted"], told["unfinished"], told["end_lsn"]) == (1, 1, "0/5000900")
    names = {"1663/5/16384": "shop.orders"}
    assert salvage.by_relation(told["committed"], names) == {
        "shop.orders": {"inserted": 2, "updated": 1},
        "1663/5/16400": {"inserted": 10},
    }


def lost(number, server):
    return {"n": number, "reference": f"relevo-5f3a90c1-{number}", "at": "2026-11-24T03:12:00Z", "server": server}


def judged(references, entries, hosts=("a-db1",)):
    kept = {host: {"references": references} for host in hosts}
    return found(hosts, kept, {"wit1": {"lost": entries}})


def test_each_lost_transaction_must_be_in_the_seal():
    gate, measures = judged(["relevo-5f3a90c1-7"], [lost(7, "a-db1")])
    assert gate.verdict == "pass"
    assert measures["salvaged"] == {"lost_numbers": [7], "not_found_numbers": []}
    gate, measures = judged(["relevo-5f3a90c1-7"], [lost(7, "a-db1"), lost(8, None)])
    assert gate.verdict == "fail"
    assert "2 lost, 1 of them found" in gate.observed
    assert measures["salvaged"]["not_found_numbers"] == [8]


def test_what_another_host_lost_is_not_looked_for_here():
    assert judged([], [lost(7, "b-db1")])[0].verdict == "pass"


def test_a_ledger_that_was_not_read_is_unknown():
    gate, _ = found(("a-db1",), {"a-db1": {"references": []}}, {})
    assert gate.verdict == "unknown"


KEPT = {
    "missing": [],
    "committed": 1,
    "timeline": 1,
    "fork_lsn": "0/5000140",
    "end_lsn": "0/6000000",
    "checkpoint_lsn": "0/5FFFF00",
    "digest": "f6" * 32,
}


@pytest.mark.parametrize(
    ("changed", "verdict", "said"),
    [
        ({}, "pass", "1 committed transactions from 0/5000140 to 0/6000000"),
        ({"missing": ["000000010000000000000006"]}, "fail", "1 segments are missing"),
        ({"checkpoint_lsn": "0/6000100"}, "fail", "can be read to 0/6000000, and the server wrote a checkpoint at 0/6000100"),
        ({"end_lsn": None}, "fail", "can be read to nowhere"),
        ({"end_lsn": None, "checkpoint_lsn": "0/5000000"}, "pass", "0 committed"),
        ({"unknown": "nothing tells where they part", "fork_lsn": None, "end_lsn": None}, "fail", "nothing tells where"),
        ({"fork_lsn": None, "end_lsn": None, "timeline": 2}, "pass", "follows the primary's timeline 2"),
    ],
    ids=["whole", "a hole", "a hole at the end", "pg_waldump failed", "nothing behind the fork", "no fork", "a follower"],
)
def test_what_is_kept_is_all_of_it_or_it_fails(changed, verdict, said):
    kept = {**KEPT, "committed": 0 if changed.get("checkpoint_lsn") == "0/5000000" else 1, **changed}
    gate = whole("a-db1", kept)
    assert gate.verdict == verdict
    assert said in gate.observed
