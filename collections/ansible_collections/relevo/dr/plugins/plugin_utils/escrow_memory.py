# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files in memory: what Ansible's workers of one run hand each other of secrets, 0600 in tmpfs, and gone with the run."""

from __future__ import annotations

import base64
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.escrow_fault import DECLARATION, EscrowFault
from ansible_collections.relevo.dr.plugins.plugin_utils.controller import process_started

_PREFIX = "relevo-keys-"
_MEMORY = ("tmpfs", "ramfs")


class Memory:
    """One run's directory below a directory that lies in memory. The run is the process of ansible-playbook, the parent of every worker."""

    def __init__(self, directory: str, run_id: str) -> None:
        self._root, self._path = directory, os.path.join(directory, _PREFIX + run_id)

    @property
    def path(self) -> str:
        """Where it is."""
        return self._path

    def open(self) -> None:
        """Make it, and remove what runs that are dead left. Raises EscrowFault where it would be on a disk."""
        kind = _filesystem(self._root)
        if kind not in _MEMORY:
            raise EscrowFault(
                DECLARATION,
                self._root,
                "a directory on %s" % (kind or "nothing"),
                "tmpfs",
                "name one in dr_keys_memory_directory, such as /dev/shm",
            )
        for name in os.listdir(self._root):
            path = os.path.join(self._root, name)
            if name.startswith(_PREFIX) and path != self._path and self._left(path):
                shutil.rmtree(path, ignore_errors=True)
        # It never is there without its owner's name, by which another run would take it for a dead one's.
        aside = tempfile.mkdtemp(dir=self._root, prefix="relevo-new-")
        with open(os.path.join(aside, "owner"), "w", encoding="utf-8") as target:
            json.dump({"pid": os.getppid(), "started": process_started(os.getppid())}, target)
        try:
            os.rename(aside, self._path)
        except OSError:
            # Another worker of this run was first.
            shutil.rmtree(aside)
            if not os.path.isdir(self._path):
                raise

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Keep a value; bytes are kept as they are."""
        path = os.path.join(self._path, name)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        self._put(path, json.dumps(value, default=_packed).encode())

    def lay(self, name: str, content: bytes) -> str:
        """Keep bytes as a file; where it is."""
        path = os.path.join(self._path, name)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        self._put(path, content)
        return path

    @staticmethod
    def _put(path: str, content: bytes) -> None:
        handle = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as target:
            target.write(content)
        os.replace(path + ".new", path)

    def read(self, name: str) -> dict[str, Any]:
        """What was kept under a name."""
        with open(os.path.join(self._path, name), encoding="utf-8") as source:
            found: dict[str, Any] = json.load(source, object_hook=_unpacked)
        return found

    def read_all(self, kind: str) -> dict[str, dict[str, Any]]:
        """Every ``<kind>/<name>`` by name."""
        directory = os.path.join(self._path, kind)
        names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
        found = {}
        for name in names:
            with open(os.path.join(directory, name), encoding="utf-8") as source:
                found[name] = json.load(source, object_hook=_unpacked)
        return found

    def remove(self) -> None:
        """Forget everything."""
        shutil.rmtree(self._path, ignore_errors=True)

    @staticmethod
    def _left(path: str) -> bool:
        """Whether the run that it belongs to is no more; one of another user is not ours to judge."""
        if os.stat(path).st_uid != os.geteuid():
            return False
        try:
            with open(os.path.join(path, "owner"), encoding="utf-8") as source:
                owner = json.load(source)
            return bool(process_started(int(owner["pid"])) != owner["started"])
        except (OSError, ValueError, KeyError):
            return True


def _filesystem(directory: str) -> str:
    """The kind of file system that a directory is on; empty where there is none."""
    real, best, kind = os.path.realpath(directory), "", ""
    if not os.path.isdir(real):
        return ""
    with open("/proc/self/mounts", encoding="utf-8") as source:
        for line in source:
            point, found = line.split()[1:3]
            if (real + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
                best, kind = point, found
    return kind


def _packed(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    raise TypeError(type(value).__name__)


def _unpacked(value: dict[str, Any]) -> Any:
    return base64.b64decode(value["base64"]) if set(value) == {"base64"} else value
