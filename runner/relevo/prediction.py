"""How long a runbook will take here, from this cluster's own runs told again at today's size. Pure; see decision 0031."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from relevo import took
from relevo.objectives import MOVES_PRODUCTION, RTO_SECONDS
from relevo.sizes import known, number
from relevo.took import FIXED_BYTES, ONE_WAY, PROMOTE, RESTORE, WHOLES, Took

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from relevo.record import Record
    from relevo.sizes import Size

# Where size alone makes it that much longer than anything that was measured, nobody knows what nine runs in ten will do.
STRETCH_LIMIT = 2.0
# From so many runs on one of them bounds the next one in nine of ten cases.
FEWEST_FOR_P90 = 9


@dataclass(frozen=True)
class Estimate:
    """Half of such runs end within p50_seconds, nine in ten within p90_seconds; null: the runs cannot bear it.

    longest_seconds: of the runs it rests on, told at today's size; scaled_runs: those of which sizes are known;
    stretch: P50 over the longest that was measured, when size makes it more.
    """

    p50_seconds: float | None = None
    p90_seconds: float | None = None
    longest_seconds: float | None = None
    runs: int = 0
    scaled_runs: int = 0
    stretch: float | None = None


@dataclass(frozen=True)
class Way:
    """One way a runbook can go. runs: that went it; borrowed_from: whose restores stand for those that never happened here."""

    way: str
    runs: int
    phases: dict[str, Estimate]
    outage: Estimate
    recovery: Estimate
    total: Estimate
    borrowed_from: str | None = None


@dataclass(frozen=True)
class Miss:
    """How a part was predicted before: observed minus P50, in seconds; and how many of the runs with a P90 kept within it."""

    way: str
    part: str
    runs: int
    median_seconds: float
    worst_seconds: float
    p90_runs: int
    within_p90_runs: int


@dataclass(frozen=True)
class Prediction:
    """runs: of this runbook that came through; limit_seconds: the objective it is held against, if there is one."""

    runbook: str
    cluster: str
    made_at: str
    runs: int
    sizes: dict[str, Size]
    ways: tuple[Way, ...]
    limit_seconds: float | None
    past: tuple[Miss, ...]

    def kept(self) -> dict[str, Any]:
        """What the record of the run to come keeps, to be compared with what it measures."""
        tree = asdict(self)
        return {name: tree[name] for name in ("made_at", "runs", "sizes", "ways", "limit_seconds")}


@dataclass(frozen=True)
class Past:
    """What one cluster's records hold, each newest first. runs: of the runbook; restores: with a copy restored elsewhere; recent: of any runbook."""

    cluster: str
    runbook: str
    runs: Sequence[Record]
    restores: Sequence[Record]
    recent: Sequence[Record]


def predict(past: Past, now: str) -> Prediction:
    """From the runs that came through; what they cannot say is null."""
    sizes = known(past.recent, now)
    whole = [record for record in past.runs if took.counts(record)]
    ways = [_way(name, [record for record in whole if took.way(record) == name], sizes) for name in _names(past.runbook, whole)]
    if past.runbook == "failover" and not any(way.way == RESTORE for way in ways):
        promoted = next((way.recovery.p50_seconds for way in ways if way.way == PROMOTE), None)
        ways += _borrowed([record for record in past.restores if took.counts(record)], promoted, sizes)
    limit = _limit(past.runbook, past.runs)
    return Prediction(past.runbook, past.cluster, now, len(whole), sizes, tuple(ways), limit, tuple(_past(whole)))


def estimate(samples: Iterable[Took], sizes: Mapping[str, Size]) -> Estimate:
    """What comparable durations say of the next one."""
    alike = list(samples)
    if not alike:
        return Estimate()
    values = [told_again(sample, sizes) for sample in alike]
    p50, longest = bound(values, 0.5) or 0.0, max(sample.seconds for sample in alike)
    stretch = p50 / longest if p50 > longest > 0 else None
    p90 = None if stretch is not None and stretch > STRETCH_LIMIT else bound(values, 0.9)
    scaled = sum(any(share.kind in sizes for share in sample.shares) for sample in alike)
    return Estimate(_round(p50), _round(p90), _round(max(values)), len(values), scaled, _round(stretch))


def bound(values: Sequence[float], share: float) -> float | None:
    """What the next value stays within with at least this probability, if it is drawn like these; None when they are too few.

    The k-th smallest of n bounds the next one in k of n + 1 cases, whatever the distribution is.
    """
    place = math.ceil(round(share * (len(values) + 1), 9))
    return sorted(values)[place - 1] if 1 <= place <= len(values) else None


