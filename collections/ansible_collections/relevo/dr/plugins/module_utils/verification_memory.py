# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What earlier verifications of a repository read and found whole, kept on the host that reads; it is a saving, never a proof."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.backup_verification import Memory
from ansible_collections.relevo.dr.plugins.module_utils.host_files import write_atomically
from ansible_collections.relevo.dr.plugins.module_utils.reading_plan import Read

DIRECTORY = "/var/lib/relevo"


def load(stanza: str, repository: int) -> Memory:
    """Empty when there is none or it cannot be read: then everything is read again."""
    try:
        with open(_path(stanza, repository), encoding="utf-8") as source:
            kept: Mapping[str, Any] = json.load(source)
        return Memory(
            float(kept["last_run_at"]),
            {path: Read(int(size), float(changed), float(at)) for path, (size, changed, at) in kept["read"].items()},
            dict(kept["manifests"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return Memory()


def save(stanza: str, repository: int, memory: Memory) -> None:
    """Whole or not at all."""
    content = {
        "last_run_at": memory.last_run_at,
        "read": {path: [read.size, read.changed_at, read.read_at] for path, read in memory.read.items()},
        "manifests": memory.manifests,
    }
    os.makedirs(DIRECTORY, mode=0o700, exist_ok=True)
    write_atomically(_path(stanza, repository), json.dumps(content))


def _path(stanza: str, repository: int) -> str:
    return os.path.join(DIRECTORY, "verified-%s-%d.json" % (stanza, repository))
