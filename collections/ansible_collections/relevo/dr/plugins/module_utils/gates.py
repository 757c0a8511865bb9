# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The gates of PREFLIGHT as pure functions: what was observed, what is expected, and what to do when they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import connection_room, stale_lock, way_out
from ansible_collections.relevo.dr.plugins.module_utils.inputs import ACCEPTS_BY_NAME, Inputs
from ansible_collections.relevo.dr.plugins.module_utils.plan import Landscape, Plan
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import lsn_bytes

PASS, FAIL, UNKNOWN, ACCEPTED, NOT_APPLICABLE = "pass", "fail", "unknown", "accepted", "not_applicable"

# A gate whose answer may be missing when a person takes it over by name; all others must be observed.
ACCEPTABLE = frozenset({"G01", "G03", "G05", "G06", "G09", "G12", "G16", "G17", "LOSS"})

SETTINGS_AT_LEAST = (
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
)


@dataclass(frozen=True)
class Limits:
    """What is still good enough. Bytes and seconds."""

    lag_bytes: int = 64 * 1024 * 1024
    clock_offset_seconds: float = 2.0
    free_bytes: int = 512 * 1024 * 1024
    backup_age_seconds: float = 26 * 3600
    archive_age_seconds: float = 3600
    archive_timeout_seconds: float = 900
    observation_age_seconds: float = 15.0
    attempt_age_seconds: float = 30.0
    message_age_seconds: float = 15.0
    transaction_age_seconds: float = 30.0
    proof_age_seconds: float = 35 * 86400
    verification_age_seconds: float = 50 * 3600
    keys_proof_age_seconds: float = 107 * 86400


@dataclass(frozen=True)
class Gate:
    """One check on one host. verdict: pass | fail | unknown | accepted | not_applicable. required: false for a finding that stops nothing."""

    id: str
    title: str
    host: str
    observed: str
    expected: str
    verdict: str
    next_action: str = ""
    phase: str = "PREFLIGHT"
    required: bool = True

    def as_dict(self) -> dict[str, Any]:
        """For the record."""
        return asdict(self)


@dataclass(frozen=True)
class Controller:
    """What the controller knows of itself. public_key: type and base64 of its signing key."""

    forks: int
    public_key: str
    free_bytes: int


Check = Callable[[Plan, Landscape, Inputs, Limits], Iterator[Gate]]


def verdict(ok: Optional[bool]) -> str:
    """None is unknown, and unknown never passes by itself."""
    return UNKNOWN if ok is None else PASS if ok else FAIL


def evaluate(
    plan: Plan,
    landscape: Landscape,
    inputs: Inputs,
    limits: Limits,
    controller: Controller,
    checks: Optional[Iterable[Check]] = None,
) -> list[Gate]:
    """Every gate that can be evaluated; a host that did not answer makes its gates unknown or, where a fence answers instead, not applicable.

    checks: those of a failover when not given.
    """
    gates: list[Gate] = []
    for check in OF_A_FAILOVER if checks is None else checks:
        gates.extend(check(plan, landscape, inputs, limits))
    gates.append(_forks(plan, controller))
    if checks is None:
        gates.append(_signer(plan, landscape, controller))
    gates.append(
        Gate(
            "G22",
            "room for the record",
            "controller",
            "%d MiB free" % (controller.free_bytes >> 20),
            "64 MiB",
            verdict(controller.free_bytes >= 64 << 20),
            "free space in the state directory",
        )
    )
    # What is planned can wait until everything is seen.
    return gates if plan.planned else [_accept(gate, inputs) for gate in gates]


def blocking(gates: list[Gate]) -> list[Gate]:
    """Gates that keep a run from going on."""
    return [gate for gate in gates if gate.required and gate.verdict in (FAIL, UNKNOWN)]


def _accept(gate: Gate, inputs: Inputs) -> Gate:
    if gate.verdict == UNKNOWN and gate.id in ACCEPTABLE:
        if gate.id in inputs.accept_unknown:
            return replace(gate, verdict=ACCEPTED)
        return replace(gate, next_action="%s, or %s" % (gate.next_action, ACCEPTS_BY_NAME))
    return gate


def _answer(entry: Mapping[str, Any]) -> str:
    return "answers" if entry.get("reachable") else str(entry.get("error") or "was not asked")


def _host_facts(landscape: Landscape, host: str) -> dict[str, Any]:
    for kind in (landscape.database, landscape.application, landscape.witness, landscape.observer):
        facts: dict[str, Any] = kind.get(host, {}).get("facts", {}).get("host", {})
        if facts:
            return facts
    return {}


def _reach(plan: Plan, landscape: Landscape, inputs: Inputs, limits: Limits) -> Iterator[Gate]:
    title, fix = "reachable and become works", "try: ansible -i INVENTORY %s -b -m ping"
    needed = [
        (plan.promote, landscape.database),
        *((host, landscape.application) for host in plan.cutover),
        *((host, landscape.witness) for host in plan.witness),
    ]
    for host, kind in needed:
        entry = kind.get(host, {})
        lenient = host in plan.witness and "LOSS" in inputs.accept_unknown
        ok = bool(entry.get("reachable"))
        yield Gate("REACH", title, host, _answer(entry), "answers", ACCEPTED if lenient and not ok else verdict(ok), fix % host)
    for host in plan.fence:
        entry = landscape.database.get(host, {})
        if entry.get("denied"):
            # A host that is alive and does not let us in is not dead: fencing it from outside would hide a mistake of ours.
            yield Gate(
                "REACH", title, host, _answer(entry), "answers, or is silent", FAIL, "mend keys, host keys or sudo on %s" % host
            )


