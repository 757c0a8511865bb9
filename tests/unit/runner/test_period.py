from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.period import Period, parse_duration, parse_period

MOMENTS = st.integers(946684800, 4102444800).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))  # of this century
PERIODS = st.builds(Period, st.integers(1, 60), st.sampled_from(["day", "week", "month", "year"]))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("4 h", 14400), ("4h", 14400), ("30 min", 1800), ("0 min", 0), ("1 d", 86400), ("1.5 s", 1.5), (" 2 h ", 7200)],
)
def test_a_duration_has_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("value", [4, None, "4", "h", "4 hours", "-1 h", "1 month", True, "", "4 h\n5 h"])
def test_what_is_no_duration_is_told_how_one_looks(value: object) -> None:
    with pytest.raises(ValueError, match="expected a number with its unit"):
        parse_duration(value)


@pytest.mark.parametrize("value", ["monthly", "0 months", "30 d", "1.5 months", 3, None, "-1 day"])
def test_what_is_no_period_is_told_how_one_looks(value: object) -> None:
    with pytest.raises(ValueError, match="such as 3 months"):
        parse_period(value)


@pytest.mark.parametrize(
    ("period", "began", "due"),
    [
        ("1 month", "2026-01-31", "2026-02-28"),
        ("1 month", "2028-01-31", "2028-02-29"),
        ("3 months", "2026-11-30", "2027-02-28"),
        ("6 months", "2026-08-31", "2027-02-28"),
        ("1 year", "2028-02-29", "2029-02-28"),
        ("2 weeks", "2026-12-24", "2027-01-07"),
    ],
)
def test_months_are_those_of_the_calendar(period: str, began: str, due: str) -> None:
    assert parse_period(period).after(datetime.fromisoformat(f"{began}T10:00:00Z")) == datetime.fromisoformat(f"{due}T10:00:00Z")


@given(PERIODS)
def test_a_period_reads_back_what_it_says(period: Period) -> None:
    assert parse_period(str(period)) == period


@given(PERIODS, MOMENTS, MOMENTS)
def test_a_later_run_is_never_due_earlier(period: Period, one: datetime, other: datetime) -> None:
    earlier, later = sorted((one, other))
    assert period.after(earlier) <= period.after(later)
    assert period.after(earlier) > earlier
    assert timedelta(0) <= earlier - period.before(period.after(earlier)) <= timedelta(days=3)
