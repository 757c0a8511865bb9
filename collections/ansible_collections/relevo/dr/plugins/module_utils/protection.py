# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which host is the primary of a cluster that shall be protected: seen, never told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal


def find_primary(
    clusters: Mapping[str, Mapping[str, Any]], locks: Mapping[str, Optional[Mapping[str, Any]]], *, every_host: bool = True
) -> str:
    """The one running primary. Raises Refusal unless every host was seen, none is locked by a run, and exactly one is primary.

    clusters: by host what ``cluster_info`` saw, empty for a silent host. locks: by host the lock of a run that may be at work.
    every_host: false where a dead standby is no reason to stop.
    """
    for host, lock in sorted(locks.items()):
        if lock:
            held = "run %s of %s holds the lock since %s" % (lock.get("run_id"), lock.get("owner"), lock.get("since"))
            raise Refusal(
                "G10", host, held, "no run at work on this cluster", "wait until that run has ended; relevo status shows it"
            )
    seen = ", ".join("%s is %s" % (host, _described(cluster)) for host, cluster in sorted(clusters.items()))
    unseen = [host for host, cluster in clusters.items() if not cluster]
    if unseen and every_host:
        raise _refusal(seen, "an answer of every database host", "make %s reachable, then run again" % ", ".join(unseen))
    primaries = [host for host, cluster in clusters.items() if cluster.get("role") == "primary"]
    if len(primaries) > 1:
        raise _refusal(
            seen, "one primary", "two hosts accept writes: find out which one the application uses, and stop the other one by hand"
        )
    if not primaries:
        raise _refusal(seen, "one running primary", "start the primary, or run playbooks/failover.yml if it is lost")
    return primaries[0]


def _described(cluster: Mapping[str, Any]) -> str:
    if not cluster:
        return "silent"
    return "%s (%s)" % (cluster.get("role"), cluster.get("state")) if cluster.get("role") != "none" else str(cluster.get("state"))


def _refusal(observed: str, expected: str, next_action: str) -> Refusal:
    return Refusal("PRIMARY", "dr_database", observed, expected, next_action)
