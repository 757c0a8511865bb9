# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One difference between what is and what should be, in words that can be shown before anything is touched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

HIDDEN = "(secret)"


@dataclass(frozen=True)
class Change:
    """item: the managed thing (``parameter archive_mode``); current, wanted: for a person, never a secret."""

    item: str
    current: str
    wanted: str


def shown(changes: Iterable[Change]) -> list[dict[str, str]]:
    """The form in which modules return their plan."""
    return [asdict(change) for change in changes]
