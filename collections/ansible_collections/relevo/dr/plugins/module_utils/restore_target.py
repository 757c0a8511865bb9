# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""To which point a backup is restored, from which backup and along which timeline. Pure: pgBackRest's own choice falls back silently.

A *path* is the history of a timeline: which stretch of the archive belongs to which of its ancestors. A backup serves a target only when it
ended on the path and before the target.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

from ansible_collections.relevo.dr.plugins.module_utils import clock
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import lsn_bytes

END, TIME, LSN, NAME = "end", "time", "lsn", "name"
LATEST, CURRENT, ALL = "latest", "current", "all"

_TIME = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})[T ](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?\s?(Z|[+-]\d{2}(?::?\d{2})?)?",
    re.ASCII | re.IGNORECASE,
)
_LSN = re.compile(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}")
# What pgBackRest writes between quotes into a configuration file.
_POINT = re.compile(r"[ -&(-\[\]-~]{1,63}")
_LABEL = re.compile(r"\d{8}-\d{6}F(?:_\d{8}-\d{6}[DI])?")


class NotRestorable(Exception):
    """observed, expected, next_action: for a person; nothing was changed."""

    def __init__(self, observed: str, expected: str, next_action: str) -> None:
        super().__init__("%s; expected %s" % (observed, expected))
        self.observed, self.expected, self.next_action = observed, expected, next_action


@dataclass(frozen=True)
class Target:
    """value: as PostgreSQL reads it. moment and position: the same as a time or as a number of bytes."""

    kind: str = END
    value: str = ""
    moment: Optional[datetime.datetime] = None
    position: int = 0

    def words(self) -> str:
        """For a person."""
        return {END: "the end of the archive", TIME: "time %s", LSN: "LSN %s", NAME: "restore point %s"}[self.kind] % (
            (self.value,) if self.kind != END else ()
        )


@dataclass(frozen=True)
class Backup:
    """stopped: the second in which it ended, by the clock of the database host; stop: the position at which it is consistent."""

    label: str
    stopped: datetime.datetime
    start: int
    stop: int
    timeline: int
    size: int = 0
    first_segment: str = ""
    damaged: bool = False


@dataclass(frozen=True)
class Tail:
    """The end of a stretch of WAL: position after which nothing is there, and the last commit before it (None: not seen)."""

    position: int
    committed_at: Optional[datetime.datetime] = None


@dataclass(frozen=True)
class Leg:
    """A stretch of a path; end None: to the end of the archive."""

    timeline: int
    begin: int = 0
    end: Optional[int] = None


@dataclass(frozen=True)
class Archive:
    """What one repository holds.

    histories: timeline -> its parents and where each was left; tails: timeline -> end of its archive;
    forks: (parent, position) -> the parent's last commit before it was left; points: (timeline, position) of the named restore point.
    holes: (timeline, begin, end) of WAL that must be there and is not.
    """

    repository: int
    backups: Sequence[Backup]
    histories: Mapping[int, Sequence[tuple[int, int]]]
    tails: Mapping[int, Tail]
    forks: Mapping[tuple[int, int], Tail] = field(default_factory=dict)
    points: Sequence[tuple[int, int]] = ()
    holes: Sequence[tuple[int, int, int]] = ()


@dataclass(frozen=True)
class Choice:
    """One restore: this backup, along this timeline, to the target."""

    backup: Backup
    timeline: int
    target: Target
    legs: tuple[Leg, ...]


def parse_target(time: str = "", lsn: str = "", name: str = "") -> Target:
    """The one target that was asked for. Raises NotRestorable for two at once and for what cannot be read."""
    given = [option for option, value in (("time", time), ("lsn", lsn), ("name", name)) if value]
    if len(given) > 1:
        raise NotRestorable(
            "two targets at once: %s" % ", ".join("dr_restore_target_%s" % option for option in given),
            "one target, or none for the end of the archive",
            "leave all but one out",
        )
    if time:
        moment = parse_moment(time)
        return Target(TIME, moment.strftime("%Y-%m-%d %H:%M:%S.%f+00"), moment)
    if lsn:
        if not _LSN.fullmatch(lsn) or lsn_bytes(lsn) == 0:
            raise NotRestorable(
                "the LSN %r" % lsn, "the form X/X of hexadecimal digits, such as 0/3000148", "correct dr_restore_target_lsn"
            )
        return Target(LSN, lsn.upper(), None, lsn_bytes(lsn))
    if name:
        if not _POINT.fullmatch(name):
            raise NotRestorable(
                "the name %r" % name, "at most 63 printable characters without quotes", "correct dr_restore_target_name"
            )
        return Target(NAME, name)
    return Target()


