"""An exercise: the tests of the matrix in order, kept as one, folded from entries that are only ever added. Pure.

What was planned is in its first entry, so that a policy that changes meanwhile changes no exercise that has begun.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from relevo import criteria, drill, request
from relevo.errors import StoreError, UsageError
from relevo.history import summarize
from relevo.verdict import Decision, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from relevo.entries import Entry
    from relevo.policy import ExerciseStep, Policy
    from relevo.record import Record

KIND = "exercise"
BEGUN, TAKEN_UP, RAN, STOPPED, ENDED = "begun", "taken_up", "ran", "stopped", "ended"
ID = re.compile(request.EXERCISE_ID)
# Of a run: it went on. A run that waits for a second person has changed nothing and is no failed attempt.
CAME_THROUGH = frozenset({Verdict.PASSED, Verdict.PARTIAL})
APPROVAL = "APPROVAL"


@dataclass(frozen=True)
class Step:
    """A step as it was planned. runbooks: its runs, of which those after the first bring production home; tests: what it proves.

    left_out: why it is no part of this exercise; None where it is; owed: whether the policy wants one of its tests of this cluster.
    """

    title: str
    runbooks: tuple[str, ...]
    scope: str | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    tests: tuple[str, ...] = ()
    left_out: str | None = None
    owed: bool = True

    @property
    def moves(self) -> bool:
        """Whether it moves production."""
        return self.runbooks[0] in drill.MOVES


@dataclass(frozen=True)
class Ran:
    """One run of a step, as it was judged when it ended.

    step, part: where it belongs, from 0; tests: verdict by the tests that it counts as, with what stands against passed; objectives: met, missed,
    unknown, or None where it owes no recovery; waits: for the second person's word.
    """

    step: int
    part: int
    runbook: str
    run_id: str
    verdict: Verdict
    at: str
    tests: Mapping[str, str] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    objectives: str | None = None
    waits: bool = False

    @property
    def came_through(self) -> bool:
        """Whether the next run may follow."""
        return self.verdict in CAME_THROUGH


@dataclass(frozen=True)
class Word:
    """That somebody took it up, or why it stopped and where production was then."""

    event: str
    at: str
    by: str
    said: Mapping[str, Any]


@dataclass(frozen=True)
class Exercise:
    """One exercise. given: the inputs as its operator typed them; production: where it was last seen by this exercise."""

    id: str
    name: str
    title: str
    goal: str
    cluster: str
    home_site: str | None
    target_site: str | None
    participants: tuple[str, ...]
    observers: tuple[str, ...]
    given: Mapping[str, str]
    require_objectives: bool
    policy: Mapping[str, Any]
    steps: tuple[Step, ...]
    begun_at: str
    begun_by: str
    controller: str
    ran: tuple[Ran, ...] = ()
    words: tuple[Word, ...] = ()
    ended_at: str | None = None
    verdict: Verdict | None = None
    reasons: tuple[str, ...] = ()
    production: str | None = None

    def of_step(self, number: int) -> list[Ran]:
        """All runs of a step, in order."""
        return [one for one in self.ran if one.step == number]

    def document(self) -> dict[str, Any]:
        """As a JSON tree."""
        upcoming = next_run(self)
        tree = {**asdict(self), "exercise": self.name, "next": None if upcoming is None else asdict(upcoming)}
        return {name: value for name, value in tree.items() if name != "name"}


@dataclass(frozen=True)
class Upcoming:
    """The run that is next. after: the id of the run whose way home it is on, None where it is none."""

    step: int
    part: int
    runbook: str
    after: str | None = None


def new_id() -> str:
    """Such as E-1f3a9c."""
    return f"E-{secrets.token_hex(3)}"


def plan(policy: Policy, name: str, cluster: str, variables: Mapping[str, Mapping[str, Any]]) -> list[Step]:
    """The steps of an exercise of this cluster. variables: of the inventory, by host. UsageError for an approval that nobody would ask for."""
    said = {variable: value for host in variables.values() for variable, value in host.items()}
    owed = policy.tests_of(cluster)
    steps = []
    for one in policy.exercises[name].steps:
        tests = tuple(test for test, about in policy.tests.items() if any(_is_of(kind, one) for kind in about.counts))
        if one.approval and said.get("dr_approval") != one.approval:
            message = (
                f"The exercise {name} wants a second person's word for {one.runbook}: expected dr_approval: {one.approval} in the inventory, "
                f"observed {said.get('dr_approval', 'nothing')}. Nothing was started."
            )
            raise UsageError(message)
        runbooks = (one.runbook, *drill.runbooks_home(one.runbook)) if one.moves else (one.runbook,)
        title = " and ".join(policy.tests[test].title for test in tests) or one.runbook.replace("_", " ").capitalize()
        wanted = any(test in owed for test in tests)
        steps.append(Step(title, runbooks, one.scope, one.inputs, tests, _left_out(one, said, tests, wanted=wanted), wanted))
    return steps


def _is_of(kind: Any, step: ExerciseStep) -> bool:
    mode = "drill" if step.moves else None
    return step.runbook == kind.runbook and kind.mode in {None, mode} and kind.scope in {None, step.scope}


def _left_out(step: ExerciseStep, said: Mapping[str, Any], tests: Sequence[str], *, wanted: bool) -> str | None:
    if tests and not wanted:
        return f"the policy asks no {', '.join(tests)} of this cluster"
    if step.needs and not said.get(step.needs):
        return f"the inventory declares no {step.needs}"
    return None


def inputs_of(exercise: Exercise, due: Upcoming, outward: Record | None) -> dict[str, str]:
    """What `-e` carries of the run that is next. outward: the record of the run that it comes home from. StoreError without it."""
    step = exercise.steps[due.step]
    occasion = {name: value for name, value in exercise.given.items() if name.removeprefix("dr_") in request.CONTEXT}
    occasion["dr_exercise"] = exercise.id
    if not step.moves:
        return {**step.inputs, **occasion}
    if due.part == 0:
        accepted = {name: value for name, value in exercise.given.items() if due.runbook == "failover" and name in ACCEPTED}
        words = {"dr_mode": "drill", drill.SCOPE: str(step.scope), "dr_target_site": str(exercise.target_site)}
        return drill.confirmed(due.runbook, {**step.inputs, **accepted, **occasion, **words}, exercise.cluster)
    # Home is what it was when the exercise began: a run that found its work done names no site that it left.
    left = None if outward is None else outward.model_copy(update={"run": {**outward.run, "source_site": exercise.home_site}})
    home = [] if left is None else drill.way_home(left, drill.After(drill.RETURN))
    if not home:
        message = f"The way home of {exercise.id} is not known: the record of its run {due.after} is not there. Next: relevo status {exercise.cluster}"
        raise StoreError(message)
    return {**home[due.part - 1].inputs, **occasion}


# What an operator may accept for the runs that go out; nobody accepts anything on the way home.
ACCEPTED = ("dr_accept_loss_seconds", "dr_accept_loss_transactions", "dr_accept_unknown", "dr_reason")


def next_run(exercise: Exercise) -> Upcoming | None:
    """What comes next: the first step that is not done, at the run that did not come through; None when all are done."""
    for number, step in enumerate(exercise.steps):
        if step.left_out is not None:
            continue
        upcoming = _next_of(step, number, exercise.of_step(number))
        if upcoming is not None:
            return upcoming
    return None


def _next_of(step: Step, number: int, ran: Sequence[Ran]) -> Upcoming | None:
    part = 0 if not ran else ran[-1].part + (1 if ran[-1].came_through else 0)
    if part == len(step.runbooks) and not disproven(last_leg(ran)):
        return None
    # A test that failed is taken from its beginning again, once production is home.
    part %= len(step.runbooks)
    out = next((one.run_id for one in reversed(ran) if one.part == 0 and one.came_through), None)
    return Upcoming(number, part, step.runbooks[part], out if part else None)


def last_leg(ran: Sequence[Ran]) -> list[Ran]:
    """The runs of a step that count, since it was last begun: the last attempt of each part; what went before was repeated."""
    out = [number for number, one in enumerate(ran) if one.part == 0]
    return list({one.part: one for one in ran[out[-1] :]}.values()) if out else []


def disproven(ran: Iterable[Ran]) -> list[Ran]:
    """Runs that came through and failed a criterion all the same."""
    return [one for one in ran if one.came_through and criteria.FAILED in one.tests.values()]


def said_of(policy: Policy, due: Upcoming, record: Record) -> dict[str, Any]:
    """What the entry about a run that ended says."""
    outcomes = criteria.of_run(policy, summarize(record), record.document())
    owes = due.runbook in drill.MOVES
    return {
        "step": due.step,
        "part": due.part,
        "runbook": record.runbook,
        "run_id": record.run_id,
        "verdict": record.verdict.value,
        "closed_at": record.closed_at,
        "tests": {name: outcome.verdict for name, outcome in outcomes.items()},
        "reasons": [f"{name}: {reason}" for name, outcome in outcomes.items() for reason in outcome.reasons],
        "objectives": {True: "met", False: "missed", None: "unknown"}[record.objectives_met] if owes else None,
        "waits": waits(record),
    }


def waits(record: Record) -> bool:
    """Whether a run was refused for nothing but the second person's word."""
    against = {gate.get("id") for gate in record.gates if gate.get("required", True) and gate.get("verdict") in {"fail", "unknown"}}
    return record.verdict is Verdict.REFUSED and against == {APPROVAL}


