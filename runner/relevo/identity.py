"""Who runs what, and where: run ids, operator, controller, process and versions."""

from __future__ import annotations

import os
import platform
import pwd
import re
import secrets
import socket
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import relevo

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

# Those of earlier versions end with four digits.
RUN_ID = re.compile(r"\d{8}T\d{6}Z-[a-z0-9_]{1,64}-[0-9a-f]{4}(?:[0-9a-f]{4})?")


def new_run_id(runbook: str, started: datetime) -> str:
    """Such as 20261124T121530Z-failover-1f3a90c1: UTC start, runbook, and random digits, since many controllers share one store."""
    name = re.sub(r"[^a-z0-9_]+", "_", runbook.lower())[:64].strip("_") or "run"
    return f"{started:%Y%m%dT%H%M%SZ}-{name}-{secrets.token_hex(4)}"


def operator(environment: Mapping[str, str]) -> str:
    """The person's account: who called sudo, else the login of this process."""
    if environment.get("SUDO_USER"):
        return environment["SUDO_USER"]
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def controller() -> str:
    """This machine's name."""
    return socket.gethostname()


def boot_id() -> str:
    """The kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def pid_namespace() -> str | None:
    """Where process ids are numbers of our processes, such as pid:[4026531836]; None when the kernel does not say."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None


def process_started(pid: int) -> int | None:
    """The kernel's start time of a process in clock ticks since boot; None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The command name may hold spaces and brackets; the fields after the last bracket are numbers.
    return int(text.rpartition(")")[2].split()[19])


def versions() -> dict[str, str | None]:
    """The versions of the tools that make a record, by distribution name."""
    found: dict[str, str | None] = {"relevo": relevo.__version__, "python": platform.python_version()}
    for name in ("ansible-core", "ansible-runner"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found