def parse_moment(text: str) -> datetime.datetime:
    """A time with an offset, in UTC. Raises NotRestorable."""
    match = _TIME.fullmatch(text.strip())
    expected = "ISO 8601 with an offset, such as 2026-11-24T03:12:00Z or 2026-11-24T00:12:00-03:00"
    if not match:
        raise NotRestorable("the time %r cannot be read" % text, expected, "correct dr_restore_target_time")
    if not match.group(8):
        raise NotRestorable(
            "the time %r has no offset: it is another moment in every time zone" % text,
            expected,
            "say Z or the offset of your clock",
        )
    year, month, day, hour, minute = (int(part) for part in match.groups()[:5])
    zone = match.group(8).upper().replace(":", "")
    offset = datetime.timedelta()
    if zone != "Z":
        offset = datetime.timedelta(hours=int(zone[1:3]), minutes=int(zone[3:] or 0)) * (-1 if zone[0] == "-" else 1)
    try:
        moment = datetime.datetime(
            year,
            month,
            day,
            hour,
            minute,
            int(match.group(6) or 0),
            int((match.group(7) or "0").ljust(6, "0")),
            datetime.timezone(offset),
        )
        return moment.astimezone(datetime.timezone.utc)
    except (ValueError, OverflowError):
        raise NotRestorable("the time %r does not exist" % text, expected, "correct dr_restore_target_time") from None


def check_words(restore_set: str, timeline: str, repository: str) -> None:
    """Raises NotRestorable for what no repository could know."""
    if restore_set not in (LATEST, ALL) and not _LABEL.fullmatch(restore_set):
        raise NotRestorable(
            "dr_restore_set %r" % restore_set, "latest, all, or a label such as 20261124-031500F", "choose one of the shown labels"
        )
    if timeline not in ("", LATEST, CURRENT) and not re.fullmatch(r"[1-9]\d{0,8}", timeline):
        raise NotRestorable("dr_restore_timeline %r" % timeline, "latest, current or a number", "correct dr_restore_timeline")
    if repository not in ("", "each") and not re.fullmatch(r"[1-9]\d{0,2}", repository):
        raise NotRestorable("dr_restore_repository %r" % repository, "a number, or each", "correct dr_restore_repository")


def path(histories: Mapping[int, Sequence[tuple[int, int]]], timeline: int) -> tuple[Leg, ...]:
    """The legs of a timeline, oldest first."""
    legs, begin = [], 0
    for parent, end in histories.get(timeline, ()):
        legs.append(Leg(parent, begin, end))
        begin = end
    return (*legs, Leg(timeline, begin))


def on_path(legs: Sequence[Leg], timeline: int, position: int) -> bool:
    """Whether a position of a timeline belongs to a path."""
    return any(leg.timeline == timeline and leg.begin <= position and (leg.end is None or position <= leg.end) for leg in legs)


def timeline_at(legs: Sequence[Leg], position: int) -> int:
    """The timeline of a path that a position belongs to."""
    return next(
        (leg.timeline for leg in legs if leg.begin <= position and (leg.end is None or position < leg.end)), legs[-1].timeline
    )


def choose(
    archive: Archive, target: Target, restore_set: str = LATEST, timeline: str = "", now: Optional[datetime.datetime] = None
) -> list[Choice]:
    """What to restore, newest backup first. timeline: empty means latest, but not named. Raises NotRestorable."""
    if not archive.backups:
        raise NotRestorable(
            "repository %d holds no backup" % archive.repository,
            "a backup",
            "run playbooks/protect.yml, or name another repository",
        )
    backups = sorted(archive.backups, key=lambda backup: (backup.stopped, backup.label), reverse=True)
    if restore_set not in (LATEST, ALL):
        backups = [backup for backup in backups if backup.label == restore_set]
        if not backups:
            known = ", ".join(backup.label for backup in archive.backups)
            raise NotRestorable(
                "repository %d holds no backup %s" % (archive.repository, restore_set),
                "one of %s" % known,
                "choose a label that is there",
            )
    if target.moment and now and target.moment > now:
        raise NotRestorable(
            "%s is in the future" % target.words(), "a time before %s" % clock.utc(now), "correct dr_restore_target_time"
        )
    if timeline == CURRENT or (restore_set == ALL and target.kind == END and timeline in ("", LATEST)):
        return _along_their_own(archive, backups, target, restore_set, timeline)
    number = _timeline(archive, timeline)
    legs = path(archive.histories, number)
    _check_reach(archive, legs, target, named=bool(timeline))
    chosen = [Choice(backup, number, target, legs) for backup in backups if _serves(archive, legs, backup, target)]
    if not chosen:
        raise _no_backup(archive, backups, legs, target, restore_set)
    return _one_place(archive, chosen if restore_set == ALL else chosen[:1])


