"""The timeline of a run as geometry: phases as bars over time, T0 and the first write as marks. Pure; a template draws it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from relevo import timeline, wording
from relevo.clock import parse_utc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from relevo.record import Record

BOTTOM = 30.0
_TOP, _TOP_WITH_MARKS = 14.0, 52.0
_LANE, _PADDING, _SLIMMEST = 12.0, 6.0, 2.0
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
# More of them are no picture any more; the table of phases holds all.
_MOST_HEIGHT, _MOST_LANES = 1100.0, 24
_TOOK_WIDTH = 60.0
# When people took longer than this share of the whole, the picture begins with the command: the rest would be one line.
_LONGEST_DECISION = 0.75


@dataclass(frozen=True)
class Sheet:
    """What a picture is drawn on. width, left, right: of it, and of what stands before and behind the bars; most_ticks, longest_label: what fits."""

    width: float
    left: float
    right: float
    most_ticks: int
    longest_label: int
    short: bool = False

    @property
    def bars(self) -> float:
        """How much room there is for time."""
        return self.width - self.left - self.right


WIDE = Sheet(960.0, 170.0, 96.0, 9, 22)
# Of a telephone: one unit is about a pixel.
NARROW = Sheet(340.0, 118.0, 58.0, 3, 17, short=True)


@dataclass(frozen=True)
class Bar:
    """One phase on one host. left, top, width, height: in the picture's units; title: what a pointer shows."""

    left: float
    top: float
    width: float
    height: float
    outcome: str
    title: str


@dataclass(frozen=True)
class Row:
    """One phase. middle: height of its label; end: where its duration is written."""

    label: str
    middle: float
    top: float
    height: float
    end: float
    took: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Mark:
    """A moment. anchor: of its label, start or end."""

    left: float
    label: str
    kind: str
    level: float
    anchor: str


@dataclass(frozen=True)
class Picture:
    """A whole timeline.

    width, height: in its own units; top: of the first row; band: left and width of the time without service; whole: whether every phase is drawn.
    """

    width: float
    height: float
    top: float
    rows: tuple[Row, ...]
    ticks: tuple[tuple[float, str], ...]
    marks: tuple[Mark, ...]
    band: tuple[float, float] | None
    whole: bool


@dataclass(frozen=True)
class _Scale:
    begin: datetime
    end: datetime
    sheet: Sheet

    def place(self, moment: datetime) -> float:
        share = (moment - self.begin) / (self.end - self.begin)
        return round(self.sheet.left + min(max(share, 0.0), 1.0) * self.sheet.bars, 1)


def draw(record: Record, sheet: Sheet = WIDE) -> Picture | None:
    """The timeline of a record; None when no phase has a time."""
    spans = timeline.spans(record.phases, record.opened_at)
    if not spans:
        return None
    t0, first_write = _moment(record.measures.get("t0_at")), _moment(record.measures.get("first_write_at"))
    command = parse_utc(record.opened_at)
    first, last = min(began for _, began, _ in spans), max(ended for _, _, ended in spans)
    begin = min(moment for moment in (t0, first) if moment is not None)
    end = max(moment for moment in (first_write, last, begin + timedelta(seconds=0.1)) if moment is not None)
    if t0 is not None and (command - t0) > _LONGEST_DECISION * (end - t0):
        begin = min(command, first)
    scale = _Scale(begin, end, sheet)
    marks = _marks(scale, t0, first_write)
    top = _TOP_WITH_MARKS if marks else _TOP
    rows = _rows(spans, scale, top, t0 if t0 is not None and t0 >= begin else None, command)
    drawn = [_clear(row, marks) for row in rows if row.top + row.height <= _MOST_HEIGHT]
    height = drawn[-1].top + drawn[-1].height + BOTTOM
    return Picture(
        width=sheet.width,
        height=height,
        top=top,
        rows=tuple(drawn),
        ticks=_ticks(scale, t0 if t0 is not None and t0 >= begin else begin),
        marks=marks,
        band=_band(scale, t0, first_write),
        whole=sum(bar.outcome != "decision" for row in drawn for bar in row.bars) >= len(spans),
    )


