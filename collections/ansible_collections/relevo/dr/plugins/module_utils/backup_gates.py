# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The gates of a verification as pure functions: what a repository is like, what was asked of it, and what to do when they differ."""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import stanza, wal_archive
from ansible_collections.relevo.dr.plugins.module_utils.backup_coverage import Coverage, coverage
from ansible_collections.relevo.dr.plugins.module_utils.backup_verification import Findings
from ansible_collections.relevo.dr.plugins.module_utils.restorable import Stretch, usable_backups

PHASE = "VERIFY"
PASS, FAIL, UNKNOWN, NOT_APPLICABLE = "pass", "fail", "unknown", "not_applicable"
# More objects in one sentence would not be read.
_NAMED = 4


@dataclass(frozen=True)
class Asked:
    """What the policy asks of a repository. Seconds; shrink_ratio: how small a full backup may be beside the ones before it."""

    period_seconds: float
    periods: int
    max_age_seconds: float
    shrink_ratio: float
    segment_bytes: int
    clock_offset_seconds: float
    encrypted: bool = True
    protected_since: Optional[float] = None


def judge(place: str, findings: Findings, asked: Asked, now: float, clock_offset_seconds: Optional[float]) -> list[dict[str, Any]]:
    """Every gate of one repository. place: the repository for a person; clock_offset_seconds: the store's clock minus this host's."""
    return [
        _clock(place, clock_offset_seconds, asked),
        _information(place, findings),
        _encryption(place, findings, asked),
        _coverage(place, findings, asked, now),
        _newest(place, findings, asked, now),
        _trend(place, findings, asked),
        _pages(place, findings),
        _objects(place, findings),
        _content(place, findings),
        _continuity(place, findings, asked),
        _segments(place, findings),
    ]


def unusable(place: str, observed: str, next_action: str) -> dict[str, Any]:
    """The one gate of a repository that cannot be read."""
    return _gate("REPOSITORY", "Repository readable", place, FAIL, observed, "a repository that this host can read", next_action)


def covered(findings: Findings, asked: Asked, now: float) -> Coverage:
    """The periods with a usable backup."""
    begun = [float(backup["timestamp"]["start"]) for backup in usable_backups(findings, asked.segment_bytes)]
    return coverage(begun, now, asked.period_seconds, asked.periods, asked.protected_since)


def window(place: str, stretches: Sequence[Stretch], archived_until: Optional[str]) -> dict[str, Any]:
    """The restorable time. archived_until: everything committed before this moment was read back from this repository, UTC."""
    title, expected = "Restorable time", "from the oldest usable backup to a moment that the archive was proven for"
    cut = ["from %s to %s" % (_utc(stretch.begins), stretch.until) for stretch in stretches if stretch.until]
    now = restorable_from(stretches)
    if now is None:
        observed = "%s; no usable backup leads from there to the present" % "; ".join(cut) if cut else "no usable backup"
        return _gate("WINDOW", title, place, FAIL, observed, expected, "take a new full backup now: run playbooks/backup.yml")
    observed = "from %s to %s" % (_utc(now), archived_until or "an unproven end")
    return _gate(
        "WINDOW",
        title,
        place,
        PASS if archived_until else UNKNOWN,
        "; also ".join([observed, *cut]),
        expected,
        "" if archived_until else "see the gate G03 of this repository",
    )


def restorable_from(stretches: Sequence[Stretch]) -> Optional[float]:
    """The first second from which everything up to the present can be restored; None when nothing leads there."""
    return next((stretch.begins for stretch in stretches if not stretch.until), None)


def agreement(findings: Mapping[str, Findings], segment_bytes: int) -> list[dict[str, Any]]:
    """Whether the repositories hold the same WAL, by the checksum of its plain content; nothing to say of a single one."""
    gates = []
    places = list(findings)
    for one, other in zip(places, places[1:]):
        different = wal_archive.differing(findings[one].archive, findings[other].archive)
        both = len(set(findings[one].archive.segments) & set(findings[other].archive.segments))
        gates.append(
            _gate(
                "SAME",
                "Repositories agree",
                "%s and %s" % (one, other),
                FAIL if different or not both else PASS,
                "%d segments in both, differing: %s" % (both, wal_archive.named(different, segment_bytes) or "none"),
                "the same content in both",
                "find out which server archived the other content; do not restore across it" if different else "",
            )
        )
    return gates


