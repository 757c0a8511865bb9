"""A measure over time as geometry: one sign for each run, the objective as a line. Pure; a template draws it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from dateutil.relativedelta import relativedelta

from relevo import wording
from relevo.clock import parse_utc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from relevo.trend import Point, Trend

# Twice, so that the letters are as large on a phone as on a desk; which one is shown is the style sheet's business.
WIDE, NARROW = 560.0, 320.0
HEIGHT = 230.0
TOP, RIGHT, BOTTOM, LEFT = 16.0, 14.0, 26.0, 62.0
_HEADROOM, _LOWEST_TOP = 1.12, 1.0
# Where the objective or one run is so far above the middle of what was measured, a linear scale would show one flat line.
_FAR = 6.0
_LINEAR_STEPS = (
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    20,
    30,
    60,
    120,
    300,
    600,
    1200,
    1800,
    3600,
    7200,
    14400,
    28800,
    43200,
    86400,
    172800,
    604800,
)
_LOG_TICKS = (0, 1, 10, 60, 600, 3600, 14400, 86400, 604800)
_MOST_TICKS = 5
_LETTER, _GAP = 6.6, 10.0
# By runbook, in the order in which they appear; more kinds of runs that measure a recovery there are not.
SIGNS = ("circle", "diamond", "square", "triangle", "plus", "cross")


@dataclass(frozen=True)
class Spot:
    """One run. sign: by its runbook; missed: over the objective; title: what a pointer shows."""

    left: float
    top: float
    sign: str
    missed: bool
    title: str


@dataclass(frozen=True)
class Tick:
    """A line of the grid and its label. anchor: of the label of a date, start, middle or end."""

    at: float
    label: str
    anchor: str = "middle"


@dataclass(frozen=True)
class Chart:
    """A whole chart. objective: height of its line; None without one. lines: for each runbook the places of its spots."""

    width: float
    height: float
    spots: tuple[Spot, ...]
    lines: tuple[tuple[tuple[float, float], ...], ...]
    dates: tuple[Tick, ...]
    values: tuple[Tick, ...]
    objective: float | None
    signs: tuple[tuple[str, str], ...]
    logarithmic: bool


def both(found: Trend) -> list[tuple[str, Chart]]:
    """The chart for a wide and for a narrow screen, by the names of their styles; none when nothing was measured."""
    drawn = (("wide", draw(found, WIDE)), ("narrow", draw(found, NARROW)))
    return [(name, one) for name, one in drawn if one is not None]


def draw(found: Trend, width: float) -> Chart | None:
    """The chart of a trend; None when nothing was measured."""
    points = found.points
    if not points:
        return None
    highest = max(point.seconds for point in points)
    target = found.target_seconds
    top = max(highest, target or 0.0, _LOWEST_TOP) * _HEADROOM
    logarithmic = top > _FAR * median(point.seconds for point in points)
    rise = _rise(top, logarithmic=logarithmic)
    moments = [parse_utc(point.at) for point in points]
    run = _run(min(moments), max(moments), width)
    signs = {runbook: SIGNS[number % len(SIGNS)] for number, runbook in enumerate(dict.fromkeys(point.runbook for point in points))}
    spots = tuple(
        Spot(run(moment), rise(point.seconds), signs[point.runbook], point.met is False, _title(point))
        for point, moment in zip(points, moments, strict=True)
    )
    return Chart(
        width,
        HEIGHT,
        spots,
        tuple(_line(points, spots, runbook) for runbook in signs),
        _dates(min(moments), max(moments), run, width),
        tuple(Tick(rise(value), _label(value)) for value in _values(top, logarithmic=logarithmic)),
        None if target is None else rise(target),
        tuple(signs.items()),
        logarithmic,
    )


def _title(point: Point) -> str:
    over = ", over the objective" if point.met is False else ""
    return f"{wording.moment(point.at)}, {point.runbook.replace('_', ' ')}: {wording.seconds(point.seconds)}{over}"


def _line(points: Sequence[Point], spots: Sequence[Spot], runbook: str) -> tuple[tuple[float, float], ...]:
    return tuple((spot.left, spot.top) for point, spot in zip(points, spots, strict=True) if point.runbook == runbook)


def _rise(top: float, *, logarithmic: bool) -> Callable[[float], float]:
    def share(value: float) -> float:
        # Of one second more, so that nothing lost has a place too.
        return math.log1p(max(value, 0.0)) / math.log1p(top) if logarithmic else max(value, 0.0) / top

    return lambda value: round(HEIGHT - BOTTOM - share(value) * (HEIGHT - TOP - BOTTOM), 1)


def _run(first: datetime, last: datetime, width: float) -> Callable[[datetime], float]:
    span = (last - first).total_seconds()
    inside = width - LEFT - RIGHT - 2 * _GAP

    def place(moment: datetime) -> float:
        share = (moment - first).total_seconds() / span if span else 0.5
        return round(LEFT + _GAP + share * inside, 1)

    return place


def _values(top: float, *, logarithmic: bool) -> list[float]:
    if logarithmic:
        fitting = [value for value in _LOG_TICKS if value <= top]
        # The lowest and the highest, and between them no more than there is room for.
        return [float(value) for number, value in enumerate(fitting) if len(fitting) <= _MOST_TICKS + 1 or not number % 2]
    step = next(
        (step for step in _LINEAR_STEPS if top / step <= _MOST_TICKS),
        _LINEAR_STEPS[-1] * math.ceil(top / _LINEAR_STEPS[-1] / _MOST_TICKS),
    )
    return [number * step for number in range(int(top / step) + 1)]


def _label(seconds: float) -> str:
    """As short as it goes: 0, 0.5 s, 10 s, 2 min, 4 h, 7 d."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s" if seconds else "0"


