# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""When a host's sets of files are kept: judged, and written as systemd units. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal

UNITS = "/etc/systemd/system"
PREFIX = "relevo-files-"
SERVICE = "relevo-files@.service"
PROGRAM = "/usr/local/lib/relevo/relevo-files"
KEEPS = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")

# It reads everything and writes nothing but its own record and cache. Interrupted, restic removes its lock; killed, it would leave one.
_SERVICE = """# Managed by Relevo: changes are lost.
[Unit]
Description=Relevo's snapshot of the files of set %i
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 -I PROGRAM backup %i
UMask=0077
Nice=10
IOSchedulingClass=idle
KillSignal=SIGINT
TimeoutStopSec=30
TimeoutStartSec=LIMIT
CapabilityBoundingSet=CAP_DAC_READ_SEARCH
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths=/var/lib/relevo /run/lock
CacheDirectory=relevo-files
CacheDirectoryMode=0700
ProtectKernelModules=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictRealtime=yes
LockPersonality=yes
"""
_TIMER = """# Managed by Relevo: changes are lost.
[Unit]
Description=When Relevo keeps the files of set NAME

[Timer]
OnCalendar=CALENDAR
RandomizedDelaySec=JITTER
AccuracySec=1min
# A host that was off at its time makes up for it.
Persistent=true
Unit=relevo-files@NAME.service

[Install]
WantedBy=timers.target
"""


def judge(sets: Sequence[Mapping[str, Any]], host: str) -> list[Mapping[str, Any]]:
    """The sets that this host has something of. Raises Refusal for what would not be a set."""
    names: list[str] = []
    for entry in sets:
        name = str(entry["name"])
        if not _NAME.fullmatch(name):
            raise _refusal(host, "the set %r" % name, "a name of small letters, digits and hyphens", "give it another name")
        if name in names:
            raise _refusal(host, "two sets of the name %s" % name, "each name once", "give one of them another name")
        names.append(name)
        relative = [path for path in entry.get("paths") or [] if not str(path).startswith("/")]
        if relative:
            raise _refusal(host, "set %s has the path %s" % (name, relative[0]), "absolute paths", "correct paths of the set")
        keep = entry.get("keep") or {}
        unknown = sorted(set(keep) - set(KEEPS))
        if unknown or not any(int(number) > 0 for number in keep.values()):
            raise _refusal(
                host,
                "set %s keeps %s" % (name, dict(keep)),
                "numbers of %s, at least one above 0" % ", ".join(KEEPS),
                "correct keep of the set: without it every snapshot would stay, or none",
            )
    return [entry for entry in sets if entry.get("paths")]


def calendar_refusal(host: str, entry: Mapping[str, Any], said: str) -> Refusal:
    """An OnCalendar expression that systemd on the host does not take."""
    return _refusal(
        host,
        "calendar %r of set %s: %s" % (entry["calendar"], entry["name"], said),
        "an expression that systemd-analyze calendar on this host understands",
        "correct it; systemd.time(7) has the form, for instance *-*-* 02:30:00",
    )


def _refusal(host: str, observed: str, expected: str, next_action: str) -> Refusal:
    return Refusal("FILESSET", host, observed, expected, next_action)


def units(sets: Iterable[Mapping[str, Any]], repositories: int) -> dict[str, str]:
    """Name and content of every unit. repositories: how many are filled one after the other."""
    found = {}
    longest = 0
    for entry in sets:
        text = _TIMER.replace("NAME", str(entry["name"])).replace("CALENDAR", str(entry["calendar"]))
        found[timer(entry)] = text.replace("JITTER", "%d" % int(entry.get("jitter_seconds") or 0))
        longest = max(longest, int(entry.get("timeout_seconds") or 21600))
    # Waiting for another set, then a snapshot and its forgetting in each repository; restic's own limits come first.
    limit = (1 + repositories) * 2 * longest
    return {SERVICE: _SERVICE.replace("PROGRAM", PROGRAM).replace("LIMIT", "%d" % limit), **found}


def timer(entry: Mapping[str, Any]) -> str:
    """The unit's name."""
    return "%s%s.timer" % (PREFIX, entry["name"])


def ours(names: Iterable[str]) -> list[str]:
    """The timers among names that this role made, of sets that are gone too."""
    return sorted(name for name in names if name.startswith(PREFIX) and name.endswith(".timer"))
