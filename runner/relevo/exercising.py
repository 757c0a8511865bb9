"""Lead an exercise: begin it or take it up, run what is next, keep each run of it, and stop with what to do next.

All that it knows is in the store, so whoever comes next goes on where a killed one was. Nothing is asked at the terminal.
"""

from __future__ import annotations

import fcntl
import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from relevo import exercise as exercises
from relevo import request
from relevo.errors import Exit, InputRefusedError, RelevoError, UsageError
from relevo.paths import make_private_directory
from relevo.record import parse
from relevo.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from relevo.entries import Entry
    from relevo.exercise import Exercise, Upcoming
    from relevo.paths import Place
    from relevo.policy_file import Loaded
    from relevo.record import Record
    from relevo.store import Store

_TAKEN = frozenset({"dr_target_site", *exercises.ACCEPTED, *(f"dr_{name}" for name in request.CONTEXT if name != "exercise")})
_PEOPLE = {"dr_participants": "who takes part", "dr_observers": "who observes and takes no part"}


class Means(Protocol):
    """What leads to the hosts, to the store and to the operator."""

    def run(self, runbook: str, inputs: Mapping[str, str]) -> Record:
        """One run that is kept, to its end."""

    def look(self) -> Mapping[str, Any]:
        """The state of the cluster as a check sees it now; empty where it saw none."""

    def heard(self) -> Sequence[Entry]:
        """What was said of exercises."""

    def say(self, subject: str, event: str, said: dict[str, Any]) -> None:
        """Keep an entry. StoreError when the store is away."""

    def tell(self, sentence: str) -> None:
        """A sentence for the operator."""


@dataclass(frozen=True)
class Production:
    """Where production was just seen. site: None where it was not seen, or at several."""

    site: str | None
    sentence: str


@dataclass(frozen=True)
class Order:
    """What the operator wants: an exercise of the policy, of this cluster. variables: of the inventory, by host."""

    name: str
    cluster: str
    pairs: Sequence[str]
    variables: Mapping[str, Mapping[str, Any]]


@contextmanager
def alone(place: Place, cluster: str) -> Iterator[None]:
    """One command at a time leads exercises of a cluster from here. UsageError where another one does."""
    path = make_private_directory(place.state / "exercises") / f"{quote(cluster, safe='')}.lock"
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = (
                f"Another command leads an exercise of {cluster} from this controller. Wait for it, or end it there with Ctrl-C."
            )
            raise UsageError(message) from None
        yield


def unfinished(means: Means, cluster: str) -> Exercise | None:
    """The exercise of the cluster that has begun and not ended."""
    found = [one for one in exercises.fold(means.heard()) if one.cluster == cluster and one.ended_at is None]
    return found[-1] if found else None


def begin(means: Means, loaded: Loaded, order: Order) -> Exercise:
    """Say that it begins, with all that it will do. UsageError where it must not: nothing was started then."""
    about = loaded.policy.exercises[order.name]
    given = _judged(order.pairs)
    for name, who in _PEOPLE.items():
        if not given.get(name):
            message = f'-e {name} is missing: expected {who}, names with commas between them, such as -e {name}="Ana, Bo". Nothing was started.'
            raise UsageError(message)
    steps = exercises.plan(loaded.policy, order.name, order.cluster, order.variables)
    moves = any(step.moves and step.left_out is None for step in steps)
    home = _leaves(means, given.get("dr_target_site")) if moves else None
    said = {
        "exercise": order.name,
        "title": about.title,
        "goal": about.goal,
        "cluster": order.cluster,
        "home_site": home,
        "target_site": given.get("dr_target_site") if moves else None,
        "participants": _names(given["dr_participants"]),
        "observers": _names(given["dr_observers"]),
        "given": given,
        "require_objectives": about.require_objectives,
        "policy": loaded.document(),
        "steps": [asdict(step) for step in steps],
    }
    subject = exercises.new_id()
    means.say(subject, exercises.BEGUN, said)
    return _again(means, subject)