def _along_their_own(archive: Archive, backups: Sequence[Backup], target: Target, restore_set: str, timeline: str) -> list[Choice]:
    """Each backup along the timeline it was taken on; without a wish, along the newest that it belongs to."""
    newest = _timeline(archive, "")
    chosen = []
    refused: Optional[NotRestorable] = None
    for backup in backups:
        legs = path(archive.histories, newest)
        number = newest
        if timeline == CURRENT or not on_path(legs, backup.timeline, backup.stop):
            number, legs = backup.timeline, path(archive.histories, backup.timeline)
        try:
            _check_reach(archive, legs, target, named=True)
        except NotRestorable as reason:
            refused = refused or reason
            continue
        if _serves(archive, legs, backup, target):
            chosen.append(Choice(backup, number, target, legs))
    if not chosen:
        raise refused or _no_backup(archive, backups, path(archive.histories, newest), target, restore_set)
    return _one_place(archive, chosen if restore_set == ALL else chosen[:1])


def _timeline(archive: Archive, wanted: str) -> int:
    known = sorted({*archive.tails, *archive.histories, *(backup.timeline for backup in archive.backups)})
    if wanted in ("", LATEST):
        return known[-1]
    if int(wanted) not in known:
        raise NotRestorable(
            "repository %d has no timeline %s" % (archive.repository, wanted),
            "one of %s" % ", ".join(str(number) for number in known),
            "correct dr_restore_timeline",
        )
    return int(wanted)


def _check_reach(archive: Archive, legs: Sequence[Leg], target: Target, *, named: bool) -> None:
    """Whether the path leads to the target and no abandoned stretch could be meant instead. Raises NotRestorable."""
    if target.kind == END:
        return
    if target.kind == NAME:
        _check_point(archive, legs, target)
        return
    if not named:
        _check_abandoned(archive, legs, target)
    last = legs[-1]
    tail = archive.tails.get(last.timeline)
    if target.kind == TIME:
        assert target.moment is not None
        end = tail.committed_at if tail else None
        if end is None:
            # Nothing was committed on the newest timeline yet: what its parent committed before it was left is the end.
            fork = archive.forks.get((legs[-2].timeline, legs[-2].end or 0)) if len(legs) > 1 else None
            end = fork.committed_at if fork else None
        if end is None or target.moment >= end:
            raise NotRestorable(
                "%s is after the last commit in the archive of timeline %d" % (target.words(), last.timeline),
                "a time before %s" % (clock.utc(end) if end else "it"),
                "choose a time inside the window, or wait until later WAL is archived",
            )
    elif tail is None or target.position > tail.position:
        raise NotRestorable(
            "%s is after the end of the archive of timeline %d" % (target.words(), last.timeline),
            "an LSN up to %s" % (lsn_text(tail.position) if tail else "the end of that timeline"),
            "choose an LSN inside the window, or wait until later WAL is archived",
        )


def _check_abandoned(archive: Archive, legs: Sequence[Leg], target: Target) -> None:
    for leg in legs[:-1]:
        end, tail = leg.end or 0, archive.tails.get(leg.timeline)
        if tail is None or tail.position <= end:
            continue
        if target.kind == LSN:
            meant = end < target.position <= tail.position
        else:
            assert target.moment is not None
            fork = archive.forks.get((leg.timeline, end))
            left_at = fork.committed_at if fork else None
            meant = (
                tail.committed_at is not None
                and target.moment <= tail.committed_at
                and (left_at is None or target.moment > left_at)
            )
        if meant:
            raise NotRestorable(
                "%s is also on timeline %d, which was left at %s and went on for a while"
                % (target.words(), leg.timeline, lsn_text(end)),
                "the timeline that you mean",
                "name it: dr_restore_timeline=%d for what was written there, dr_restore_timeline=%d for what is in use"
                % (leg.timeline, legs[-1].timeline),
            )


def _check_point(archive: Archive, legs: Sequence[Leg], target: Target) -> None:
    here = [entry for entry in archive.points if on_path(legs, *entry)]
    if here:
        return
    elsewhere = sorted({timeline for timeline, _ in archive.points})
    raise NotRestorable(
        "%s is not in the archive of timeline %d" % (target.words(), legs[-1].timeline),
        "a restore point that was archived"
        if not elsewhere
        else "dr_restore_timeline=%s, where it is" % " or ".join(str(number) for number in elsewhere),
        "look for its name in the server's log, or give the LSN or the time instead" if not elsewhere else "name that timeline",
    )