def _clock(place: str, offset: Optional[float], asked: Asked) -> dict[str, Any]:
    if offset is None:
        return _gate("G17", "Clock of the store", place, NOT_APPLICABLE, "a store without a clock of its own", "", "")
    good = abs(offset) <= asked.clock_offset_seconds
    return _gate(
        "G17",
        "Clock of the store",
        place,
        PASS if good else FAIL,
        "the store's clock is %.0f s %s this host's" % (abs(offset), "ahead of" if offset > 0 else "behind"),
        "at most %g s" % asked.clock_offset_seconds,
        "" if good else "set the clock that is wrong (timedatectl, chronyc tracking): stores refuse requests of another time",
    )


def _information(place: str, findings: Findings) -> dict[str, Any]:
    return _named_gate(
        "INFO",
        "Both copies of the info files",
        place,
        findings.information,
        "all four there, readable and equal",
        "backup.info and archive.info with their copies",
        "restore the file from its copy or from the bucket's earlier version; without both copies the repository is lost",
    )


def _encryption(place: str, findings: Findings, asked: Asked) -> dict[str, Any]:
    cipher = findings.info.get("cipher", "none")
    good = cipher != "none" and findings.encrypted
    title, expected = "Encrypted before it leaves the host", "aes-256-cbc"
    if not good and not asked.encrypted:
        return _gate("ENCRYPTION", title, place, NOT_APPLICABLE, "not encrypted, as the inventory says", expected, "")
    observed = "%s; info files %s" % (cipher, "encrypted" if findings.encrypted else "in clear")
    return _gate(
        "ENCRYPTION", title, place, PASS if good else FAIL, observed, expected, "" if good else "make a new, encrypted repository"
    )


def _coverage(place: str, findings: Findings, asked: Asked, now: float) -> dict[str, Any]:
    found = covered(findings, asked, now)
    since = "" if asked.protected_since is None else ", protected since %s" % _utc(asked.protected_since)
    observed = "%s periods of %g s%s" % (found.text, asked.period_seconds, since)
    if found.missing:
        observed += "; without a backup: %s" % found.missing_text
    title, expected = "A backup in every period", "a usable backup begun in each of the last %d whole periods" % asked.periods
    if not found.judged:
        return _gate("COVERAGE", title, place, NOT_APPLICABLE, "no whole period since it is protected", expected, "")
    return _gate(
        "COVERAGE",
        title,
        place,
        FAIL if found.missing else PASS,
        observed,
        expected,
        "read the journal of the backup's timer on the primary" if found.missing else "",
    )


def _newest(place: str, findings: Findings, asked: Asked, now: float) -> dict[str, Any]:
    return {**stanza.backup_gate(findings.info, place, now, asked.max_age_seconds), "phase": PHASE}


def _trend(place: str, findings: Findings, asked: Asked) -> dict[str, Any]:
    fulls = [float(backup["info"]["size"]) for backup in stanza.current_backups(findings.info) if backup["type"] == "full"]
    title, expected = "Size of the newest full backup", "at least %g of the median of those before it" % asked.shrink_ratio
    if len(fulls) < 2:
        return _gate("TREND", title, place, NOT_APPLICABLE, "%d full backups: nothing to compare with" % len(fulls), expected, "")
    median = statistics.median(fulls[:-1])
    good = fulls[-1] >= asked.shrink_ratio * median
    return _gate(
        "TREND",
        title,
        place,
        PASS if good else FAIL,
        "%d bytes, median before %d bytes" % (fulls[-1], median),
        expected,
        "" if good else "find out what was removed from the database before older backups expire",
    )


