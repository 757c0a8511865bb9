# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A schedule of backups as data: judged, written as systemd units, and compared with what somebody else scheduled before. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal

UNITS = "/etc/systemd/system"
PREFIX = "relevo-backup-"
MARK = "# Managed by Relevo: changes are lost."
PROGRAM = "/usr/local/lib/relevo/relevo-backup"
# Of every service that runs pgBackRest as the cluster's owner: behind the server in priority, and with no right that it does not need.
HARDENED = """\
Nice=10
IOSchedulingClass=best-effort
IOSchedulingPriority=7
CapabilityBoundingSet=
LockPersonality=yes
NoNewPrivileges=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service"""
# Of the program: another backup was at work. It is in the log, and no reason for a red unit.
BUSY_EXIT = 75

_NAME = re.compile(r"[a-z][a-z0-9-]{0,40}")
_CRON_TIME = r"(?:@\w+|(?:\S+\s+){4}\S+)\s+"


@dataclass(frozen=True)
class Entry:
    """One element of dr_pgbackrest_schedule."""

    name: str
    type: str
    calendar: str
    jitter_seconds: int
    source: str
    repositories: tuple[int, ...]

    @property
    def timer(self) -> str:
        """The unit's name."""
        return "%s%s.timer" % (PREFIX, self.name)

    @property
    def service(self) -> str:
        """The unit's name."""
        return "%s%s.service" % (PREFIX, self.name)


@dataclass(frozen=True)
class Foreign:
    """A schedule of somebody else. kind: cron (a line) | script (a file of cron's) | timer; where: path or unit; line: from 1."""

    kind: str
    where: str
    text: str
    line: int = 0

    def __str__(self) -> str:
        place = "%s:%d" % (self.where, self.line) if self.line else self.where
        return "%s (%s)" % (place, self.text[:160])


def entries(schedule: Sequence[Mapping[str, Any]], known: Sequence[int], host: str) -> list[Entry]:
    """The schedule. Raises Refusal for names that are double or no unit's, and for repositories that nobody described."""
    found: list[Entry] = []
    for element in schedule:
        name = str(element["name"])
        if not _NAME.fullmatch(name):
            raise _refusal(
                host,
                "the entry %r" % name,
                "a name of small letters, digits and hyphens",
                "give it another name: a unit is named after it",
            )
        if name in [entry.name for entry in found]:
            raise _refusal(host, "two entries of the name %s" % name, "each name once", "give one of them another name")
        wanted = tuple(int(key) for key in element.get("repositories") or known)
        unknown = sorted(set(wanted) - set(known))
        if unknown:
            raise _refusal(
                host,
                "entry %s backs up into repository %s" % (name, ", ".join(map(str, unknown))),
                "one of the repositories of dr_pgbackrest_repositories: %s" % ", ".join(map(str, known)),
                "correct repositories of that entry, or describe the repository",
            )
        jitter = int(element.get("jitter_seconds") or 0)
        if jitter < 0:
            raise _refusal(host, "entry %s has jitter_seconds %d" % (name, jitter), "0 or more", "correct it")
        found.append(
            Entry(name, str(element["type"]), str(element["calendar"]), jitter, str(element.get("from") or "primary"), wanted)
        )
    return found


def calendar_refusal(host: str, entry: Entry, said: str) -> Refusal:
    """An OnCalendar expression that systemd on the host does not take."""
    return _refusal(
        host,
        "calendar %r of entry %s: %s" % (entry.calendar, entry.name, said),
        "an expression that systemd-analyze calendar on this host understands",
        "correct it; systemd.time(7) has the form, for instance *-*-* *:05:00",
    )


def standby_refusal(host: str, who: str, config: str) -> Refusal:
    """A backup from the standby, and no way to it. who: what asks for it."""
    return _refusal(
        host,
        "%s, but dr_pgbackrest_tls is not given, or the cluster has no second host, and %s names none (pg2-host)" % (who, config),
        "a standby that pgBackRest on this host can reach",
        "give dr_pgbackrest_tls, or pg2-host and pg2-path in dr_pgbackrest_stanza_options, or copy from the primary",
    )


