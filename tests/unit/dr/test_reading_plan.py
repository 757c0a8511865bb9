"""What a verification reads: everything new, and enough of the rest that nothing grows too old."""

from __future__ import annotations

from typing import ClassVar

from ansible_collections.relevo.dr.plugins.module_utils.reading_plan import Read, Stored, to_read
from hypothesis import given
from hypothesis import strategies as st

DAY = 86400.0
WEEK = 7 * DAY


def stored(**sizes: int) -> dict[str, Stored]:
    return {path: Stored(size, 100.0) for path, size in sizes.items()}


def read(at: float, **sizes: int) -> dict[str, Read]:
    return {path: Read(size, 100.0, at) for path, size in sizes.items()}


def test_all_is_new_the_first_time():
    assert to_read(stored(a=1, b=2), {}, DAY, DAY, WEEK) == ("a", "b")


def test_an_unchanged_repository_is_not_read_twice_in_a_row():
    assert to_read(stored(a=1, b=2), read(DAY, a=1, b=2), DAY + 1, DAY, WEEK) == ()


def test_what_changed_is_new():
    assert to_read(stored(a=1, b=3), read(DAY, a=1, b=2), DAY, DAY, WEEK) == ("b",)
    assert to_read({"a": Stored(1, 101.0)}, read(DAY, a=1), DAY, DAY, WEEK) == ("a",)


def test_what_was_read_longest_ago_comes_first():
    known = {**read(DAY, new=10), **read(0, old=10)}
    assert to_read(stored(new=10, old=10), known, 5 * DAY, 0, WEEK) == ("old",)


class Counted(str):
    """A path that knows how often it was looked up."""

    __slots__ = ()
    asked: ClassVar[list[str]] = []

    def __hash__(self) -> int:
        self.asked.append(self)
        return super().__hash__()


def test_the_work_grows_with_the_objects_and_not_with_their_square():
    listed = {Counted(f"object {number}"): Stored(1, 100.0) for number in range(300)}
    Counted.asked.clear()
    assert len(to_read(listed, {}, DAY, DAY, WEEK)) == 300
    assert len(Counted.asked) < 300 * 20


SIZES = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=3), st.integers(0, 1000), min_size=1, max_size=30)


@given(SIZES, st.lists(st.floats(1.0, 3 * DAY), min_size=1, max_size=30))
def test_at_any_pace_nothing_is_older_than_its_limit_after_a_run(sizes, pauses):
    listed = stored(**sizes)
    known: dict[str, Read] = {}
    now = last = 1000.0
    for pause in pauses:
        for path in to_read(listed, known, now, last, WEEK):
            known[path] = Read(listed[path].size, 100.0, now)
        assert set(known) == set(listed)
        assert all(now - about.read_at < WEEK for about in known.values())
        last, now = now, now + pause


@given(SIZES, st.floats(0, WEEK))
def test_a_run_reads_no_more_than_its_share_when_nothing_is_due(sizes, elapsed):
    now = WEEK + elapsed
    chosen = to_read(stored(**sizes), read(now - elapsed * 0.99, **sizes), now, now - elapsed, WEEK)
    assert sum(sizes[path] for path in chosen) <= sum(sizes.values()) * elapsed / WEEK
