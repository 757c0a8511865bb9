"""The report of an exercise: its steps with what each run measured beside its objectives, its tests, and what stands against it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from relevo import exercise as exercises
from relevo import paper, wording
from relevo.clock import parse_utc, seconds_between
from relevo.report import MOODS, Form, as_cell, as_printed, as_shown, templates
from relevo.story import VERDICTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from jinja2 import Environment

    from relevo.exercise import Exercise, Ran, Step
    from relevo.record import Record

_OPEN = "not finished"
_TEST_MOODS = {"passed": "good", "failed": "bad", "unknown": "doubt"}
_OBJECTIVE_MOODS = {"met": "good", "missed": "bad", "unknown": "doubt"}
_MEASURES = ("rto_seconds", "rpo_seconds")


@dataclass(frozen=True)
class Line:
    """One run of a step. measured: of each objective what was measured, in words beside its target, its mood, and the seconds; seconds: that it took."""

    number: int
    step: Step
    ran: Ran
    seconds: float
    measured: tuple[tuple[str, str, float], ...]


def contents(exercise: Exercise, records: Mapping[str, Record], form: Form) -> bytes:
    """The report as it stands in a file. records: of its runs, by run id. RelevoError where a PDF cannot be made on this machine."""
    if form is Form.PDF:
        return paper.print_page(_page(exercise, records, paged=True))
    return render(exercise, records, form).encode("utf-8", "replace")


def render(exercise: Exercise, records: Mapping[str, Record], form: Form) -> str:
    """The report as text; of a PDF the page that is printed."""
    if form is Form.JSON:
        runs = {run_id: record.document() for run_id, record in records.items()}
        return json.dumps({**exercise.document(), "records": runs}, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
    if form is Form.JUNIT:
        return _junit(exercise, records)
    if form is Form.MARKDOWN:
        return _templates(as_cell).get_template("exercise.md.j2").render(_view(exercise, records)).rstrip() + "\n"
    return _page(exercise, records, paged=form is Form.PDF)


def _page(exercise: Exercise, records: Mapping[str, Record], *, paged: bool) -> str:
    template = _templates(as_printed if paged else as_shown).get_template("exercise.html.j2")
    return template.render(_view(exercise, records), paged=paged).rstrip() + "\n"


@cache
def _templates(finalize: Callable[[Any], Any]) -> Environment:
    return templates(finalize)


def _view(exercise: Exercise, records: Mapping[str, Record]) -> dict[str, Any]:
    verdict = exercise.verdict.value if exercise.verdict else _OPEN
    lines = list(_lines(exercise, records))
    proven = {name: said for line in lines for name, said in line.ran.tests.items()}
    return {
        "exercise": exercise,
        "verdict": verdict,
        "mood": MOODS.get(verdict, "doubt"),
        "lead": _lead(exercise, proven),
        "reasons": _reasons(exercise),
        "cards": _cards(lines),
        "lines": lines,
        "left_out": [
            (number + 1, step, step.left_out or "not reached")
            for number, step in enumerate(exercise.steps)
            if not exercise.of_step(number)
        ],
        "tests": [(name, said, _TEST_MOODS.get(said, "doubt")) for name, said in proven.items()],
        "run_moods": MOODS,
        "facts": [(name, text) for name, text in _facts(exercise) if text],
        "words": exercise.words,
    }


def _lines(exercise: Exercise, records: Mapping[str, Record]) -> Iterator[Line]:
    for one in exercise.ran:
        record = records.get(one.run_id)
        measured = tuple(
            (wording.judged(item), _OBJECTIVE_MOODS[item.verdict], item.measured or 0.0) for item in _objectives(record)
        )
        yield Line(one.step + 1, exercise.steps[one.step], one, record.duration_seconds if record else 0.0, measured)


def _objectives(record: Record | None) -> list[Any]:
    """Recovery time, then data loss; none where the run owes none, or its record is not there."""
    found = {item.name: item for item in record.objectives} if record else {}
    return [found[name] for name in _MEASURES if name in found]


def _lead(exercise: Exercise, proven: Mapping[str, str]) -> str:
    if exercise.verdict is None:
        upcoming = exercises.next_run(exercise)
        return f"It has begun and not ended; next is {upcoming.runbook if upcoming else 'its end'}."
    passed = sum(said == "passed" for said in proven.values())
    moved = f" Production moved to site {exercise.target_site} and home to site {exercise.home_site}." if exercise.home_site else ""
    home = moved if exercise.production == exercise.home_site and exercise.ended_at else ""
    return f"{VERDICTS[exercise.verdict]} {passed} of {len(proven)} tests passed.{home}"


def _reasons(exercise: Exercise) -> Sequence[str]:
    if exercise.verdict is not None or not exercise.words:
        return exercise.reasons
    said = exercise.words[-1].said
    return [str(said[name]) for name in ("reason", "seen") if said.get(name)] + (
        [f"Next: {said['next']}"] if said.get("next") else []
    )


def _cards(lines: Sequence[Line]) -> list[tuple[str, str, str, str]]:
    """The longest recovery and the greatest loss of all moves: title, value, note, mood."""
    cards = []
    for number, name in enumerate(_MEASURES):
        judged = [line.measured[number] for line in lines if len(line.measured) > number and line.step.moves]
        worst = max(judged, key=lambda one: (("good", "doubt", "bad").index(one[1]), one[2]), default=None)
        if worst is not None:
            value, _, note = worst[0].partition(", ")
            cards.append((f"{wording.NAMES[name]}, the worst", value, note, worst[1]))
    return cards


def _facts(exercise: Exercise) -> list[tuple[str, str]]:
    took = wording.seconds(seconds_between(exercise.begun_at, exercise.ended_at)) if exercise.ended_at else ""
    resumed = [f"{wording.moment(word.at)} by {word.by}" for word in exercise.words if word.event == exercises.TAKEN_UP]
    policy = (
        f"{exercise.policy.get('source')}{', SHA-256 ' + str(exercise.policy['sha256']) if exercise.policy.get('sha256') else ''}"
    )
    return [
        ("Exercise", f"{exercise.id}, {exercise.name}"),
        ("Goal", exercise.goal),
        ("Began", wording.moment(exercise.begun_at)),
        ("Ended", f"{wording.moment(exercise.ended_at)}, after {took}" if exercise.ended_at else ""),
        ("Led by", f"{exercise.begun_by} on {exercise.controller}"),
        ("Gone on with", "; ".join(resumed)),
        ("Participants", ", ".join(exercise.participants)),
        ("Observers", ", ".join(exercise.observers)),
        ("Change ticket", str(exercise.given.get("dr_ticket") or "")),
        ("Scenario", str(exercise.given.get("dr_scenario") or "")),
        ("Production last seen at site", str(exercise.production or "")),
        ("Policy", policy),
    ]


def _junit(exercise: Exercise, records: Mapping[str, Record]) -> str:
    """One suite in the form of Apache Ant's schema: each run, each test that it is, and each objective is a test case."""
    cases = [case for line in _lines(exercise, records) for case in _cases(line)]
    cases += [
        (
            f"step {number + 1}",
            step.title,
            0.0,
            None if step.left_out and not step.owed else "skipped",
            step.left_out or "not reached",
        )
        for number, step in enumerate(exercise.steps)
        if not exercise.of_step(number)
    ]
    whole = exercise.verdict.value if exercise.verdict else _OPEN
    cases.insert(
        0,
        (
            "exercise",
            f"{exercise.name} passes",
            0.0,
            None if whole == "passed" else "failure",
            "\n".join([whole, *_reasons(exercise)]),
        ),
    )
    counted = {kind: str(sum(case[3] == kind for case in cases)) for kind in ("failure", "error", "skipped")}
    suite = ElementTree.Element(
        "testsuite",
        {
            "name": exercise.id,
            "timestamp": f"{parse_utc(exercise.begun_at):%Y-%m-%dT%H:%M:%S}",
            "hostname": exercise.controller,
            "tests": str(len(cases)),
            "failures": counted["failure"],
            "errors": counted["error"],
            "skipped": counted["skipped"],
            "time": f"{sum(case[2] for case in cases):.3f}",
        },
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name, text in _facts(exercise):
        if text:
            ElementTree.SubElement(properties, "property", name=name, value=wording.visible(text))
    for group, name, seconds, outcome, said in cases:
        where = f"relevo.{exercise.cluster}.{exercise.name}.{group}".replace(" ", "_")
        element = ElementTree.SubElement(suite, "testcase", classname=where, name=wording.visible(name), time=f"{seconds:.3f}")
        if outcome is not None:
            about = ElementTree.SubElement(element, outcome, message=wording.visible(said.partition("\n")[0]))
            if outcome != "skipped":
                about.set("type", outcome)
            about.text = wording.visible(said)
    ElementTree.SubElement(suite, "system-out")
    ElementTree.SubElement(suite, "system-err")
    ElementTree.indent(suite)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(suite, encoding="unicode")}\n'


def _cases(line: Line) -> Iterator[tuple[str, str, float, str | None, str]]:
    """Group, name, seconds, what it came to (None: passed), and why."""
    group, ran = f"step {line.number}", line.ran
    outcome = (
        None if ran.verdict == "passed" else "skipped" if ran.waits else "error" if ran.verdict == "interrupted" else "failure"
    )
    yield group, f"{ran.runbook}, run {ran.run_id}", line.seconds, outcome, ran.verdict.value
    for name, said in ran.tests.items():
        why = "\n".join([said, *(reason for reason in ran.reasons if reason.startswith(f"{name}: "))])
        yield group, f"{name} by run {ran.run_id}", 0.0, None if said == "passed" else "failure", why
    for name, (said, mood, _) in zip(_MEASURES, line.measured, strict=False):
        yield group, f"{wording.NAMES[name]} of run {ran.run_id}", 0.0, None if mood == "good" else "failure", said
