# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Room for inotify: all hosts of a laboratory share this machine's root, and the kernel counts the instances of each user."""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.relevo.lab.plugins.module_utils.laboratory import LaboratoryError

LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
# What a booting Debian host was seen to take as root, rounded up; a host at rest keeps four.
INSTANCES_OF_A_HOST = 6


def refuse_shortage(hosts_to_boot: int, limit: Path = LIMIT, processes: Path = Path("/proc")) -> None:
    """LaboratoryError when the hosts that are still off would not find room: their units would fail to start, without saying why."""
    if not limit.exists():
        return
    most, taken, wanted = int(limit.read_text()), instances_of_root(processes), hosts_to_boot * INSTANCES_OF_A_HOST
    if taken + wanted > most:
        raise LaboratoryError(
            f"fs.inotify.max_user_instances of this machine is {most} and root has {taken} of them; {hosts_to_boot} more hosts need up to "
            f"{wanted}, or units in them do not start. Run 'sysctl -w fs.inotify.max_user_instances={roomy(taken + wanted)}', then repeat."
        )


def instances_of_root(processes: Path) -> int:
    """How many are open in processes of root, the hosts' too."""
    return sum(_instances(process) for process in processes.iterdir() if process.name.isdigit())


def roomy(needed: int) -> int:
    """The next power of two, so that one correction is enough for a while."""
    return 1 << max(0, needed - 1).bit_length()


def _instances(process: Path) -> int:
    try:
        if process.stat().st_uid != 0:
            return 0
        return sum(_target(entry) == "anon_inode:inotify" for entry in (process / "fd").iterdir())
    except OSError:
        return 0  # the process ended while we looked


def _target(entry: Path) -> str:
    try:
        return os.readlink(entry)
    except OSError:
        return ""