def _identity(plan: Plan, landscape: Landscape, inputs: Inputs, limits: Limits) -> Iterator[Gate]:
    title = "one cluster: the same system identifier"
    expected = plan.system_identifier
    seen = {
        host: landscape.cluster(host).get("system_identifier")
        for host in plan.others()
        if landscape.cluster(host).get("system_identifier")
    }
    for host, observed in seen.items():
        yield Gate(
            "G01",
            title,
            host,
            "system %s" % observed,
            "system %s, as on %s" % (expected, plan.promote),
            verdict(observed == expected),
            "is this host in the right inventory?",
        )
    if not seen:
        last = _last_observed(plan, landscape)
        identifiers = sorted({str(event["system_identifier"]) for event in last if event.get("system_identifier")})
        ok = None if not identifiers else identifiers == [expected]
        yield Gate(
            "G01",
            title,
            plan.promote,
            "system %s; last seen on the old primary: %s" % (expected, ", ".join(identifiers) or "nothing"),
            "the same",
            verdict(ok),
            "run playbooks/check.yml while the primary is alive, so that the observers know it",
        )


def _last_observed(plan: Plan, landscape: Landscape) -> list[dict[str, Any]]:
    """The newest accepted write on each old database host, per observer."""
    found = []
    for entry in landscape.observer.values():
        for host in plan.fence:
            event = entry.get("facts", {}).get("last_accepted", {}).get(host)
            if event:
                found.append(event)
    return found


def _lock(plan: Plan, landscape: Landscape, inputs: Inputs, limits: Limits) -> Iterator[Gate]:
    title = "no other run at work"
    for host, entry in landscape.database.items():
        facts = _host_facts(landscape, host)
        if not entry.get("reachable"):
            continue
        lock = facts.get("lock")
        observed, free = "no lock", True
        if lock is not None:
            everybody = landscape.keepers()
            alive = None if entry.get("lock_owner_dead") else stale_lock.sign_of_life(lock["run_id"], everybody)
            free = alive is None
            who = (lock["run_id"], lock["owner"], lock["controller"], lock["since"])
            observed = "run %s of %s on %s since %s (%s)" % (*who, alive or "dead")
        yield Gate(
            "G10",
            title,
            host,
            observed,
            "no lock of a living run",
            verdict(free),
            "wait for that run, or for its lease to end; one that hangs has to be ended where it was started",
        )


def _managers(plan: Plan, landscape: Landscape, inputs: Inputs, limits: Limits) -> Iterator[Gate]:
    for host in (plan.promote, *plan.fence):
        managers = _host_facts(landscape, host).get("ha_managers")
        if managers is None:
            continue
        yield Gate(
            "HA",
            "no high-availability manager would act by itself",
            host,
            ", ".join(managers) or "none",
            "none",
            verdict(not managers),
            "stop and disable it, or let it do the failover: there is no provider for it",
        )


def _fence(plan: Plan, landscape: Landscape, inputs: Inputs, limits: Limits) -> Iterator[Gate]:
    title = "the old primary can be fenced"
    for host in plan.fence:
        entry, fence = landscape.database.get(host, {}), landscape.fence.get(host, {})
        lease = fence.get("settings", {}).get("lease") or {}
        expected = "a way to a proof: service, command, or, accepted by name, an ended lease or a person's word"
        if entry.get("reachable"):
            yield Gate("G07", title, host, "answers: stop, mask and proof on the host", expected, PASS)
            continue
        fresh = [
            event
            for observer in landscape.observer.values()
            for event in [observer.get("facts", {}).get("last_accepted", {}).get(host)]
            if event and event["age_seconds"] <= limits.observation_age_seconds and fence.get("power") != "off"
        ]
        still = [event for event in fresh if event["outcome"] == "accepted"]
        if still:
            yield Gate(
                "G07",
                "the old primary is seen alike from everywhere",
                host,
                "%s from the controller, but %s accepted a write %.0f s ago"
                % (_answer(entry), still[0]["observer"], still[0]["age_seconds"]),
                "the same from the controller and from the witness",
                FAIL,
                "mend the controller's way to %s, or run from where it can be reached; it is alive" % host,
            )
        can_switch_off = fence.get("power") == "off" or bool(fence.get("settings", {}).get("command_off"))
        if fence.get("power") in ("on", "off") and can_switch_off:
            yield Gate("G07", title, host, "power is %s, by command" % fence["power"], expected, PASS)
        elif lease.get("expired") and "lease_expired" in inputs.accept_fence:
            yield Gate("G07", title, host, "its lease has ended: %s" % lease["said"], expected, ACCEPTED)
        elif host in inputs.attest_dead:
            yield Gate("G07", title, host, "attested dead by %s" % inputs.attested_by, expected, ACCEPTED)
        else:
            yield Gate(
                "G07",
                title,
                host,
                "%s; no power command answers (%s)" % (_answer(entry), fence.get("error") or "none is configured"),
                expected,
                FAIL,
                _next_for_a_silent_host(host, lease),
            )


