"""What a standby does that cannot catch up any more."""

from __future__ import annotations

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import (
    follow_plan,
    host_files,
    rebuild_plan,
    server_start,
    standby_steps,
)
from ansible_collections.relevo.dr.plugins.modules import standby_follow

NOWHERE = "it has replayed up to 0/5000000, and no repository holds more"


class Hopeless:
    def __init__(self) -> None:
        self.marks: list[dict[str, object]] = []

    def wait(self) -> None:
        raise standby_steps.WalGone(NOWHERE)

    def mark(self, **given: object) -> None:
        self.marks.append(given)


@pytest.fixture
def stopped(monkeypatch):
    found: list[object] = []
    monkeypatch.setattr(server_start, "stop_aside", lambda server, _seconds: found.append(server))
    return found


def test_a_fenced_host_whose_wal_is_gone_is_stopped_marked_and_told_the_way_that_is_left(monkeypatch, stopped):
    monkeypatch.setattr(host_files, "read_fence", lambda: {"run_id": "dead"})
    steps = Hopeless()
    with pytest.raises(standby_steps.BuildError, match=r"no repository holds more\. .* dr_failback_method=full"):
        standby_follow.catch_up("the server", steps)
    assert stopped == ["the server"]
    assert steps.marks == [{"restored": False, "method": rebuild_plan.REWIND}]
    # What the next run makes of that mark: these data are neither started nor rewound.
    ways = rebuild_plan.ways({}, 0, 1, 1)
    assert rebuild_plan.order(ways, "full", steps.marks[0], "a-db1") == ["full"]
    assert rebuild_plan.REWIND not in rebuild_plan.order(ways, "", steps.marks[0], "a-db1")


def test_a_standby_that_is_not_fenced_is_left_running(monkeypatch, stopped):
    monkeypatch.setattr(host_files, "read_fence", lambda: None)
    with pytest.raises(standby_steps.WalGone):
        standby_follow.catch_up("the server", Hopeless())
    assert stopped == []


def test_the_mark_of_the_rebuild_ends_before_the_fence_does(monkeypatch, tmp_path):
    monkeypatch.setattr(host_files, "STATE_DIRECTORY", str(tmp_path))
    host_files.write_build({"restored": True})
    host_files.write_fence({"run_id": "F1"})

    def lift():
        assert host_files.read_build() is None
        raise KeyboardInterrupt

    monkeypatch.setattr(host_files, "lift_fence", lift)
    with pytest.raises(KeyboardInterrupt):
        standby_follow.take({}, "the server", Hopeless(), (follow_plan.LIFT,))
