# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""pg_waldump on a server's own WAL, as that server's owner."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.postgresql import owner_switch


def behind(
    server: Mapping[str, Any], timeline: int, start_lsn: str, timeout_seconds: float, place: str = ""
) -> subprocess.CompletedProcess[str]:
    """What it prints from a location on; it ends with an error where the WAL ends, always. server: bin_directory, data_directory, owner.

    place: where the segments are, when it is not that server's own pg_wal.

    Raises OSError and subprocess.TimeoutExpired.
    """
    return subprocess.run(
        [
            os.path.join(server["bin_directory"], "pg_waldump"),
            "--path=%s" % (place or os.path.join(server["data_directory"], "pg_wal")),
            "--timeline=%d" % timeline,
            "--start=%s" % start_lsn,
        ],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=timeout_seconds,
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
        **owner_switch(server["owner"]),
    )
