# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What this controller is, and whether another run of it is still alive."""

from __future__ import annotations

import getpass
import os
import socket
from typing import Any, Optional

from ansible import context
from ansible.parsing.quoting import unquote
from ansible.parsing.splitter import split_args
from ansible_collections.relevo.dr.plugins.module_utils import clock
from ansible_collections.relevo.dr.plugins.module_utils.host_files import Lock


def process_started(pid: int) -> Optional[str]:
    """Start time of a process in clock ticks since boot, or None when there is no such process."""
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8") as source:
            return source.read().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return None


def pid_namespace() -> str:
    """Where our process ids are numbers of processes, such as ``pid:[4026531836]``; empty when the kernel does not say."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def identity() -> dict[str, Any]:
    """Owner, host, boot and process of this run, as the lock on the hosts names them. The process is ansible-playbook, the parent of this task's worker."""
    pid = os.getppid()
    return {
        "owner": os.environ.get("SUDO_USER") or _account(),
        "controller": socket.gethostname(),
        "controller_boot_id": clock.boot_id(),
        "controller_pid": pid,
        "controller_pid_started": process_started(pid) or "",
        "controller_pid_namespace": pid_namespace(),
    }


def _account() -> str:
    """The login of this process; a container may run it as a number that no file names."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "uid %d" % os.getuid()


def owner_dead(lock: Optional[dict[str, Any]]) -> bool:
    """Whether a lock is of a process of this very controller and boot that is no more; False when that cannot be known from here."""
    return _owner_lives(lock) is False


def owner_alive(lock: Optional[dict[str, Any]]) -> bool:
    """Whether a lock is of a living process of this very controller; False when that cannot be known from here."""
    return _owner_lives(lock) is True


def _owner_lives(lock: Optional[dict[str, Any]]) -> Optional[bool]:
    """None when nothing is known of it.

    Two containers on one machine may share its name and its boot, but neither sees the other's processes: there the lease decides.
    """
    if not lock:
        return None
    held = Lock(**lock)
    if held.controller != socket.gethostname() or held.controller_boot_id != clock.boot_id():
        return None
    if not held.controller_pid_namespace or held.controller_pid_namespace != pid_namespace():
        return None
    return process_started(held.controller_pid) == held.controller_pid_started


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
    given: dict[str, Any] = {}
    for option in context.CLIARGS.get("extra_vars") or ():
        text = str(option)
        if text[:1] in "@{[":
            given.update(_structured(loader, text))
        else:
            given.update(assignments(text))
    return given


def assignments(text: str) -> dict[str, str]:
    """``name=value ...`` where a value may have spaces.

    The shell takes the quotes of ``-e dr_confirm="drill production x to b"`` away, and Ansible itself would keep the first word only.
    """
    pairs: dict[str, str] = {}
    name = "_raw_params"
    for word in split_args(text):
        head, equals, tail = word.partition("=")
        if equals and head.isidentifier():
            name = head
            pairs[name] = unquote(tail)
        else:
            pairs[name] = (pairs.get(name, "") + " " + unquote(word)).strip()
    return pairs


def _structured(loader: Any, text: str) -> dict[str, Any]:
    """A file (``@``) or YAML; never rendered."""
    value = loader.load_from_file(text[1:]) if text.startswith("@") else loader.load(text)
    return dict(value) if isinstance(value, dict) else {"_raw_params": text}