def judge(exercise: Exercise) -> Decision:
    """The verdict of an exercise that ends now, never better than that of its runs and tests."""
    broken, doubts = [*_failures(exercise)], [*_doubts(exercise)]
    if next_run(exercise) is not None:
        verdict = Verdict.FAILED if broken else Verdict.INTERRUPTED
        return Decision(verdict, tuple(dict.fromkeys([*broken, f"It ended before {_named(exercise)}."])))
    if broken:
        return Decision(Verdict.FAILED, tuple(dict.fromkeys(broken)))
    return Decision(Verdict.PARTIAL if doubts else Verdict.PASSED, tuple(dict.fromkeys(doubts)))


def _named(exercise: Exercise) -> str:
    upcoming = next_run(exercise)
    return "its end" if upcoming is None else f"step {upcoming.step + 1}, {upcoming.runbook}"


def _failures(exercise: Exercise) -> Iterator[str]:
    for number, step in enumerate(exercise.steps):
        leg = last_leg(exercise.of_step(number))
        where = f"Step {number + 1}, {step.title}"
        for one in leg:
            if one.verdict is Verdict.FAILED:
                yield f"{where}: the run {one.run_id} failed."
            for reason in one.reasons if one in disproven(leg) else ():
                yield f"{where}, run {one.run_id}: {reason}."
            if one.objectives == "missed" and exercise.require_objectives:
                yield f"{where}: the run {one.run_id} missed an objective."
    if exercise.home_site is not None and exercise.production not in {None, exercise.home_site} and next_run(exercise) is None:
        yield f"Production is at site {exercise.production}; expected {exercise.home_site}, where it was."


