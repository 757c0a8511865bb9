# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The directory into which files are restored: judged before, counted after, and proven by the canaries that the snapshot itself carries."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal

CHECK = "FILESTARGET"


@dataclass(frozen=True)
class Counted:
    """Entries of every kind, and bytes of files, each inode once."""

    entries: int
    size: int


def judge(target: str, host: str) -> None:
    """Raises Refusal unless files may be written into target: nothing that is there is ever overwritten."""
    expected = "an absolute path of an empty directory, or of one that is not there yet"
    choose = "choose another dr_files_target; what is there is never overwritten"
    if not os.path.isabs(target) or os.path.normpath(target) != target or target == "/":
        raise Refusal(CHECK, host, "target %r" % target, expected, choose)
    if os.path.islink(target) or os.path.realpath(target) != target:
        raise Refusal(
            CHECK, host, "%s leads elsewhere, to %s" % (target, os.path.realpath(target)), expected, "name that directory itself"
        )
    if os.path.lexists(target):
        if not os.path.isdir(target):
            raise Refusal(CHECK, host, "%s is no directory" % target, expected, choose)
        found = sorted(os.listdir(target))
        if found:
            raise Refusal(CHECK, host, "%s holds %s" % (target, ", ".join(found[:3])), expected, choose)


def free_bytes(target: str) -> int:
    """Free space where target is or will be."""
    while not os.path.isdir(target):
        target = os.path.dirname(target)
    about = os.statvfs(target)
    return about.f_bavail * about.f_frsize


def empty(target: str) -> None:
    """Remove what a failed attempt wrote into a directory that was empty before."""
    for entry in os.scandir(target):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)


def count(target: str) -> Counted:
    """What is below target, itself not counted."""
    entries, size = 0, 0
    seen: set[tuple[int, int]] = set()
    for directory, below, files in os.walk(target):
        entries += len(below) + len(files)
        for name in files:
            about = os.lstat(os.path.join(directory, name))
            if stat.S_ISREG(about.st_mode) and (about.st_nlink == 1 or (about.st_dev, about.st_ino) not in seen):
                seen.add((about.st_dev, about.st_ino))
                size += about.st_size
    return Counted(entries, size)


def manifest(target: str, state_directory: str, name: str) -> Optional[dict[str, Any]]:
    """The canaries that the snapshot carries of itself, or None when it carries none."""
    path = os.path.join(target, state_directory.lstrip("/"), "files-canaries", "%s.json" % name)
    try:
        with open(path, encoding="utf-8") as source:
            found: dict[str, Any] = json.load(source)
    except (OSError, ValueError):
        return None
    return found


def differing(target: str, digests: dict[str, Optional[str]]) -> list[str]:
    """The canaries whose restored content is not what the host saw just before the snapshot; one that was not there then says nothing."""
    return [path for path, digest in sorted(digests.items()) if digest is not None and _digest(target, path) != digest]


def _digest(target: str, path: str) -> Optional[str]:
    restored = os.path.realpath(os.path.join(target, path.lstrip("/")))
    # A link of the restored tree may lead into the living one.
    if os.path.commonpath([target, restored]) != target:
        return None
    total = hashlib.sha256()
    try:
        with open(restored, "rb") as source:
            for block in iter(lambda: source.read(1 << 20), b""):
                total.update(block)
    except OSError:
        return None
    return total.hexdigest()