def _next_for_a_silent_host(host: str, lease: Mapping[str, Any]) -> str:
    by_hand = (
        "set dr_fence_command_off and dr_fence_command_status, or, after somebody saw it dead, -e dr_attest_dead=%s -e dr_attested_by=..."
        % host
    )
    if lease.get("expired"):
        return "its lease has ended (%s): -e dr_accept_fence=lease_expired -e dr_reason=...; or %s" % (lease["said"], by_hand)
    if lease.get("left_seconds"):
        return "start again in %.0f s with -e dr_accept_fence=lease_expired -e dr_reason=... (%s); or %s" % (
            lease["left_seconds"],
            lease["said"],
            by_hand,
        )
    return "%s%s" % (by_hand, "; no proof by lease: %s" % lease["said"] if lease else "")


def _way_out(plan: Plan, landscape: Landscape, inputs: Inputs, limits: Limits) -> Iterator[Gate]:
    """Both ways with what each is expected to lose and to take, and the one that is taken, before anything changes."""
    if plan.planned or landscape.role(plan.promote) == "primary":
        return
    ways = [_promotion_way(plan, landscape), _restore_way(plan, landscape)]
    if plan.restore is None:
        why = "it is a standby" if inputs.path == way_out.AUTO else "dr_path=promote"
    elif way_out.unfinished(landscape, plan.promote) and not inputs.restore and inputs.path == way_out.AUTO:
        why = "run %s began it" % (way_out.unfinished(landscape, plan.promote) or {}).get("run_id")
    else:
        why = "it was asked for" if inputs.restore or inputs.path == way_out.RESTORE else "no standby can be promoted"
    yield Gate(
        "WAYOUT",
        "the way out",
        plan.promote,
        "%s. Chosen: %s, for %s" % (". ".join(ways), plan.path, why),
        "one way that is open",
        PASS,
    )
    yield from _restored_loss(plan, landscape, inputs)


def _promotion_way(plan: Plan, landscape: Landscape) -> str:
    if plan.restore is not None and not way_out.standbys(landscape, [plan.promote]):
        return "promote: no standby can be promoted in site %s (%s is %s)" % (
            plan.target_site,
            plan.promote,
            way_out.described(landscape, plan.promote),
        )
    standby = landscape.cluster(plan.promote).get("standby") or {}
    primary = next((host for host in plan.fence if landscape.role(host) == "primary"), None)
    if primary is not None:
        behind = lsn_bytes(landscape.cluster(primary)["primary"]["flush_lsn"]) - lsn_bytes(standby.get("replay_lsn") or "0/0")
        return "promote %s: %d bytes behind %s, in seconds" % (plan.promote, max(behind, 0), primary)
    committed, replayed = min(_last_commits(plan, landscape), default=None), standby.get("last_replayed_age_seconds")
    if committed is None or replayed is None:
        return "promote %s: nobody knows how far behind, in seconds" % plan.promote
    return "promote %s: at most %.1f s behind the last commit that was seen, in seconds" % (
        plan.promote,
        max(0.0, replayed - committed),
    )


def _restore_way(plan: Plan, landscape: Landscape) -> str:
    """What was not asked for is told of from what is known anyway."""
    if plan.restore is not None:
        behind = _restored_behind(plan, landscape)
        lost = "loses what cannot be told in seconds" if behind is None else "loses about %.1f s" % behind
        return "restore %s: %s; %s" % (plan.promote, way_out.shown(plan.restore, landscape.rate), lost)
    answering, _ = repositories_that_answer(landscape, plan.promote)
    known = {key: found for key, found in answering.items() if found.get("newest_backup_bytes")}
    if not known:
        return "restore: no backup is known"
    key, newest = min(known.items(), key=lambda entry: float(entry[1]["newest_backup_age_seconds"]))
    return (
        "restore: backup %s of repository %d, %d bytes, about %.0f s at %.0f bytes/s (%s); where its archive ends was not looked at"
        % (
            newest["newest_backup"],
            key,
            newest["newest_backup_bytes"],
            newest["newest_backup_bytes"] / landscape.rate.bytes_per_second,
            landscape.rate.bytes_per_second,
            landscape.rate.said,
        )
    )


def _restored_behind(plan: Plan, landscape: Landscape) -> Optional[float]:
    """Seconds between the newest commit that will be there and the newest one that anybody saw; None when either is not known."""
    age = (plan.restore or {}).get("committed_age_seconds")
    committed = min(_last_commits(plan, landscape), default=None)
    return None if age is None or committed is None else max(0.0, age - committed)


