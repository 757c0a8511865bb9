"""The record of one run, `dr-test/1`: a canonical JSON document that is signed once and never rewritten."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from relevo import measures, objectives, request, timeline
from relevo.errors import StoreError
from relevo.evidence import dictionaries
from relevo.verdict import Ending, Verdict, decide

if TYPE_CHECKING:
    from collections.abc import Mapping

    from relevo.evidence import Evidence
    from relevo.journal import Opening

SCHEMA: Literal["dr-test/1"] = "dr-test/1"


class Objective(BaseModel):
    """One objective: target and measured in seconds; measured is null when nobody measured it."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str
    target: float
    measured: float | None
    verdict: Literal["met", "missed", "unknown"]


class Record(BaseModel):
    """One run. Times are ISO 8601 UTC, durations seconds by a monotonic clock; null means that nobody observed it."""

    model_config = ConfigDict(extra="allow", frozen=True)
    schema_: Literal["dr-test/1"]
    run_id: str
    parent_run_id: str | None
    runbook: str
    cluster: str | None
    mode: str | None
    scope: str | None
    verdict: Verdict
    verdict_reasons: list[str]
    objectives_met: bool | None
    opened_at: str
    closed_at: str
    duration_seconds: float
    operator: str
    approver: str | None
    controller: str
    feed: str
    check_mode: bool
    run: dict[str, Any]
    phases: list[dict[str, Any]]
    gates: list[dict[str, Any]]
    measures: dict[str, Any]
    objectives: list[Objective]
    fence: dict[str, Any]
    status: dict[str, Any]
    failures: list[dict[str, Any]]
    tasks: dict[str, int]
    journal: dict[str, Any]
    digests: dict[str, Any]
    versions: dict[str, Any]
    signature: dict[str, Any]

    def document(self) -> dict[str, Any]:
        """The record as the JSON tree that is stored."""
        tree = self.model_dump(mode="json")
        tree["schema"] = tree.pop("schema_")
        return tree


def canonical(tree: Any) -> bytes:
    """The one way to write a JSON tree: UTF-8, keys sorted, no spaces, no NaN, one line feed at the end."""
    text = json.dumps(tree, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"


def parse(document: bytes) -> Record:
    """A stored document as a record; older versions of the schema would be upgraded here, in memory. StoreError if it is none."""
    try:
        return from_document(json.loads(document))
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        message = f"A stored document is no {SCHEMA} record: {error}"
        raise StoreError(message) from error


def from_document(tree: Mapping[str, Any]) -> Record:
    """The JSON tree that is stored as a record. KeyError, TypeError or ValidationError if it is none."""
    fields = {**tree}
    fields["schema_"] = fields.pop("schema")
    return Record.model_validate(fields)


@dataclass(frozen=True)
class Closing:
    """The end of a run as its record keeps it. boottime: seconds since boot, None after a reboot; signer: who will sign.

    log_digest: of what ansible-playbook printed, without secrets, None where nobody kept it; predicted: what the runner expected at its
    start, None where nobody asked the store.
    """

    closed_at: str
    boottime: float | None
    events_digest: str | None
    signer: dict[str, Any]
    predicted: dict[str, Any] | None = None
    log_digest: str | None = None


def build(opening: Opening, evidence: Evidence, ending: Ending, closing: Closing) -> Record:
    """Put the record together."""
    run, inputs = evidence.run, opening.inputs
    phases = timeline.sort_phases(evidence.phases.values())
    measured = measures.complete(evidence.measures, phases, opening.opened_at)
    runbook = str(run.get("runbook") or opening.runbook)
    targets = run.get("objectives")
    judged = objectives.evaluate(runbook, measured, targets if isinstance(targets, dict) else {})
    decision = decide(evidence, ending)
    return Record(
        schema_=SCHEMA,
        run_id=opening.run_id,
        parent_run_id=_text(run.get("parent_run_id"), opening.parent_run_id),
        runbook=runbook,
        cluster=_text(run.get("cluster"), opening.cluster),
        mode=_text(run.get("mode"), inputs.get("mode")),
        scope=_text(run.get("scope"), inputs.get("scope")),
        verdict=decision.verdict,
        verdict_reasons=list(decision.reasons),
        objectives_met=objectives.all_met(judged),
        opened_at=opening.opened_at,
        closed_at=closing.closed_at,
        duration_seconds=measures.run_seconds(opening.opened_at, closing.closed_at, opening.boottime, closing.boottime),
        operator=opening.operator,
        approver=_text(run.get("approver"), opening.approver),
        controller=opening.controller,
        feed=opening.feed,
        check_mode=opening.check_mode,
        run=_run(inputs, run),
        phases=phases,
        gates=sorted(evidence.gates.values(), key=_gate_order),
        measures={**measured, "predicted": closing.predicted},
        objectives=[Objective(**asdict(objective)) for objective in judged],
        fence=_fence(evidence.fence),
        status=evidence.status,
        failures=[asdict(failure) for failure in evidence.failures],
        tasks=evidence.counts,
        journal={"missed_events": ending.missed, "reason": ending.missed_reason},
        digests={**opening.digests, "events": closing.events_digest, "log": closing.log_digest},
        versions={**opening.versions, **evidence.versions},
        signature=closing.signer,
    )


def _run(inputs: Mapping[str, str], said: dict[str, Any]) -> dict[str, Any]:
    """What the run said of itself; of what was refused before it could speak, what the operator typed."""
    typed: dict[str, Any] = {name: inputs.get(name) for name in ("target_site", *request.CONTEXT)}
    for name in request.PEOPLE:
        typed[name] = [one.strip() for one in typed[name].split(",")] if typed[name] else None
    return {**typed, **{name: value for name, value in said.items() if value is not None or name not in typed}}


def _gate_order(gate: dict[str, Any]) -> tuple[str, str, str]:
    return str(gate.get("phase")), str(gate.get("id")), str(gate.get("host"))


def _fence(said: dict[str, Any]) -> dict[str, Any]:
    """The fence with every probe in one list, each naming the host it asked about."""
    hosts = dictionaries(said.get("hosts"))
    probes = [{"host": host.get("host"), **probe} for host in hosts for probe in dictionaries(host.get("probes"))]
    return {"class": None, **said, "hosts": hosts, "probes": [*dictionaries(said.get("probes")), *probes]}


def _text(*values: Any) -> str | None:
    """The first value that says something, as text."""
    return next((str(value) for value in values if value), None)
