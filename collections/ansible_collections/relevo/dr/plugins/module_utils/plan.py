# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From what was discovered and what is wanted to who does what. Pure: no host, no clock, no variable is read here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import way_out
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.module_utils.way_out import PROMOTE, Way, Wish


@dataclass(frozen=True)
class Landscape:
    """Everything that was discovered.

    groups: inventory group to host names. sites: host to site. database, application, witness, observer, fence: host to
    ``{reachable, error, denied, settings, facts, clock_offset_seconds}`` as the discover tasks kept it. restore: host to what its repositories said, where
    they were asked; rate: how quickly they give it.
    """

    groups: Mapping[str, list[str]]
    sites: Mapping[str, str]
    database: Mapping[str, dict[str, Any]]
    application: Mapping[str, dict[str, Any]]
    witness: Mapping[str, dict[str, Any]]
    observer: Mapping[str, dict[str, Any]]
    fence: Mapping[str, dict[str, Any]]
    restore: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    rate: way_out.Rate = field(default_factory=way_out.Rate)

    def cluster(self, host: str) -> dict[str, Any]:
        """The PostgreSQL facts of a host; empty when it did not answer."""
        facts: dict[str, Any] = self.database.get(host, {}).get("facts", {}).get("cluster", {})
        return facts

    def role(self, host: str) -> str:
        """Primary | standby | none."""
        return str(self.cluster(host).get("role", "none"))

    def keepers(self) -> list[tuple[str, dict[str, Any]]]:
        """Hosts that may hold a run's lock and journal, with their entries: database first."""
        return [*self.database.items(), *self.application.items()]

    def lock(self, host: str) -> Optional[dict[str, Any]]:
        """The run's lock on a database or application host, or None."""
        entry = self.database.get(host) or self.application.get(host) or {}
        found: Optional[dict[str, Any]] = entry.get("facts", {}).get("host", {}).get("lock")
        return found

    def clock_offsets(self) -> dict[str, float]:
        """Of every host that said the time: its clock minus the controller's, as far as that is sure."""
        entries = [*self.database.items(), *self.application.items(), *self.witness.items(), *self.observer.items()]
        said = {host: entry["clock_offset_seconds"] for host, entry in entries if entry.get("clock_offset_seconds") is not None}
        return dict(sorted(said.items()))

    def primaries(self) -> list[str]:
        """Database hosts that say of themselves that they are writable."""
        return [host for host in self.database if self.role(host) == "primary"]


@dataclass(frozen=True)
class Plan:
    """Who does what.

    primary: the host that still serves and will be fenced, None when it is dead. done: the target serves already, the application too; resume: an earlier run
    was interrupted and this one goes on. began_at: when the first of those runs took the lock, None when there is none. planned: nothing may be lost, and until
    the promotion the old side is opened again when anything fails. follow: the hosts that are to be standbys of the promoted one afterwards. path: promote, or
    restore with what is restored on the promoted host before; see ``restore_choice.described``.
    """

    source_site: str
    target_site: str
    scope: str
    primary: Optional[str]
    promote: str
    fence: tuple[str, ...]
    quiesce: tuple[str, ...]
    cutover: tuple[str, ...]
    witness: tuple[str, ...]
    system_identifier: str
    done: bool
    resume: bool
    parent_run_id: Optional[str]
    began_at: Optional[str] = None
    planned: bool = False
    follow: tuple[str, ...] = ()
    path: str = PROMOTE
    restore: Optional[dict[str, Any]] = None

    def hosts(self) -> list[str]:
        """Every host with a part, once, the database hosts first."""
        return list(dict.fromkeys([self.promote, *self.fence, *self.follow, *self.quiesce, *self.cutover, *self.witness]))

    def others(self) -> list[str]:
        """Every database host but the promoted one that the plan is about."""
        return list(dict.fromkeys([*self.fence, *self.follow]))

    def as_dict(self) -> dict[str, Any]:
        """For the run's directory and the record."""
        return asdict(self)


def read_plan(value: Mapping[str, Any]) -> Plan:
    """The inverse of ``as_dict`` after JSON."""
    lists = {"fence", "quiesce", "cutover", "witness", "follow"}
    parts: dict[str, Any] = {name: tuple(part) if name in lists else part for name, part in value.items()}
    return Plan(**parts)


def check_groups(groups: Mapping[str, list[str]], sites: Mapping[str, str], target_site: str) -> None:
    """Refuse an inventory in which a part has nobody to play it: an empty or misspelt group must never be skipped over."""
    for name in ("dr_database", "dr_application", "dr_witness", "dr_observer"):
        if not groups.get(name):
            raise Refusal(
                "G18",
                "inventory",
                "no host in the group %s" % name,
                "at least one",
                "mend the inventory: is the group misspelt or commented out?",
            )
    for host in {host for name in ("dr_database", "dr_application") for host in groups[name]}:
        if not sites.get(host):
            raise Refusal("G18", host, "no dr_site", "the site of every host", "set dr_site in the group vars of its site")
    known = sorted({sites[host] for host in groups["dr_database"]})
    if target_site not in known:
        raise Refusal(
            "G18", "inventory", "dr_target_site %r" % target_site, "one of %s" % ", ".join(known), "give the site that shall serve"
        )
    if len(known) < 2:
        raise Refusal(
            "G18", "inventory", "database hosts only in site %s" % known[0], "two sites", "add the other site's database host"
        )
    if not [host for host in groups["dr_application"] if sites[host] == target_site]:
        raise Refusal(
            "G18", "inventory", "no application host in site %s" % target_site, "at least one", "add it to dr_application"
        )


