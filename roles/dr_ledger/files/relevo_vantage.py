#!/usr/bin/python3
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a watcher hears of this host: the observer's new lines, the run lock, and twice a second that this still works. Reads only.

It comes over the watcher's connection and is installed nowhere. It ends when the watcher is gone, or has said nothing for half a minute.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from pathlib import Path
from typing import Any, Optional

TICK_SECONDS = 0.5
NAP_SECONDS = 0.05
DEAF_SECONDS = 30.0
# How much of the log is told at the beginning: some minutes, so that a watcher knows who was the primary.
PAST_BYTES = 131072


class Log:
    """New lines of a log that is rotated by renaming."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: Any = None
        self._rest = b""

    def lines(self) -> list[dict[str, Any]]:
        """What came since the last call; of a log that is opened anew also the end of what is there."""
        found = []
        if self._file is None and not self._open():
            return found
        found += self._read()
        try:
            replaced = os.stat(self._path).st_ino != os.fstat(self._file.fileno()).st_ino
        except OSError:
            replaced = False
        if replaced:
            # Whatever was written to the old one before it was renamed.
            found += self._read()
            self._file.close()
            self._file, self._rest = None, b""
        return found

    def _open(self) -> bool:
        try:
            self._file = open(self._path, "rb")  # noqa: SIM115 - followed from call to call, and closed when the log is replaced
        except OSError:
            return False
        size = os.fstat(self._file.fileno()).st_size
        if size > PAST_BYTES:
            self._file.seek(size - PAST_BYTES)
            self._file.readline()
        return True

    def _read(self) -> list[dict[str, Any]]:
        *whole, self._rest = (self._rest + self._file.read()).split(b"\n")
        return [entry for entry in map(parsed, whole) if entry is not None]


def parsed(line: bytes) -> Optional[dict[str, Any]]:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "address" in entry and "outcome" in entry else None


def lock_holder(path: str) -> Optional[str]:
    """Who holds the run lock, for a person; one that cannot be read is held by nobody knows whom."""
    try:
        with open(path, encoding="utf-8") as source:
            held = json.load(source)
        return "the run %s since %s" % (held["run_id"], held["since"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return "a lock that cannot be read"


def alarms(directory: str, cluster: str) -> list[str]:
    """The jobs of the cluster of which the dead-man's switch on this host speaks just now."""
    found = []
    for path in sorted(Path(directory).glob("*@%s.json" % cluster)):
        try:
            told = json.loads(path.read_text(encoding="utf-8"))["told"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        found += ["%s: %s" % (path.name.partition("@")[0], ", ".join(sorted(told)))] if told else []
    return found


def tell(kind: str, boot_id: str, **said: Any) -> None:
    line = {"kind": kind, "now": time.clock_gettime(time.CLOCK_BOOTTIME), "boot_id": boot_id, **said}
    sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")


def main(observer_log: str, lock: str, deadman: str, cluster: str) -> None:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as source:
        boot_id = source.read().strip()
    log = Log(observer_log)
    ticked, heard = 0.0, time.monotonic()
    while time.monotonic() - heard < DEAF_SECONDS:
        # Past lines before the first tick: who listens knows from it that it knows all.
        for seen in log.lines():
            tell("seen", boot_id, seen=seen)
        if time.monotonic() - ticked >= TICK_SECONDS:
            ticked = time.monotonic()
            tell("tick", boot_id, lock=lock_holder(lock), alarms=alarms(deadman, cluster))
        sys.stdout.flush()
        if select.select([0], [], [], NAP_SECONDS)[0]:
            if not os.read(0, 4096):
                return
            heard = time.monotonic()
