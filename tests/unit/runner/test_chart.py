"""Charts: every run has its place, and the objective lies above those that met it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from relevo import chart
from relevo.chart import HEIGHT, LEFT, NARROW, RIGHT, TOP, WIDE, Chart, draw
from relevo.clock import utc
from relevo.trend import Point, Trend

FIRST = datetime(2026, 1, 31, 12, tzinfo=UTC)
SECONDS = st.one_of(st.just(0.0), st.floats(0.001, 10_000_000, allow_nan=False))
WIDTHS = st.sampled_from([WIDE, NARROW])


def trend(values: list[float], hours: list[int], target: float | None) -> Trend:
    points = [
        Point(
            f"r{number}",
            utc(FIRST + timedelta(hours=hour)),
            ("failover", "rehearse")[number % 2],
            value,
            None if target is None else value <= target,
        )
        for number, (value, hour) in enumerate(zip(values, sorted(hours), strict=True))
    ]
    return Trend("rto_seconds", target, tuple(points))


@st.composite
def trends(draw_: st.DrawFn) -> Trend:
    values = draw_(st.lists(SECONDS, min_size=1, max_size=30))
    hours = draw_(st.lists(st.integers(0, 20 * 365 * 24), min_size=len(values), max_size=len(values)))
    return trend(values, hours, draw_(st.one_of(st.none(), st.floats(1, 1_000_000))))


def drawn(found: Trend, width: float) -> Chart:
    picture = draw(found, width)
    assert picture is not None
    return picture


@given(trends(), WIDTHS)
def test_every_run_lies_inside_and_higher_is_longer(found: Trend, width: float) -> None:
    picture = drawn(found, width)
    assert len(picture.spots) == len(found.points)
    for spot in picture.spots:
        assert LEFT < spot.left < width - RIGHT
        assert TOP <= spot.top <= HEIGHT - chart.BOTTOM
    by_time = sorted(zip(found.points, picture.spots, strict=True), key=lambda one: one[0].seconds)
    for (_, lower), (_, higher) in zip(by_time, by_time[1:], strict=False):
        assert higher.top <= lower.top


@given(trends(), WIDTHS)
def test_what_met_the_objective_lies_below_it_and_what_missed_it_above(found: Trend, width: float) -> None:
    picture = drawn(found, width)
    for point, spot in zip(found.points, picture.spots, strict=True):
        assert spot.missed is (point.met is False)
        if picture.objective is not None:
            assert spot.top >= picture.objective if point.met else spot.top <= picture.objective


@given(trends(), WIDTHS)
def test_no_label_lies_on_another(found: Trend, width: float) -> None:
    picture = drawn(found, width)
    heights = [tick.at for tick in picture.values]
    assert len(heights) >= 2 and all(one - other >= 10 for one, other in zip(heights, heights[1:], strict=False))

    def reach(tick: chart.Tick) -> tuple[float, float]:
        size = len(tick.label) * 6.6
        left = tick.at - {"start": 0, "middle": size / 2, "end": size}[tick.anchor]
        return left, left + size

    reaches = [reach(tick) for tick in picture.dates]
    assert reaches and all(right <= left for (_, right), (left, _) in zip(reaches, reaches[1:], strict=False))
    assert reaches[0][0] >= 0 and reaches[-1][1] <= width


def test_nothing_measured_is_no_chart() -> None:
    assert draw(Trend("rto_seconds", 14400.0), WIDE) is None


def test_a_far_objective_makes_the_scale_logarithmic_and_zero_has_a_place_in_it() -> None:
    far = drawn(trend([0, 20, 40], [0, 24, 48], 14400), WIDE)
    assert far.logarithmic
    assert far.spots[0].top == HEIGHT - chart.BOTTOM
    assert [tick.label for tick in far.values][:2] == ["0", "10 s"]
    near = drawn(trend([4000, 9000], [0, 24], 14400), WIDE)
    assert not near.logarithmic
    assert [tick.label for tick in near.values] == ["0", "1 h", "2 h", "3 h", "4 h"] or near.values[-1].label.endswith("h")


def test_a_run_says_when_what_and_how_long() -> None:
    (spot,) = drawn(trend([20_000], [0], 14400), WIDE).spots
    assert spot.title == "2026-01-31 12:00:00 UTC, failover: 5 h 33 min, over the objective"
