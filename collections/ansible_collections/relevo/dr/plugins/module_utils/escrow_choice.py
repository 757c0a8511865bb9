# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which generation of a path, and which shares. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import clock
from ansible_collections.relevo.dr.plugins.module_utils.escrow_fault import DECLARATION, MISSING, WRONG_GENERATION, EscrowFault
from ansible_collections.relevo.dr.plugins.module_utils.escrow_manifest import is_generation

LEAST_RECIPIENTS = 2
LEAST_SHARES = 2


def newest(there: Iterable[str], where: str, known: Optional[str], wanted: str = "") -> str:
    """The newest generation of a path, or the wanted one. known: the newest that anybody knows of. Raises EscrowFault."""
    found = sorted(name for name in there if is_generation(name))
    if wanted:
        if wanted not in found:
            raise EscrowFault(
                MISSING, where, "no generation %s" % wanted, "one of %s" % (", ".join(found[-5:]) or "none"), "name one of them"
            )
        return wanted
    if not found:
        raise EscrowFault(
            MISSING, where, "no generation", "at least one", "run playbooks/escrow_keys.yml; until then use another path"
        )
    if known and found[-1] != known:
        raise EscrowFault(
            WRONG_GENERATION,
            where,
            "%s as the newest generation" % found[-1],
            "%s, which is known to exist" % known,
            "use another path; where none has it, say dr_keys_generation=%s and mind that newer keys are not in it" % found[-1],
        )
    return found[-1]


def check_seals(recipients: Sequence[str], shares: Optional[Mapping[str, Any]]) -> None:
    """Whether a pack outlives the loss of one recipient. shares: {recipient, threshold, shares}. Raises EscrowFault."""
    people = len(set(recipients))
    if shares is not None:
        threshold, number = int(shares["threshold"]), len(shares["shares"])
        if threshold < LEAST_SHARES or number <= threshold:
            raise EscrowFault(
                DECLARATION,
                "shares",
                "%d of %d" % (threshold, number),
                "at least %d, of more than are needed: one that is lost must not lose everything" % LEAST_SHARES,
                "make shares anew",
            )
        return
    if people < LEAST_RECIPIENTS:
        raise EscrowFault(
            DECLARATION,
            "dr_keys_recipients",
            "%d recipients" % people,
            "at least %d, or shares: one identity that is lost must not lose everything" % LEAST_RECIPIENTS,
            "add the public key of another person, or run the entry point share of the role dr_keys",
        )


def longest_unproven(holders: Iterable[int], proven_at: Mapping[int, str]) -> list[int]:
    """In which order shares are used: those that were proven longest ago first, so that in time every one is."""
    return sorted(holders, key=lambda number: (proven_at.get(number, ""), number))


def unproven(holders: Sequence[int], proven_at: Mapping[int, str], dealt_at: str, now: str, within_days: float) -> list[int]:
    """Shares that nobody proved within that time; when they were dealt they were good, and a proof before that is of others."""
    limit = clock.parse_utc(now) - datetime.timedelta(days=within_days)
    good = latest([proven_at, dict.fromkeys(holders, dealt_at)])
    return [number for number in holders if clock.parse_utc(good[number]) < limit]


def latest(proofs: Iterable[Mapping[Any, str]]) -> dict[int, str]:
    """When each share was proven last, by its number. proofs: what several tell; in a record numbers are words."""
    found: dict[int, str] = {}
    for told in proofs:
        for number, at in told.items():
            known = found.get(int(number))
            if known is None or clock.parse_utc(at) > clock.parse_utc(known):
                found[int(number)] = at
    return found


def sites_without(paths: Sequence[Mapping[str, Any]], sites: Iterable[str]) -> list[str]:
    """The sites with which every path is lost."""
    return [site for site in sorted(set(sites)) if all(str(path.get("site") or "") == site for path in paths)]