def _pages(place: str, findings: Findings) -> dict[str, Any]:
    flagged = {backup["label"]: "page checksum errors" for backup in stanza.backups(findings.info) if backup.get("error")}
    pages = {file: "pages %s" % numbers for file, numbers in findings.damaged.items()}
    return _named_gate(
        "PAGES",
        "No damaged page in any backup",
        place,
        pages or flagged,
        "no page error in %d backups" % len(stanza.backups(findings.info)),
        "backups without page checksum errors",
        "run pg_amcheck on the primary, restore the damaged relation, then take a new full backup",
    )


def _objects(place: str, findings: Findings) -> dict[str, Any]:
    return _named_gate(
        "OBJECTS",
        "Everything that a backup needs is there",
        place,
        findings.missing,
        "%d objects, %d bytes" % (findings.objects, findings.bytes_stored),
        "every object that a manifest names",
        "take a new full backup now; until then restore from another repository or an older backup",
    )


def _content(place: str, findings: Findings) -> dict[str, Any]:
    gate = _named_gate(
        "CONTENT",
        "Bytes of the backups",
        place,
        findings.wrong,
        "%d of %d objects read now, %d bytes; the rest was read before"
        % (findings.objects_read, findings.objects, findings.bytes_read),
        "the checksums of the manifests",
        "take a new full backup now; until then restore from another repository or an older backup",
    )
    if gate["verdict"] == PASS and findings.unverifiable:
        gate.update(
            verdict=UNKNOWN,
            observed="%d objects have no checksum of their stored bytes (pgBackRest before 2.44 wrote them)"
            % findings.unverifiable,
            next_action="take a new full backup; a restore test reads the old ones",
        )
    return gate


def _continuity(place: str, findings: Findings, asked: Asked) -> dict[str, Any]:
    archive = findings.archive
    wrong = {}
    if findings.holes:
        wrong["missing"] = wal_archive.named(findings.holes, asked.segment_bytes)
    split = wal_archive.split(archive)
    if split:
        wrong["archived with more than one content"] = wal_archive.named(split, asked.segment_bytes)
    if findings.broken_histories:
        wrong["history files missing or damaged of timelines"] = ", ".join(str(timeline) for timeline in findings.broken_histories)
    timelines = sorted({segment.timeline for segment in archive.segments})
    return _named_gate(
        "G04",
        "WAL without a hole",
        place,
        wrong,
        "%d segments on timelines %s" % (len(archive.segments), ", ".join(map(str, timelines)) or "none"),
        "on each timeline every segment from the oldest backup to the newest one",
        "take a new full backup now: nothing can be restored across the hole from this repository",
    )


def _segments(place: str, findings: Findings) -> dict[str, Any]:
    return _named_gate(
        "WAL",
        "Bytes of the WAL",
        place,
        findings.wrong_segments,
        "%d segments, each read within its turn" % len(findings.archive.segments),
        "the checksum in each segment's name",
        "take a new full backup now: recovery would stop at this segment",
    )


def _named_gate(
    check: str, title: str, place: str, wrong: Mapping[str, str], good: str, expected: str, next_action: str
) -> dict[str, Any]:
    if not wrong:
        return _gate(check, title, place, PASS, good, expected, "")
    return _gate(check, title, place, FAIL, _listed(wrong.items()), expected, next_action)


def _listed(pairs: Iterable[tuple[str, str]]) -> str:
    every = ["%s: %s" % pair for pair in pairs]
    return "; ".join(every[:_NAMED]) + (" and %d more" % (len(every) - _NAMED) if len(every) > _NAMED else "")


def _gate(check: str, title: str, place: str, verdict: str, observed: str, expected: str, next_action: str) -> dict[str, Any]:
    return {
        "id": check,
        "title": title,
        "phase": PHASE,
        "host": place,
        "observed": observed,
        "expected": expected,
        "verdict": verdict,
        "next_action": next_action,
    }


def _utc(moment: float) -> str:
    return datetime.datetime.fromtimestamp(moment, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
