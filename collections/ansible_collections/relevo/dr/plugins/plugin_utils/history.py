# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the results of past runs say, for a step that must know it."""

from __future__ import annotations

import json
import os
import time
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import gates, keys_proof, past_proofs
from ansible_collections.relevo.dr.plugins.module_utils.clock import parse_utc

from relevo import paths, settlement
from relevo.errors import RelevoError
from relevo.store import Store

# More nights than anybody lets a check fail.
_NEWEST = 100


def protected_since(cluster: str) -> Optional[float]:
    """When this cluster was first protected, epoch seconds: the end of its first passed protect run; None when no store tells.

    Never the age of the oldest backup that is left: that would make a lost backup a shorter past.
    """
    try:
        opened_at = Store(paths.find_place(os.environ)).first(cluster, "protect", ("passed", "partial"))
    except RelevoError:
        return None
    return parse_utc(opened_at).timestamp() if opened_at else None


def finished(cluster: str, runbook: str) -> list[dict[str, Any]]:
    """The records of a runbook's runs that came to an end by themselves, newest first; RelevoError when no store tells.

    A run that was cut off did not finish, and one in check mode proved nothing.
    """
    settlement.settle(paths.find_place(os.environ))
    return settled(cluster, runbook)


def settled(cluster: str, runbook: str) -> list[dict[str, Any]]:
    """The same of those that are records already, for who has no time to see what became of the others."""
    place = paths.find_place(os.environ)
    found = [json.loads(stored.document) for stored in Store(place).newest(cluster=cluster, runbook=runbook, limit=_NEWEST)]
    return [record for record in found if record["verdict"] != "interrupted" and not record["check_mode"]]


def past(cluster: str) -> past_proofs.Past:
    """What the newest verifications and restore tests of a cluster proved, as of now."""
    try:
        verifications, restore_tests = settled(cluster, "verify_backup"), settled(cluster, "restore_test")
    except RelevoError as error:
        return past_proofs.Past(time.time(), unreadable=str(error).rstrip("."))
    return past_proofs.read(verifications, restore_tests, protected_since(cluster), time.time())


def keys_gate(cluster: str, known: past_proofs.Past, limit_seconds: float) -> gates.Gate:
    """Whether keys were proven to come back, as of the same moment."""
    return keys_proof.gate([] if known.unreadable else settled(cluster, "recover_keys"), known, limit_seconds)


def shares_proven(cluster: str) -> dict[int, str]:
    """When each share of a cluster was proven last, as of now, by whichever controller's records are here; RelevoError when no store tells."""
    return keys_proof.shares_proven(settled(cluster, "recover_keys"), time.time())