def told_again(sample: Took, sizes: Mapping[str, Size]) -> float:
    """The seconds it would have taken at today's size: what grows with bytes in proportion, the rest as it was."""
    grown = (
        share.seconds * (_moved(sizes[share.kind].bytes) / _moved(share.bytes) - 1)
        for share in sample.shares
        if share.kind in sizes
    )
    return max(0.0, sample.seconds + sum(grown))


def _moved(size: float) -> float:
    return max(size, FIXED_BYTES)


def _names(runbook: str, whole: Sequence[Record]) -> list[str]:
    usual = {"failover": [PROMOTE], "failback": []}.get(runbook, [ONE_WAY])
    return list(dict.fromkeys([*usual, *(took.way(record) for record in whole)]))


def _way(name: str, records: Sequence[Record], sizes: Mapping[str, Size]) -> Way:
    phases: dict[str, list[Took]] = {}
    wholes: dict[str, list[Took]] = {whole: [] for whole in WHOLES}
    for record in records:
        parts = took.phases(record)
        for phase, sample in parts.items():
            phases.setdefault(phase, []).append(sample)
        for whole, sample in took.wholes(record, parts).items():
            wholes[whole].append(sample)
    told = {phase: estimate(samples, sizes) for phase, samples in phases.items()}
    outage, recovery, total = (estimate(wholes[whole], sizes) for whole in WHOLES)
    return Way(name, len(records), told, outage, recovery, total)


def _borrowed(records: Sequence[Record], promoted_seconds: float | None, sizes: Mapping[str, Size]) -> list[Way]:
    """Nobody failed over by a restore here: its restore is that of the restore tests, the rest that of a failover by promotion."""
    samples = [sample for record in records for sample in took.copies(record)]
    if not samples:
        return []
    restore = estimate(samples, sizes)
    # Two medians add up, roughly; two ninetieth percentiles do not.
    both = None if promoted_seconds is None or restore.p50_seconds is None else _round(restore.p50_seconds + promoted_seconds)
    recovery = Estimate(
        p50_seconds=both, runs=restore.runs if both is not None else 0, scaled_runs=restore.scaled_runs, stretch=restore.stretch
    )
    source = " and ".join(sorted({record.runbook for record in records if took.copies(record)}))
    return [Way(RESTORE, 0, {"RESTORE": restore}, Estimate(), recovery, Estimate(), source)]


def _limit(runbook: str, runs: Sequence[Record]) -> float | None:
    """The recovery time objective that the newest run was held against."""
    targets = (item.target for record in runs for item in record.objectives if item.name == "rto_seconds")
    return next(targets, RTO_SECONDS if runbook in MOVES_PRODUCTION else None)


def _past(whole: Sequence[Record]) -> list[Miss]:
    seen: dict[tuple[str, str], list[tuple[float, float, float | None]]] = {}
    for record in whole:
        for part, observed, said in _compared(record):
            predicted = number(said.get("p50_seconds"))
            if predicted is not None:
                seen.setdefault((took.way(record), part), []).append((observed, predicted, number(said.get("p90_seconds"))))
    return [_miss(way, part, entries) for (way, part), entries in seen.items()]


def _compared(record: Record) -> Iterable[tuple[str, float, Mapping[str, Any]]]:
    """Each part that was measured and for which the record keeps what was predicted."""
    kept = record.measures.get("predicted") or {}
    mine: Mapping[str, Any] = next((way for way in kept.get("ways") or [] if way.get("way") == took.way(record)), {})
    if not mine:
        return
    parts = took.phases(record)
    for part, sample in took.wholes(record, parts).items():
        yield part, sample.seconds, mine.get(part) or {}
    for phase, sample in parts.items():
        yield phase, sample.seconds, (mine.get("phases") or {}).get(phase) or {}


def _miss(way: str, part: str, entries: Sequence[tuple[float, float, float | None]]) -> Miss:
    errors = [observed - predicted for observed, predicted, _ in entries]
    bounded = [(observed, limit) for observed, _, limit in entries if limit is not None]
    within = sum(observed <= limit for observed, limit in bounded)
    worst: float = max(errors, key=abs)
    return Miss(way, part, len(errors), round(median(errors), 3), round(worst, 3), len(bounded), within)


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
