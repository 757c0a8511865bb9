# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which way out of a site: promote its standby, or restore a backup at the other site and promote that. Pure.

A restore that a dead run left half way is the trap: it looks like a standby. Its mark says that it is none, and the next run goes on with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal

if TYPE_CHECKING:
    from ansible_collections.relevo.dr.plugins.module_utils.plan import Landscape

AUTO, PROMOTE, RESTORE = "auto", "promote", "restore"
PATHS = (AUTO, PROMOTE, RESTORE)
# How far a restore is: its files are being written; its server replays; it has reached its goal; it is the primary.
RESTORING, REPLAYING, REACHED, PROMOTED = "restoring", "replaying", "reached", "promoted"

# Where nothing was measured: below what one spindle, or an object store over a wide area, gives.
ASSUMED_BYTES_PER_SECOND = 20_000_000
_STANDBY_STATES = ("in archive recovery", "shut down in recovery")


@dataclass(frozen=True)
class Wish:
    """What an operator asks for. words: of time, lsn, name, set, timeline, repository those that were given; together they are the target."""

    path: str = PROMOTE
    words: Mapping[str, str] = field(default_factory=dict)

    @property
    def restores(self) -> bool:
        """Whether a restore is asked for by name, not left to what is found."""
        return self.path == RESTORE or bool(self.words)


@dataclass(frozen=True)
class Way:
    """Which host is promoted, and what is restored there before, if anything; see ``restore_choice.described``."""

    path: str
    host: str
    restore: Optional[dict[str, Any]] = None


@dataclass(frozen=True)
class Rate:
    """How quickly a backup comes back. said: where that number is from."""

    bytes_per_second: float = ASSUMED_BYTES_PER_SECOND
    said: str = "assumed: no restore test has measured it"


def mark(landscape: Landscape, host: str) -> Optional[dict[str, Any]]:
    """What was last restored on a host to be promoted."""
    found: Optional[dict[str, Any]] = _facts(landscape, host).get("restore")
    return found


def unfinished(landscape: Landscape, host: str) -> Optional[dict[str, Any]]:
    """The mark of a restore that is not promoted: whatever runs there is no standby like another."""
    found = mark(landscape, host)
    return found if found and found.get("state") != PROMOTED and landscape.role(host) != "primary" else None


def standbys(landscape: Landscape, candidates: Sequence[str]) -> list[str]:
    """Of these hosts those that could be promoted as they are."""
    return [host for host in candidates if landscape.role(host) == "standby" and not unfinished(landscape, host)]


def wants_restore(landscape: Landscape, candidates: Sequence[str], wish: Wish) -> bool:
    """Whether the repositories have to be asked: a restore is asked for, was begun, or is all that is left."""
    if wish.path == PROMOTE or any(landscape.role(host) == "primary" for host in candidates):
        return False
    begun = any(unfinished(landscape, host) for host in candidates)
    return wish.restores or begun or not standbys(landscape, candidates)


def words_of(landscape: Landscape, host: str, wish: Wish) -> dict[str, str]:
    """What is to be restored on a host: what is asked for now or, where nothing is, what a dead run was asked for."""
    begun = unfinished(landscape, host)
    if wish.restores or not begun:
        return dict(wish.words)
    return dict(begun.get("asked") or {})


