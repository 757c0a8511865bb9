"""The choice of backup, timeline and end: by examples, and by the laws that hold for every archive."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import (
    END,
    LSN,
    NAME,
    TIME,
    Archive,
    Backup,
    NotRestorable,
    Tail,
    Target,
    check_words,
    choose,
    lsn_text,
    on_path,
    parse_target,
    path,
    timeline_at,
    window,
)
from hypothesis import given
from hypothesis import strategies as st

DAY = datetime.datetime(2026, 11, 24, tzinfo=datetime.timezone.utc)


def at(seconds: float) -> datetime.datetime:
    return DAY + datetime.timedelta(seconds=seconds)


def backup(number: int, timeline: int = 1) -> Backup:
    """Backup n ends at second 100 n and position 1000 n."""
    return Backup(f"20261124-{number:06d}F", at(100 * number), 1000 * number - 100, 1000 * number, timeline)


# Timeline 1 is left at 2500 (second 250), after backups 1 and 2, but goes on to 3500; timeline 2 holds backups 3 and 4 and ends at 4500.
LEFT = Archive(
    1,
    [backup(1), backup(2), backup(3, 2), backup(4, 2)],
    {2: [(1, 2500)]},
    {1: Tail(3500, at(350)), 2: Tail(4500, at(450))},
    {(1, 2500): Tail(2490, at(249))},
)
PLAIN = Archive(1, [backup(1), backup(2)], {}, {1: Tail(3000, at(300))})


def time(seconds: float) -> Target:
    return Target(TIME, "", at(seconds))


def lsn(position: int) -> Target:
    return Target(LSN, lsn_text(position), None, position)


def test_the_newest_backup_before_the_target_is_chosen():
    assert choose(PLAIN, Target())[0].backup.label == backup(2).label
    assert choose(PLAIN, time(250))[0].backup.label == backup(2).label
    assert choose(PLAIN, time(150))[0].backup.label == backup(1).label
    assert choose(PLAIN, lsn(2001))[0].backup.label == backup(2).label
    assert choose(PLAIN, lsn(2000))[0].backup.label == backup(1).label


def test_a_backup_that_ended_in_the_second_of_the_target_is_too_new():
    assert choose(PLAIN, time(200.5))[0].backup.label == backup(1).label
    assert choose(PLAIN, time(201))[0].backup.label == backup(2).label


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (time(50), "before the end of the oldest backup"),
        (time(300), "after the last commit"),
        (time(301), "after the last commit"),
        (lsn(900), "before the end of the oldest backup"),
        (lsn(3001), "after the end of the archive"),
    ],
)
def test_what_the_archive_cannot_give_is_refused(target, says):
    with pytest.raises(NotRestorable, match=says):
        choose(PLAIN, target)


def test_the_future_is_refused_as_such():
    with pytest.raises(NotRestorable, match="in the future"):
        choose(PLAIN, time(1000), now=at(900))


def test_an_empty_repository_and_an_unknown_label_are_refused():
    with pytest.raises(NotRestorable, match="no backup"):
        choose(Archive(1, [], {}, {}), Target())
    with pytest.raises(NotRestorable, match=r"no backup 20200101-000000F.*20261124-000001F"):
        choose(PLAIN, Target(), "20200101-000000F")


def test_a_backup_of_a_timeline_that_was_left_later_is_on_the_way_and_one_beyond_is_not():
    legs = path(LEFT.histories, 2)
    assert on_path(legs, 1, 2000)
    assert not on_path(legs, 1, 2501)
    assert on_path(legs, 2, 3000)
    assert not on_path(legs, 2, 2400)
    assert timeline_at(legs, 2400) == 1
    assert timeline_at(legs, 2500) == 2


def test_the_latest_timeline_is_followed_through_its_parent():
    (choice,) = choose(LEFT, time(245))
    assert (choice.backup.label, choice.timeline) == (backup(2).label, 2)
    (choice,) = choose(LEFT, Target())
    assert (choice.backup.label, choice.timeline) == (backup(4).label, 2)


@pytest.mark.parametrize("target", [time(320), lsn(3200)])
def test_a_stretch_that_was_left_must_be_named(target):
    with pytest.raises(NotRestorable, match="also on timeline 1, which was left at 0/9C4") as refused:
        choose(LEFT, target)
    assert "dr_restore_timeline=1" in refused.value.next_action
    (old,) = choose(LEFT, target, timeline="1")
    assert (old.backup.label, old.timeline) == (backup(2).label, 1)
    (new,) = choose(LEFT, target, timeline="latest")
    assert (new.backup.label, new.timeline) == (backup(3).label, 2)


def test_a_time_before_the_timeline_was_left_or_after_its_old_end_needs_no_name():
    assert choose(LEFT, time(249))[0].timeline == 2
    assert choose(LEFT, time(360))[0].backup.label == backup(3).label


def test_a_timeline_that_nobody_knows_is_refused():
    with pytest.raises(NotRestorable, match="no timeline 7"):
        choose(LEFT, Target(), timeline="7")


def test_all_takes_every_backup_along_the_newest_timeline_it_belongs_to():
    stray = Archive(1, [*LEFT.backups, Backup("20261124-000009F", at(340), 3300, 3400, 1)], LEFT.histories, LEFT.tails, LEFT.forks)
    chosen = {choice.backup.label: choice.timeline for choice in choose(stray, Target(), "all")}
    assert chosen == {backup(1).label: 2, backup(2).label: 2, backup(3).label: 2, backup(4).label: 2, "20261124-000009F": 1}
    assert [choice.backup.label for choice in choose(LEFT, time(245), "all")] == [backup(2).label, backup(1).label]


def test_current_stays_on_the_timeline_of_the_backup():
    (choice,) = choose(LEFT, Target(), backup(2).label, "current")
    assert choice.timeline == 1
    with pytest.raises(NotRestorable, match="after the last commit in the archive of timeline 1"):
        choose(LEFT, time(440), backup(2).label, "current")


def test_a_label_that_is_not_before_the_target_or_not_on_the_way_is_refused():
    with pytest.raises(NotRestorable, match=f"before the end of backup {backup(2).label}"):
        choose(PLAIN, time(150), backup(2).label)
    with pytest.raises(NotRestorable, match="is not on the way to timeline 1"):
        choose(LEFT, lsn(3200), backup(3).label, "1")


def test_a_restore_point_is_found_on_its_timeline_and_only_once():
    def with_points(*points):
        return Archive(1, LEFT.backups, LEFT.histories, LEFT.tails, LEFT.forks, points)

    point = Target(NAME, "before the release")
    assert choose(with_points((1, 2200)), point)[0].backup.label == backup(2).label
    assert choose(with_points((1, 1500), (1, 2200)), point)[0].backup.label == backup(2).label
    with pytest.raises(NotRestorable, match=r"dr_restore_timeline=1, where it is"):
        choose(with_points((1, 3000)), point)
    with pytest.raises(NotRestorable, match="was made 2 times after"):
        choose(with_points((1, 2100), (1, 2200)), point)
    with pytest.raises(NotRestorable, match="not in the archive"):
        choose(with_points(), point)
    with pytest.raises(NotRestorable, match="before the end of the oldest backup"):
        choose(with_points((1, 900)), point)


def test_a_newest_timeline_without_commits_ends_where_its_parent_was_left():
    quiet = Archive(1, [backup(1)], {2: [(1, 2500)]}, {1: Tail(2500, at(249)), 2: Tail(2600)}, {(1, 2500): Tail(2490, at(249))})
    assert choose(quiet, time(248))[0].timeline == 2
    with pytest.raises(NotRestorable, match="after the last commit"):
        choose(quiet, time(260))


def test_the_window_names_both_ends_of_each_timeline():
    shown = window(LEFT)
    assert (
        "timeline 2 from 2026-11-24T00:01:41.000000Z (LSN 0/3E8, backup 20261124-000001F) to 2026-11-24T00:07:30.000000Z" in shown
    )
    assert "timeline 1 from" in shown
    assert window(Archive(3, [], {}, {})) == "repository 3: nothing"


def test_the_window_ends_at_a_hole_and_begins_behind_it():
    cut = replace(PLAIN, holes=[(1, 1200, 1300), (1, 1300, 1400)])
    assert window(cut) == (
        "repository 1: timeline 1 from 2026-11-24T00:03:21.000000Z (LSN 0/7D0, backup 20261124-000002F) "
        "to 2026-11-24T00:05:00.000000Z (LSN 0/BB8); timeline 1 from 2026-11-24T00:01:41.000000Z (LSN 0/3E8, backup "
        "20261124-000001F) to LSN 0/4B0, where WAL is missing"
    )
    # In its own WAL: it restores to nowhere.
    assert "000001F" not in window(replace(PLAIN, holes=[(1, 850, 950)]))


def test_a_hole_where_a_timeline_was_left_cuts_only_who_went_on_there():
    cut = window(replace(LEFT, holes=[(1, 2450, 2550)]))
    assert "timeline 2 from 2026-11-24T00:01:41.000000Z (LSN 0/3E8, backup 20261124-000001F) to 2026-11-24T00:07:30.000000Z" in cut
    assert "timeline 1 from 2026-11-24T00:01:41.000000Z (LSN 0/3E8, backup 20261124-000001F) to LSN 0/992, where" in cut


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"time": "2026-01-02T10:00:00"}, "no offset"),
        ({"time": "2026-01-02 10:00"}, "no offset"),
        ({"time": "2026-01-02 10:00 EDT"}, "cannot be read"),
        ({"time": "tomorrow"}, "cannot be read"),
        ({"time": "2026-13-02T10:00:00Z"}, "does not exist"),
        ({"time": "2026-01-02T10:00:00+99:00"}, "does not exist"),
        ({"lsn": "0"}, "the form X/X"),
        ({"lsn": "0/0"}, "the form X/X"),
        ({"lsn": "0/123456789"}, "the form X/X"),
        ({"name": "x" * 64}, "63 printable"),
        ({"name": "it's"}, "63 printable"),
        ({"name": "a\\b"}, "63 printable"),
        ({"time": "2026-01-02T10:00:00Z", "lsn": "0/1"}, "two targets at once"),
        ({"name": "x", "lsn": "0/1"}, "two targets at once"),
    ],
)
def test_a_target_that_is_not_plain_is_refused(words, says):
    with pytest.raises(NotRestorable, match=says):
        parse_target(**words)


def test_targets_are_read_into_what_postgresql_reads():
    assert parse_target() == Target(END)
    assert parse_target(time="2026-01-02T07:00:00.5-03:00").value == "2026-01-02 10:00:00.500000+00"
    assert parse_target(time="2026-01-02 10:00Z").value == "2026-01-02 10:00:00.000000+00"
    assert parse_target(time="2026-01-02T10:00:00+0530").value == "2026-01-02 04:30:00.000000+00"
    assert parse_target(lsn="a/3000148").value == "A/3000148"
    assert parse_target(name="x" * 63).kind == NAME


@pytest.mark.parametrize(
    "words", [("newest", "", ""), ("latest", "old", ""), ("latest", "0", ""), ("latest", "", "all"), ("latest", "", "0")]
)
def test_words_that_no_repository_could_know(words):
    with pytest.raises(NotRestorable):
        check_words(*words)


@given(
    st.datetimes(min_value=datetime.datetime(2000, 1, 1), max_value=datetime.datetime(2100, 1, 1)),  # noqa: DTZ001 - the zone is added below
    st.integers(min_value=-14 * 60, max_value=14 * 60),
)
def test_any_offset_names_the_same_moment(naive, minutes):
    moment = naive.replace(tzinfo=datetime.timezone(datetime.timedelta(minutes=minutes)))
    assert parse_target(time=moment.isoformat()).moment == moment
    assert parse_target(time=parse_target(time=moment.isoformat()).value).moment == moment


@st.composite
def archives(draw):
    """One to four timelines, each left at some position, with backups anywhere on them; position p is written in second p / 10."""
    count = draw(st.integers(1, 4))
    histories, tails, forks = {}, {}, {}
    ends = {1: draw(st.integers(2000, 9000))}
    for timeline in range(2, count + 1):
        parent = draw(st.integers(1, timeline - 1))
        inherited = histories.get(parent, [])
        begin = inherited[-1][1] if inherited else 0
        left = draw(st.integers(begin + 1, max(begin + 1, ends[parent])))
        histories[timeline] = [*inherited, (parent, left)]
        ends[timeline] = left + draw(st.integers(1, 5000))
        forks[parent, left] = Tail(left, at(left / 10))
    for timeline, end in ends.items():
        tails[timeline] = Tail(end, at(end / 10))
    backups = []
    for number in range(draw(st.integers(1, 6))):
        timeline = draw(st.integers(1, count))
        begin = histories[timeline][-1][1] if timeline in histories else 0
        stop = draw(st.integers(begin, ends[timeline]))
        backups.append(Backup(f"20261124-{number:06d}F", at(stop // 10), max(0, stop - 5), stop, timeline))
    return Archive(1, backups, histories, tails, forks)


TARGETS = st.one_of(st.just(Target()), st.integers(1, 2000).map(lambda second: time(second + 0.5)), st.integers(1, 20000).map(lsn))


@given(archives(), TARGETS, st.sampled_from(["", "latest", "1", "2"]), st.sampled_from(["latest", "all"]))
def test_what_is_chosen_always_ends_before_the_target_on_the_way_to_it(archive, target, timeline, wanted):
    try:
        chosen = choose(archive, target, wanted, timeline)
    except NotRestorable:
        return
    assert chosen
    for choice in chosen:
        legs = path(archive.histories, choice.timeline)
        assert on_path(legs, choice.backup.timeline, choice.backup.stop)
        if target.kind == TIME:
            assert (
                choice.backup.stopped + datetime.timedelta(seconds=1) <= target.moment < archive.tails[choice.timeline].committed_at
            )
        if target.kind == LSN:
            assert choice.backup.stop < target.position <= archive.tails[choice.timeline].position


@given(archives(), TARGETS, st.sampled_from(["", "latest", "1"]))
def test_no_newer_backup_would_have_served(archive, target, timeline):
    try:
        (choice,) = choose(archive, target, "latest", timeline)
    except NotRestorable:
        return
    everything = choose(archive, target, "all", timeline)
    assert max(other.backup.stopped for other in everything if other.timeline == choice.timeline) == choice.backup.stopped


@given(archives(), st.integers(1, 2000))
def test_without_a_name_a_time_is_never_one_of_two_histories(archive, second):
    target = time(second + 0.5)
    try:
        (choice,) = choose(archive, target)
    except NotRestorable:
        return
    for leg in path(archive.histories, choice.timeline)[:-1]:
        left_at, old_end = archive.forks[leg.timeline, leg.end].committed_at, archive.tails[leg.timeline].committed_at
        assert not (archive.tails[leg.timeline].position > leg.end and left_at < target.moment <= old_end)
