# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether every period of a window has its backup: the customer's "24/24 hours" as arithmetic on whole periods of UTC."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

# More in one sentence would not be read.
_NAMED = 6


@dataclass(frozen=True)
class Period:
    """From begin (included) to end (not included), epoch seconds."""

    begin: float
    end: float

    def __str__(self) -> str:
        return "%s to %s" % (_utc(self.begin), _utc(self.end))


@dataclass(frozen=True)
class Coverage:
    """judged: the periods that count, oldest first; missing: those of them in which no usable backup began."""

    judged: tuple[Period, ...]
    missing: tuple[Period, ...]

    @property
    def text(self) -> str:
        """``24/24``."""
        return "%d/%d" % (len(self.judged) - len(self.missing), len(self.judged))

    @property
    def missing_text(self) -> str:
        """The missing periods for a person."""
        more = len(self.missing) - _NAMED
        return ", ".join(str(period) for period in self.missing[:_NAMED]) + (" and %d more" % more if more > 0 else "")


def coverage(
    begun_at: Iterable[float], now: float, period_seconds: float, count: int, protected_since: Optional[float] = None
) -> Coverage:
    """The last ``count`` whole periods before now. A backup counts in the period in which it began.

    Periods are multiples of their length since the epoch, so an hour is an hour of the clock. The period that has not ended yet is not judged,
    nor is one that began before the cluster was protected.
    """
    current = math.floor(now / period_seconds)
    covered = {math.floor(moment / period_seconds) for moment in begun_at}
    numbers = [
        number
        for number in range(current - count, current)
        if protected_since is None or number * period_seconds >= protected_since
    ]
    return Coverage(
        tuple(_period(number, period_seconds) for number in numbers),
        tuple(_period(number, period_seconds) for number in numbers if number not in covered),
    )


def _period(number: int, period_seconds: float) -> Period:
    return Period(number * period_seconds, (number + 1) * period_seconds)


def _utc(moment: float) -> str:
    return datetime.datetime.fromtimestamp(moment, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
