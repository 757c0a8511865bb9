"""A measure over time as a drawing: one dot for each run, in a box of fixed size. Pure; the template draws it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relevo import wording
from relevo.clock import parse_utc
from relevo.trend import FAILOVERS

if TYPE_CHECKING:
    from relevo.trend import Trend

WIDTH, HEIGHT = 640, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 130, 20, 24, 44
_STEPS = (1, 2, 5, 10)
_LINES = 3
# A target this many times above everything measured would press all dots onto the axis: it is said in words.
_NEAR = 3.0


@dataclass(frozen=True)
class Dot:
    """One run. kind: met | missed | plain; hollow: it moved nothing."""

    left: float
    top: float
    kind: str
    hollow: bool
    title: str


@dataclass(frozen=True)
class Plot:
    """lines: (top, label) of the scale; days: (left, label, anchor); target: where its line is, None where it is far above."""

    dots: tuple[Dot, ...]
    lines: tuple[tuple[float, str], ...]
    days: tuple[tuple[float, str, str], ...]
    target: float | None


def draw(trend: Trend) -> Plot | None:
    """None with fewer than two measurements: that is no course of anything."""
    points = trend.points
    if len(points) <= 1:
        return None
    moments = [parse_utc(point.at).timestamp() for point in points]
    longest = max(point.seconds for point in points)
    near = trend.target_seconds is not None and trend.target_seconds <= _NEAR * longest
    step = _step(max(longest, trend.target_seconds or 0.0 if near else 0.0) or 1.0)
    height = step * max(1, math.ceil((max(longest, trend.target_seconds or 0.0) if near else longest) / step))
    whole = (moments[-1] - moments[0]) or 1.0

    def top(seconds: float) -> float:
        return round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * seconds / height, 1)

    dots = [
        Dot(
            round(_LEFT + (WIDTH - _LEFT - _RIGHT) * (moment - moments[0]) / whole, 1),
            top(point.seconds),
            "plain" if point.met is None else "met" if point.met else "missed",
            point.runbook not in FAILOVERS,
            f"{point.runbook}, {wording.moment(point.at)}: {wording.seconds(point.seconds)}",
        )
        for moment, point in zip(moments, points, strict=True)
    ]
    lines = [(top(step * number), wording.seconds(step * number)) for number in range(round(height / step) + 1)]
    days = [(dots[0].left, f"{points[0].at[:10]}", "start"), (dots[-1].left, f"{points[-1].at[:10]}", "end")]
    return Plot(tuple(dots), tuple(lines), tuple(days), top(trend.target_seconds or 0.0) if near else None)


def _step(longest: float) -> float:
    """A round number of which a few make the whole: 1, 2 or 5 times a power of ten."""
    raw = longest / _LINES
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * step for step in _STEPS if power * step >= raw * (1 - 1e-9))
