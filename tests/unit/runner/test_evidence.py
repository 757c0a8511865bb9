from __future__ import annotations

from relevo.evidence import collect
from relevo.feed import Event
from tests.unit.runner.streams import failed, read, said, stats


def phase(name: str, host: str, outcome: str) -> dict[str, str]:
    return {"name": name, "host": host, "outcome": outcome}


def test_the_last_word_of_a_phase_and_host_holds() -> None:
    evidence = collect([
        said(phases=[phase("FENCE", "a", "failed"), phase("FENCE", "b", "ok")]),
        said(phases=[phase("FENCE", "a", "ok")]),
    ])  # fmt: skip
    assert {key: value["outcome"] for key, value in evidence.phases.items()} == {("FENCE", "a"): "ok", ("FENCE", "b"): "ok"}


def test_a_null_never_replaces_what_was_observed() -> None:
    evidence = collect(
        [said(measures={"rto_seconds": 3, "ledger": {"lost": 0}}), said(measures={"rto_seconds": None, "ledger": {"present": 2}})]
    )
    assert evidence.measures == {"rto_seconds": 3, "ledger": {"lost": 0, "present": 2}}


def test_fences_of_several_hosts_come_together() -> None:
    evidence = collect([
        said(fence={"class": "stopped", "hosts": [{"host": "a1", "class": "stopped"}]}),
        said(fence={"class": "isolated", "hosts": [{"host": "a2", "class": "isolated"}]}),
    ])  # fmt: skip
    assert evidence.fence["class"] == "isolated"
    assert [host["host"] for host in evidence.fence["hosts"]] == ["a1", "a2"]


def test_data_of_strange_shapes_is_left_out() -> None:
    evidence = collect([said(phases="x", gates=[1], measures=[], fence="x", run=None)])
    assert not evidence.opened
    assert not evidence.phases
    assert not evidence.gates


def test_failures_that_ansible_forgave_are_marked() -> None:
    evidence = collect([failed(host="a"), failed(host="b"), failed(host="c", ignored=True), stats(failures=("b",))])
    assert [(failure.host, failure.tolerated) for failure in evidence.failures] == [("a", True), ("b", False)]


def test_a_cut_stream_is_unfinished_and_knows_its_last_task() -> None:
    events = read("failover_disaster")[1]
    evidence = collect(events[:12])
    assert evidence.opened
    assert not evidence.finished
    assert evidence.last == events[11]


def test_one_check_with_two_questions_keeps_both_answers() -> None:
    """The second would else hide that the first failed."""
    asked = [
        {"id": "G06", "phase": "PREFLIGHT", "host": "b-db1", "title": title, "verdict": verdict}
        for title, verdict in (("release", "fail"), ("settings", "pass"))
    ]
    assert sorted(gate["verdict"] for gate in collect([said(gates=asked)]).gates.values()) == ["fail", "pass"]
    again = [{**asked[0], "verdict": "pass"}]
    assert [gate["verdict"] for gate in collect([said(gates=asked), said(gates=again)]).gates.values()] == ["pass", "pass"]


def test_no_probe_of_a_fence_is_forgotten_whoever_speaks_last() -> None:
    """Two hosts tell of the same fence at the same moment: the one that fences of its own look, the one that promotes of everybody's."""
    power, near, far = ({"vantage": name, "at": at} for name, at in (("power", "1"), ("controller", "2"), ("b1", "3")))

    def fence(*probes: dict[str, str]) -> Event:
        return said(fence={"class": "powered_off", "hosts": [{"host": "a1", "class": "powered_off", "probes": [*probes]}]})

    for events in ([fence(power, near), fence(power, far)], [fence(power, far), fence(power, near)]):
        assert collect(events).fence["hosts"][0]["probes"] == [power, near, far]
