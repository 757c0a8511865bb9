# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""When keys were last proven to come back and to open real data: what the newest records of recover_keys say. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import escrow_choice
from ansible_collections.relevo.dr.plugins.module_utils.gates import FAIL, NOT_APPLICABLE, PASS, UNKNOWN, Gate
from ansible_collections.relevo.dr.plugins.module_utils.past_proofs import Past, is_past, words

_PROVE = "relevo run recover_keys -i INVENTORY, as docs/runbooks/recover_keys.md tells"


def gate(records: Iterable[Mapping[str, Any]], past: Past, limit_seconds: float) -> Gate:
    """G15, from finished runs of recover_keys, newest first. A cluster that is younger than the limit is not late. A finding: no failover waits for it."""
    tried = [one for one in records if is_past(one, past.now) and one["verdict"] != "refused"]
    proven = next((one for one in tried if one["verdict"] == "passed" and _paths(one)), None)
    observed, verdict, fix = _observed(tried, proven, past), FAIL, _PROVE
    if past.unreadable:
        observed, verdict, fix = "not known: %s" % past.unreadable, UNKNOWN, "look at RELEVO_STORE"
    elif proven is not None and past.age(proven) <= limit_seconds:
        verdict, fix = PASS, ""
    elif past.younger_than(limit_seconds):
        verdict, fix = NOT_APPLICABLE, ""
    expected = "a passed recover_keys of this cluster, at most %s old" % words(limit_seconds)
    return Gate("G15", "keys were proven to come back", "controller", observed, expected, verdict, fix, "PREFLIGHT", False)


def shares_proven(records: Iterable[Mapping[str, Any]], now: float) -> dict[int, str]:
    """When each share was proven last, by its number, from finished runs of recover_keys, also of controllers that are no more. now: epoch seconds."""
    measured = [record["measures"].get("keys") or {} for record in records if is_past(record, now)]
    return escrow_choice.latest(keys.get("shares_proven") or {} for keys in measured)


def _observed(tried: list[Mapping[str, Any]], proven: Optional[Mapping[str, Any]], past: Past) -> str:
    if proven is None:
        said = "never: no passed recover_keys in this store"
    else:
        lost = proven["measures"]["keys"].get("lost_site")
        without = "without site %s" % lost if lost else "with every site there"
        said = "%s ago by run %s, %s, by %d ways" % (words(past.age(proven)), proven["run_id"], without, len(_paths(proven)))
    if tried and tried[0]["verdict"] != "passed":
        said += "; the newest one, run %s, ended as %s" % (tried[0]["run_id"], tried[0]["verdict"])
    return said


def _paths(record: Mapping[str, Any]) -> list[Any]:
    """The ways by which keys came back; a run that recovered nothing proved nothing."""
    return list((record["measures"].get("keys") or {}).get("paths") or [])
