# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A restored copy beside the witness's ledger: all that was acknowledged up to the point is in it, and nothing that began after it. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ansible_collections.relevo.dr.plugins.module_utils.clock import parse_utc
from ansible_collections.relevo.dr.plugins.module_utils.ledger import ACKNOWLEDGED, Entry


@dataclass(frozen=True)
class Comparison:
    """Numbers, sorted. compared: how many acknowledged entries had to be there."""

    compared: int
    missing: tuple[int, ...]
    unexpected: tuple[int, ...]


def compare(
    entries: Iterable[Entry],
    begun: dict[int, str],
    present: Sequence[tuple[str, int, int]],
    point: datetime.datetime,
    margin_seconds: float,
) -> Comparison:
    """present: (prefix, first, last); begun: when each number was sent. What happened within the margin around the point counts for neither side."""
    margin = datetime.timedelta(seconds=margin_seconds)
    spans: dict[str, list[tuple[int, int]]] = {}
    for prefix, first, last in present:
        spans.setdefault(prefix, []).append((first, last))

    def there(entry: Entry) -> bool:
        prefix = entry.reference.rpartition("-")[0]
        return any(first <= entry.number <= last for first, last in spans.get(prefix, ()))

    compared, missing, unexpected = 0, [], []
    for entry in entries:
        if entry.outcome == ACKNOWLEDGED and parse_utc(entry.at) <= point - margin:
            compared += 1
            if not there(entry):
                missing.append(entry.number)
        elif entry.number in begun and parse_utc(begun[entry.number]) >= point + margin and there(entry):
            unexpected.append(entry.number)
    return Comparison(compared, tuple(missing), tuple(unexpected))