def _restored_loss(plan: Plan, landscape: Landscape, inputs: Inputs) -> Iterator[Gate]:
    """A restore destroys nothing that is nowhere else, but it takes its time: a loss that nobody accepted is said before it, not after it."""
    if plan.restore is None:
        return
    behind = _restored_behind(plan, landscape)
    to_the_end = plan.restore["kind"] == "end"
    bound = inputs.accept_loss_seconds
    counted = inputs.accept_loss_transactions is not None
    if "LOSS" in inputs.accept_unknown:
        judged = ACCEPTED
    elif behind is None:
        judged = verdict(bound is not None or counted)
    elif to_the_end and plan.primary is not None:
        # What it has not archived yet it archives when it is stopped; the ledger is asked before the promotion.
        judged = PASS
    else:
        # With a number of transactions alone the count decides, before the promotion.
        judged = verdict(behind <= (bound if bound is not None else 5.0 if to_the_end else 0.0) or (bound is None and counted))
    observed = "not known in seconds before it is restored" if behind is None else "about %.1f s" % behind
    accepted = ["%g s" % bound] if bound is not None else []
    accepted += ["%s transactions" % inputs.accept_loss_transactions] if counted else []
    asked = (
        "-e dr_accept_loss_seconds=%.0f" % (behind + 60)
        if behind is not None
        else "-e dr_accept_loss_seconds=... or -e dr_accept_loss_transactions=..."
    )
    yield Gate(
        "LOSS",
        "the loss of a restore to %s, as far as it shows before it" % plan.restore["target"],
        plan.promote,
        observed,
        "at most %s, as accepted" % " and ".join(accepted) if accepted else "none, for none was accepted",
        judged,
        "if that loss is what you want, give %s, or LOSS as %s" % (asked, ACCEPTS_BY_NAME),
    )


def _lag(plan: Plan, landscape: Landscape, inputs: Inputs, limits: Limits) -> Iterator[Gate]:
    if plan.restore is not None:
        return  # _way_out says what is known of it
    standby = landscape.cluster(plan.promote).get("standby")
    if standby is None:
        yield Gate("G08", "the standby is complete", plan.promote, "is primary already", "a standby, or done", NOT_APPLICABLE)
        return
    yield Gate(
        "G08",
        "replay runs",
        plan.promote,
        "paused" if standby["replay_paused"] else "running",
        "running",
        verdict(not standby["replay_paused"]),
        "select pg_wal_replay_resume()",
    )
    delay = str(landscape.cluster(plan.promote).get("settings", {}).get("recovery_min_apply_delay", "0"))
    yield Gate(
        "G08",
        "replay is not delayed on purpose",
        plan.promote,
        "recovery_min_apply_delay = %s" % delay,
        "0: the drain would wait for it with the service down",
        verdict(delay == "0"),
        "alter system set recovery_min_apply_delay = 0, reload, and wait until it has caught up",
    )
    receiver = standby.get("receiver")
    title = "the standby is close to its primary"
    primary = next((host for host in plan.fence if landscape.role(host) == "primary"), None)
    if primary is not None:
        lag = lsn_bytes(landscape.cluster(primary)["primary"]["flush_lsn"]) - lsn_bytes(standby["replay_lsn"])
        streaming, how = _streaming(receiver, lag, limits)
        close = streaming and lag <= limits.lag_bytes
        behind, bound = _behind(plan, landscape, standby), inputs.accept_loss_seconds
        observed = "%s, %d bytes behind %s" % (how, max(lag, 0), primary)
        expected = "streaming, at most %d bytes behind" % limits.lag_bytes
        fix = "wait, or find out why it does not follow: journalctl on %s" % plan.promote
        if not close and behind is not None and not plan.planned:
            observed += ", %.1f s of commits" % behind
            fix += "; or leave what it lacks with -e dr_accept_loss_seconds=%.0f" % (behind + 60)
            expected += "" if bound is None else ", or at most %g s, as accepted" % bound
        # What it really lacks is counted once it is drained, before the promotion, and held against the same bound.
        accepted = not close and behind is not None and bound is not None and behind <= bound
        yield Gate("G08", title, plan.promote, observed, expected, ACCEPTED if accepted else verdict(close), fix)
        return
    yield _loss(plan, landscape, inputs, standby)


def _streaming(receiver: Optional[Mapping[str, Any]], lag: int, limits: Limits) -> tuple[bool, str]:
    """A receiver whose link is dead says `streaming` until its own time-out; one that is behind and hears nothing is cut off."""
    if not receiver or receiver["status"] != "streaming":
        return False, "not streaming"
    silent = receiver["last_message_age_seconds"]
    if lag > 0 and (silent is None or silent > limits.message_age_seconds):
        return False, "has heard nothing %s" % ("yet" if silent is None else "for %.0f s" % silent)
    return True, "streaming"


def _ledger(plan: Plan, landscape: Landscape, inputs: Inputs, limits: Limits) -> Iterator[Gate]:
    """A ledger that has stopped acknowledges nothing that could be missing, and so would make every loss look like none."""
    for host in plan.witness:
        entry = landscape.witness.get(host, {})
        if not entry.get("reachable"):
            continue  # REACH says so
        age = entry.get("facts", {}).get("ledger", {}).get("last_attempt_age_seconds")
        working = age is not None and age <= limits.attempt_age_seconds
        yield Gate(
            "LOSS",
            "the ledger is at work",
            host,
            "no attempt is on record" if age is None else "last attempt %.0f s ago" % age,
            "an attempt within the last %g s" % limits.attempt_age_seconds,
            PASS if working else UNKNOWN,
            "" if working else "systemctl restart relevo-ledger on %s; without it the loss cannot be measured" % host,
        )