def decide(landscape: Landscape, candidates: Sequence[str], wish: Wish) -> Way:
    """candidates: the database hosts of the target site, of which none is a primary. Raises Refusal where it is not plain which way to take."""
    begun = [host for host in candidates if unfinished(landscape, host)]
    if wish.path == PROMOTE and begun:
        raise _half_restored(landscape, begun[0])
    if not wants_restore(landscape, candidates, wish):
        ready = standbys(landscape, candidates)
        if len(ready) != 1:
            raise _no_standby(landscape, candidates, "run playbooks/protect.yml")
        return Way(PROMOTE, ready[0])
    if not wish.restores and not begun:
        # What was not looked into, or only needs a start, may be the standby that has everything: no word of a person, no restore in its place.
        unknown = [host for host in candidates if _unknown(landscape, host)]
        if unknown:
            next_action = "let %s answer; when you know that it is lost, restore a backup with -e dr_path=restore" % ", ".join(
                unknown
            )
            raise _no_standby(landscape, candidates, next_action)
        whole = [host for host in candidates if landscape.cluster(host).get("state") == "stopped"]
        if whole:
            next_action = (
                "start PostgreSQL on %s: it may hold more than any archive; where it does not come up, give -e dr_path=restore"
            )
            raise _no_standby(landscape, candidates, next_action % ", ".join(whole))
    host = _place(landscape, candidates, begun)
    return Way(RESTORE, host, _chosen(landscape, host, wish))


def _place(landscape: Landscape, candidates: Sequence[str], begun: Sequence[str]) -> str:
    """The one host where a restore can be made; one that was begun goes on where it is. Raises Refusal."""
    obstacles = {host: obstacle(landscape, host) for host in candidates}
    able = [host for host in candidates if obstacles[host] is None]
    chosen = [host for host in able if host in begun] or able
    if len(chosen) == 1:
        return chosen[0]
    observed = ["%s %s" % (host, said) for host, said in obstacles.items() if said]
    if chosen:
        raise _refusal(
            chosen,
            "a backup could be restored on %s" % " and ".join(chosen),
            "one host to restore on: the others would have to be built anew",
            "stop PostgreSQL and set the fence of all but one (relevo-guard), or take all but one out of dr_database until it is over",
        )
    raise _refusal(
        candidates,
        "; ".join(observed),
        "a host that answers, is configured, and has an empty place, a stopped standby or a running one",
        "mend what is named; where data of a former primary are, keep them (playbooks/failback.yml seals them) and move them away",
    )


def obstacle(landscape: Landscape, host: str) -> Optional[str]:
    """Why no backup can be restored on a host; None when one can."""
    entry, cluster, facts = landscape.database.get(host, {}), landscape.cluster(host), _facts(landscape, host)
    if not entry.get("reachable"):
        return "does not answer"
    if facts.get("fence"):
        return "is fenced by %s" % (facts["fence"].get("run_id") or facts["fence"].get("by") or "an unknown hand")
    if (entry["facts"].get("guard") or {}).get("held"):
        return "is held read-only by its guard"
    found = landscape.restore.get(host, {})
    if found.get("configuration") is False:
        return "has no configuration of PostgreSQL (playbooks/protect.yml makes it)"
    if unfinished(landscape, host):
        return None
    return _obstacle_in_data(cluster, found)


def _obstacle_in_data(cluster: Mapping[str, Any], found: Mapping[str, Any]) -> Optional[str]:
    if cluster.get("state") == "unresponsive":
        return "runs PostgreSQL, which does not answer (%s)" % cluster.get("error")
    if cluster.get("state") == "absent":
        return "has files in the place of its data that are of no cluster" if found.get("data") == "partial" else None
    own, wanted = cluster.get("system_identifier"), (found.get("choice") or {}).get("system_identifier")
    if own is None:
        return "has data whose pg_control cannot be read (%s)" % cluster.get("control_error")
    if wanted is not None and own != wanted:
        return "holds another cluster, system %s and not %s" % (own, wanted)
    state = (cluster.get("control") or {}).get("Database cluster state")
    if cluster.get("state") == "stopped" and not cluster.get("standby_signal") and state not in _STANDBY_STATES:
        return "holds a stopped primary (%s)" % state
    return None


def _chosen(landscape: Landscape, host: str, wish: Wish) -> dict[str, Any]:
    """What its repositories say can be restored there. Raises Refusal, with the restorable window."""
    found = landscape.restore.get(host)
    if found is None:
        raise _refusal([host], "its repositories were not asked", "what can be restored from them", "start again")
    if found.get("choice"):
        return {**found["choice"], "asked": words_of(landscape, host, wish)}
    window = found.get("window") or []
    refused = found.get("refusal") or {
        "observed": found.get("error"),
        "expected": "repositories that can be read",
        "next_action": "",
    }
    next_action = refused["next_action"] or "see why %s cannot read them" % host
    raise _refusal(
        [host],
        str(refused["observed"]),
        refused["expected"],
        next_action + (". Restorable: %s" % ". ".join(window) if window else ""),
    )


