"""A prediction in words: the line before a run, and what each number rests on. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relevo import wording
from relevo.prediction import FEWEST_FOR_P90, STRETCH_LIMIT
from relevo.took import ONE_WAY

if TYPE_CHECKING:
    from relevo.prediction import Estimate, Miss, Prediction, Way

# A line has room for what takes longest; the command `relevo predict` shows all.
_SHOWN_PHASES = 3


def line(prediction: Prediction) -> str | None:
    """One line for whoever is about to start it: `promote 14.0 s, restore 3 h 10 min, limit 4 h 00 min`. None without history."""
    ways = [way for way in prediction.ways if main(way).p50_seconds is not None]
    if not ways:
        return None
    several = prediction.runbook in {"failover", "failback"}
    parts = [f"{way.way} {wording.seconds(main(way).p50_seconds)}" for way in ways] if several else _parts(ways[0])
    if prediction.limit_seconds is not None:
        parts.append(f"limit {wording.seconds(prediction.limit_seconds)}")
    runs = " and ".join(str(main(way).runs) for way in ways)
    one = runs == "1"
    return f"expected: {', '.join(parts)} ({'as in the only run' if one else f'median of {runs} runs'} of this cluster)"


def rests_on(estimate: Estimate) -> str:
    """Why a number may be believed, or why there is none."""
    if not estimate.runs:
        return "no history"
    parts = [wording.count(estimate.runs, "run")]
    if estimate.scaled_runs:
        parts.append(f"{estimate.scaled_runs} scaled by size")
    if estimate.stretch is not None:
        parts.append(f"{estimate.stretch:.1f} times the longest that was measured")
    if estimate.p90_seconds is None:
        far = estimate.stretch is not None and estimate.stretch > STRETCH_LIMIT
        parts.append(
            "too far from them for a P90"
            if far
            else "too few for a P90"
            if estimate.runs < FEWEST_FOR_P90
            else "a sum of two medians, which has no P90"
        )
    return ", ".join(parts)


def nine_in_ten(estimate: Estimate) -> str | None:
    """What nine in ten of them stay within, or why nobody can say; None where nothing is expected at all."""
    if not estimate.runs:
        return None
    if estimate.p90_seconds is not None:
        return f"nine in ten within {wording.seconds(estimate.p90_seconds)} (P90 of {wording.count(estimate.runs, 'run')})"
    if estimate.stretch is not None and estimate.stretch > STRETCH_LIMIT:
        return "no P90, since today's size is far beyond what was measured"
    if estimate.runs >= FEWEST_FOR_P90:
        return "no P90, since it is a sum of two medians"
    return f"no P90 from {wording.count(estimate.runs, 'run')}"


def off(miss: Miss) -> str:
    """How far earlier predictions were from what was measured then."""
    way = "" if miss.way == ONE_WAY else f" by {miss.way}"
    late = "longer" if miss.median_seconds > 0 else "shorter"
    said = f"{miss.part}{way}, {wording.count(miss.runs, 'run')}: typically {wording.seconds(abs(miss.median_seconds))} {late} than the P50"
    return f"{said}, {miss.within_p90_runs} of {miss.p90_runs} within their P90" if miss.p90_runs else said


def main(way: Way) -> Estimate:
    """What people wait for: the recovery, else the run."""
    return way.recovery if way.recovery.p50_seconds is not None else way.total


def _parts(way: Way) -> list[str]:
    known = {name: one.p50_seconds for name, one in way.phases.items() if one.p50_seconds is not None}
    longest = sorted(known, key=lambda name: known[name], reverse=True)[:_SHOWN_PHASES]
    parts = [f"{name.lower()} {wording.seconds(known[name])}" for name in known if name in longest]
    if way.outage.p50_seconds is not None:
        parts.append(f"outage {wording.seconds(way.outage.p50_seconds)}")
    return [*parts, f"in all {wording.seconds(way.total.p50_seconds)}"]