def take_up(means: Means, store: Store, loaded: Loaded, begun: Exercise, pairs: Sequence[str]) -> Exercise:
    """Go on with one that has begun; its runs that nobody could keep any more are kept now. UsageError for other words than its first ones."""
    given = _judged(pairs)
    other = sorted(name for name, value in given.items() if begun.given.get(name) != value)
    if other:
        message = (
            f"{begun.id} of {begun.cluster} began at {begun.begun_at} with another {', '.join(other)} and has not ended. "
            "Leave it out to go on with it, or give --anew to end it and begin another."
        )
        raise UsageError(message)
    for record in _orphans(store, begun):
        due = exercises.next_run(begun)
        if due is not None and _is_the_one(begun, due, record):
            means.say(begun.id, exercises.RAN, exercises.said_of(loaded.policy, due, record))
            begun = _again(means, begun.id)
    means.say(begun.id, exercises.TAKEN_UP, {})
    return _again(means, begun.id)


def give_up(means: Means, begun: Exercise) -> None:
    """End one that is not to be gone on with; its verdict says how far it came."""
    decision = exercises.judge(begun)
    said = {"verdict": decision.verdict.value, "reasons": list(decision.reasons), "production": begun.production}
    means.say(begun.id, exercises.ENDED, said)


def lead(means: Means, store: Store, loaded: Loaded, begun: Exercise) -> tuple[Exercise, Exit]:
    """Run what is next until all is done or something stops it; how the command ends."""
    while (due := exercises.next_run(begun)) is not None:
        step = begun.steps[due.step]
        part = f", run {due.part + 1} of {len(step.runbooks)}" if len(step.runbooks) > 1 else ""
        means.tell(f"{begun.id}, step {due.step + 1} of {len(begun.steps)}: {step.title}{part}: {due.runbook}")
        outward = None if due.after is None else parse(store.get(due.after).document)
        record = means.run(due.runbook, exercises.inputs_of(begun, due, outward))
        means.say(begun.id, exercises.RAN, exercises.said_of(loaded.policy, due, record))
        begun = _again(means, begun.id)
        stopped = _stop(begun, due)
        if stopped is not None:
            return _stopped(means, begun, *stopped)
    return _end(means, begun)


def _stop(begun: Exercise, due: Upcoming) -> tuple[str, str, Exit] | None:
    """Why nothing may follow now, what is to be done, and how the command ends; None where the next run may follow."""
    ran = begun.ran[-1]
    again = f"then the same command goes on with {due.runbook}"
    page = f"docs/runbooks/{due.runbook}.md, When it stops"
    if ran.waits:
        todo = f"the second person: relevo approve {ran.run_id} --as NAME --key KEY; {again}"
        return f"It waits for the word of a second person about {due.runbook}", todo, ran.verdict.exit
    if not ran.came_through:
        words = {
            Verdict.REFUSED: f"relevo results show {ran.run_id} names what has to be mended, and {page}; {again}",
            Verdict.INTERRUPTED: f"relevo status {begun.cluster}; {again}",
        }
        todo = words.get(ran.verdict, f"relevo status {begun.cluster}, and {page}; {again}")
        return f"The run {ran.run_id} ended as {ran.verdict}", f"{todo}, --anew ends this exercise", ran.verdict.exit
    leg = exercises.last_leg(begun.of_step(due.step))
    wrong = exercises.disproven(leg)
    if wrong and due.part == len(begun.steps[due.step].runbooks) - 1:
        against = "; ".join(reason for one in wrong for reason in one.reasons)
        todo = f"mend that; then the same command repeats step {due.step + 1}, --anew ends this exercise"
        return f"Step {due.step + 1} did not prove what it should: {against}", todo, Exit.FAILED
    return None


def _stopped(means: Means, begun: Exercise, why: str, todo: str, code: Exit) -> tuple[Exercise, Exit]:
    production = where(means, begun)
    means.say(
        begun.id, exercises.STOPPED, {"reason": why, "next": todo, "production": production.site, "seen": production.sentence}
    )
    for sentence in (f"{begun.id} stops. {why}.", production.sentence, f"Next: {todo}."):
        means.tell(sentence)
    return _again(means, begun.id), code