def _dates(first: datetime, last: datetime, place: Callable[[datetime], float], width: float) -> tuple[Tick, ...]:
    """Days, months or years, as far apart as their labels are long; none that would be cut at the edge."""
    span = last - first
    if span < timedelta(days=3):
        return _ends(first, last, place)
    for step, form in _STEPS:
        found = [Tick(place(moment), f"{moment:{form}}") for moment in _each(first, last, step)]
        room = len(found[0].label) * _LETTER if found else 0.0
        ticks = tuple(tick for tick in found if room / 2 <= tick.at <= width - room / 2)
        if all(right.at - left.at > room for left, right in pairwise(ticks)):
            return ticks if len(ticks) > 1 else _ends(first, last, place)
    return _ends(first, last, place)


_STEPS = (
    (relativedelta(days=1), "%Y-%m-%d"),
    (relativedelta(days=7), "%Y-%m-%d"),
    (relativedelta(days=14), "%Y-%m-%d"),
    (relativedelta(months=1), "%Y-%m"),
    (relativedelta(months=2), "%Y-%m"),
    (relativedelta(months=3), "%Y-%m"),
    (relativedelta(months=6), "%Y-%m"),
    (relativedelta(years=1), "%Y"),
    (relativedelta(years=2), "%Y"),
    (relativedelta(years=5), "%Y"),
)


def _ends(first: datetime, last: datetime, place: Callable[[datetime], float]) -> tuple[Tick, ...]:
    if first == last:
        return (Tick(place(first), f"{first:%Y-%m-%d}"),)
    if first.date() == last.date():
        return (Tick(place(first), f"{first:%Y-%m-%d %H:%M}", "start"), Tick(place(last), f"{last:%H:%M}", "end"))
    return (Tick(place(first), f"{first:%Y-%m-%d}", "start"), Tick(place(last), f"{last:%Y-%m-%d}", "end"))


def _each(first: datetime, last: datetime, step: relativedelta) -> list[datetime]:
    """Midnights of whole days, months or years from the first one inside on."""
    day = first.replace(hour=0, minute=0, second=0, microsecond=0)
    if step.months or step.years:
        day = day.replace(day=1)
    if step.months:
        day = day.replace(month=(day.month - 1) // step.months * step.months + 1)
    if step.years:
        day = day.replace(month=1, year=day.year - day.year % step.years)
    found = []
    while day <= last:
        if day >= first:
            found.append(day)
        day += step
    return found
