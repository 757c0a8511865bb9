# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Unit files and timers on a host: which differ from what they should be, and the way there. No handler: what was lost half way is seen again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.relevo.dr.plugins.module_utils.change import Change
from ansible_collections.relevo.dr.plugins.module_utils.managed_file import WantedFile, apply, observe, plan

UNITS = "/etc/systemd/system"


class UnitError(Exception):
    """systemctl failed; the message is for a person."""


@dataclass(frozen=True)
class UnitPlan:
    """files: by name, all that shall be there; differing, stale: names; waking: timers that must be made to wait."""

    files: Mapping[str, str]
    differing: Sequence[str]
    stale: Sequence[str]
    waking: Sequence[str]
    changes: Sequence[Change]


def compare(files: Mapping[str, str], ours: Iterable[str]) -> UnitPlan:
    """What has to be done. ours: names of unit files that are there and were made by the same role."""
    differing, changes = [], []
    for name, text in files.items():
        path = os.path.join(UNITS, name)
        found = plan(WantedFile(path, content=text), observe(path))
        differing += [name] if found else []
        changes += found
    stale = [name for name in ours if name not in files]
    timers = [name for name in files if name.endswith(".timer")]
    asleep = [name for name in timers if name not in differing and not waits(name)]
    changes += [Change("timer %s" % name, "not waiting", "waits for its time") for name in asleep]
    changes += [Change("unit %s" % name, "of a set that is gone", "absent") for name in stale]
    return UnitPlan(files, differing, stale, [name for name in timers if name in differing or name in asleep], changes)


def waits(timer: str) -> bool:
    """Whether a timer is loaded as it is on disk, waits now, and will after the next boot."""
    return [show(timer, name) for name in ("ActiveState", "UnitFileState", "NeedDaemonReload")] == ["active", "enabled", "no"]


def show(unit: str, name: str) -> str:
    """One property of a unit."""
    return run("systemctl", "show", "--property=%s" % name, "--value", "--", unit).stdout.strip()


def carry_out(wanted: UnitPlan) -> None:
    """Raises UnitError."""
    for name in wanted.stale:
        must("systemctl", "disable", "--now", "--", name)
        os.unlink(os.path.join(UNITS, name))
    for name in wanted.differing:
        path = os.path.join(UNITS, name)
        apply(WantedFile(path, content=wanted.files[name]), observe(path))
    if wanted.changes:
        must("systemctl", "daemon-reload")
    if wanted.waking:
        must("systemctl", "enable", "--", *wanted.waking)
        # A timer that waits already would keep its old time.
        must("systemctl", "restart", "--", *wanted.waking)


def must(*command: str, timeout: float = 60) -> str:
    """What it printed. Raises UnitError."""
    done = run(*command, timeout=timeout)
    if done.returncode != 0:
        raise UnitError("%s: %s" % (" ".join(command), done.stderr.strip()))
    return done.stdout


def run(*command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """A bounded call in a plain environment."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    return subprocess.run(list(command), capture_output=True, text=True, check=False, timeout=timeout, cwd="/", env=environment)