def _serves(archive: Archive, legs: Sequence[Leg], backup: Backup, target: Target) -> bool:
    if not on_path(legs, backup.timeline, backup.stop):
        return False
    if target.kind == TIME:
        assert target.moment is not None
        # It ended somewhere in that second.
        return backup.stopped + datetime.timedelta(seconds=1) <= target.moment
    if target.kind == LSN:
        return backup.stop < target.position
    return target.kind == END or bool(points_after(archive, legs, backup))


def points_after(archive: Archive, legs: Sequence[Leg], backup: Backup) -> list[int]:
    """Where the restore point is after the end of a backup; recovery would stop at the first."""
    return sorted(position for timeline, position in archive.points if on_path(legs, timeline, position) and position > backup.stop)


def _one_place(archive: Archive, chosen: list[Choice]) -> list[Choice]:
    """The same, unless a restore point was made more than once after one of the backups."""
    for choice in chosen:
        positions = points_after(archive, choice.legs, choice.backup)
        if len(positions) > 1:
            raise NotRestorable(
                "%s was made %d times after backup %s, at %s"
                % (
                    choice.target.words(),
                    len(positions),
                    choice.backup.label,
                    ", ".join(lsn_text(position) for position in positions),
                ),
                "one place",
                "give the one that you mean as dr_restore_target_lsn",
            )
    return chosen


def _no_backup(archive: Archive, backups: Sequence[Backup], legs: Sequence[Leg], target: Target, restore_set: str) -> NotRestorable:
    usable = [backup for backup in backups if on_path(legs, backup.timeline, backup.stop)]
    if not usable:
        return NotRestorable(
            "backup %s is not on the way to timeline %d" % (backups[0].label, legs[-1].timeline),
            "a backup of one of the timelines %s" % ", ".join(str(leg.timeline) for leg in legs),
            "choose another backup, or dr_restore_timeline=current",
        )
    oldest = min(usable, key=lambda backup: backup.stop)
    what = "backup %s" % restore_set if restore_set not in (LATEST, ALL) else "the oldest backup, %s" % oldest.label
    return NotRestorable(
        "%s is before the end of %s" % (target.words(), what),
        "a target after %s (LSN %s)" % (clock.utc(oldest.stopped + datetime.timedelta(seconds=1)), lsn_text(oldest.stop)),
        "choose a later target%s" % ("" if restore_set in (LATEST, ALL) else ", or an older backup"),
    )


def window(archive: Archive) -> str:
    """From when to when this repository restores, timeline by timeline."""
    if not archive.backups:
        return "repository %d: nothing" % archive.repository
    parts = []
    newest = _timeline(archive, "")
    for timeline in sorted({newest, *archive.tails}, reverse=True):
        legs = path(archive.histories, timeline)
        usable = [backup for backup in archive.backups if on_path(legs, backup.timeline, backup.stop)]
        tail = archive.tails.get(timeline)
        if not usable or tail is None:
            continue
        by_cut: dict[Optional[int], Backup] = {}
        for backup in sorted(usable, key=lambda backup: backup.stop, reverse=True):
            ahead = [hole for hole in archive.holes if _hits(legs, hole) and hole[2] > backup.start]
            cut = min((begin for _, begin, _ in ahead), default=None)
            # A backup whose own WAL has a hole restores to nowhere.
            if cut is None or cut >= backup.stop:
                by_cut[cut] = backup
        parts += [_stretch(timeline, tail, oldest, cut) for cut, oldest in by_cut.items()]
    return "repository %d: %s" % (archive.repository, "; ".join(parts) or "no complete stretch")


def _hits(legs: Sequence[Leg], hole: tuple[int, int, int]) -> bool:
    """Whether a path needs it; the segment in which a timeline was left is needed of its child only."""
    timeline, _, end = hole
    return any(leg.timeline == timeline and end > leg.begin and (leg.end is None or end <= leg.end) for leg in legs)


def _stretch(timeline: int, tail: Tail, oldest: Backup, cut: Optional[int]) -> str:
    begin = oldest.stopped + datetime.timedelta(seconds=1)
    text = "timeline %d from %s (LSN %s, backup %s) to " % (timeline, clock.utc(begin), lsn_text(oldest.stop), oldest.label)
    if cut is not None:
        return "%sLSN %s, where WAL is missing" % (text, lsn_text(cut))
    last = clock.utc(tail.committed_at) if tail.committed_at and tail.committed_at > begin else "the end of that backup"
    return "%s%s (LSN %s)" % (text, last, lsn_text(tail.position))


def lsn_text(position: int) -> str:
    """As PostgreSQL writes it."""
    return "%X/%X" % (position >> 32, position & 0xFFFFFFFF)
