# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What this controller is, and whether another run of it is still alive."""

from __future__ import annotations

import getpass
import os
import socket
from typing import Any, Optional

from ansible import context
from ansible.utils.vars import load_extra_vars
from ansible_collections.relevo.dr.plugins.module_utils import clock
from ansible_collections.relevo.dr.plugins.module_utils.host_files import Lock


def process_started(pid: int) -> Optional[str]:
    """Start time of a process in clock ticks since boot, or None when there is no such process."""
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8") as source:
            return source.read().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return None


def identity() -> dict[str, Any]:
    """Owner, host, boot and process of this run, as the lock on the hosts names them. The process is ansible-playbook, the parent of task workers."""
    pid = int(os.environ.get("RELEVO_PLAYBOOK_PID") or os.getppid())
    return {
        "owner": os.environ.get("SUDO_USER") or getpass.getuser(),
        "controller": socket.gethostname(),
        "controller_boot_id": clock.boot_id(),
        "controller_pid": pid,
        "controller_pid_started": process_started(pid) or "",
    }


def owner_dead(lock: Optional[dict[str, Any]]) -> bool:
    """Whether a lock is of a process of this very controller and boot that is no more; False when that cannot be known from here."""
    if not lock:
        return False
    held = Lock(**lock)
    if held.controller != socket.gethostname() or held.controller_boot_id != clock.boot_id():
        return False
    return process_started(held.controller_pid) != held.controller_pid_started


def command_line_hides_hosts_or_tasks() -> Optional[str]:
    """The option that would leave out hosts or tasks, or None."""
    options = context.CLIARGS
    if options.get("subset"):
        return "--limit %s" % options["subset"]
    if [tag for tag in options.get("tags") or () if tag != "all"]:
        return "--tags %s" % ",".join(options["tags"])
    if options.get("skip_tags"):
        return "--skip-tags %s" % ",".join(options["skip_tags"])
    if options.get("start_at_task"):
        return "--start-at-task %s" % options["start_at_task"]
    if options.get("step"):
        return "--step"
    return None


def forks() -> int:
    """How many hosts Ansible serves at once."""
    return int(context.CLIARGS.get("forks") or 5)


def extra_variables(loader: Any) -> dict[str, Any]:
    """What was given by ``-e``, as typed."""
    return dict(load_extra_vars(loader))
