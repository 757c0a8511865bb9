# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a rehearsal on a restored copy says of a recovery: how long it took until a user was let in, how much was missing. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.clock import parse_utc

# What proves that it was worth it: nobody does these while users wait, so they are taken from the time.
PROOFS = ("R2", "R5", "R6", "R7", "LEDGER")
USER = "R8"


def measures(test: Mapping[str, Any], began_at: str, elapsed_seconds: float) -> dict[str, Any]:
    """rto_seconds: from the command to a user who is logged in, without the proofs; rpo_seconds: from the newest commit in the copy to the command.

    test: as the record keeps it. elapsed_seconds: from the command to the end of the last rung. Null where the user was not let in.
    """
    rungs = {str(rung["id"]): rung for rung in test.get("rungs", ())}
    proofs = sum(float(rungs[name]["seconds"]) for name in PROOFS if name in rungs)
    let_in = USER in rungs and rungs[USER]["verdict"] == "pass"
    # A copy that was only brought up to date says nothing of the time that a whole one takes.
    timed = let_in and not test.get("delta")
    # Where nothing was replayed behind the backup, all that was committed up to its end is there.
    there = test.get("last_commit_at") or test.get("backup_stopped_at")
    missing = (parse_utc(began_at) - parse_utc(str(there))).total_seconds() if there and let_in else None
    return {
        "t0_at": began_at,
        "t0_source": "command",
        "rto_seconds": round(elapsed_seconds - proofs, 3) if timed else None,
        "rpo_seconds": None if missing is None else round(max(0.0, missing), 3),
        "proofs_seconds": round(proofs, 3),
    }