def make_plan(landscape: Landscape, target_site: str, scope: str, *, planned: bool = False, wish: Optional[Wish] = None) -> Plan:
    """wish: of a failover; nothing else restores. Raises Refusal when no single host can be named to promote, or when two hosts are primaries."""
    check_groups(landscape.groups, landscape.sites, target_site)
    candidates = [host for host in landscape.groups["dr_database"] if landscape.sites[host] == target_site]
    old = tuple(host for host in landscape.groups["dr_database"] if host not in candidates)
    primaries = landscape.primaries()
    if len(primaries) > 1:
        raise Refusal(
            "G07",
            ", ".join(primaries),
            "%d writable primaries" % len(primaries),
            "at most one",
            "stop: decide which one the application used, fence the other by hand, and salvage its transactions",
        )
    promoted = [host for host in candidates if host in primaries]
    way = Way(PROMOTE, promoted[0]) if promoted else way_out.decide(landscape, candidates, wish or Wish())
    target = way.host
    # A host of the target's own site that is not seen to be a standby may be a primary: silence is no proof there either.
    old += tuple(host for host in candidates if host != target and landscape.role(host) != "standby")
    follow: tuple[str, ...] = old if planned else ()
    if planned and promoted:
        # One that follows already is what this run, or the one before it, wanted.
        old = tuple(host for host in old if landscape.role(host) != "standby")
    if promoted and wish:
        way_out.serves(landscape, target, wish)
    applications = landscape.groups["dr_application"]
    here = [host for host in applications if landscape.sites[host] == target_site]
    there = [host for host in applications if landscape.sites[host] != target_site]
    if scope != "site":
        # Whichever site they are in: after the way there they are not where the primary was.
        here = there = [host for host in applications if _in_use(landscape, host, silent=host in there)] or there
    cutover = tuple(here)
    locks = {host: landscape.lock(host) for host in (target, *old, *follow, *there, *cutover)}
    lock = locks[target] or next((locks[host] for host in applications if locks.get(host)), None)
    unfinished = any(locks.values())
    source_sites = sorted({landscape.sites[host] for host in (*old, *follow)} - {target_site})
    return Plan(
        source_site=",".join(source_sites),
        target_site=target_site,
        scope=scope,
        primary=next((host for host in primaries if host in old), None),
        promote=target,
        fence=old,
        quiesce=tuple(there),
        cutover=cutover,
        witness=tuple(landscape.groups["dr_witness"]),
        # Of the repository where there is nothing on the host yet.
        system_identifier=str((way.restore or landscape.cluster(target)).get("system_identifier")),
        done=bool(promoted)
        and not unfinished
        and all(follows(landscape, host) for host in follow)
        and all(served(landscape, host, target) for host in cutover),
        resume=unfinished,
        parent_run_id=lock["run_id"] if lock else None,
        began_at=min((held.get("began_at") or held["since"] for held in locks.values() if held), default=None),
        planned=planned,
        follow=follow,
        path=way.path,
        restore=way.restore,
    )


def follows(landscape: Landscape, host: str) -> bool:
    """Whether a host is a standby for good: it streams, and nothing keeps it from being started again."""
    receiver = (landscape.cluster(host).get("standby") or {}).get("receiver") or {}
    facts = landscape.database.get(host, {}).get("facts", {}).get("host", {})
    masked = (facts.get("unit") or {}).get("UnitFileState") == "masked"
    return receiver.get("status") == "streaming" and facts.get("fence") is None and not masked


def _in_use(landscape: Landscape, host: str, *, silent: bool) -> bool:
    """Whether the application runs on this host, or would after a boot: a dead run may have stopped it. silent: for one that does not answer."""
    entry = landscape.application.get(host, {})
    if not entry.get("reachable"):
        return silent
    application = entry.get("facts", {}).get("application", {})
    return bool(application.get("active") or application.get("enabled"))


def served(landscape: Landscape, host: str, primary: str) -> bool:
    """Whether the application runs on this host, and not with another database host than the primary; it may call that by a name of its own."""
    application = landscape.application.get(host, {}).get("facts", {}).get("application", {})
    others = set().union(*(addresses_of(landscape, other) for other in landscape.database if other != primary))
    seen = {str(one.get("address")).lower() for one in (application, *application.get("components", {}).values())}
    return bool(application.get("active")) and not seen & (others - addresses_of(landscape, primary))


def addresses_of(landscape: Landscape, host: str) -> set[str]:
    """Where applications find a database host, as a URL or a proxy's configuration says it."""
    settings = landscape.database[host].get("settings", {})
    return {("%s:%s" % (settings.get(name), settings.get("port"))).lower() for name in ("name", "address")}
