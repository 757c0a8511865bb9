"""What an overview says about the readiness of one cluster. Pure."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from relevo import checklist, due, expectation
from relevo.clock import parse_utc, utc
from relevo.findings import Severity
from relevo.findings import State as FindingState
from relevo.prediction import Estimate
from relevo.readiness import Backups, Copy, Coverage, Expected, Failovers, Integrity, Loss, Measured, Readiness, Rung
from relevo.reasons import against, dates
from relevo.trend import FAILOVERS
from relevo.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date, datetime

    from relevo.beside import Beside
    from relevo.findings import Finding
    from relevo.history import Summary
    from relevo.overview import Overview
    from relevo.prediction import Prediction

# Verdicts of runs that came to their end and say something about what they tried.
_DECIDED = (Verdict.PASSED, Verdict.PARTIAL, Verdict.FAILED)
_COVERAGE = re.compile(r"^(\d+)\D+(\d+)")
_INSTALLED = (
    "versions.postgresql",
    "versions.pgbackrest",
    "versions.restic",
    "versions.relevo",
    "digests.inventory",
    "digests.commit",
)
_DIGEST = 12


def report(seen: Overview, beside: Beside, cluster: str, since: datetime) -> Readiness:
    """The report of one cluster over the time from then to the overview's moment."""
    look = _Look(seen, cluster, since, seen.history.ended(cluster, since))
    made = Readiness(
        cluster,
        utc(seen.at),
        utc(since),
        (),
        tuple(seen.calendar_of(cluster)),
        tuple(look.measured()),
        tuple(look.losses()),
        look.backups(),
        look.integrity(),
        look.failovers(),
        tuple(_expected(one) for one in seen.predictions.get(cluster, ())),
        tuple(look.counted()),
        tuple(look.changes()),
        tuple(_sorted(seen.findings_of(cluster), seen.at.date())),
        None if beside.library is None else tuple(problem.sentence for problem in beside.library.problems),
        None if beside.library is None else len(beside.library.pages),
        tuple(seen.contacts),
        seen.team,
        (),
        checklist.judge(seen, beside, cluster),
    )
    return replace(made, reasons=tuple(against(made)), dates=tuple(dates(made)))


@dataclass(frozen=True)
class _Look:
    seen: Overview
    cluster: str
    since: datetime
    recent: Sequence[Summary]

    def measured(self) -> Iterator[Measured]:
        courses, moves = self.seen.trends_of(self.cluster), self.seen.trends_of(self.cluster, FAILOVERS)
        runs = self.seen.history.named([found.points[-1].run_id for found in (*courses, *moves) if found.points])
        for course, moved in zip(courses, moves, strict=True):
            newest, newer = (runs[found.points[-1].run_id] if found.points else None for found in (moved, course))
            rehearsed = newer if newer and newer.runbook not in FAILOVERS else None
            yield Measured(course.measure, course.target_seconds or 0.0, newest, rehearsed, moved, course)

    def losses(self) -> Iterator[Loss]:
        newest = self.seen.newest(self.cluster, "verify_backup", _DECIDED)
        document = self.seen.records([newest.run_id])[0] if newest else {}
        hosts = (document.get("measures") or {}).get("files")
        for kind, target in self.seen.policy.rpo.of_files().items():
            seconds = _oldest(hosts if isinstance(hosts, dict) else {}, kind)
            yield Loss(kind, target, seconds, None if seconds is None else newest)

    def backups(self) -> Backups:
        taken = [run for run in self.recent if run.runbook == "backup"]
        verified = [run for run in self.recent if run.runbook == "verify_backup"]
        newest = self.seen.newest(self.cluster, "verify_backup", _DECIDED)
        return Backups(
            len(taken),
            sum(run.verdict == Verdict.PASSED for run in taken),
            len(verified),
            sum(run.verdict == Verdict.PASSED for run in verified),
            newest,
            tuple(_coverage(self.seen.records([run.run_id for run in verified]))),
        )

    def integrity(self) -> Integrity | None:
        run = self.seen.newest(self.cluster, "restore_test", _DECIDED)
        if run is None:
            return None
        (document,) = self.seen.records([run.run_id])
        copies = [_copy(test) for test in (document.get("measures") or {}).get("restore_tests") or []]
        return Integrity(run.run_id, run.closed_at, run.verdict, tuple(copies))

    def failovers(self) -> Failovers:
        moving = [one for one in self.seen.series_of(self.cluster) if one.runbook in FAILOVERS]
        passed = [one.last[Verdict.PASSED] for one in moving if Verdict.PASSED in one.last]
        recent = [run for run in self.recent if run.runbook in FAILOVERS]
        inside = sum(run.verdict == Verdict.PASSED for run in recent)
        newest = max(passed, key=lambda run: (run.opened_at, run.run_id), default=None)
        return Failovers(inside, sum(one.counts.get(Verdict.PASSED, 0) for one in moving), len(recent), newest)

    def counted(self) -> Iterator[tuple[str, dict[str, int]]]:
        for runbook in sorted({run.runbook for run in self.recent}):
            counts = Counter(run.verdict for run in self.recent if run.runbook == runbook)
            yield runbook, {verdict.value: counts[verdict] for verdict in Verdict if counts[verdict]}

    def changes(self) -> Iterator[str]:
        """What is another thing than at the beginning of the period, in sentences."""
        yield from self._states()
        yield from self._installed()
        for finding in self.seen.findings_of(self.cluster):
            if self._within(finding.opened_at):
                yield f"Finding {finding.id} was opened: {finding.deficiency}."
            if finding.closed_at and self._within(finding.closed_at):
                yield f"Finding {finding.id} was closed: {finding.resolution}."
        for standing in self.seen.contacts:
            if standing.acknowledged_at and self._within(standing.acknowledged_at):
                yield f"{standing.name} acknowledged their contact data."
        for word in self.seen.sign_offs:
            if self._within(word.at):
                yield f"{word.name} signed off {word.subject}: {word.statement}."

    def _within(self, at: str) -> bool:
        return self.since <= parse_utc(at) <= self.seen.at

    def _states(self) -> Iterator[str]:
        past = replace(self.seen.past, history=self.seen.history.before(self.since))
        then = due.of_cluster(self.seen.policy, past, self.cluster, due.Now(self.since, {}, self.seen.same))
        before = {entry.test: entry.state for entry in then}
        for entry in self.seen.calendar_of(self.cluster):
            if before.get(entry.test, entry.state) is not entry.state:
                yield f"{entry.title}: {before[entry.test]} became {entry.state}."

    def _installed(self) -> Iterator[str]:
        """Of the newest record against the newest one from before the period."""
        earlier = self.seen.history.before(self.since).runs(self.cluster, 1, ran_only=True)
        if not earlier or not self.recent:
            return
        old, new = self.seen.records([earlier[0].run_id, self.recent[0].run_id])
        for path in _INSTALLED:
            part, name = path.split(".")
            one, other = (document.get(part, {}).get(name) for document in (old, new))
            if one and other and one != other:
                yield f"{name.capitalize()}: {_short(one)} became {_short(other)}."


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:_DIGEST]}…" if len(text) > 2 * _DIGEST else text


