# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the kernel lets one server have: memory, processes, open files. Reads only; what cannot be read is absent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Optional

# The old hierarchy says "no limit" by the largest number of pages that it can hold.
_NO_LIMIT_BYTES = 1 << 62


def server_limits(pid: int, proc: str = "/proc", groups: str = "/sys/fs/cgroup") -> dict[str, Any]:
    """memory_bytes and memory_from (of the host, or of the tightest control group above it), tasks, open_files; None where nothing limits or says."""
    total = _total_memory(proc)
    memory = [(total, "the host")] if total is not None else []
    tasks = []
    for kind, directory in _directories(pid, proc, groups):
        limit = _number(os.path.join(directory, "memory.max" if kind == "" else "memory.limit_in_bytes"))
        if kind in ("", "memory") and limit is not None and limit < _NO_LIMIT_BYTES:
            memory.append((limit, "its control group"))
        most = _number(os.path.join(directory, "pids.max")) if kind in ("", "pids") else None
        if most is not None:
            tasks.append(most)
    least = min(memory) if memory else (None, None)
    return {
        "memory_bytes": least[0],
        "memory_from": least[1],
        "tasks": min(tasks) if tasks else None,
        "open_files": _open_files(pid, proc),
    }


def _directories(pid: int, proc: str, groups: str) -> Iterator[tuple[str, str]]:
    """Each control group above the process, with its controller: empty in the unified hierarchy."""
    for line in _lines(os.path.join(proc, str(pid), "cgroup")):
        controllers, path = line.split(":", 2)[1:]
        for kind in controllers.split(","):
            top = os.path.join(groups, kind) if kind else groups
            parts = [part for part in path.split("/") if part not in ("", "..")]
            for depth in range(len(parts), -1, -1):
                yield kind, os.path.join(top, *parts[:depth])


def _total_memory(proc: str) -> Optional[int]:
    for line in _lines(os.path.join(proc, "meminfo")):
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None


def _open_files(pid: int, proc: str) -> Optional[int]:
    """The soft limit, which is the one that counts."""
    for line in _lines(os.path.join(proc, str(pid), "limits")):
        if line.startswith("Max open files"):
            soft = line.split()[3]
            return int(soft) if soft.isdigit() else None
    return None


def _number(path: str) -> Optional[int]:
    """A limit; None for `max`, and where there is no such file."""
    said = "".join(_lines(path)[:1])
    return int(said) if said.isdigit() else None


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as source:
            return source.read().splitlines()
    except OSError:
        return []