def serves(landscape: Landscape, host: str, wish: Wish) -> None:
    """A host that is primary already is no place to restore on, unless what it serves is that very restore. Raises Refusal."""
    found = mark(landscape, host)
    if not wish.restores or (found and (found.get("asked") or {}) == dict(wish.words)):
        return
    raise _refusal(
        [host],
        "it is the primary",
        "a site that does not serve: a restore never replaces a primary in its place",
        "restore at another site (dr_target_site); what is gone here alone comes back with playbooks/restore_test.yml and a copy of the table",
    )


def seconds(restore: Mapping[str, Any], rate: Rate) -> float:
    """The predicted time of a restore, without its replay."""
    return float(restore["size"]) / rate.bytes_per_second


def sentence(restore: Mapping[str, Any]) -> str:
    """What is restored, the same however often it is looked at: a person approves it."""
    return "backup %s of repository %s along timeline %s to %s" % (
        restore["label"],
        restore["repository"],
        restore["timeline"],
        restore["target"],
    )


def shown(restore: Mapping[str, Any], rate: Rate) -> str:
    """The same with what it costs."""
    end = "; the archive's last commit is %.0f s old" % restore["committed_age_seconds"] if restore["kind"] == "end" else ""
    return "%s%s; %d bytes, about %.0f s at %.0f bytes/s (%s), and the replay of up to %d segments" % (
        sentence(restore),
        end,
        restore["size"],
        seconds(restore, rate),
        rate.bytes_per_second,
        rate.said,
        restore["segments"],
    )


def _facts(landscape: Landscape, host: str) -> dict[str, Any]:
    facts: dict[str, Any] = landscape.database.get(host, {}).get("facts", {}).get("host", {})
    return facts


def _unknown(landscape: Landscape, host: str) -> bool:
    return not landscape.database.get(host, {}).get("reachable") or landscape.cluster(host).get("state") == "unresponsive"


def _half_restored(landscape: Landscape, host: str) -> Refusal:
    found = unfinished(landscape, host) or {}
    return _refusal(
        [host],
        "a restore of run %s that is not promoted (%s)" % (found.get("run_id"), found.get("state")),
        "a standby that holds everything it received",
        "go on with that restore: start again without dr_path",
    )


def _no_standby(landscape: Landscape, candidates: Sequence[str], next_action: str) -> Refusal:
    states = ", ".join("%s is %s" % (host, described(landscape, host)) for host in candidates)
    site = landscape.sites.get(candidates[0], "")
    return Refusal("G08", ", ".join(candidates), states, "exactly one running standby in site %s" % site, next_action)


def _refusal(hosts: Sequence[str], observed: str, expected: str, next_action: str) -> Refusal:
    return Refusal("WAYOUT", ", ".join(hosts), observed, expected, next_action)


def described(landscape: Landscape, host: str) -> str:
    """The state of a database host, for a person."""
    answer = landscape.database.get(host, {})
    if not answer.get("reachable"):
        return "unreachable (%s)" % answer.get("error", "not asked")
    cluster = landscape.cluster(host)
    said = "%s, %s" % (cluster.get("state"), cluster.get("role"))
    # Another cluster need not even have the application's database.
    known = [landscape.cluster(other).get("system_identifier") for other in landscape.database if other != host]
    others = {str(identifier) for identifier in known if identifier}
    own = cluster.get("system_identifier")
    if own and others and own not in others:
        said += ", of system %s and not of %s" % (own, ", ".join(sorted(others)))
    return said + (" (%s)" % cluster["error"] if cluster.get("error") else "")
