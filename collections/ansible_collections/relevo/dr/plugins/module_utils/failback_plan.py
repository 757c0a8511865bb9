# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A failback: who comes back as a standby of whom, and what must hold before anything there is touched. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.relevo.dr.plugins.module_utils import gates
from ansible_collections.relevo.dr.plugins.module_utils.gates import Controller, Gate, Limits, verdict
from ansible_collections.relevo.dr.plugins.module_utils.inputs import Inputs
from ansible_collections.relevo.dr.plugins.module_utils.plan import Landscape, Plan, follows
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal


def _next(landscape: Landscape) -> str:
    """A primary whose host came back while nobody else answered is held by its guard: it needs a word, no failover."""
    facts = {host: entry.get("facts", {}) for host, entry in landscape.database.items()}
    held = [
        host for host, seen in facts.items() if (seen.get("guard") or {}).get("held") and not (seen.get("host") or {}).get("fence")
    ]
    if not held:
        return "run playbooks/failover.yml"
    by_hand = "the guard of %s holds it read-only: see relevo status, and when no other host is primary, relevo-guard start --reason ... on it"
    return by_hand % ", ".join(held)


def make_failback_plan(landscape: Landscape, target_site: str) -> Plan:
    """promote: the host that serves and goes on serving. fence: hosts that come back. follow: those, and others of the site that follow already."""
    primaries = landscape.primaries()
    if len(primaries) != 1:
        raise Refusal(
            "G07",
            ", ".join(primaries) or "inventory",
            "%d writable primaries" % len(primaries),
            "exactly one",
            _next(landscape) if not primaries else "stop: decide which one the application used, fence the other by hand",
        )
    primary = primaries[0]
    there = [host for host in landscape.groups["dr_database"] if landscape.sites[host] == target_site and host != primary]
    if not there:
        raise Refusal(
            "G18",
            "inventory",
            "no other database host in site %s" % target_site,
            "one that comes back",
            "give the site that was left",
        )
    returning = tuple(host for host in there if not follows(landscape, host))
    locks = {host: landscape.lock(host) for host in (primary, *there)}
    lock = locks[primary]
    return Plan(
        source_site=landscape.sites[primary],
        target_site=target_site,
        scope="",
        primary=primary,
        promote=primary,
        fence=returning,
        quiesce=(),
        cutover=(),
        witness=tuple(landscape.groups["dr_witness"]),
        system_identifier=str(landscape.cluster(primary).get("system_identifier")),
        done=not returning and not any(locks.values()),
        resume=any(locks.values()),
        parent_run_id=lock["run_id"] if lock else None,
        began_at=min((held.get("began_at") or held["since"] for held in locks.values() if held), default=None),
        follow=tuple(there),
    )


def evaluate(plan: Plan, landscape: Landscape, inputs: Inputs, limits: Limits, controller: Controller) -> list[Gate]:
    """The gates that a failback shares with a failover, and its own."""
    found = gates.evaluate(plan, landscape, inputs, limits, controller, gates.OF_EVERY_RUN)
    found.extend(_same_runbook(plan, landscape))
    for check in (_reach, _stopped, _older, _room):
        found.extend(gate for host in plan.fence for gate in check(host, plan, landscape, limits))
    return found


def _same_runbook(plan: Plan, landscape: Landscape) -> Iterator[Gate]:
    """A failback frees the locks of the run for which it goes on, and with them the only trace of what that run has left undone."""
    for host in (plan.promote, *landscape.application):
        run = (landscape.lock(host) or {}).get("run_id")
        if run:
            yield Gate(
                "G10",
                "the unfinished run is of this runbook",
                host,
                "run %s is unfinished" % run,
                "a failback, or none",
                verdict("-failback-" in run),
                "finish that one first: start its runbook again with the same inputs, it goes on from what it finds; then start the failback",
            )


def _reach(host: str, plan: Plan, landscape: Landscape, limits: Limits) -> Iterator[Gate]:
    entry = landscape.database.get(host, {})
    observed = "answers" if entry.get("reachable") else str(entry.get("error") or "was not asked")
    yield Gate(
        "REACH",
        "the host that comes back answers",
        host,
        observed,
        "answers",
        verdict(bool(entry.get("reachable"))),
        "switch it on; its boot guard keeps PostgreSQL down, or read-only",
    )


def _stopped(host: str, plan: Plan, landscape: Landscape, limits: Limits) -> Iterator[Gate]:
    cluster = landscape.cluster(host)
    if not cluster:
        return
    state, role = str(cluster.get("state")), str(cluster.get("role"))
    yield Gate(
        "G07",
        "the host that comes back does not write",
        host,
        "%s, %s" % (state, role),
        "stopped, or read-only",
        verdict(state == "stopped" or role == "standby"),
        "see what runs there; a host without a cluster is built by playbooks/protect.yml",
    )


def _older(host: str, plan: Plan, landscape: Landscape, limits: Limits) -> Iterator[Gate]:
    ours, theirs = landscape.cluster(host).get("timeline"), landscape.cluster(plan.promote).get("timeline")
    if ours is None or theirs is None:
        return
    yield Gate(
        "G09",
        "its data are of the primary's lineage",
        host,
        "timeline %s; %s is on timeline %s" % (ours, plan.promote, theirs),
        "not a newer timeline than the primary's",
        verdict(ours <= theirs),
        "stop: two hosts were promoted; find out which one the application uses",
    )


def _room(host: str, plan: Plan, landscape: Landscape, limits: Limits) -> Iterator[Gate]:
    free = landscape.database.get(host, {}).get("facts", {}).get("host", {}).get("data_free_bytes")
    yield Gate(
        "G12",
        "room for the WAL that is kept and for what is fetched",
        host,
        "not seen" if free is None else "%d MiB free" % (free >> 20),
        "%d MiB" % (limits.free_bytes >> 20),
        verdict(None if free is None else free >= limits.free_bytes),
        "free space on %s" % host,
    )
