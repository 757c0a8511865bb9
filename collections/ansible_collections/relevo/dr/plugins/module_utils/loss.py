# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the ledger's tail says is missing on a standby, before it is promoted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.clock import parse_utc


@dataclass(frozen=True)
class Loss:
    """transactions: missing acknowledged entries of the tail. seconds: from the newest acknowledgement that is present to the newest of all."""

    transactions: int
    seconds: float
    numbers: tuple[int, ...]

    def as_dict(self) -> dict[str, Any]:
        """For a task result."""
        return asdict(self)


def measure(tail: Sequence[Mapping[str, Any]], present: AbstractSet[str]) -> Loss:
    """tail: acknowledged entries {n, reference, at}, oldest first. When none of it is present, the whole tail counts."""
    missing = [entry for entry in tail if entry["reference"] not in present]
    if not missing:
        return Loss(0, 0.0, ())
    # Before the first hole everything is present; a later entry that is present does not make the hole smaller.
    older = [entry for entry in tail if entry["n"] < missing[0]["n"]]
    known_good = older[-1] if older else tail[0]
    seconds = (parse_utc(tail[-1]["at"]) - parse_utc(known_good["at"])).total_seconds()
    return Loss(len(missing), max(0.0, seconds), tuple(int(entry["n"]) for entry in missing))


def within(loss: Loss, accept_seconds: Optional[float], accept_transactions: Optional[int]) -> bool:
    """Whether the loss is inside every bound that was given; without a bound only no loss is."""
    if loss.transactions == 0:
        return True
    if accept_seconds is None and accept_transactions is None:
        return False
    in_seconds = accept_seconds is None or loss.seconds <= accept_seconds
    in_transactions = accept_transactions is None or loss.transactions <= accept_transactions
    return in_seconds and in_transactions
