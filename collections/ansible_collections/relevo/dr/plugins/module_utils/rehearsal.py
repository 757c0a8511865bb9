# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a restored copy says of a recovery: how long it took until a user was let in, how much was missing. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.clock import parse_utc
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import END

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
    return {
        "t0_at": began_at,
        "t0_source": "command",
        "rto_seconds": round(elapsed_seconds - proofs, 3) if timed else None,
        "rpo_seconds": missing_seconds(str(there), began_at) if there and let_in else None,
        "proofs_seconds": round(proofs, 3),
    }


def proven_loss(test: Mapping[str, Any], rungs: Sequence[Mapping[str, Any]]) -> Optional[float]:
    """rpo_seconds of one restore: how old the newest commit of its archive was when it was read. None: not restored to there.

    test: an element of what restore_plan returned.
    """
    if test["kind"] != END or not any(rung["id"] == "R5" and rung["verdict"] == "pass" for rung in rungs):
        return None
    return missing_seconds(str(test["end_commit_at"] or test["backup_stopped_at"]), str(test["read_at"]))


def missing_seconds(there: str, at: str) -> float:
    """How old the newest commit that is there was at a time: what was committed in between would be lost. Both in UTC."""
    return round(max(0.0, (parse_utc(at) - parse_utc(there)).total_seconds()), 3)