def _coverage(documents: Sequence[Mapping[str, Any]]) -> Iterator[Coverage]:
    """Over all verifications of the period; a period that two of them looked at counts in both."""
    found: dict[str, list[tuple[int, int, list[str]]]] = {}
    for document in documents:
        for repository, seen in ((document.get("measures") or {}).get("backup_verification") or {}).items():
            said = _COVERAGE.match(str(seen.get("coverage")))
            if said:
                found.setdefault(repository, []).append((int(said[1]), int(said[2]), list(seen.get("missing_periods") or [])))
    for repository, seen in sorted(found.items()):
        missing = sorted({period for _, _, periods in seen for period in periods})
        yield Coverage(repository, sum(one[1] for one in seen), sum(one[0] for one in seen), tuple(missing))


def _oldest(hosts: Mapping[str, Any], kind: str) -> float | None:
    """Of the host where it is worst, how old the newest copy is in the repository where that is best; None where a host has none at all."""
    ages: list[float | None] = []
    for repositories in hosts.values():
        said = [
            one["age_seconds"]
            for one in repositories.values()
            if isinstance(one, dict) and isinstance(one.get("age_seconds"), dict)
        ]
        kept = [known[kind] for known in said if kind in known]
        if kept:
            ages.append(min((age for age in kept if isinstance(age, (int, float))), default=None))
    known = [age for age in ages if age is not None]
    return max(known) if known and len(known) == len(ages) else None


def _copy(test: Mapping[str, Any]) -> Copy:
    rungs = tuple(Rung(str(rung.get("id")), str(rung.get("name")), str(rung.get("verdict"))) for rung in test.get("rungs") or [])
    return Copy(str(test.get("repository")), str(test.get("label")), str(test.get("target")), str(test.get("verdict")), rungs)


def _expected(prediction: Prediction) -> Expected:
    known = [one for way in prediction.ways if (one := expectation.main(way)).p50_seconds is not None]
    likeliest = known[0] if known else Estimate()
    said = "; ".join(filter(None, (expectation.line(prediction) or "no history", expectation.nine_in_ten(likeliest))))
    return Expected(
        prediction.runbook, said, likeliest.p50_seconds, prediction.limit_seconds, likeliest.p90_seconds, likeliest.runs
    )


def _sorted(found: Sequence[Finding], today: date) -> list[Finding]:
    """Those that are not closed: overdue first, then by date, then the worst."""
    order = list(Severity)
    going = [finding for finding in found if finding.state is not FindingState.CLOSED]
    return sorted(going, key=lambda one: (not one.is_overdue(today), one.due, order.index(one.severity)))
