# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether repositories that were restored one by one to the same target came to the same point. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.restore_ladder import FAIL, NOT_APPLICABLE, PASS, PROVE, UNKNOWN
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import END


def gates(tests: Sequence[Mapping[str, Any]], host: str) -> list[dict[str, Any]]:
    """One gate ALIKE when more than one repository was restored, else none. tests: as the record keeps them, of one run."""
    # To the end every backup of a repository comes to the same place; its newest one is the first of them.
    firsts = [
        test
        for number, test in enumerate(tests)
        if test["target_kind"] != END or test["repository"] not in [before["repository"] for before in tests[:number]]
    ]
    if len({test["repository"] for test in firsts}) < 2:
        return []
    verdict, following = _judged(firsts)
    return [
        {
            "id": "ALIKE",
            "title": "each repository restores to the same point: %s" % firsts[0]["target"],
            "phase": PROVE,
            "host": host,
            "observed": "; ".join(_came_to(test) for test in firsts),
            "expected": "the same position and the same last commit from each of them",
            "verdict": verdict,
            "next_action": following,
        }
    ]


def _judged(tests: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    if not all(_arrived(test) for test in tests):
        return UNKNOWN, "mend what kept a repository from its target, then run the test again"
    # Of a backup that ended just before the target no commit was replayed: its position says it alone.
    commits = {test["last_commit_at"] for test in tests if test["last_commit_at"]}
    if len({test["replayed_to_lsn"] for test in tests}) == 1 and len(commits) <= 1:
        return PASS, ""
    if tests[0]["target_kind"] == END:
        return NOT_APPLICABLE, "give a dr_restore_target_time: the archives' ends move on while each is restored"
    return FAIL, "run verify_backup with dr_backup_full=true: the WAL of one repository is not that of the other"


def _arrived(test: Mapping[str, Any]) -> bool:
    return bool(test["replayed_to_lsn"]) and any(rung["id"] == "R5" and rung["verdict"] == PASS for rung in test["rungs"])


def _came_to(test: Mapping[str, Any]) -> str:
    where = "backup %s of repository %s" % (test["label"], test["repository"])
    if not _arrived(test):
        return "%s did not come to its target" % where
    return "%s: %s, last commit %s" % (where, test["replayed_to_lsn"], test["last_commit_at"] or "not seen")