def _refusal(host: str, observed: str, expected: str, next_action: str) -> Refusal:
    return Refusal("SCHEDULE", host, observed, expected, next_action)


def units(entry: Entry, owner: str, limit_seconds: float) -> dict[str, str]:
    """Name and content of the entry's two units."""
    words = ["--name=%s" % entry.name, "--type=%s" % entry.type, *("--repository=%d" % key for key in entry.repositories)]
    if entry.source == "standby":
        words.append("--standby")
    service = f"""{MARK}
[Unit]
Description=Relevo: {entry.type} backup, {entry.name}
Documentation=man:pgbackrest(1)
Wants=network-online.target
After=network-online.target postgresql.service

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 -I {PROGRAM} {" ".join(words)}
SuccessExitStatus={BUSY_EXIT}
User={owner}
Group={owner}
StateDirectory=relevo-backup
StateDirectoryMode=0750
UMask=0027
TimeoutStartSec={limit_seconds * max(1, len(entry.repositories)) + 3600:g}
TimeoutStopSec=120
KillMode=mixed
# No PrivateTmp: pgBackRest's own lock is there, and every other of its commands must see it.
{HARDENED}
ProtectSystem=full
"""
    timer = f"""{MARK}
[Unit]
Description=Relevo: when to take the {entry.type} backup {entry.name}

[Timer]
OnCalendar={entry.calendar}
RandomizedDelaySec={entry.jitter_seconds}
AccuracySec=1
Persistent=true
Unit={entry.service}

[Install]
WantedBy=timers.target
"""
    return {entry.timer: timer, entry.service: service}


def ours(names: Iterable[str]) -> list[str]:
    """Of names in the directory of units those that a schedule made."""
    return sorted(name for name in names if re.fullmatch(re.escape(PREFIX) + _NAME.pattern + r"\.(timer|service)", name))


def backs_up(text: str, stanza: str) -> bool:
    """Whether a command line takes a backup of this stanza; one that names no stanza takes it of every one."""
    if not re.search(r"\bpgbackrest\b.*(?<![\w-])backup(?![\w-])", text):
        return False
    named = re.findall(r"--stanza[= ]\s*(\S+)", text)
    return not named or stanza in [name.strip("'\"") for name in named]


def cron_lines(path: str, text: str, stanza: str, scripts: Mapping[str, str]) -> list[Foreign]:
    """Lines of a crontab that back this stanza up, by themselves or by a script that they call. scripts: content by path."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not re.match(_CRON_TIME, stripped) or stripped.startswith("#"):
            continue
        if runs_backup(stripped, stanza, scripts):
            found.append(Foreign("cron", path, stripped, number))
    return found


def called_files(line: str) -> list[str]:
    """Absolute paths on a command line."""
    return re.findall(r"(?<![\w=/])(/[\w./-]+)", line)


def commands(script: str) -> list[str]:
    """The lines of a script, continued ones joined, without comments."""
    joined = re.sub(r"\\\n", " ", script)
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.strip().startswith("#")]


def service_commands(shown: str) -> dict[str, list[str]]:
    """Command lines by unit, from ``systemctl show --property=Id,ExecStart``: expanded, as systemd would run them."""
    found: dict[str, list[str]] = {}
    for block in shown.split("\n\n"):
        lines = block.splitlines()
        name = next((line[len("Id=") :] for line in lines if line.startswith("Id=")), "")
        if name:
            found[name] = re.findall(r"argv\[\]=(.*?) ; ", "\n".join(line for line in lines if line.startswith("ExecStart=")))
    return found


def runs_backup(command: str, stanza: str, scripts: Mapping[str, str]) -> bool:
    """Whether a command line backs this stanza up, by itself or by a script that it calls. scripts: content by path."""
    called = [scripts[word] for word in called_files(command) if word in scripts]
    return backs_up(command, stanza) or any(backs_up(part, stanza) for content in called for part in commands(content))


def without_line(text: str, foreign: Foreign) -> str:
    """A crontab in which that line is a comment that says why."""
    lines = text.splitlines()
    lines[foreign.line - 1] = "# replaced by Relevo's timers: " + lines[foreign.line - 1]
    return "\n".join(lines) + "\n"