def _last_commits(plan: Plan, landscape: Landscape) -> list[float]:
    """Ages in seconds of the newest commits that anybody saw on the old side: the ledger's by acknowledgement, each observer's by its own write."""
    acknowledged = [
        entry.get("facts", {}).get("ledger", {}).get("last_acknowledged_age_seconds") for entry in landscape.witness.values()
    ]
    return [
        float(age)
        for age in (*acknowledged, *(event["age_seconds"] for event in _last_observed(plan, landscape)))
        if age is not None
    ]


def _behind(plan: Plan, landscape: Landscape, standby: Mapping[str, Any]) -> Optional[float]:
    """Seconds between the newest commit that the standby has and the newest one that anybody saw; None when either is not known."""
    committed = min(_last_commits(plan, landscape), default=None)
    replayed = standby.get("last_replayed_age_seconds")
    return None if committed is None or replayed is None else max(0.0, float(replayed) - committed)


def _loss(plan: Plan, landscape: Landscape, inputs: Inputs, standby: Mapping[str, Any]) -> Gate:
    """With no primary to compare with, the newest commit that the witness and the observers saw is what the standby must have."""
    title = "the loss, as far as it shows before the drain"
    behind = _behind(plan, landscape, standby)
    if behind is None:
        return Gate(
            "LOSS",
            title,
            plan.promote,
            "no commit seen by the witness or an observer, or nothing replayed yet",
            "both",
            UNKNOWN,
            "start the ledger with playbooks/protect.yml",
        )
    # One ledger period is no loss: the tail is compared number by number once the standby is drained.
    accepted = max(inputs.accept_loss_seconds or 0.0, 5.0)
    return Gate(
        "LOSS",
        title,
        plan.promote,
        "last replayed transaction %.1f s older than the last one that was seen committed" % behind,
        "at most %.1f s" % accepted,
        verdict(behind <= accepted),
        "if that loss is acceptable, give -e dr_accept_loss_seconds=%.0f" % (behind + 1),
    )


def _lineage(plan: Plan, landscape: Landscape, inputs: Inputs, limits: Limits) -> Iterator[Gate]:
    cluster = landscape.cluster(plan.promote)
    if plan.restore is None and cluster.get("role") != "standby":
        return
    ours = plan.restore["timeline"] if plan.restore else cluster.get("timeline")
    theirs = [landscape.cluster(host)["timeline"] for host in plan.fence if landscape.cluster(host).get("timeline")] or [
        event["timeline"] for event in _last_observed(plan, landscape) if event.get("timeline")
    ]
    ok = None if not theirs or ours is None else all(timeline == ours for timeline in theirs)
    if "timeline" in inputs.restore:
        ok = True  # it was named
    yield Gate(
        "G09",
        "the restore is along the primary's timeline" if plan.restore else "the standby is on the primary's timeline",
        plan.promote,
        "timeline %s; primary %s" % (ours, ", ".join(map(str, sorted(set(theirs)))) or "not seen"),
        "the same",
        verdict(ok),
        "name the one that you mean with dr_restore_timeline"
        if plan.restore
        else _way_to_one_timeline(plan, landscape, ours, theirs),
    )


def _way_to_one_timeline(plan: Plan, landscape: Landscape, ours: Optional[int], theirs: Iterable[int]) -> str:
    """One that is ahead was promoted and has written: whoever builds it anew loses that."""
    if ours is None or ours <= max(theirs, default=ours):
        return "rebuild the standby with playbooks/protect.yml"
    if (landscape.database[plan.promote]["facts"].get("guard") or {}).get("held"):
        return (
            "it was promoted before, and its guard holds it read-only: when no other host is primary, relevo-guard start --reason ... on %s;"
            " then start again" % plan.promote
        )
    return "it was promoted before and has what the primary never had: do not rebuild it; see relevo status"


