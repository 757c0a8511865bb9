"""A run as JUnit XML, for whatever collects test results: what had to hold, each a test case. Pure.

In the form of Apache Ant's schema, which is the strictest of those in use; readers of the others take it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from relevo import story, wording
from relevo.clock import parse_utc
from relevo.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from relevo.record import Objective, Record

# A test case passes without a word; these say why it did not, or why nobody tried.
_FAILURE, _ERROR, _SKIPPED = "failure", "error", "skipped"
_GATES = {"fail": _FAILURE, "unknown": _FAILURE, "accepted": _SKIPPED, "not_applicable": _SKIPPED, "pass": None}
_PHASES = {"failed": _FAILURE, "skipped": _SKIPPED, "ok": None}
_RUNS = {
    Verdict.PASSED: None,
    Verdict.PARTIAL: _FAILURE,
    Verdict.FAILED: _FAILURE,
    Verdict.REFUSED: _FAILURE,
    Verdict.INTERRUPTED: _ERROR,
    Verdict.CANCELLED: _SKIPPED,
}
_MEASURES = ("rto_seconds", "rpo_seconds", "outage_seconds", "writable_overlap_seconds", "loss_bytes")


@dataclass(frozen=True)
class Criterion:
    """A criterion of the test that a run was. verdict: pass | fail | unknown; observed and expected: in words."""

    name: str
    observed: str
    expected: str
    verdict: str


@dataclass(frozen=True)
class _Case:
    """outcome: None when it passed, else the element that says why not; kind: in one word; said: in full."""

    group: str
    name: str
    seconds: float = 0.0
    outcome: str | None = None
    kind: str = ""
    message: str = ""
    said: str = ""


def render(record: Record, criteria: Sequence[Criterion] = ()) -> str:
    """The XML document of one run: one suite."""
    cases = list(_cases(record, criteria))
    package = _word(f"relevo.{record.cluster or 'no-cluster'}.{record.runbook}")
    suite = ElementTree.Element(
        "testsuite",
        {
            "name": _word(record.run_id),
            # The schema allows no zone; the property opened_at has it.
            "timestamp": f"{parse_utc(record.opened_at):%Y-%m-%dT%H:%M:%S}",
            "hostname": _word(record.controller),
            "tests": str(len(cases)),
            "failures": str(sum(case.outcome == _FAILURE for case in cases)),
            "errors": str(sum(case.outcome == _ERROR for case in cases)),
            "skipped": str(sum(case.outcome == _SKIPPED for case in cases)),
            "time": _seconds(record.duration_seconds),
        },
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in _properties(record):
        ElementTree.SubElement(properties, "property", name=name, value=_text(value))
    for case in cases:
        _append(suite, package, case)
    ElementTree.SubElement(suite, "system-out").text = _text(" ".join(story.sentences(record)))
    ElementTree.SubElement(suite, "system-err").text = _text("\n".join(_failures(record)))
    ElementTree.indent(suite)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(suite, encoding="unicode")}\n'


def _append(suite: ElementTree.Element, package: str, case: _Case) -> None:
    attributes = {"classname": f"{package}.{case.group}", "name": _word(case.name), "time": _seconds(case.seconds)}
    element = ElementTree.SubElement(suite, "testcase", attributes)
    if case.outcome is not None:
        outcome = ElementTree.SubElement(element, case.outcome, message=_text(case.message))
        if case.outcome != _SKIPPED:
            outcome.set("type", case.kind)
        outcome.text = _text(case.said)


def _cases(record: Record, criteria: Sequence[Criterion]) -> Iterator[_Case]:
    yield _run(record)
    for criterion in criteria:
        said = _said(criterion.observed, criterion.expected)
        outcome = None if criterion.verdict == "pass" else _FAILURE
        yield _Case("criteria", criterion.name, 0.0, outcome, _word(criterion.verdict), said.partition("\n")[0], said)
    for objective in record.objectives:
        yield _objective(record, objective)
    for gate in record.gates:
        yield _gate(gate)
    for phase in record.phases:
        yield _phase(phase)


def _run(record: Record) -> _Case:
    reasons = "\n".join(record.verdict_reasons)
    message = f"{record.verdict}: {story.VERDICTS[record.verdict]}"
    return _Case(
        "run", f"{record.runbook} passes", record.duration_seconds, _RUNS[record.verdict], record.verdict, message, reasons
    )


def _objective(record: Record, objective: Objective) -> _Case:
    name = wording.NAMES.get(objective.name, objective.name)
    said = _said(wording.seconds(objective.measured), f"at most {wording.seconds(objective.target)}")
    if objective.verdict == "met":
        return _Case("objectives", name, objective.measured or 0.0)
    if objective.verdict == "unknown" and not story.owes_recovery(record):
        return _Case("objectives", name, 0.0, _SKIPPED, message="this run moved nothing, so there was nothing to measure")
    return _Case("objectives", name, objective.measured or 0.0, _FAILURE, objective.verdict, f"{name}: {objective.verdict}", said)


def _gate(gate: Mapping[str, Any]) -> _Case:
    verdict = str(gate.get("verdict") or "unknown")
    title = gate.get("title")
    name = f"{gate.get('id') or 'a gate'} on {gate.get('host') or 'no host'}{f': {title}' if title else ''}"
    outcome = _GATES.get(verdict, _FAILURE)
    said = _said(wording.plain(gate.get("observed")), wording.plain(gate.get("expected")), gate.get("next_action"))
    message = f"{verdict.replace('_', ' ')}: {wording.plain(gate.get('observed'))}"
    return _Case(f"gates.{_word(gate.get('phase') or 'no-phase')}", name, 0.0, outcome, _word(verdict), message, said)


def _phase(phase: Mapping[str, Any]) -> _Case:
    outcome = str(phase.get("outcome") or "unknown")
    detail = str(phase.get("detail") or f"ended as {outcome}")
    name = f"{phase.get('name') or 'a phase'} on {phase.get('host') or 'no host'}"
    seconds = phase.get("duration_seconds")
    took = float(seconds) if isinstance(seconds, (int, float)) else 0.0
    return _Case("phases", name, took, _PHASES.get(outcome, _FAILURE), _word(outcome), detail, detail)


def _said(observed: str, expected: str, next_action: Any = None) -> str:
    lines = [f"Observed: {observed}", f"Expected: {expected}"]
    return "\n".join([*lines, f"Next: {next_action}"] if next_action else lines)


def _properties(record: Record) -> Iterator[tuple[str, str]]:
    about = {
        "run_id": record.run_id,
        "parent_run_id": record.parent_run_id,
        "cluster": record.cluster,
        "runbook": record.runbook,
        "mode": record.mode,
        "scope": record.scope,
        "target_site": record.run.get("target_site"),
        "verdict": record.verdict,
        "opened_at": record.opened_at,
        "closed_at": record.closed_at,
        "operator": record.operator,
        "approver": record.approver,
        "fence": record.fence.get("class"),
        "commit": record.digests.get("commit"),
    }
    yield from ((name, str(value)) for name, value in about.items() if value)
    for objective in record.objectives:
        yield f"{objective.name.removesuffix('_seconds')}_target_seconds", f"{objective.target:g}"
    ledger = record.measures["ledger"]
    measured = {name: record.measures.get(name) for name in _MEASURES} | {
        f"ledger_{name}": ledger.get(name) for name in ("acknowledged", "lost", "indeterminate")
    }
    for name, value in measured.items():
        yield name, wording.UNOBSERVED if value is None else str(value)
    yield from ((f"version_{name}", str(version)) for name, version in sorted(record.versions.items()) if version)


def _failures(record: Record) -> Iterator[str]:
    for failure in record.failures:
        yield f"{failure.get('at')} {failure.get('host')}: {failure.get('task')}: {failure.get('message')}"


def _text(value: str) -> str:
    """What XML can hold."""
    return wording.visible(value)


def _word(value: Any) -> str:
    """On one line, and never empty."""
    return " ".join(_text(str(value)).split()) or "-"


def _seconds(value: float) -> str:
    return f"{max(value, 0.0):.3f}"
