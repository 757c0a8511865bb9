# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The end of a server's WAL, as pg_waldump prints it."""

from __future__ import annotations

import re
from typing import Optional

_COMMIT = re.compile(r"^rmgr: Transaction .* desc: COMMIT")
_SHUTDOWN = re.compile(r"^rmgr: XLOG .* desc: CHECKPOINT_SHUTDOWN")


def count(printed: str) -> Optional[int]:
    """How many transactions committed in it; None when it does not end with a shutdown, for then more may follow."""
    records = [line for line in printed.splitlines() if line.startswith("rmgr: ")]
    if not records or not _SHUTDOWN.match(records[-1]):
        return None
    return sum(1 for line in records if _COMMIT.match(line))
