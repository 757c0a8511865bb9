# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A backup as a transient systemd unit, which outlives the task that started it, and what became of it."""

from __future__ import annotations

import fcntl
import glob
import json
import os
import subprocess
from collections.abc import Sequence
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.backup_schedule import PROGRAM

SETTINGS = "/etc/relevo/backup.json"
STATE = "/var/lib/relevo-backup"
# More than one run ever appends.
_TAIL_BYTES = 1 << 18


class UnitError(Exception):
    """The unit could not be started; the message is what systemd said."""


def start(unit: str, owner: str, words: Sequence[str]) -> None:
    """Start the program with these arguments, unless the unit runs already: a run that was killed may have started it. Raises UnitError."""
    if active(unit):
        return
    if not os.path.exists(PROGRAM):
        raise UnitError("%s is not installed" % PROGRAM)
    # systemd-run has no module; a transient unit is the way to outlive this task and to be seen by systemctl.
    options = ["--quiet", "--collect", "--unit=%s" % unit, "--uid=%s" % owner, "--property=Nice=10", "--property=KillMode=mixed"]
    options += ["--property=StateDirectory=relevo-backup", "--property=StateDirectoryMode=0750", "--property=UMask=0027"]
    command = ["systemd-run", *options, "/usr/bin/python3", "-I", PROGRAM, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode != 0:
        raise UnitError(done.stderr.strip())


def active(unit: str) -> bool:
    """Whether it is at work."""
    done = subprocess.run(["systemctl", "is-active", "--", unit], capture_output=True, text=True, check=False, timeout=10)
    return done.stdout.strip() in ("active", "activating", "deactivating", "reloading")


def knows_a_standby() -> bool:
    """Whether the program was told how to reach one."""
    try:
        with open(SETTINGS, encoding="utf-8") as source:
            return bool(json.load(source).get("standbys"))
    except (OSError, ValueError):
        return False


def attempts(run: str) -> list[dict[str, Any]]:
    """The attempts that the program kept for a run, oldest first."""
    try:
        with open(os.path.join(STATE, "backups.jsonl"), "rb") as source:
            size = source.seek(0, os.SEEK_END)
            source.seek(max(0, size - _TAIL_BYTES))
            lines = source.read().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("run") == run:
            found.append(entry)
    return found


def holder() -> Optional[str]:
    """Who holds this host's lock for backups, or None."""
    try:
        with open(os.path.join(STATE, "lock"), encoding="utf-8") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return handle.read().strip() or "another backup"
    except OSError:
        return None
    return None


def processes(stanza: str) -> list[str]:
    """Backups of a stanza that pgBackRest takes on this host, whoever started them: command, pid and unit."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as source:
                words = source.read().decode(errors="replace").strip("\0").split("\0")
            with open(os.path.join(os.path.dirname(path), "cgroup"), encoding="utf-8") as source:
                unit = source.read().strip().splitlines()[-1].rsplit("/", 1)[-1]
        except (OSError, IndexError):
            continue
        if os.path.basename(words[0]) == "pgbackrest" and "backup" in words and "--stanza=%s" % stanza in words:
            found.append("%s (pid %s, %s)" % (" ".join(words[1:])[:160], path.split("/")[2], unit))
    return found
