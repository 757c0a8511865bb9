# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The witness's logs: JSON lines in order of time, in one current file and numbered older ones, read without reading all of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any, Optional

_PROBE_BYTES = 8192
_BLOCK_BYTES = 262144


def since(path: str, at: str) -> list[dict[str, Any]]:
    """Every entry from the time `at` (UTC, the form the logs use) on, oldest first."""
    newest_first: list[list[dict[str, Any]]] = []
    for name in _files(path):
        with open(name, "rb") as source:
            offset = _seek(source, os.fstat(source.fileno()).st_size, at)
            source.seek(offset)
            newest_first.append(_entries(source.read()))
        if offset > 0:
            break
    found = [entry for part in reversed(newest_first) for entry in part]
    return [entry for entry in found if str(entry.get("at", "")) >= at]


def tail(path: str, limit_bytes: int) -> list[dict[str, Any]]:
    """The newest entries that lie in the last `limit_bytes`, oldest first."""
    newest_first: list[list[dict[str, Any]]] = []
    left = limit_bytes
    for name in _files(path):
        with open(name, "rb") as source:
            size = os.fstat(source.fileno()).st_size
            source.seek(max(0, size - left))
            block = source.read()
        newest_first.append(_entries(block if size <= left else block.partition(b"\n")[2]))
        left -= len(block)
        if left <= 0:
            break
    return [entry for part in reversed(newest_first) for entry in part]


def backwards(path: str, *containing: bytes) -> Iterator[dict[str, Any]]:
    """Entries, the newest first, for who stops at the one that was looked for. containing: lines without one of these are passed over unread."""
    for name in _files(path):
        with open(name, "rb") as source:
            position, rest = os.fstat(source.fileno()).st_size, b""
            while position > 0:
                begin = max(0, position - _BLOCK_BYTES)
                source.seek(begin)
                lines = (source.read(position - begin) + rest).split(b"\n")
                # The first line of a block may have begun in the block before it.
                position, rest = begin, lines[0] if begin else b""
                for line in reversed(lines[1:] if begin else lines):
                    entry = _entry(line) if all(word in line for word in containing) else None
                    if entry is not None:
                        yield entry


def reaches_further(path: str, limit_bytes: int) -> bool:
    """Whether there is more log than its last `limit_bytes`."""
    return sum(os.path.getsize(name) for name in _files(path)) > limit_bytes


def _files(path: str) -> list[str]:
    """The current file, then the older ones, newest first."""
    names, number = [path], 1
    while os.path.exists("%s.%d" % (path, number)):
        names.append("%s.%d" % (path, number))
        number += 1
    return [name for name in names if os.path.exists(name)]


def _seek(source: Any, size: int, at: str) -> int:
    """An offset at or before the first entry of time `at`; 0 when the whole file may be needed."""
    low, high = 0, size
    while high - low > _PROBE_BYTES:
        middle = (low + high) // 2
        source.seek(middle)
        probe = source.read(_PROBE_BYTES).partition(b"\n")[2]
        found = next((str(entry["at"]) for entry in _entries(probe) if "at" in entry), None)
        if found is None or found >= at:
            high = middle
        else:
            low = middle
    return low


def _entries(block: bytes) -> list[dict[str, Any]]:
    return [entry for entry in map(_entry, block.split(b"\n")) if entry is not None]


def _entry(line: bytes) -> Optional[dict[str, Any]]:
    # A torn line (power cut) was never acted on: an intent goes out only after its line is durable.
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