def _parity(plan: Plan, landscape: Landscape, inputs: Inputs, limits: Limits) -> Iterator[Gate]:
    target = landscape.cluster(plan.promote)
    if "settings" not in target:
        title, when = "collations, extensions and settings", "read once it is restored; a server that cannot replay says why"
        yield Gate("G06", title, plan.promote, "PostgreSQL does not run there", when, NOT_APPLICABLE)
        return
    stale = [
        row["name"]
        for row in target.get("collations", [])
        if row["recorded"] and row["actual"] and row["recorded"] != row["actual"]
    ]
    yield Gate(
        "G06",
        "collation versions",
        plan.promote,
        "differ in %s" % ", ".join(stale) if stale else "as recorded",
        "as recorded",
        verdict(not stale),
        "plan a reindex of text indexes, then alter database ... refresh collation version",
    )
    available = {(row["name"], row["version"]) for row in target.get("available_extensions", [])}
    missing = [
        "%s %s" % (row["name"], row["version"])
        for row in target.get("extensions", [])
        if (row["name"], row["version"]) not in available
    ]
    yield Gate(
        "G06",
        "extensions are installed",
        plan.promote,
        "missing: %s" % ", ".join(missing) if missing else "all %d" % len(target.get("extensions", [])),
        "the versions that the database uses",
        verdict(not missing),
        "install the packages on %s" % plan.promote,
    )
    for host in plan.fence:
        source = landscape.cluster(host)
        if source.get("state") != "running":
            yield Gate(
                "G06", "same release and settings", plan.promote, "%s cannot be compared" % host, "last evidence", NOT_APPLICABLE
            )
            continue
        ours, theirs = target["settings"], source["settings"]
        yield Gate(
            "G06",
            "same major release",
            plan.promote,
            str(target["version_num"]),
            "as on %s: %s" % (host, source["version_num"]),
            verdict(target["version_num"] // 10000 == source["version_num"] // 10000),
            "install the same major release",
        )
        low = ["%s %s < %s" % (name, ours[name], theirs[name]) for name in SETTINGS_AT_LEAST if int(ours[name]) < int(theirs[name])]
        yield Gate(
            "G06",
            "settings not lower than the primary's",
            plan.promote,
            ", ".join(low) or "none is lower",
            "none is lower",
            verdict(not low),
            "run playbooks/protect.yml",
        )


def _durability(plan: Plan, landscape: Landscape, inputs: Inputs, limits: Limits) -> Iterator[Gate]:
    for host in (plan.promote, *plan.fence):
        settings = landscape.cluster(host).get("settings")
        if not settings:
            continue
        off = [name for name in ("fsync", "full_page_writes") if settings[name] != "on"] + (
            ["synchronous_commit"] if settings["synchronous_commit"] == "off" else []
        )
        yield Gate(
            "G16",
            "commits are durable",
            host,
            "off: %s" % ", ".join(off) if off else "fsync, full_page_writes and synchronous_commit are on",
            "on",
            verdict(not off),
            "an acknowledgement means nothing otherwise: switch it on",
        )
    if "settings" not in landscape.cluster(plan.promote):
        when = "read once it is restored, before it is promoted"
        yield Gate("G16", "commits are durable", plan.promote, "PostgreSQL does not run there", when, NOT_APPLICABLE)
        return
    names = landscape.cluster(plan.promote)["settings"].get("synchronous_standby_names", "")
    yield Gate(
        "G16",
        "no commit would wait for a dead standby",
        plan.promote,
        names or "no synchronous_standby_names",
        "none",
        verdict(not names),
        "reset synchronous_standby_names on %s" % plan.promote,
    )


def repositories_that_answer(landscape: Landscape, host: str) -> tuple[dict[int, dict[str, Any]], dict[int, dict[str, Any]]]:
    """By number the repositories that answer this host, and those that do not."""
    seen = landscape.database.get(host, {}).get("facts", {}).get("repository", {}).get("repositories") or {}
    answering = {int(key): found for key, found in seen.items() if not found.get("error")}
    return answering, {int(key): found for key, found in seen.items() if int(key) not in answering}


def to_leave_out(landscape: Landscape, host: str) -> list[int]:
    """Repositories without which this host must go on: those that do not answer it, as long as another one does."""
    answering, silent = repositories_that_answer(landscape, host)
    return sorted(silent) if answering else []


def _archive(plan: Plan, landscape: Landscape, inputs: Inputs, limits: Limits) -> Iterator[Gate]:
    yield _backup(plan, landscape, limits)
    yield from _repositories(plan, landscape)
    for host in plan.fence:
        cluster = landscape.cluster(host)
        if cluster.get("primary", {}).get("archiver") is None:
            continue
        ok, observed = archives(cluster, limits)
        # A store that is gone holds up the old primary's archive by itself. Leaving that primary is the way out of it, so it is no reason to stay.
        lost = to_leave_out(landscape, plan.promote) if cluster["settings"]["archive_mode"] != "off" else []
        if lost and not ok:
            observed += ", for repository %s does not answer" % ", ".join(map(str, lost))
        yield Gate(
            "G03",
            "WAL archiving works",
            host,
            observed,
            "on, not failing, nothing waits longer than %.0f s" % limits.archive_age_seconds,
            verdict(ok),
            "see the log of %s; playbooks/protect.yml probes it end to end" % host,
            required=not lost,
        )


def archives(cluster: Mapping[str, Any], limits: Limits) -> tuple[bool, str]:
    """Whether a primary's WAL gets into the archive, and what was seen of it. The statistics are empty after a crash; what waits is on disk."""
    archiver = cluster["primary"]["archiver"]
    waiting = archiver["oldest_waiting_age_seconds"]
    if cluster["settings"]["archive_mode"] == "off":
        return False, "archive_mode is off"
    if archiver["failing"]:
        return False, "failing on %s" % archiver["last_failed_wal"]
    in_time = waiting is None or waiting <= limits.archive_age_seconds
    return in_time, "nothing waits" if waiting is None else "a segment waits for %.0f s" % waiting


def archived_in_time(host: str, settings: Mapping[str, str], limits: Limits, phase: str = "PREFLIGHT") -> Gate:
    """A commit reaches the archive though nobody writes after it. settings: as the running primary has them.

    The probe of the archive switches the segment itself and cannot see this. No reason to stay with a primary, so it is no gate of a failover.
    """
    known = settings.get("archive_timeout")
    seconds = None if known is None else float(known)
    observed = "archive_timeout is %s" % ("not known" if seconds is None else "%g s" % seconds)
    return Gate(
        "WALAGE",
        "WAL reaches the archive in time",
        host,
        observed + (": a segment that is not full is never archived" if seconds == 0 else ""),
        "1 to %g s" % limits.archive_timeout_seconds,
        verdict(None if seconds is None else 0 < seconds <= limits.archive_timeout_seconds),
        "run playbooks/protect.yml, which sets it; if it comes back, see pg_settings.sourcefile for who sets it",
        phase,
    )


def _backup(plan: Plan, landscape: Landscape, limits: Limits) -> Gate:
    """One good backup in any repository that answers is enough to go on."""
    answering, silent = repositories_that_answer(landscape, plan.promote)
    held = {key: found for key, found in answering.items() if found.get("newest_backup")}
    good = {key: found for key, found in held.items() if not found.get("newest_backup_error")} or held
    ok: Optional[bool] = None
    if good:
        key, newest = min(good.items(), key=lambda entry: float(entry[1]["newest_backup_age_seconds"]))
        age = float(newest["newest_backup_age_seconds"])
        flagged = bool(newest.get("newest_backup_error"))
        ok = age <= limits.backup_age_seconds and not flagged
        observed = "%s in repository %d, %.1f h old%s" % (
            newest["newest_backup"],
            key,
            age / 3600,
            ", flagged with errors" if flagged else "",
        )
    else:
        observed = "; ".join("repository %d: %s" % (key, found["error"]) for key, found in sorted(silent.items())) or "no backup"
    return Gate(
        "G05",
        "a recent backup",
        plan.promote,
        observed,
        "at most %.0f h old, without errors" % (limits.backup_age_seconds / 3600),
        verdict(ok),
        "run playbooks/protect.yml, or see why %s cannot read the repository" % plan.promote,
    )


def _repositories(plan: Plan, landscape: Landscape) -> Iterator[Gate]:
    """A finding and no obstacle: the site that is left may have taken its store with it."""
    answering, silent = repositories_that_answer(landscape, plan.promote)
    left_out = landscape.database.get(plan.promote, {}).get("facts", {}).get("repository", {}).get("left_out") or {}
    if len(answering) + len(silent) + len(left_out) < 2 or not answering:
        return
    wrong = ["repository %d: %s" % (key, found["error"]) for key, found in sorted(silent.items())]
    wrong += ["repository %s is left out since %s" % (key, why.get("at")) for key, why in sorted(left_out.items())]
    yield Gate(
        "G23",
        "every repository answers",
        plan.promote,
        "; ".join(wrong) or "%d answer" % len(answering),
        "all of them",
        verdict(not wrong),
        "%s will go on without it; once its store is back, run playbooks/protect.yml" % plan.promote,
        required=False,
    )


def _capacity(plan: Plan, landscape: Landscape, inputs: Inputs, limits: Limits) -> Iterator[Gate]:
    if plan.restore is not None:
        room, need = landscape.restore[plan.promote]["room_bytes"], int(plan.restore["size"]) + limits.free_bytes
        said = "%d MiB, with what is replaced" % (room >> 20)
        fix = "free space on %s" % plan.promote
        yield Gate("G12", "room for the restore", plan.promote, said, "%d MiB" % (need >> 20), verdict(room >= need), fix)
        return
    facts = _host_facts(landscape, plan.promote)
    for name, title in (("data_free_bytes", "room for data"), ("wal_free_bytes", "room for WAL")):
        free = facts.get(name)
        yield Gate(
            "G12",
            title,
            plan.promote,
            "not seen" if free is None else "%d MiB free" % (free >> 20),
            "%d MiB" % (limits.free_bytes >> 20),
            verdict(None if free is None else free >= limits.free_bytes),
            "free space on %s" % plan.promote,
        )


def _connections(plan: Plan, landscape: Landscape, inputs: Inputs, limits: Limits) -> Iterator[Gate]:
    """Everybody comes back at once. A finding and no obstacle where there is nowhere to stay: a dead primary takes no client either."""
    server = landscape.cluster(plan.promote)
    if plan.restore is not None or "settings" not in server or server["role"] == "primary":
        return
    counted = [landscape.cluster(host)["primary"].get("client_connections") for host in landscape.primaries()]
    declared = landscape.database.get(plan.promote, {}).get("settings", {}).get("connections_expected") or 0
    demand = connection_room.Demand(
        observed=max((count for count in counted if count is not None), default=None),
        declared=int(declared),
        own=len(landscape.groups["dr_observer"]) + len(landscape.groups["dr_database"]),
    )
    if demand.sessions is None:
        title, seen = (
            "connections for all clients at once",
            "no old primary runs, and dr_cluster_connections_expected is not declared",
        )
        yield Gate("G12", title, plan.promote, seen, "a number", NOT_APPLICABLE)
    for one in connection_room.judge(server, _host_facts(landscape, plan.promote).get("server_limits") or {}, demand):
        todo = "%s: %s" % (plan.promote, one.next_action)
        yield Gate("G12", one.title, plan.promote, one.observed, one.expected, verdict(one.ok), todo, required=bool(counted))


def _clocks(plan: Plan, landscape: Landscape, inputs: Inputs, limits: Limits) -> Iterator[Gate]:
    for kind in (landscape.database, landscape.application, landscape.witness):
        for host, entry in kind.items():
            offset = entry.get("clock_offset_seconds")
            if offset is not None:
                yield Gate(
                    "G17",
                    "clocks agree",
                    host,
                    "%+.3f s from the controller" % offset,
                    "within %.1f s" % limits.clock_offset_seconds,
                    verdict(abs(offset) <= limits.clock_offset_seconds),
                    "mend time synchronisation on %s" % host,
                )


def _access(plan: Plan, landscape: Landscape, inputs: Inputs, limits: Limits) -> Iterator[Gate]:
    """G11 from each application host that will serve: TCP, TLS, HBA, role, database and a read on the new primary."""
    if plan.restore is not None and not way_out.standbys(landscape, [plan.promote]):
        for host in plan.cutover:
            observed = "nothing to log in to yet on %s" % plan.promote
            yield Gate("G11", "the application can log in on the new side", host, observed, "seen in CUTOVER", NOT_APPLICABLE)
        return
    for host in plan.cutover:
        seen = landscape.application.get(host, {}).get("facts", {}).get("application", {})
        answer = seen.get("databases", {}).get(plan.promote, {})
        if seen.get("components") and not any("databases" in one for one in seen["components"].values()):
            # Only poolers and proxies: who logs in through them is tried where it runs.
            continue
        if not answer:
            yield Gate(
                "G11",
                "the application can log in on the new side",
                host,
                "was not tried",
                "a login",
                UNKNOWN,
                "see why %s does not answer" % host,
            )
            continue
        wrong_system = answer.get("ok") and answer["system_identifier"] != plan.system_identifier
        observed = answer.get("error") or (
            "system %s" % answer["system_identifier"]
            if wrong_system
            else "logged in%s" % (" over TLS" if answer.get("tls") else " WITHOUT TLS")
        )
        ok = bool(answer.get("ok") and answer.get("tls") and not wrong_system)
        yield Gate(
            "G11",
            "the application can log in on the new side",
            host,
            observed,
            "a login over verified TLS on %s" % plan.promote,
            verdict(ok),
            "compare pg_hba.conf, roles and certificates with the old side",
        )


def _components(plan: Plan, landscape: Landscape, inputs: Inputs, limits: Limits) -> Iterator[Gate]:
    """What would make a cutover fail, seen before anything stops. On the side that is left it stops nobody."""
    for host in dict.fromkeys((*plan.cutover, *plan.quiesce)):
        components = landscape.application.get(host, {}).get("facts", {}).get("application", {}).get("components", {})
        for name, seen in components.items():
            wrong = seen.get("wrong") or []
            yield Gate(
                "COMPONENT",
                "%s can be cut over" % name,
                host,
                "; ".join(wrong) or "nothing is in its way",
                "nothing in its way",
                verdict(not wrong),
                "mend that; see docs/applications.md" if wrong else "",
                required=host in plan.cutover,
            )


def _site(plan: Plan, landscape: Landscape, inputs: Inputs, limits: Limits) -> Iterator[Gate]:
    settings = landscape.database.get(plan.promote, {}).get("settings", {})
    repositories, said = settings.get("repository_hosts") or [], settings.get("repository_sites") or {}
    left = [host for host in repositories if (said.get(host) or landscape.sites.get(host)) in plan.source_site.split(",")]
    if repositories:
        yield Gate(
            "G19",
            "nothing of the site being left is needed",
            plan.promote,
            "repositories on %s" % ", ".join(repositories),
            "at least one outside site %s" % plan.source_site,
            verdict(len(left) < len(repositories)),
            "add a repository at another site",
        )


def _trust(plan: Plan, landscape: Landscape, inputs: Inputs, limits: Limits) -> Iterator[Gate]:
    yield Gate(
        "G18",
        "exactly these hosts",
        "controller",
        "fence %s; promote %s; serve from %s" % (", ".join(plan.fence), plan.promote, ", ".join(plan.cutover)),
        "the hosts of one cluster",
        PASS,
    )


def _forks(plan: Plan, controller: Controller) -> Gate:
    need = len(plan.hosts())
    return Gate(
        "FORKS",
        "every host can act at once",
        "controller",
        "forks %d" % controller.forks,
        "at least %d" % need,
        verdict(controller.forks >= need),
        "start again with --forks %d or more: with fewer the hand-over would wait for itself" % need,
    )


def _signer(plan: Plan, landscape: Landscape, controller: Controller) -> Gate:
    lines = _host_facts(landscape, plan.promote).get("allowed_signers") or []
    known = any(controller.public_key in line for line in lines)
    return Gate(
        "SIGNER",
        "the promoting host believes this controller",
        plan.promote,
        "key is known" if known else "key is not in /etc/relevo/allowed_signers",
        "known",
        verdict(known),
        "run playbooks/protect.yml from this controller",
    )


OF_EVERY_RUN: tuple[Check, ...] = (_identity, _lock, _managers, _clocks)
OF_A_FAILOVER: tuple[Check, ...] = (
    _reach,
    _identity,
    _lock,
    _managers,
    _fence,
    _ledger,
    _way_out,
    _lag,
    _lineage,
    _parity,
    _durability,
    _archive,
    _capacity,
    _connections,
    _clocks,
    _access,
    _components,
    _site,
    _trust,
)
