# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether the lease of a silent host has ended: its self-fence was armed when it was last heard, and nobody can have renewed it since."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Optional

GIVEN = "/run/relevo-guard/given.json"
# A watch that hangs is killed by systemd after 5 s and goes on with the same lease a second later; the rest is for clocks and slow machines.
MARGIN_SECONDS = 10.0


@dataclass(frozen=True)
class Judgement:
    """expired: PostgreSQL on that host has stopped itself, if its guard did its work. said: for a person.

    left_seconds: until the lease ends; None when that is not known.
    """

    expired: bool
    said: str
    left_seconds: Optional[float] = None

    def as_dict(self) -> dict[str, Any]:
        """For the run's directory."""
        return asdict(self)


def digest(names: Iterable[str]) -> str:
    """The names of those who are heard, as the guard tells them in the name of its session."""
    return hashlib.sha256(",".join(sorted(names)).encode()).hexdigest()[:8]


def givers(host: str, groups: Mapping[str, list[str]], sites: Mapping[str, str]) -> list[str]:
    """Who renews the lease of a host: observers and database hosts outside its site."""
    every = [*groups.get("dr_observer", []), *groups.get("dr_database", [])]
    return sorted({name for name in every if sites.get(name) != sites.get(host)})


def judge(host: str, seen: Mapping[str, Optional[Mapping[str, Any]]]) -> Judgement:
    """seen: by giver what it says of the host (see ``facts_of_log`` and ``facts_of_guard``), None when it could not be asked."""
    silent = sorted(name for name, facts in seen.items() if facts is None)
    if silent:
        return Judgement(False, "%s cannot be asked, and may have kept %s alive" % (", ".join(silent), host))
    known = {name: facts for name, facts in seen.items() if facts is not None}
    heard = {name: facts for name, facts in known.items() if facts.get("accepted_age_seconds") is not None}
    if not heard:
        return Judgement(False, "nobody outside its site remembers %s" % host)
    newest = min(heard, key=lambda name: float(heard[name]["accepted_age_seconds"]))
    return _judge_known(host, known, newest)


def _judge_known(host: str, known: Mapping[str, Mapping[str, Any]], newest: str) -> Judgement:
    """newest: the giver that heard the host last."""
    last = known[newest]
    armed = int(last.get("self_fence_seconds") or 0)
    when = "%s last heard it %.0f s ago" % (newest, float(last["accepted_age_seconds"]))
    if armed <= 0:
        return Judgement(False, "no self-fence was armed on %s when %s" % (host, when))
    if last.get("heard_by") != digest(known):
        return Judgement(
            False, "%s is heard by others than %s: who they are, its guard.json says" % (host, ", ".join(sorted(known)))
        )
    unknown = sorted(name for name, facts in known.items() if facts.get("sent_age_seconds") is None)
    if unknown:
        return Judgement(False, "%s does not know when it last wrote to %s" % (", ".join(unknown), host))
    renewed = min(known, key=lambda name: float(known[name]["sent_age_seconds"]))
    age = float(known[renewed]["sent_age_seconds"])
    left = armed + MARGIN_SECONDS - age
    said = "self-fence armed with %d s; %s; the last write that may have reached it left %s %.0f s ago" % (
        armed,
        when,
        renewed,
        age,
    )
    if left > 0:
        return Judgement(False, "%s: its lease ends in %.0f s" % (said, left), left)
    return Judgement(True, said)


def facts_of_log(events: Iterable[Mapping[str, Any]], boottime: float, boot_id: str) -> dict[str, Any]:
    """events: an observer's, of one address, in any order. Ages are by the observer's own boot clock; what is older than this boot is at least as old as it."""
    accepted: Optional[Mapping[str, Any]] = None
    sent: Optional[float] = None
    oldest: Optional[float] = None
    for event in events:
        age = boottime - float(event["mono"]) if event.get("boot_id") == boot_id else boottime
        oldest = age if oldest is None else max(oldest, age)
        moment = event.get("sent_mono", event["mono"])
        if moment is not None:
            sent_age = boottime - float(moment) if event.get("boot_id") == boot_id else boottime
            sent = sent_age if sent is None else min(sent, sent_age)
        # One that was accepted and then cut off did not get to say whether it is armed.
        said = event.get("outcome") == "accepted" and event.get("self_fence_seconds") is not None
        if said and (accepted is None or str(event["at"]) > str(accepted["at"])):
            accepted = {**event, "age": age}
    return {
        "sent_age_seconds": oldest if sent is None else sent,
        "accepted_age_seconds": accepted["age"] if accepted else None,
        "self_fence_seconds": accepted.get("self_fence_seconds") if accepted else None,
        "heard_by": accepted.get("heard_by") if accepted else None,
    }


def started_boottime() -> float:
    """When process 1 was started, by the boot clock: a container's clock and boot id are those of its machine."""
    with open("/proc/1/stat", encoding="utf-8", errors="replace") as source:
        return int(source.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")


def facts_of_guard(
    hosts: Iterable[str], boottime: float, boot_id: str, started: float, path: str = GIVEN
) -> dict[str, dict[str, Any]]:
    """What this host's guard gave the others. Without its file, which is in memory, nothing was given since this host was started."""
    try:
        with open(path, encoding="utf-8") as source:
            given = json.load(source)
    except (OSError, ValueError):
        given = {}
    if not isinstance(given, dict) or given.get("boot_id") != boot_id:
        given = {}
    found = {}
    for host in hosts:
        accepted = given.get("accepted", {}).get(host) or {}
        found[host] = {
            "sent_age_seconds": boottime - float(given.get("sent", {}).get(host, started)),
            "accepted_age_seconds": boottime - float(accepted["at"]) if accepted else None,
            "self_fence_seconds": accepted.get("self_fence_seconds"),
            "heard_by": accepted.get("heard_by") or None,
        }
    return found