def _rows(
    spans: Sequence[tuple[Mapping[str, Any], datetime, datetime]],
    scale: _Scale,
    top: float,
    t0: datetime | None,
    command: datetime,
) -> tuple[Row, ...]:
    lanes: dict[str, list[tuple[str, datetime, datetime, str]]] = {}
    if t0 is not None and t0 < command:
        lanes["Detect and decide"] = [("people", t0, command, "decision")]
    for phase, began, ended in spans:
        entry = (str(phase.get("host")), began, ended, str(phase.get("outcome")))
        lanes.setdefault(str(phase.get("name")).capitalize(), []).append(entry)
    rows = []
    for label, entries in lanes.items():
        height = min(len(entries), _MOST_LANES) * _LANE + 2 * _PADDING
        bars = []
        for number, (host, began, ended, outcome) in enumerate(entries[:_MOST_LANES]):
            left, right = scale.place(began), scale.place(ended)
            title = f"{label} on {host}: {wording.seconds((ended - began).total_seconds())}, {outcome}"
            bars.append(Bar(left, top + _PADDING + number * _LANE, max(right - left, _SLIMMEST), _LANE - 2, outcome, title))
        whole = max(entry[2] for entry in entries) - min(entry[1] for entry in entries)
        end = max(bar.left + bar.width for bar in bars) + 8
        longest = scale.sheet.longest_label
        shown = label if len(label) <= longest else f"{label[: longest - 1]}…"
        rows.append(Row(shown, top + height / 2, top, height, end, wording.seconds(whole.total_seconds()), tuple(bars)))
        top += height
    return tuple(rows)


def _clear(row: Row, marks: Sequence[Mark]) -> Row:
    """The row with its time where no mark runs through it."""
    end = row.end
    for mark in sorted(marks, key=lambda mark: mark.left):
        if end - 4 <= mark.left <= end + _TOOK_WIDTH:
            end = mark.left + 6
    return replace(row, end=end)


def _ticks(scale: _Scale, zero: datetime) -> tuple[tuple[float, str], ...]:
    whole = (scale.end - scale.begin).total_seconds()
    step = next((step for step in _STEPS if whole / step <= scale.sheet.most_ticks), _STEPS[-1])
    first = (scale.begin - zero).total_seconds()
    ticks, number = [], int(first // step) if first < 0 else 0
    while number * step <= (scale.end - zero).total_seconds():
        if number * step >= first:
            seconds = number * step
            ticks.append((scale.place(zero + timedelta(seconds=seconds)), _tick(seconds)))
        number += 1
    return tuple(ticks)


def _tick(seconds: float) -> str:
    if seconds == 0:
        return "0"
    minutes, rest = divmod(abs(seconds), 60)
    sign = "-" if seconds < 0 else ""
    if not minutes:
        return f"{sign}{rest:g} s"
    return f"{sign}{minutes:g} min" if not rest else f"{sign}{minutes:g}:{rest:02g}"


def _marks(scale: _Scale, t0: datetime | None, first_write: datetime | None) -> tuple[Mark, ...]:
    marks = []
    if t0 is not None:
        before = (scale.begin - t0).total_seconds()
        label = "T0: last acknowledged write"
        if before > 0:
            ago = wording.seconds(before)
            label = f"T0, {ago} earlier" if scale.sheet.short else f"{label}, {ago} before the command"
        marks.append(Mark(scale.place(t0), label, "lost", 16, "start"))
    if first_write is not None:
        left = scale.place(first_write)
        anchor = "end" if left > scale.sheet.width * (0.5 if scale.sheet.short else 0.6) else "start"
        label = "first write" if scale.sheet.short else "first write on the new site"
        marks.append(Mark(left, label, "back", 34, anchor))
    return tuple(marks)


def _band(scale: _Scale, t0: datetime | None, first_write: datetime | None) -> tuple[float, float] | None:
    if t0 is None or first_write is None or first_write <= scale.begin:
        return None
    left, right = scale.place(t0), scale.place(first_write)
    return left, round(right - left, 1)


def _moment(value: Any) -> datetime | None:
    try:
        return parse_utc(value) if isinstance(value, str) else None
    except ValueError:
        return None
