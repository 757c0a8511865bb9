"""What speaks against a cluster's readiness, the weightiest first, and which dates come next. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from relevo import checklist, contacts, due, wording
from relevo.clock import parse_utc
from relevo.findings import Severity
from relevo.findings import State as FindingState
from relevo.readiness import Date, Reason, Weight
from relevo.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from relevo.readiness import Readiness

_HEAVY = frozenset({Severity.CRITICAL, Severity.HIGH})
_AHEAD = timedelta(days=90)
# No run tells for how long a key that changed waits for its escrow; whether they come back is a test of its own.
_PROVEN_OTHERWISE = frozenset({"keys"})


def against(made: Readiness) -> list[Reason]:
    """Each reason, the weightiest first."""
    blocks: list[Reason] = []
    doubts: list[Reason] = []
    for judge in (_of_tests, _of_objectives, _of_backups, _of_findings, _of_people_and_pages, _of_records):
        for weight, sentence in judge(made):
            (blocks if weight is Weight.BLOCKS else doubts).append(Reason(weight, sentence))
    return [*blocks, *doubts]


def _of_tests(made: Readiness) -> Iterator[tuple[Weight, str]]:
    if not made.tests:
        yield Weight.BLOCKS, "The policy asks no test of this cluster: nothing could be proven."
    for entry in made.tests:
        why = f": {entry.reasons[0]}" if entry.reasons else ""
        if entry.state in {due.State.NEVER_PASSED, due.State.FAILED}:
            yield Weight.BLOCKS, f"{entry.title}: {entry.state}{why}"
        elif entry.state is due.State.NEEDS_VERIFIED or entry.overdue:
            since = f", overdue since {wording.moment(entry.due_at)}" if entry.overdue else ""
            yield Weight.DOUBT, f"{entry.title}: {entry.state}{since}{why}"


def _of_objectives(made: Readiness) -> Iterator[tuple[Weight, str]]:
    for one in made.measured:
        if one.newest is None:
            yield Weight.BLOCKS, f"{one.name}: never measured by a failover or a switchover."
        elif one.met is False:
            said = f"{wording.seconds(one.seconds)} in run {one.newest.run_id}, target {wording.seconds(one.target_seconds)}"
            yield Weight.BLOCKS, f"{one.name}: missed, {said}."
    for loss in made.losses:
        if loss.met is False:
            said = f"{wording.seconds(loss.seconds)} old when it was looked at, target {wording.seconds(loss.target_seconds)}"
            yield Weight.DOUBT, f"Loss of {loss.kind}: missed, the newest copy was {said}."
    unknown = [loss.kind for loss in made.losses if loss.met is None and loss.kind not in _PROVEN_OTHERWISE]
    if unknown:
        yield (
            Weight.DOUBT,
            f"Loss of {' and '.join(unknown)}: not measured, the newest verification of the backups says nothing of it.",
        )
    for expected in made.expected:
        if expected.late:
            yield (
                Weight.DOUBT,
                f"The next {expected.runbook} may take longer than {wording.seconds(expected.limit_seconds)}: {expected.line}.",
            )


def _of_backups(made: Readiness) -> Iterator[tuple[Weight, str]]:
    backups = made.backups
    if backups.newest is None:
        yield Weight.BLOCKS, "No verification of the backups has ever come to its end."
    elif backups.newest.verdict != Verdict.PASSED:
        yield Weight.BLOCKS, f"The newest verification of the backups is {backups.newest.verdict}: run {backups.newest.run_id}."
    elif not backups.verifications_passed:
        yield Weight.BLOCKS, f"No verification of the backups passed since {wording.moment(made.since)}."
    if made.integrity is not None and not made.integrity.holds:
        yield Weight.BLOCKS, f"The newest restore test does not prove the data whole: run {made.integrity.run_id}."
    for one in backups.coverage:
        if one.missing:
            said = f"{wording.number(one.covered)} of {wording.count(one.periods, 'period')} with a usable backup, none in {one.missing[0]}"
            more = f" and {len(one.missing) - 1} more" if len(one.missing) > 1 else ""
            yield Weight.DOUBT, f"Repository {one.repository}: {said}{more}."
    if backups.runs > backups.passed:
        yield Weight.DOUBT, f"{backups.runs - backups.passed} of {wording.count(backups.runs, 'backup run')} did not pass."


def _of_findings(made: Readiness) -> Iterator[tuple[Weight, str]]:
    today = parse_utc(made.at).date()
    for finding in made.findings:
        said = f"Finding {finding.id} ({finding.severity}, {finding.owner}): {finding.deficiency}"
        if finding.is_overdue(today):
            yield Weight.BLOCKS if finding.severity in _HEAVY else Weight.DOUBT, f"{said}; was due {finding.due}."
        elif finding.severity in _HEAVY and finding.state is FindingState.OPEN:
            yield Weight.DOUBT, f"{said}; due {finding.due}."


def _of_people_and_pages(made: Readiness) -> Iterator[tuple[Weight, str]]:
    if not made.team.ready:
        found = wording.count(len(made.team.operators), "person", "persons")
        yield Weight.DOUBT, f"{found} led a passed test since {wording.moment(made.team.since)}, wanted {made.team.operators_min}."
    wanting = [one.name for one in made.contacts if one.state is not contacts.State.CURRENT]
    if not made.contacts:
        yield Weight.DOUBT, "The policy names no contact."
    elif wanting:
        yield Weight.DOUBT, f"Contact data not acknowledged: {', '.join(wanting)}."
    if made.documents is None:
        yield Weight.DOUBT, "The pages of the runbooks were not looked at: no checkout lies beside this command."
    elif made.documents:
        yield (
            Weight.DOUBT,
            f"{wording.count(len(made.documents), 'place')} where pages and playbooks do not match: {made.documents[0]}.",
        )


def _of_records(made: Readiness) -> Iterator[tuple[Weight, str]]:
    proofs = [proof for line in made.checklist.lines for proof in line.proofs if proof.kind == "records"]
    if not made.checklist.ready:
        yield Weight.DOUBT, f"The checklist: {made.checklist.status}."
    for proof in proofs[:1]:
        if proof.state is checklist.State.FAILED:
            yield Weight.BLOCKS, f"The records do not verify: {proof.sentence}."
        elif proof.state is checklist.State.UNPROVEN:
            yield Weight.DOUBT, f"The records: {proof.sentence}."


def dates(made: Readiness) -> list[Date]:
    """What is over, and what comes within three months; the earliest first."""
    now = parse_utc(made.at)
    found = [(entry.due_at, f"{entry.title} is due") for entry in made.tests if entry.due_at]
    found += [(f"{one.due}T23:59:59.999999Z", f"Finding {one.id} is due: {one.deficiency} ({one.owner})") for one in made.findings]
    found += [(one.due_at, f"{one.name} acknowledges their contact data again") for one in made.contacts if one.due_at]
    for line in made.checklist.lines:
        for proof in line.proofs:
            if proof.kind == "sign_off" and proof.until:
                found.append((proof.until, f"{line.line}: to be signed off again"))
    within = sorted({(at, what) for at, what in found if parse_utc(at) <= now + _AHEAD})
    return [Date(at, what, parse_utc(at) < now) for at, what in within]