def _doubts(exercise: Exercise) -> Iterator[str]:
    for number, step in enumerate(exercise.steps):
        where, ran = f"Step {number + 1}, {step.title}", exercise.of_step(number)
        leg = last_leg(ran)
        if step.left_out is not None and step.owed:
            yield f"{where} was left out: {step.left_out}."
        for one in ran:
            if not one.waits and not one.came_through:
                yield f"{where}: the run {one.run_id} ended as {one.verdict} before it came through."
        for one in disproven([one for one in ran if one not in leg]):
            yield f"{where}: the run {one.run_id} failed its test before it was repeated."
        for one in (one for one in leg if one.came_through):
            yield from (
                f"{where}: the run {one.run_id} {said}." for said in _unproven(one, require_objectives=exercise.require_objectives)
            )
    if exercise.home_site is not None and exercise.production is None:
        yield "Nobody saw where production is at the end."


def _unproven(ran: Ran, *, require_objectives: bool) -> Iterator[str]:
    """What a run left open."""
    if ran.verdict is Verdict.PARTIAL:
        yield "is partial"
    unknown = sorted(name for name, verdict in ran.tests.items() if verdict == criteria.UNKNOWN)
    if unknown:
        yield f"does not prove {', '.join(unknown)}: {'; '.join(ran.reasons) or 'not all of it was observed'}"
    if ran.objectives == "unknown" and require_objectives:
        yield "measured not every objective"


def fold(entries: Iterable[Entry]) -> list[Exercise]:
    """The exercises as their entries left them, in the order in which they began."""
    found: dict[str, Exercise] = {}
    for entry in entries:
        if entry.event == BEGUN:
            found.setdefault(entry.subject, _first(entry))
        elif entry.subject in found and found[entry.subject].ended_at is None:
            found[entry.subject] = _next(found[entry.subject], entry)
    return list(found.values())


def _first(entry: Entry) -> Exercise:
    try:
        said = {**entry.said}
        steps = tuple(
            Step(**{**step, "runbooks": tuple(step["runbooks"]), "tests": tuple(step["tests"])}) for step in said.pop("steps")
        )
        said |= {name: tuple(said[name]) for name in ("participants", "observers")}
        said |= {"name": said.pop("exercise"), "id": entry.subject, "begun_at": entry.at, "begun_by": entry.by}
        return Exercise(steps=steps, controller=entry.controller, **said)
    except (KeyError, ValueError, TypeError) as error:
        message = f"The entry {entry.entry_id} begins no exercise: {error}."
        raise StoreError(message) from error


def _next(exercise: Exercise, entry: Entry) -> Exercise:
    said = entry.said
    try:
        if entry.event == RAN:
            ran = Ran(
                int(said["step"]),
                int(said["part"]),
                str(said["runbook"]),
                str(said["run_id"]),
                Verdict(said["verdict"]),
                str(said["closed_at"]),
                dict(said["tests"]),
                tuple(said["reasons"]),
                said["objectives"],
                bool(said["waits"]),
            )
            return replace(exercise, ran=(*exercise.ran, ran))
        if entry.event == ENDED:
            verdict, reasons = Verdict(said["verdict"]), tuple(said["reasons"])
            return replace(exercise, ended_at=entry.at, verdict=verdict, reasons=reasons, production=said.get("production"))
        word = Word(entry.event, entry.at, entry.by, said)
        return replace(exercise, words=(*exercise.words, word), production=said.get("production", exercise.production))
    except (KeyError, ValueError, TypeError) as error:
        message = f"The entry {entry.entry_id} is no part of an exercise: {error}."
        raise StoreError(message) from error


def choose(exercises: Sequence[Exercise], wanted: str) -> Exercise:
    """The exercise of that id, or the newest one for `latest`. UsageError that says what there is."""
    known = {one.id: one for one in exercises}
    if exercises and wanted == "latest":
        return exercises[-1]
    if wanted in known:
        return known[wanted]
    message = f"There is no exercise {wanted!r}. Exercises: {', '.join(known) or 'none'}."
    raise UsageError(message)
