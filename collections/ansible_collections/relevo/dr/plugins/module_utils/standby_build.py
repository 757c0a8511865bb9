# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a host becomes a standby: from what is found there to the steps that are left, or to the reason why nothing is touched."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.change import Change
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal

CREATE, CLEAN, RESTORE, CONTINUE, START, WAIT = "create", "clean", "restore", "continue", "start", "wait"

# Managed in conf.d; pgBackRest writes some of them where they would hide ours for ever.
RECOVERY_PARAMETERS = ("restore_command", "primary_conninfo", "primary_slot_name", r"recovery_target\w*")


@dataclass(frozen=True)
class Site:
    """What was found on the host.

    data: absent | empty | cluster (PG_VERSION and global/pg_control) | partial (anything else). in_recovery: of a server that answers.
    build: our mark of an unfinished build, with ``restored`` once the repository's part is done. restore: of a failover's restore that is not promoted.
    """

    configuration: bool
    data: str
    running: bool
    in_recovery: Optional[bool] = None
    streaming: bool = False
    system_identifier: Optional[str] = None
    standby_signal: bool = False
    build: Optional[dict[str, Any]] = None
    fence: Optional[dict[str, Any]] = None
    restore: Optional[dict[str, Any]] = None


@dataclass(frozen=True)
class BuildPlan:
    """steps, in order; changes for a person."""

    steps: tuple[str, ...]
    changes: list[Change]


def plan(site: Site, system_identifier: str, host: str, data_directory: str) -> BuildPlan:
    """Raises Refusal for everything that is not plainly an empty place, our own unfinished build, or a standby of this cluster."""
    item = "standby on %s" % host
    if site.fence is not None:
        raise _refusal(
            host,
            "a fence mark of run %s" % site.fence.get("run_id", "?"),
            "a host that is not fenced",
            "ask relevo-guard check on this host what has to happen",
        )
    if site.running:
        return _running(site, system_identifier, host, item)
    # What a failover restored is of a backup and a point that it chose: no standby comes of it, but its files save most of a restore.
    unfinished = site.restore is not None or (_ours(site, data_directory) and not (site.build or {}).get("restored"))
    if site.data == "cluster" and not unfinished:
        return _stopped(site, system_identifier, host, item)
    if site.data == "partial" and not unfinished:
        raise _refusal(
            host,
            "%s is not empty and holds no cluster that could be adopted" % data_directory,
            "an empty directory, or a standby of this cluster",
            "look at what is there; move it away if nobody needs it, then run again",
        )
    steps = [] if site.configuration else [CREATE, CLEAN]
    steps.append(CONTINUE if unfinished and site.configuration else RESTORE)
    begun = site.build or site.restore
    found = "an unfinished build of run %s" % begun.get("run_id") if begun else "absent"
    return BuildPlan((*steps, START, WAIT), [Change(item, found, "restored from the repository, then streaming")])


def _running(site: Site, system_identifier: str, host: str, item: str) -> BuildPlan:
    if site.in_recovery is None:
        raise _refusal(host, "PostgreSQL runs and does not answer", "a standby that answers", "read the server's log on this host")
    if not site.in_recovery:
        raise _refusal(
            host,
            "PostgreSQL is a second writable primary",
            "one primary in the cluster",
            "find out which one the application uses; stop the other one by hand",
        )
    _same(site, system_identifier, host)
    if site.restore is not None:
        raise _refusal(
            host,
            "a restore of run %s that was not promoted runs here" % site.restore.get("run_id"),
            "a standby, or nothing",
            "start that failover again to go on with it; or stop PostgreSQL on this host and run protect again: it becomes a standby",
        )
    if site.streaming:
        return BuildPlan((), [])
    return BuildPlan((WAIT,), [Change(item, "running, not streaming", "streaming")])


def _stopped(site: Site, system_identifier: str, host: str, item: str) -> BuildPlan:
    _same(site, system_identifier, host)
    if not site.standby_signal:
        raise _refusal(
            host,
            "a stopped cluster of this system that was not a standby",
            "a standby",
            "if it is a former primary, keep its data if they may hold transactions that are nowhere else, move them away, and run again; nothing was touched",
        )
    return BuildPlan((START, WAIT), [Change(item, "stopped", "streaming")])


def _same(site: Site, system_identifier: str, host: str) -> None:
    if site.system_identifier != system_identifier:
        raise _refusal(
            host,
            "a cluster with system identifier %s" % site.system_identifier,
            "system identifier %s, which the primary has" % system_identifier,
            "if nobody needs that cluster, remove it (pg_dropcluster); it is not ours to remove",
        )


def _ours(site: Site, data_directory: str) -> bool:
    return site.build is not None and site.build.get("data_directory") == data_directory


def _refusal(host: str, observed: str, expected: str, next_action: str) -> Refusal:
    return Refusal("STANDBY", host, observed, expected, next_action)


def without_recovery_parameters(auto_conf: str) -> str:
    """postgresql.auto.conf without the entries that conf.d manages."""
    names = "|".join(RECOVERY_PARAMETERS)
    kept = [
        line
        for line in auto_conf.splitlines()
        if not re.match(r"\s*(%s)\s*=" % names, line) and "generated by pgBackRest" not in line
    ]
    return "\n".join(kept).rstrip("\n") + "\n"


def conninfo(options: dict[str, str]) -> str:
    """A libpq connection string, quoted."""
    return " ".join("%s=%s" % (name, _quoted(value)) for name, value in options.items())


def _quoted(value: str) -> str:
    if re.fullmatch(r"[\w.,:/-]+", value):
        return value
    return "'%s'" % value.replace("\\", "\\\\").replace("'", "\\'")
