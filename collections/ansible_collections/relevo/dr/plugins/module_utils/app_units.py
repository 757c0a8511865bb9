# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Single systemd units of an application: whether they run, stop and start them, and which processes are theirs."""

from __future__ import annotations

import glob
import os
import shlex
import subprocess

from ansible_collections.relevo.dr.plugins.module_utils.app_provider import ApplicationError, Deadline

# Where a unit's processes are listed: with one hierarchy of control groups, with both, with the old ones alone.
_HIERARCHIES = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")


def _systemctl(*words: str, seconds: float = 10.0) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise ApplicationError("systemctl %s did not end within %g s" % (" ".join(words), seconds)) from None


def is_active(unit: str) -> bool:
    """Whether it runs."""
    return _systemctl("--quiet", "is-active", "--", unit).returncode == 0


def is_enabled(unit: str) -> bool:
    """Whether it starts at boot."""
    return _systemctl("--quiet", "is-enabled", "--", unit).returncode == 0


def exists(unit: str) -> bool:
    """Whether systemd knows it."""
    return _show(unit, "LoadState") == "loaded"


def stop(unit: str, deadline: Deadline, *, leaves: bool) -> bool:
    """Stop it; with leaves it stays stopped after a reboot. True when anything changed. Raises ApplicationError."""
    active, enabled = is_active(unit), leaves and is_enabled(unit)
    if active:
        must("stop", unit, deadline)
    if enabled:
        must("disable", unit, deadline)
    return active or enabled


def start(unit: str, deadline: Deadline) -> bool:
    """Start it, now and at boot. True when anything changed. Raises ApplicationError."""
    active, enabled = is_active(unit), is_enabled(unit)
    if not active:
        must("start", unit, deadline)
    if not enabled:
        must("enable", unit, deadline)
    return not (active and enabled)


def must(verb: str, unit: str, deadline: Deadline) -> None:
    """Run one systemctl verb. Raises ApplicationError."""
    done = _systemctl(verb, "--", unit, seconds=deadline.left())
    if done.returncode != 0:
        raise ApplicationError("systemctl %s %s failed: %s" % (verb, unit, done.stderr.strip()))


def environment(unit: str) -> dict[str, str]:
    """The assignments in the unit itself, such as where the password file is."""
    words = shlex.split(_show(unit, "Environment"))
    return dict(word.split("=", 1) for word in words if "=" in word)


def processes(unit: str) -> list[int]:
    """Those of its control group and the groups below it."""
    group = _show(unit, "ControlGroup").lstrip("/")
    found: set[int] = set()
    for hierarchy in _HIERARCHIES if group else ():
        for path in glob.glob(os.path.join(glob.escape(os.path.join(hierarchy, group)), "**", "cgroup.procs"), recursive=True):
            with open(path, encoding="ascii") as source:
                found.update(int(line) for line in source if line.strip())
    return sorted(found)


def _show(unit: str, name: str) -> str:
    return _systemctl("show", "--property=%s" % name, "--value", "--", unit).stdout.strip()
