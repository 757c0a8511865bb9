"""The customer's checklist: each line with the evidence that it rests on, and no line that is only claimed. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from relevo import contacts, criteria, due, wording
from relevo.clock import parse_utc, utc
from relevo.findings import State as FindingState
from relevo.policy import (
    DocumentEvidence,
    ObjectiveEvidence,
    RunEvidence,
    SignOffEvidence,
    TestEvidence,
)
from relevo.readiness import seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from relevo.beside import Beside
    from relevo.history import Summary
    from relevo.overview import Overview
    from relevo.policy import Evidence, Run
    from relevo.policy import Line as Wanted

READY = "READY FOR PRODUCTION"
NOT_READY = "NOT READY"
# The report's own period: whoever makes it each week has the records verified each week.
VERIFIED_FOR = timedelta(weeks=1)
_AT_ONCE = 10
_MOST_NAMED = 3


class State(StrEnum):
    """proven: something measured says so; failed: something measured says the contrary; unproven: nothing says either, or it is too old."""

    PROVEN = "proven"
    UNPROVEN = "unproven"
    FAILED = "failed"


@dataclass(frozen=True)
class Proof:
    """What one kind of evidence comes to.

    rests_on: a run id, a person, pages; at: when that was, UTC; until: when it will be too old, None where it holds as long as nothing changes.
    """

    kind: str
    state: State
    sentence: str
    rests_on: str | None = None
    at: str | None = None
    until: str | None = None


@dataclass(frozen=True)
class Line:
    """One line of the list; answers: the clauses of standards that it belongs to."""

    section: str
    line: str
    proofs: tuple[Proof, ...]
    answers: tuple[str, ...]

    @property
    def state(self) -> State:
        """The worst of its proofs."""
        states = {proof.state for proof in self.proofs}
        return State.FAILED if State.FAILED in states else State.UNPROVEN if State.UNPROVEN in states else State.PROVEN

    @property
    def at(self) -> str | None:
        """The oldest date that it rests on."""
        return min((proof.at for proof in self.proofs if proof.at), default=None)

    @property
    def until(self) -> str | None:
        """When the first of its proofs is too old."""
        return min((proof.until for proof in self.proofs if proof.until), default=None)

    def document(self) -> dict[str, Any]:
        """As a JSON tree."""
        tree = asdict(self)
        return {
            **tree,
            "proofs": [asdict(one) for one in self.proofs],
            "state": self.state.value,
            "at": self.at,
            "until": self.until,
        }


@dataclass(frozen=True)
class Checklist:
    """All lines of one cluster at one moment."""

    cluster: str
    at: str
    lines: tuple[Line, ...]

    @property
    def open(self) -> list[Line]:
        """Those that are not proven."""
        return [line for line in self.lines if line.state is not State.PROVEN]

    @property
    def ready(self) -> bool:
        """Whether every line is proven; a list without lines proves nothing."""
        return bool(self.lines) and not self.open

    @property
    def counts(self) -> dict[State, int]:
        """How many lines are in each state."""
        return {state: sum(line.state is state for line in self.lines) for state in State}

    @property
    def status(self) -> str:
        """The customer's last line, with the count and the names where it does not hold."""
        if self.ready:
            return READY
        if not self.lines:
            return f"{NOT_READY}: the policy has no checklist"
        names = "; ".join(line.line for line in self.open)
        return f"{NOT_READY}: {len(self.open)} of {wording.count(len(self.lines), 'line')} not proven: {names}"

    @property
    def sections(self) -> dict[str, list[Line]]:
        """Lines by section, in the policy's order."""
        found: dict[str, list[Line]] = {}
        for line in self.lines:
            found.setdefault(line.section, []).append(line)
        return found

    @property
    def clauses(self) -> dict[str, list[Line]]:
        """Lines by the clause of a standard that they answer."""
        found: dict[str, list[Line]] = {}
        for line in self.lines:
            for clause in line.answers:
                found.setdefault(clause, []).append(line)
        return dict(sorted(found.items()))

    def document(self) -> dict[str, Any]:
        """As a JSON tree."""
        return {
            "cluster": self.cluster,
            "at": self.at,
            "ready": self.ready,
            "status": self.status,
            "counts": {state.value: count for state, count in self.counts.items()},
            "lines": [line.document() for line in self.lines],
            "standards": {
                clause: [{"line": line.line, "state": line.state.value} for line in lines] for clause, lines in self.clauses.items()
            },
        }


