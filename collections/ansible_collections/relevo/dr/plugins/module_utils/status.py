# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where am I, what is unsafe, what is next: from what the hosts say, never from a saved step."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import past_proofs, stale_lock, way_out
from ansible_collections.relevo.dr.plugins.module_utils.gates import Limits, archives
from ansible_collections.relevo.dr.plugins.module_utils.plan import Landscape

_BRING_BACK = "bring %s back as a standby with playbooks/failback.yml; until then it cannot take over"


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be. said: what was seen; action: what to do about it. unprotected: the loss of the primary now would cost more."""

    said: str
    action: str
    unprotected: bool = False


def status(landscape: Landscape, past: Optional[past_proofs.Past] = None, limits: Optional[Limits] = None) -> dict[str, Any]:
    """What ``relevo status`` shows: primary, protected, unsafe, next, interrupted_run, lock and a line per host.

    past: what the newest records say, where they were read; then also restorable and restore_proven.
    """
    primaries = landscape.primaries()
    primary = primaries[0] if len(primaries) == 1 else None
    lock, interrupted = _lock(landscape)
    found = [finding for look in _LOOKS for finding in look(landscape, primary)]
    # The last of all: what was proven in the past cannot be worse than what is broken now.
    found += [Finding(*said) for said in past_proofs.lacks(past, limits or Limits())] if past else []
    at_work = "run %s of %s is at work: wait for it" % (lock["run_id"], lock["owner"]) if lock and not interrupted else None
    return {
        "primary": primary,
        "primaries": primaries,
        "protected": primary is not None and not any(finding.unprotected for finding in found),
        "lock": lock,
        "interrupted_run": interrupted,
        **(past_proofs.told(past) if past else {}),
        "unsafe": [finding.said for finding in found],
        "next": _next(found, at_work),
        "hosts": {**_databases(landscape, lock), **_others(landscape)},
    }


def _next(found: list[Finding], at_work: Optional[str]) -> str:
    """The worst first. Two primaries and a lock that nobody holds cannot wait for a run that is at work; anything else may be its doing."""
    if found and found[0].action.startswith("STOP"):
        return found[0].action
    if at_work:
        return at_work
    return found[0].action if found else "nothing: the cluster is protected"


def _host(entry: dict[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = entry.get("facts", {}).get("host", {})
    return facts


def _guard(entry: dict[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = entry.get("facts", {}).get("guard") or {}
    return facts


def _lock(landscape: Landscape) -> tuple[Optional[dict[str, Any]], Optional[str]]:
    """The newest lock, and its run when that run is surely not at work any more."""
    everybody = landscape.keepers()
    held = [entry for _, entry in everybody if _host(entry).get("lock")]
    if not held:
        return None, None
    entry = max(held, key=lambda one: str(_host(one)["lock"]["since"]))
    facts = _host(entry)
    lock = facts["lock"]
    dead = entry.get("lock_owner_dead") or stale_lock.sign_of_life(lock["run_id"], everybody) is None
    seconds = max(0.0, lock["lease_until_boottime"] - facts["boottime"]) if not facts.get("lock_expired") else 0.0
    shown = {"owner": lock["owner"], "run_id": lock["run_id"], "since": lock["since"], "lease_left_seconds": round(seconds)}
    return shown, lock["run_id"] if dead and not facts.get("actor") else None


def _two_primaries(landscape: Landscape, primary: Optional[str]) -> Iterator[Finding]:
    primaries = landscape.primaries()
    if len(primaries) > 1:
        yield Finding(
            "%s are all writable" % ", ".join(primaries),
            "STOP: %s are all writable. Fence all but the one that the application uses, by hand, now." % ", ".join(primaries),
            unprotected=True,
        )


def _locks(landscape: Landscape, primary: Optional[str]) -> Iterator[Finding]:
    for host, entry in landscape.keepers():
        if _host(entry).get("lock_unreadable"):
            yield Finding(
                "the lock file on %s cannot be read" % host,
                "make sure that no run is at work, then remove /var/lib/relevo/lock.json on %s" % host,
            )
    _, interrupted = _lock(landscape)
    if interrupted:
        begun = _begun(landscape, interrupted)
        runbook = re.fullmatch(r"\d{8}T\d{6}Z-([a-z_]+)-.*", interrupted)
        yield Finding(
            "run %s was interrupted%s" % (interrupted, " in %s" % ", ".join(begun) if begun else ""),
            "run %s was interrupted%s: start %s again, it goes on from what it finds"
            % (interrupted, " in %s" % ", ".join(begun) if begun else "", runbook.group(1) if runbook else "the same runbook"),
        )


def _restores(landscape: Landscape, primary: Optional[str]) -> Iterator[Finding]:
    """It is in recovery, as a standby is, and replays nothing new: nobody may take it for one."""
    for host in landscape.database:
        begun = way_out.unfinished(landscape, host)
        if begun:
            yield Finding(
                "%s holds a restore of run %s that is not promoted (%s)" % (host, begun.get("run_id"), begun.get("state")),
                "start that failover again; or, to have a standby there instead, stop PostgreSQL on %s and run playbooks/protect.yml; never resume its replay"
                % host,
            )


def _begun(landscape: Landscape, run_id: str) -> list[str]:
    """Phases of a run that were begun and not ended, with their hosts."""
    return [
        "%s on %s" % (phase["phase"], host)
        for host, entry in landscape.keepers()
        for phase in _host(entry).get("open_phases") or []
        if phase.get("run_id") == run_id
    ]


def _held(landscape: Landscape, primary: Optional[str]) -> Iterator[Finding]:
    """Before the run that was interrupted: it cannot go on before somebody has said which host may write."""
    if landscape.primaries():
        return
    for host, entry in landscape.database.items():
        held = _guard(entry).get("held")
        if held and not _host(entry).get("fence"):
            yield Finding(
                "the guard of %s holds it read-only: %s" % (host, held.get("reason")),
                "restart PostgreSQL on %s once the others answer; or, when you know that no other host is primary: relevo-guard start --reason ... on it"
                % host,
                unprotected=True,
            )


def _no_primary(landscape: Landscape, primary: Optional[str]) -> Iterator[Finding]:
    if landscape.primaries():
        return
    for host, entry in landscape.database.items():
        fence = _host(entry).get("fence")
        if fence and fence.get("class") == "self":
            yield Finding(
                "%s stopped itself: %s" % (host, fence.get("reason")),
                "fail over to the other site; or, when nobody was promoted there and %s shall go on: relevo-guard lift --reason ... on it, then start its unit"
                % host,
                unprotected=True,
            )
    yield Finding(
        "no primary answers", "no primary answers: if it is dead, run the failover to the standby's site", unprotected=True
    )


def _self_fence(landscape: Landscape, primary: Optional[str]) -> Iterator[Finding]:
    for host, entry in landscape.database.items():
        guard, fence = _guard(entry), _host(entry).get("fence")
        if not guard or fence:
            continue
        if not guard.get("installed") or not guard.get("asked_at_start"):
            yield Finding(
                "no guard is asked when PostgreSQL starts on %s" % host, "run playbooks/protect.yml: %s has no guard" % host
            )
            continue
        wanted, heard = guard.get("self_fence_seconds") or 0, guard.get("heard_age_seconds")
        if wanted and not guard.get("alive"):
            yield Finding(
                "the self-fence of %s is wanted and dead: it would not stop itself" % host,
                "systemctl restart relevo-guard on %s, and look into its journal" % host,
            )
        elif wanted and heard is not None and heard > wanted / 2:
            yield Finding(
                "nobody outside its site has heard %s for %.0f s: it stops itself after %d s" % (host, heard, wanted),
                "mend the way between %s and the witness or the other site, now; a planned cut begins with systemctl stop relevo-guard"
                % host,
            )


def _protection(landscape: Landscape, primary: Optional[str]) -> Iterator[Finding]:
    """A standby streams from the one primary, its WAL is archived, and there is a recent backup."""
    if primary is None:
        return
    action = "%s: run playbooks/protect.yml"
    facts = landscape.cluster(primary)["primary"]
    if not [sender for sender in facts.get("senders", []) if sender["state"] == "streaming"]:
        said = "no standby streams from %s" % primary
        # Protect refuses a host that is fenced, stale or silent: what explains the missing standby comes first.
        why = next(_other_hosts(landscape, primary), None)
        yield Finding(said, why.action if why else action % said, unprotected=True)
    archived, observed = archives(landscape.cluster(primary), Limits())
    if not archived:
        said = "WAL of %s is not archived: %s" % (primary, observed)
        yield Finding(said, action % said, unprotected=True)
    repository = landscape.database[primary].get("facts", {}).get("repository") or {}
    for key, why in sorted((repository.get("left_out") or {}).items()):
        said = "repository %s is left out since %s" % (key, why.get("at"))
        yield Finding(said, action % said)
    yield from _backups(primary, repository)


def _backups(primary: str, repository: dict[str, Any]) -> Iterator[Finding]:
    known = repository.get("repositories")
    if known is None:
        return
    limit = Limits().backup_age_seconds
    ages = [entry.get("newest_backup_age_seconds") for entry in known.values() if not entry.get("newest_backup_error")]
    youngest = min((age for age in ages if age is not None), default=None)
    if youngest is None or youngest > limit:
        said = "no backup without errors is known" if youngest is None else "the newest backup is %.0f h old" % (youngest / 3600)
        yield Finding(said, "%s: run playbooks/backup.yml" % said, unprotected=True)
    for key, entry in sorted(known.items()):
        if entry.get("error"):
            yield Finding(
                "repository %s does not answer %s: %s" % (key, primary, entry["error"]),
                "bring the store of repository %s back; playbooks/check.yml says more" % key,
            )


def _other_hosts(landscape: Landscape, primary: Optional[str]) -> Iterator[Finding]:
    """Beside a primary: who was fenced and not brought back, who is stale, who is silent."""
    if primary is None:
        return
    timeline, system = landscape.cluster(primary).get("timeline") or 0, landscape.cluster(primary).get("system_identifier")
    for host, entry in landscape.database.items():
        cluster, fence = landscape.cluster(host), _host(entry).get("fence")
        if host == primary:
            continue
        if not entry.get("reachable"):
            yield Finding("%s does not answer" % host, "find out what became of %s: %s" % (host, entry.get("error")))
        elif fence:
            said = "%s is fenced by %s and was not brought back" % (
                host,
                fence.get("run_id") or fence.get("by") or "an unknown hand",
            )
            yield Finding(said, _BRING_BACK % host)
        elif cluster.get("system_identifier") not in (None, system):
            yield Finding(
                "%s holds another cluster, system %s" % (host, cluster["system_identifier"]), "is %s in the right inventory?" % host
            )
        elif (cluster.get("timeline") or timeline) < timeline:
            said = "%s is stale: its data end on timeline %s, %s is on %s" % (host, cluster["timeline"], primary, timeline)
            yield Finding(said, _BRING_BACK % host)
        elif cluster.get("state") == "stopped":
            yield Finding("PostgreSQL is stopped on %s" % host, "start PostgreSQL on %s; its guard decides what it may be" % host)


def _ledger(landscape: Landscape, primary: Optional[str]) -> Iterator[Finding]:
    for host, entry in landscape.witness.items():
        ledger = entry.get("facts", {}).get("ledger", {})
        age = ledger.get("last_attempt_age_seconds")
        if not entry.get("reachable"):
            yield Finding("the witness %s does not answer" % host, "bring %s back: without it a loss cannot be measured" % host)
        elif age is None or age > Limits().attempt_age_seconds:
            yield Finding("the ledger on %s is not at work" % host, "systemctl restart relevo-ledger on %s" % host)


# In the order of what is worse to leave as it is.
_LOOKS = (_two_primaries, _held, _locks, _restores, _no_primary, _self_fence, _protection, _other_hosts, _ledger)


def _databases(landscape: Landscape, lock: Optional[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """lock: of the run whose open phases are shown; an older run's may have been finished by another."""
    shown = {}
    for host, entry in landscape.database.items():
        cluster, facts = landscape.cluster(host), _host(entry)
        standby, primary = cluster.get("standby") or {}, cluster.get("primary") or {}
        shown[host] = {
            "site": landscape.sites.get(host),
            "state": cluster.get("state") if entry["reachable"] else "unreachable: %s" % entry.get("error"),
            "role": cluster.get("role"),
            "timeline": cluster.get("timeline"),
            "system_identifier": cluster.get("system_identifier"),
            "lsn": standby.get("replay_lsn") or primary.get("flush_lsn"),
            "lag_seconds": standby.get("last_replayed_age_seconds"),
            "size_bytes": cluster.get("size_bytes"),
            "fence": _fence_word(facts.get("fence")),
            "guard": _guard_word(_guard(entry)),
            "open_phases": [
                phase["phase"] for phase in facts.get("open_phases") or [] if lock and phase.get("run_id") == lock["run_id"]
            ],
        }
    return shown


def _fence_word(fence: Optional[dict[str, Any]]) -> Optional[str]:
    if not fence:
        return None
    return "fenced by %s" % (
        fence.get("run_id") or ("itself" if fence.get("class") == "self" else fence.get("by") or "an unknown hand")
    )


def _guard_word(guard: dict[str, Any]) -> Optional[str]:
    if not guard:
        return None
    if guard.get("held"):
        return "holds read-only"
    if not guard.get("installed") or not guard.get("asked_at_start"):
        return "absent"
    wanted = guard.get("self_fence_seconds") or 0
    if not wanted:
        return "at start"
    return "at start, self-fence %d s%s" % (wanted, "" if guard.get("alive") else " DEAD")


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
