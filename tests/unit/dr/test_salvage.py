"""What an old primary's own WAL tells without a server: files, transactions, references."""

from __future__ import annotations

from ansible_collections.relevo.dr.plugins.action.salvaged import found, whole
from ansible_collections.relevo.dr.plugins.module_utils import salvage

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
    kept, missing = salvage.chosen(names, 1, "0/5000140", MIB16)
    assert kept == [
        "000000010000000000000005",
        "000000010000000000000007",
        "000000010000000000000008.partial",
        "00000002.history",
    ]
    assert missing == ["000000010000000000000006"]


def test_nothing_behind_the_fork_is_a_hole_of_one():
    assert salvage.chosen(["000000010000000000000004"], 1, "0/5000140", MIB16) == ([], ["000000010000000000000005"])


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


def test_a_hole_in_the_salvage_fails():
    kept = {"missing": ["000000010000000000000006"], "committed": 1}
    assert whole("a-db1", kept).verdict == "fail"
