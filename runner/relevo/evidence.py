"""What the events of a run say, added up: a pure fold, the same for a finished, a failed and a killed run."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from relevo.feed import Event

Json = dict[str, Any]
_PART = re.compile(r"[^:]* (\d+)/(\d+): ")


@dataclass(frozen=True)
class Failure:
    """A task that failed or a host that could not be reached. at: UTC.

    cancelled: of an armed run that never went; tolerated: by Ansible's own closing statistics.
    """

    host: str | None
    play: str | None
    task: str | None
    message: str
    at: str
    unreachable: bool = False
    refused: bool = False
    cancelled: bool = False
    tolerated: bool = False


@dataclass
class Evidence:
    """The sum of the `relevo` data and of the outcome of the tasks.

    opened: the playbook's own opening task spoke; finished: the closing statistics arrived; failed_hosts, lost_hosts:
    by those statistics, so that ignored and rescued failures do not count; last: the last event that was seen; part: the number of the
    last play and of all, from a title such as "Failover 3/7: Lock".
    """

    run: Json = field(default_factory=dict)
    phases: dict[tuple[str, str], Json] = field(default_factory=dict)
    gates: dict[tuple[str, str, str, str], Json] = field(default_factory=dict)
    measures: Json = field(default_factory=dict)
    fence: Json = field(default_factory=dict)
    versions: Json = field(default_factory=dict)
    status: Json = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    opened: bool = False
    finished: bool = False
    failed_hosts: tuple[str, ...] = ()
    lost_hosts: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    last: Event | None = None
    part: tuple[int, int] | None = None


def collect(events: Iterable[Event]) -> Evidence:
    """Add up events in the order in which they came."""
    evidence = Evidence()
    for event in events:
        _add_event(evidence, event)
    return evidence


def _add_event(evidence: Evidence, event: Event) -> None:
    refused = cancelled = False
    for said in event.said:
        refused = refused or bool(said.get("refused"))
        cancelled = cancelled or bool(said.get("cancelled"))
        _add_said(evidence, said)
    if event.event in {"runner_on_failed", "runner_on_unreachable"} and not event.ignored:
        unreachable = event.event == "runner_on_unreachable"
        message = event.message or "no message"
        evidence.failures.append(Failure(event.host, event.play, event.task, message, event.at, unreachable, refused, cancelled))
    if event.event == "playbook_on_play_start":
        title = _PART.match(event.play or "")
        evidence.part = (int(title[1]), int(title[2])) if title else evidence.part
    if event.event == "playbook_on_stats":
        evidence.finished = True
        evidence.failed_hosts = _hosts(event, "failures")
        evidence.lost_hosts = _hosts(event, "dark")
        lost_or_failed = {*evidence.failed_hosts, *evidence.lost_hosts}
        evidence.failures = [replace(failure, tolerated=failure.host not in lost_or_failed) for failure in evidence.failures]
        evidence.counts = {name: sum(hosts.values()) for name, hosts in event.counts.items()}
    evidence.last = event


def _hosts(event: Event, count: str) -> tuple[str, ...]:
    return tuple(sorted(host for host, number in event.counts.get(count, {}).items() if number))


def _add_said(evidence: Evidence, said: Mapping[str, Any]) -> None:
    if isinstance(said.get("run"), dict):
        evidence.opened = True
    for name in ("run", "measures", "versions", "status"):
        part = said.get(name)
        if isinstance(part, dict):
            _merge(getattr(evidence, name), part)
    for phase in dictionaries(said.get("phases")):
        # The last word holds: a phase that is entered again in the same run replaces its first attempt.
        evidence.phases[(_name(phase, "name"), _name(phase, "host"))] = phase
    for gate in dictionaries(said.get("gates")):
        # By title too: one check may ask several questions of a host, and the last answer must not hide the others.
        evidence.gates[(_name(gate, "id"), _name(gate, "phase"), _name(gate, "host"), _name(gate, "title"))] = gate
    if isinstance(said.get("fence"), dict):
        _merge_fence(evidence.fence, said["fence"])


def _name(item: Mapping[str, Any], key: str) -> str:
    return str(item.get(key) or "unnamed")


def _merge(into: Json, part: Mapping[str, Any]) -> None:
    """Merge trees; a null never replaces what was observed, a list replaces a list."""
    for key, value in part.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        elif value is not None or key not in into:
            into[key] = dict(value) if isinstance(value, dict) else value


def _merge_fence(into: Json, part: Mapping[str, Any]) -> None:
    """The last word holds, but a probe that anybody made is never forgotten: who fences tells of its own, who promotes of all."""
    hosts = {str(entry.get("host")): entry for entry in dictionaries(into.get("hosts"))}
    for entry in dictionaries(part.get("hosts")):
        name = str(entry.get("host"))
        before = dictionaries(hosts.get(name, {}).get("probes"))
        probes = [*before, *(probe for probe in dictionaries(entry.get("probes")) if probe not in before)]
        hosts[name] = {**entry, **({"probes": sorted(probes, key=lambda probe: str(probe.get("at")))} if probes else {})}
    into.update({key: value for key, value in part.items() if key != "hosts"})
    into["hosts"] = [hosts[name] for name in sorted(hosts)]


def dictionaries(value: Any) -> list[Json]:
    """The dictionaries of a list; whatever else a module put there is left out."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