def judge(seen: Overview, beside: Beside, cluster: str) -> Checklist:
    """The checklist of one cluster."""
    look = _Look(seen, beside, cluster)
    return Checklist(cluster, utc(seen.at), tuple(look.line(wanted) for wanted in seen.policy.checklist))


@dataclass(frozen=True)
class _Look:
    seen: Overview
    beside: Beside
    cluster: str

    def line(self, wanted: Wanted) -> Line:
        return Line(wanted.section, wanted.line, tuple(map(self.proof, wanted.rests_on)), tuple(wanted.answers))

    def proof(self, evidence: Evidence) -> Proof:
        if isinstance(evidence, TestEvidence):
            return self._of_a_test(evidence)
        if isinstance(evidence, RunEvidence):
            return self._of_a_run(evidence)
        if isinstance(evidence, ObjectiveEvidence):
            return self._of_an_objective(evidence)
        if isinstance(evidence, DocumentEvidence):
            return self._of_documents(evidence)
        if isinstance(evidence, SignOffEvidence):
            return self._of_a_sign_off(evidence)
        of_state: dict[str, Callable[[], Proof]] = {
            "contacts": self._of_contacts,
            "escalation": self._of_the_escalation,
            "records": self._of_records,
            "findings": self._of_findings,
        }
        return of_state[evidence.kind]()

    def _of_a_test(self, evidence: TestEvidence) -> Proof:
        entry = next((one for one in self.seen.calendar_of(self.cluster) if one.test == evidence.test), None)
        if entry is None:
            return Proof(
                "test", State.UNPROVEN, f"the policy asks no {self.seen.policy.tests[evidence.test].title.lower()} of this cluster"
            )
        if entry.passed is None:
            attempt = entry.attempt
            state = State.FAILED if attempt and attempt.verdict == criteria.FAILED else State.UNPROVEN
            said = f"{entry.title}: never passed; {_shortened(entry.reasons)}"
            return Proof("test", state, said, attempt.run_id if attempt else None, attempt.at if attempt else None)
        passed = entry.passed
        ends = [parse_utc(entry.due_at)] if entry.due_at else []
        ends += [evidence.within.after(parse_utc(passed.at))] if evidence.within else []
        until = min(ends, default=None)
        about = (passed.run_id, passed.at, utc(until) if until else None)
        said = f"{entry.title}: passed {wording.moment(passed.at)}"
        if entry.state is due.State.FAILED:
            return Proof("test", State.FAILED, f"{said}, and failed since; {_shortened(entry.reasons)}", *about)
        if entry.state is due.State.NEEDS_VERIFIED:
            return Proof("test", State.UNPROVEN, f"{said}; to be verified again: {_shortened(entry.reasons)}", *about)
        if until is not None and until < self.seen.at:
            return Proof("test", State.UNPROVEN, f"{said}; that held until {wording.moment(utc(until))}", *about)
        return Proof("test", State.PROVEN, said, *about)

    def _of_a_run(self, evidence: RunEvidence) -> Proof:
        what = _kinds(evidence.counts)
        undecided: Proof | None = None
        for run, document in self._documents(self._runs(evidence.counts, evidence.within.before(self.seen.at))):
            judged = [criteria.judge(criterion, document) for criterion in evidence.criteria]
            about = (run.run_id, run.closed_at, utc(evidence.within.after(parse_utc(run.closed_at))))
            failed = [one.sentence for one in judged if one.verdict == criteria.FAIL]
            doubts = [one.sentence for one in judged if one.verdict == criteria.UNKNOWN]
            if failed or (run.verdict == criteria.FAILED and not evidence.criteria):
                reasons = failed or [f"the run ended as {run.verdict}"]
                return Proof("run", State.FAILED, f"{run.runbook}, {wording.moment(run.closed_at)}: {_shortened(reasons)}", *about)
            if run.verdict == criteria.PASSED and not doubts:
                said = "; ".join(f"{one.name}: {one.seen}" for one in judged) or "the run passed"
                return Proof("run", State.PROVEN, f"{run.runbook}, {wording.moment(run.closed_at)}: {said}", *about)
            reasons = doubts or [f"the run ended as {run.verdict}"]
            said = f"{run.runbook}, {wording.moment(run.closed_at)}: {_shortened(reasons)}"
            undecided = undecided or Proof("run", State.UNPROVEN, said, *about)
        return undecided or Proof(
            "run", State.UNPROVEN, f"no run of {what} within {evidence.within}; next: relevo run {evidence.counts[0].runbook}"
        )

    def _of_an_objective(self, evidence: ObjectiveEvidence) -> Proof:
        target = self.seen.policy.objectives_of(self.cluster)[evidence.measure]
        name = wording.NAMES[evidence.measure]
        for run in self._runs(evidence.counts, evidence.within.before(self.seen.at), evidence.measure):
            seconds = seconds_of(run, evidence.measure)
            met = seconds is not None and seconds <= target
            said = f"{name}: {wording.seconds(seconds)} in {run.runbook} of {wording.moment(run.closed_at)}, target {wording.seconds(target)}"
            until = utc(evidence.within.after(parse_utc(run.closed_at)))
            return Proof("objective", State.PROVEN if met else State.FAILED, said, run.run_id, run.closed_at, until)
        said = f"{name}: no {_kinds(evidence.counts)} measured it within {evidence.within}; target {wording.seconds(target)}"
        return Proof("objective", State.UNPROVEN, said)

    def _of_documents(self, evidence: DocumentEvidence) -> Proof:
        library = self.beside.library
        if library is None:
            return Proof(
                "documents", State.UNPROVEN, "no checkout lies beside this command: nobody looked at the pages; set RELEVO_PROJECT"
            )
        problems = [problem.sentence for runbook in evidence.runbooks for problem in library.of(runbook).problems]
        at = (
            f"commit {library.commit[:12]}{' with uncommitted changes' if library.uncommitted else ''}"
            if library.commit
            else "no commit"
        )
        if problems:
            return Proof("documents", State.FAILED, _shortened(problems), at, utc(self.seen.at))
        said = f"{wording.count(len(evidence.runbooks), 'page')} {'is' if len(evidence.runbooks) == 1 else 'are'} there and match their playbooks"
        return Proof("documents", State.PROVEN, f"{said}: {', '.join(evidence.runbooks)}", at, utc(self.seen.at))

    def _of_a_sign_off(self, evidence: SignOffEvidence) -> Proof:
        given = [one for one in self.seen.sign_offs if one.subject == evidence.subject and parse_utc(one.at) <= self.seen.at]
        if not given:
            said = f"nobody has signed off {evidence.subject}; next: relevo signoff {evidence.subject} --as NAME --statement WORDS"
            return Proof("sign_off", State.UNPROVEN, said)
        one = given[-1]
        until = evidence.within.after(parse_utc(one.at))
        about = (one.name, one.at, utc(until))
        said = f"{one.name} on {evidence.subject}, {wording.moment(one.at)}: {one.statement}"
        if until < self.seen.at:
            return Proof("sign_off", State.UNPROVEN, f"{said}; that held until {wording.moment(utc(until))}", *about)
        rewritten = self.beside.rewritten.get(one.seen or "")
        if rewritten:
            names = _shortened([page.rpartition("/")[2] for page in rewritten], ", ")
            return Proof(
                "sign_off", State.UNPROVEN, f"{said}; {wording.count(len(rewritten), 'page')} changed since: {names}", *about
            )
        return Proof("sign_off", State.PROVEN, said, *about)

    def _of_contacts(self) -> Proof:
        standings = self.seen.contacts
        if not standings:
            return Proof("contacts", State.UNPROVEN, "the policy names no contact")
        wanting = [f"{one.name}: {one.state.value}" for one in standings if one.state is not contacts.State.CURRENT]
        at = min((one.acknowledged_at for one in standings if one.acknowledged_at), default=None)
        if wanting:
            return Proof("contacts", State.UNPROVEN, f"{_shortened(wanting)}; next: relevo contacts ack", None, at)
        people = ", ".join(one.name for one in standings)
        until = min(one.due_at for one in standings if one.due_at)
        return Proof(
            "contacts",
            State.PROVEN,
            f"{wording.count(len(standings), 'contact')}: acknowledged, all data as they are now",
            people,
            at,
            until,
        )

    def _of_the_escalation(self) -> Proof:
        steps = self.seen.policy.escalation
        if not steps:
            return Proof("escalation", State.UNPROVEN, "the policy has no step of an escalation")
        called = " then ".join(", ".join(self.seen.policy.contacts[name].name for name in step.contacts) for step in steps)
        return Proof("escalation", State.PROVEN, f"{wording.count(len(steps), 'step')}: {called}", "the policy", utc(self.seen.at))

    def _of_records(self) -> Proof:
        standing = self.beside.verification
        newest = standing.newest
        if newest is None:
            return Proof("records", State.UNPROVEN, "nobody has verified the records yet; next: relevo checklist --verify")
        until = parse_utc(newest.at) + VERIFIED_FOR
        about = (newest.by, newest.at, utc(until))
        if newest.problems:
            return Proof(
                "records", State.FAILED, f"{wording.count(newest.problems, 'problem')}: {_shortened(newest.sentences)}", *about
            )
        if not standing.holds:
            said = f"the chain no longer has its entry {newest.last} as it was verified; next: relevo results verify"
            return Proof("records", State.FAILED, said, *about)
        ago = wording.seconds((self.seen.at - parse_utc(newest.at)).total_seconds())
        said = f"{wording.count(newest.records, 'record')} verified {ago} ago, {standing.since} came since"
        if until < self.seen.at:
            return Proof("records", State.UNPROVEN, f"{said}: too long ago; next: relevo checklist --verify", *about)
        return Proof("records", State.PROVEN, said, *about)

    def _of_findings(self) -> Proof:
        today = self.seen.at.date()
        own = self.seen.findings_of(self.cluster)
        going = [one for one in own if one.state is not FindingState.CLOSED]
        overdue = [one for one in going if one.is_overdue(today)]
        if overdue:
            names = [f"{one.id} {one.deficiency} ({one.owner}, due {one.due})" for one in overdue]
            return Proof("findings", State.FAILED, f"overdue: {_shortened(names)}", None, min(one.opened_at for one in overdue))
        known = {one.run_id for one in own}
        untracked = [
            entry.attempt.run_id
            for entry in self.seen.calendar_of(self.cluster)
            if entry.state is due.State.FAILED and entry.attempt and entry.attempt.run_id not in known
        ]
        if untracked:
            said = f"failed, and in no finding: {_shortened(untracked)}; next: relevo findings add --run {untracked[0]}"
            return Proof("findings", State.UNPROVEN, said, untracked[0])
        until = min((one.due for one in going), default=None)
        end = datetime.combine(date.fromisoformat(until), time.max, UTC) if until else None
        said = f"{wording.count(len(going), 'open finding')}, none overdue, {len(own) - len(going)} closed"
        return Proof("findings", State.PROVEN, said, None, utc(self.seen.at), utc(end) if end else None)

    def _runs(self, kinds: Sequence[Run], since: datetime, measure: str | None = None) -> list[Summary]:
        """Those that count, newest first; measure: the newest that measured it. A run in check mode did nothing, and one of tomorrow proves nothing."""
        latest = self.seen.at + due.LEEWAY
        found = self.seen.history.attempts(self.cluster, kinds, latest, 1 if measure else due.ATTEMPTS, measure)
        return [run for run in found if since <= parse_utc(run.closed_at)]

    def _documents(self, runs: Sequence[Summary]) -> Iterator[tuple[Summary, Mapping[str, Any]]]:
        for first in range(0, len(runs), _AT_ONCE):
            some = runs[first : first + _AT_ONCE]
            yield from zip(some, self.seen.records([run.run_id for run in some]), strict=True)


def _kinds(kinds: Sequence[Run]) -> str:
    return " or ".join(dict.fromkeys(" ".join(filter(None, (one.runbook, one.mode, one.scope))) for one in kinds))


def _shortened(sentences: Sequence[str], between: str = "; ") -> str:
    more = len(sentences) - _MOST_NAMED
    return between.join(sentences[:_MOST_NAMED]) + (f"{between}and {more} more" if more > 0 else "")