def _end(means: Means, begun: Exercise) -> tuple[Exercise, Exit]:
    production = where(means, begun)
    decision = exercises.judge(replace(begun, production=production.site))
    said = {"verdict": decision.verdict.value, "reasons": list(decision.reasons), "production": production.site}
    means.say(begun.id, exercises.ENDED, said)
    if begun.home_site is not None:
        means.tell(production.sentence)
    return _again(means, begun.id), decision.verdict.exit


def where(means: Means, begun: Exercise | None = None) -> Production:
    """Where production is now, as a check sees it; where it cannot be seen, what was known last."""
    try:
        state = means.look()
    except (RelevoError, KeyboardInterrupt) as error:
        state, reason = {}, str(error) or "interrupted"
    else:
        reason = "no check came to its end"
    if not state:
        last = f" Last seen at site {begun.production or begun.home_site}." if begun is not None and begun.home_site else ""
        return Production(None, f"Where production is now was not seen: {reason}.{last} Next: relevo status.")
    primaries = state.get("primaries") or [name for name in (state.get("primary"),) if name]
    if len(primaries) != 1:
        seen = f"{' and '.join(primaries)} are writable" if primaries else "no primary answers"
        return Production(None, f"Production now: {seen}. Next: relevo status.")
    site = ((state.get("hosts") or {}).get(primaries[0]) or {}).get("site")
    return Production(site, f"Production now: {primaries[0]} at site {site or 'unknown'}.")


def _leaves(means: Means, target: str | None) -> str:
    """The site that production is at, which it leaves and comes home to. UsageError where it is there already, or nobody sees where."""
    if not target:
        message = (
            "-e dr_target_site is missing: expected the site that production moves to, and comes home from. Nothing was started."
        )
        raise UsageError(message)
    production = where(means)
    if production.site is None:
        message = f"{production.sentence} An exercise begins where one primary is seen. Nothing was started."
        raise UsageError(message)
    if production.site == target:
        message = f"{production.sentence} So there is nothing to move to site {target}: name the other site, or bring it home first. Nothing was started."
        raise UsageError(message)
    return production.site


def _judged(pairs: Sequence[str]) -> dict[str, str]:
    """The operator's words. UsageError for what an exercise does not take: what its steps do is the policy's."""
    try:
        given = dict(request.judge(request.read_pairs(pairs)).values)
    except InputRefusedError as error:
        raise UsageError(str(error)) from error
    other = sorted({*given} - _TAKEN)
    if other:
        message = f"-e {', '.join(other)} is not for an exercise, whose steps are the policy's. Expected one of {', '.join(sorted(_TAKEN))}."
        raise UsageError(message)
    return given


def _names(value: str) -> list[str]:
    return [one.strip() for one in value.split(",")]


def _orphans(store: Store, begun: Exercise) -> list[Record]:
    """Runs of the exercise that it has no entry of, in order: whoever ran them was killed before it could say so."""
    known = {one.run_id for one in begun.ran}
    recent = [run.run_id for run in store.summaries(since=begun.begun_at) if run.run_id not in known and not run.check_mode]
    found = [document for document in store.documents(recent).values() if _of(document) == begun.id]
    return sorted((parse(document) for document in found), key=lambda record: record.opened_at)


def _is_the_one(begun: Exercise, due: Upcoming, record: Record) -> bool:
    """Whether a run is what was next: of that runbook and, where production moves, of that scope and to that site."""
    step = begun.steps[due.step]
    if due.runbook != record.runbook or not step.moves:
        return due.runbook == record.runbook
    to = begun.target_site if due.part == 0 else begun.home_site
    return record.run.get("target_site") == to and record.scope in {None, step.scope}


def _of(document: bytes) -> str | None:
    """The exercise that a record says it is of."""
    said: str | None = json.loads(document).get("run", {}).get("exercise")
    return said


def _again(means: Means, subject: str) -> Exercise:
    """As its entries say."""
    return exercises.choose(exercises.fold(means.heard()), subject)
