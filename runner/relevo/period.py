"""Lengths of time as people write them: 4 h and 30 min, which are seconds, and 1 month, which is a matter of the calendar."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dateutil.relativedelta import relativedelta

if TYPE_CHECKING:
    from datetime import datetime

DURATION = r"^\d+(\.\d+)? ?(s|min|h|d)$"
PERIOD = r"^\d+ (day|week|month|year)s?$"
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def parse_duration(value: object) -> float:
    """Seconds of a text such as `4 h`. ValueError: a bare number says not of what."""
    text = value.strip() if isinstance(value, str) else ""
    if not re.match(DURATION, text):
        message = f"observed {value!r}; expected a number with its unit (s, min, h, d), such as 4 h"
        raise ValueError(message)
    number = text.rstrip("smindh ")
    return float(number) * _SECONDS[text[len(number) :].strip()]


@dataclass(frozen=True)
class Period:
    """A length of the calendar: a month after 31 January is the last day of February."""

    count: int
    unit: str

    def __str__(self) -> str:
        return f"{self.count} {self.unit}{'' if self.count == 1 else 's'}"

    def after(self, moment: datetime) -> datetime:
        """The same time of day, one period later."""
        return moment + self._delta

    def before(self, moment: datetime) -> datetime:
        """The same time of day, one period earlier."""
        return moment - self._delta

    @property
    def _delta(self) -> relativedelta:
        return relativedelta(**{f"{self.unit}s": self.count})  # type: ignore[arg-type]


def parse_period(value: object) -> Period:
    """A period from a text such as `3 months`. ValueError for anything else."""
    if isinstance(value, Period):
        return value
    text = value.strip() if isinstance(value, str) else ""
    if not re.match(PERIOD, text) or int(text.split()[0]) == 0:
        message = f"observed {value!r}; expected a whole number of days, weeks, months or years, such as 3 months"
        raise ValueError(message)
    count, unit = text.split()
    return Period(int(count), unit.rstrip("s"))
