"""What Prometheus may know of the results: stable names, few labels, nothing that no record holds. Pure; the names are in docs/metrics.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.exposition import generate_latest

from relevo.clock import parse_utc
from relevo.sizes import number
from relevo.took import WHOLES
from relevo.trend import NO_CLUSTER
from relevo.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from relevo.prediction import Prediction
    from relevo.record import Record
    from relevo.trend import Series

    Sample = tuple[str, tuple[str, ...], float]
    Found = Iterable[tuple[str, tuple[str, ...], float | None]]

_OF_A_RUNBOOK = ("cluster", "runbook")
_OF_A_REPOSITORY = ("cluster", "repository")
_OBJECTIVE_VERDICTS = ("met", "missed", "unknown")
_PERCENTILES = {"50": "p50_seconds", "90": "p90_seconds"}


@dataclass(frozen=True)
class Metric:
    """name: stable; help: one sentence; labels: what tells its samples apart."""

    name: str
    help: str
    labels: tuple[str, ...] = _OF_A_RUNBOOK


@dataclass(frozen=True)
class Overdue:
    """What the calendar says of one test of a cluster."""

    cluster: str
    test: str
    overdue: bool


@dataclass(frozen=True)
class Facts:
    """What the metrics are made of.

    at: the moment they speak of; series: every runbook of every cluster; measured: by run id the records with a recovery time that series name;
    backups, verifications, restore_tests: the newest record of each cluster that holds such numbers; predictions: of runbooks that have a
    history; overdue: the calendar's answer.
    """

    at: str
    series: Sequence[Series]
    measured: Mapping[str, Record]
    backups: Sequence[Record] = ()
    verifications: Sequence[Record] = ()
    restore_tests: Sequence[Record] = ()
    predictions: Sequence[Prediction] = ()
    overdue: Sequence[Overdue] = ()


METRICS = (
    Metric("relevo_written_timestamp_seconds", "When this file was written.", ()),
    Metric("relevo_runs", "Results in the store, by how they ended.", (*_OF_A_RUNBOOK, "verdict")),
    Metric("relevo_last_run_timestamp_seconds", "End of the newest run that ended so.", (*_OF_A_RUNBOOK, "verdict")),
    Metric("relevo_last_run_verdict", "1 for the verdict of the newest run, 0 for the others.", (*_OF_A_RUNBOOK, "verdict")),
    Metric("relevo_last_run_duration_seconds", "How long the newest run took."),
    Metric("relevo_measured_timestamp_seconds", "End of the newest run that measured a recovery time."),
    Metric("relevo_rto_seconds", "Recovery time of that run, from the last acknowledged write to the first one after it."),
    Metric("relevo_rpo_seconds", "Data loss window of that run."),
    Metric("relevo_outage_seconds", "How long clients could not write in that run."),
    Metric("relevo_ledger_acknowledged", "Transactions that the application had acknowledged in that run."),
    Metric("relevo_ledger_lost", "Of them those that are lost."),
    Metric("relevo_ledger_indeterminate", "Transactions of which nobody knows whether they were acknowledged."),
    Metric("relevo_writable_overlap_seconds", "How long two hosts were writable at once in that run."),
    Metric("relevo_objective_seconds", "The objective that run was held against.", (*_OF_A_RUNBOOK, "objective")),
    Metric("relevo_objective_verdict", "1 for whether it was met, 0 for the others.", (*_OF_A_RUNBOOK, "objective", "verdict")),
    Metric(
        "relevo_backup_timestamp_seconds", "End of the newest backup run that has a backup of this repository.", _OF_A_REPOSITORY
    ),
    Metric("relevo_backup_duration_seconds", "How long that backup took.", _OF_A_REPOSITORY),
    Metric("relevo_backup_size_bytes", "Size of the cluster in it.", _OF_A_REPOSITORY),
    Metric("relevo_backup_stored_bytes", "What it added to the repository.", _OF_A_REPOSITORY),
    Metric("relevo_verified_timestamp_seconds", "End of the newest verification that read this repository.", _OF_A_REPOSITORY),
    Metric("relevo_verified_backups", "Backups that it found there.", _OF_A_REPOSITORY),
    Metric("relevo_verified_missing_periods", "Periods for which it found no backup.", _OF_A_REPOSITORY),
    Metric("relevo_repository_bytes", "Size of the repository as it was seen then.", _OF_A_REPOSITORY),
    Metric("relevo_restorable_lag_seconds", "How far the end of the archive was behind, then.", _OF_A_REPOSITORY),
    Metric("relevo_restore_test_timestamp_seconds", "End of the newest restore test that passed.", _OF_A_REPOSITORY),
    Metric("relevo_restore_test_rpo_seconds", "Age of the newest commit in the restored copy.", _OF_A_REPOSITORY),
    Metric("relevo_restore_test_predicted_rto_seconds", "Recovery time by such a restore at today's size.", _OF_A_REPOSITORY),
    Metric("relevo_restore_test_bytes_per_second", "Pace of that restore; absent where files were there.", _OF_A_REPOSITORY),
    Metric(
        "relevo_predicted_seconds",
        "What this cluster's own runs let expect; see relevo predict.",
        (*_OF_A_RUNBOOK, "way", "part", "percentile"),
    ),
    Metric("relevo_predicted_runs", "How many runs that rests on.", (*_OF_A_RUNBOOK, "way", "part")),
    Metric("relevo_test_overdue", "1 when a test of the calendar is overdue.", ("cluster", "test")),
)


def exposition(facts: Facts) -> bytes:
    """The metrics as text that is OpenMetrics and, since all of them are gauges, also the older format that textfile collectors read."""
    registry = CollectorRegistry()
    gauges = {metric.name: Gauge(metric.name, metric.help, metric.labels, registry=registry) for metric in METRICS}
    for name, labels, value in samples(facts):
        gauges[name].labels(*labels).set(value) if labels else gauges[name].set(value)
    text: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]  # the library's older half
    return text


def samples(facts: Facts) -> list[Sample]:
    """(name, label values, value), in the order of METRICS and of the facts. What is not known has no sample."""
    found: list[tuple[str, tuple[str, ...], float | None]] = [("relevo_written_timestamp_seconds", (), _epoch(facts.at))]
    for series in facts.series:
        found += _of_runs(series)
        if series.measured is not None and series.measured.run_id in facts.measured:
            found += _of_a_measurement((series.cluster, series.runbook), facts.measured[series.measured.run_id])
    for record in facts.backups:
        found += _of_backups(record)
    for record in facts.verifications:
        found += _of_verifications(record)
    for record in facts.restore_tests:
        found += _of_restore_tests(record)
    for prediction in facts.predictions:
        found += _of_a_prediction(prediction)
    found += [("relevo_test_overdue", (test.cluster, test.test), float(test.overdue)) for test in facts.overdue]
    return [(name, labels, value) for name, labels, value in found if value is not None]


def _of_runs(series: Series) -> Found:
    about = (series.cluster, series.runbook)
    for verdict in Verdict:
        yield "relevo_runs", (*about, verdict), float(series.counts.get(verdict, 0))
        last = series.last.get(verdict)
        yield "relevo_last_run_timestamp_seconds", (*about, verdict), _epoch(last.closed_at) if last else None
        yield "relevo_last_run_verdict", (*about, verdict), float(series.newest.verdict == verdict)
    yield "relevo_last_run_duration_seconds", about, series.newest.duration_seconds


def _of_a_measurement(about: tuple[str, str], record: Record) -> Found:
    measures, ledger = record.measures, record.measures.get("ledger") or {}
    yield "relevo_measured_timestamp_seconds", about, _epoch(record.closed_at)
    for name in ("rto_seconds", "rpo_seconds", "outage_seconds", "writable_overlap_seconds"):
        yield f"relevo_{name}", about, number(measures.get(name))
    for name in ("acknowledged", "lost", "indeterminate"):
        yield f"relevo_ledger_{name}", about, number(ledger.get(name))
    for item in record.objectives:
        objective = item.name.removesuffix("_seconds")
        yield "relevo_objective_seconds", (*about, objective), item.target
        for verdict in _OBJECTIVE_VERDICTS:
            yield "relevo_objective_verdict", (*about, objective, verdict), float(item.verdict == verdict)


def _of_backups(record: Record) -> Found:
    for name, backup in (record.measures.get("backups") or {}).items():
        about = (_cluster(record), name.removeprefix("repository_"))
        yield "relevo_backup_timestamp_seconds", about, _epoch(record.closed_at)
        yield "relevo_backup_duration_seconds", about, number(backup.get("duration_seconds"))
        yield "relevo_backup_size_bytes", about, number(backup.get("size_bytes"))
        yield "relevo_backup_stored_bytes", about, number(backup.get("repository_bytes"))


def _of_verifications(record: Record) -> Found:
    for repository, seen in (record.measures.get("backup_verification") or {}).items():
        about = (_cluster(record), repository)
        yield "relevo_verified_timestamp_seconds", about, _epoch(record.closed_at)
        yield "relevo_verified_backups", about, number(seen.get("backups"))
        yield "relevo_verified_missing_periods", about, float(len(seen.get("missing_periods") or []))
        yield "relevo_repository_bytes", about, number(seen.get("bytes"))
        until = seen.get("restorable_until")
        yield "relevo_restorable_lag_seconds", about, max(0.0, _epoch(record.closed_at) - _epoch(str(until))) if until else None


def _of_restore_tests(record: Record) -> Found:
    # One sample for each repository, though one run may restore more than one copy of it: the last.
    for repository, test in {str(test.get("repository")): test for test in record.measures.get("restore_tests") or []}.items():
        about = (_cluster(record), repository)
        yield "relevo_restore_test_timestamp_seconds", about, _epoch(record.closed_at)
        yield "relevo_restore_test_rpo_seconds", about, number(test.get("rpo_seconds"))
        yield "relevo_restore_test_predicted_rto_seconds", about, number(test.get("predicted_rto_seconds"))
        yield "relevo_restore_test_bytes_per_second", about, number(test.get("restore_bytes_per_second"))


def _of_a_prediction(prediction: Prediction) -> Found:
    for way in prediction.ways:
        for part in WHOLES:
            estimate = getattr(way, part)
            about = (prediction.cluster, prediction.runbook, way.way, part)
            yield "relevo_predicted_runs", about, float(estimate.runs) if estimate.runs else None
            for percentile, name in _PERCENTILES.items():
                yield "relevo_predicted_seconds", (*about, percentile), getattr(estimate, name)


def _cluster(record: Record) -> str:
    return record.cluster or NO_CLUSTER


def _epoch(at: str) -> float:
    return parse_utc(at).timestamp()
