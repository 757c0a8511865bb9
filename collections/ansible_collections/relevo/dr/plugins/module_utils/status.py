# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where am I, what is unsafe, what is next: from what the hosts say, never from a saved step."""

from __future__ import annotations

from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.plan import Landscape


def status(landscape: Landscape) -> dict[str, Any]:
    """What ``relevo status`` shows: primary, protected, next, interrupted_run, lock and a line per host."""
    primaries = landscape.primaries()
    primary = primaries[0] if len(primaries) == 1 else None
    lock, interrupted = _lock(landscape)
    protected, missing = _protected(landscape, primary)
    left_out = _left_out(landscape, primary)
    return {
        **({"repositories": left_out} if left_out else {}),
        "primary": primary,
        "primaries": primaries,
        "protected": protected,
        "lock": lock,
        "interrupted_run": interrupted,
        "next": _next(landscape, primaries, lock, interrupted, missing or ([left_out] if left_out else [])),
        "hosts": {**_databases(landscape), **_others(landscape)},
    }


def _host(entry: dict[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = entry.get("facts", {}).get("host", {})
    return facts


def _lock(landscape: Landscape) -> tuple[Optional[dict[str, Any]], Optional[str]]:
    """The newest lock, and its run when that run is surely not at work any more."""
    held = [entry for entry in landscape.database.values() if _host(entry).get("lock")]
    if not held:
        return None, None
    entry = max(held, key=lambda one: str(_host(one)["lock"]["since"]))
    facts = _host(entry)
    lock = facts["lock"]
    dead = entry.get("lock_owner_dead") or facts.get("lock_expired")
    seconds = max(0.0, lock["lease_until_boottime"] - facts["boottime"]) if not facts.get("lock_expired") else 0.0
    shown = {"owner": lock["owner"], "run_id": lock["run_id"], "since": lock["since"], "lease_left_seconds": round(seconds)}
    return shown, lock["run_id"] if dead and not facts.get("actor") else None


def _protected(landscape: Landscape, primary: Optional[str]) -> tuple[bool, list[str]]:
    """Protected means: a standby streams from the one primary, and its WAL is archived."""
    if primary is None:
        return False, []
    facts = landscape.cluster(primary)["primary"]
    missing = []
    if not [sender for sender in facts["senders"] if sender["state"] == "streaming"]:
        missing.append("no standby streams from %s" % primary)
    if facts["archiver"]["failing"] or facts["archiver"]["last_archived_wal"] is None:
        missing.append("WAL of %s is not archived" % primary)
    return not missing, missing


def _left_out(landscape: Landscape, primary: Optional[str]) -> str:
    """Which repositories the primary goes on without, and since when."""
    seen = landscape.database.get(primary or "", {}).get("facts", {}).get("repository", {}).get("left_out") or {}
    return "; ".join("repository %s is left out since %s" % (key, why.get("at")) for key, why in sorted(seen.items()))


def _next(
    landscape: Landscape, primaries: list[str], lock: Optional[dict[str, Any]], interrupted: Optional[str], missing: list[str]
) -> str:
    if len(primaries) > 1:
        return "STOP: %s are all writable. Fence all but the one that the application uses, by hand, now." % ", ".join(primaries)
    if interrupted:
        return "run %s was interrupted: start the same runbook again, it goes on from what it finds" % interrupted
    if lock:
        return "run %s of %s is at work: wait for it" % (lock["run_id"], lock["owner"])
    if not primaries:
        return "no primary answers: if it is dead, run the failover to the standby's site"
    if missing:
        fenced = [host for host, entry in landscape.database.items() if _host(entry).get("fence")]
        way = "playbooks/failback.yml, which brings %s back" % ", ".join(fenced) if fenced else "playbooks/protect.yml"
        return "%s: run %s" % ("; ".join(missing), way)
    return "nothing: the cluster is protected"


def _databases(landscape: Landscape) -> dict[str, dict[str, Any]]:
    shown = {}
    for host, entry in landscape.database.items():
        cluster, facts = landscape.cluster(host), _host(entry)
        standby, primary = cluster.get("standby") or {}, cluster.get("primary") or {}
        fence = facts.get("fence")
        shown[host] = {
            "site": landscape.sites.get(host),
            "state": cluster.get("state") if entry["reachable"] else "unreachable: %s" % entry.get("error"),
            "role": cluster.get("role"),
            "timeline": cluster.get("timeline"),
            "system_identifier": cluster.get("system_identifier"),
            "lsn": standby.get("replay_lsn") or primary.get("flush_lsn"),
            "lag_seconds": standby.get("last_replayed_age_seconds"),
            "fence": "fenced by %s" % fence["run_id"] if fence and fence.get("run_id") else "fenced" if fence else None,
            "open_phases": [phase["phase"] for phase in facts.get("open_phases") or []],
        }
    return shown


def _others(landscape: Landscape) -> dict[str, dict[str, Any]]:
    shown: dict[str, dict[str, Any]] = {}
    for host, entry in landscape.application.items():
        application = entry.get("facts", {}).get("application", {})
        active = "active, uses %s" % application.get("address") if application.get("active") else "stopped"
        shown[host] = {
            "site": landscape.sites.get(host),
            "role": "application",
            "state": active if entry["reachable"] else "unreachable",
        }
    for host, entry in landscape.witness.items():
        age = entry.get("facts", {}).get("ledger", {}).get("last_acknowledged_age_seconds")
        state = (
            "unreachable"
            if not entry["reachable"]
            else "no acknowledgement yet"
            if age is None
            else "last acknowledgement %.1f s ago" % age
        )
        shown[host] = {"site": landscape.sites.get(host), "role": "witness", "state": state}
    return shown
