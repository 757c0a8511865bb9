"""Metrics: what the records say and nothing else, under names that stay, in a form that every collector reads."""

from __future__ import annotations

import copy
import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_older_text

from relevo import cli_metrics, due, overview, paths, policy_file, trend
from relevo.cli import app
from relevo.clock import parse_utc
from relevo.errors import RelevoError
from relevo.history import Summary, summarize
from relevo.metrics import METRICS, Facts, Overdue, exposition, samples
from relevo.paths import Place
from relevo.record import Record, canonical, parse
from relevo.store import Store
from relevo.verdict import Verdict
from tests.unit.runner.plain_history import PlainHistory
from tests.unit.runner.streams import record_of

ROOT = Path(__file__).parents[3]
NOW = "2026-11-28T12:00:00.000000Z"
BACKUPS = {"repository_2": {"duration_seconds": 8.0, "size_bytes": 22_000_000, "repository_bytes": 3_000_000}}
VERIFIED = {
    "1": {"backups": 4, "missing_periods": ["x"], "bytes": 12, "restorable_until": "2026-11-24T13:00:00.000000Z"},
    "2": {"backups": 0, "missing_periods": [], "bytes": None, "restorable_until": None},
}
RESTORED = [{"repository": 1, "rpo_seconds": 3.5, "predicted_rto_seconds": 70.0, "restore_bytes_per_second": None}]


def a_record(name: str, run_id: str, *, measures: dict[str, Any] | None = None, **changes: Any) -> Record:
    tree = copy.deepcopy(record_of(name).document())
    tree["measures"] |= measures or {}
    tree |= {"run_id": run_id, "closed_at": "2026-11-24T13:30:00.000000Z", **changes}
    return parse(canonical(tree))


def history() -> list[Record]:
    return [
        a_record("failover_drill", "drill", opened_at="2026-11-24T13:00:00.000000Z"),
        a_record("failover_disaster", "disaster", opened_at="2026-11-23T13:00:00.000000Z"),
        a_record("failover_refused", "refused", opened_at="2026-11-25T13:00:00.000000Z", cluster="minimarket"),
        a_record("failover_drill", "looked", opened_at="2026-11-26T13:00:00.000000Z", check_mode=True),
        a_record("check_passed", "b", runbook="backup", measures={"backups": BACKUPS}),
        a_record("check_passed", "v", runbook="verify_backup", verdict="failed", measures={"backup_verification": VERIFIED}),
        a_record("check_passed", "t", runbook="restore_test", measures={"restore_tests": RESTORED}),
    ]


POLICY = policy_file.parse("clusters: {minimarket: {tests: [full_site]}}", "policy.yml")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    filled = Store(Place(tmp_path / "state", f"sqlite:///{tmp_path}/state/relevo.db"))
    for record in history():
        filled.add(record, canonical(record.document()), "signature")
    return filled


def facts_of(store: Store) -> Facts:
    return cli_metrics.read(overview.gather(store, POLICY, due.Now(parse_utc(NOW), {}, lambda *_: None)))


def value(text: bytes, name: str, **labels: str) -> float | None:
    found = [
        sample.value
        for family in read_openmetrics(text.decode())
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert len(found) <= 1, (name, labels)
    return found[0] if found else None


@pytest.fixture
def text(store: Store) -> bytes:
    return exposition(facts_of(store))


def test_the_newest_run_of_each_kind(text: bytes) -> None:
    failover = {"cluster": "minimarket", "runbook": "failover"}
    assert value(text, "relevo_last_run_verdict", **failover, verdict="refused") == 1
    assert value(text, "relevo_last_run_verdict", **failover, verdict="passed") == 0
    assert value(text, "relevo_runs", **failover, verdict="passed") == 2
    assert value(text, "relevo_last_run_timestamp_seconds", **failover, verdict="passed") == 1795527000
    assert value(text, "relevo_last_run_timestamp_seconds", **failover, verdict="failed") is None


def test_the_newest_measurement_and_not_the_newest_run(text: bytes) -> None:
    failover = {"cluster": "minimarket", "runbook": "failover"}
    drill = record_of("failover_drill").measures
    assert value(text, "relevo_rto_seconds", **failover) == drill["rto_seconds"]
    assert value(text, "relevo_outage_seconds", **failover) == drill["outage_seconds"]
    assert value(text, "relevo_ledger_lost", **failover) == 0
    assert value(text, "relevo_ledger_acknowledged", **failover) == 1881
    assert value(text, "relevo_objective_seconds", **failover, objective="rpo") == 3600
    assert value(text, "relevo_objective_verdict", **failover, objective="rto", verdict="met") == 1
    assert value(text, "relevo_objective_verdict", **failover, objective="rto", verdict="unknown") == 0


def test_backups_verifications_and_restore_tests(text: bytes) -> None:
    first, second = {"cluster": "minimarket", "repository": "1"}, {"cluster": "minimarket", "repository": "2"}
    assert value(text, "relevo_backup_size_bytes", **second) == 22_000_000
    assert value(text, "relevo_backup_stored_bytes", **second) == 3_000_000
    assert value(text, "relevo_verified_missing_periods", **first) == 1
    assert value(text, "relevo_restorable_lag_seconds", **first) == 1800
    assert value(text, "relevo_restore_test_predicted_rto_seconds", **first) == 70
    assert value(text, "relevo_predicted_runs", runbook="failover", way="promote", part="recovery") == 2


def test_what_nobody_observed_is_absent_and_not_zero(text: bytes) -> None:
    second = {"cluster": "minimarket", "repository": "2"}
    assert value(text, "relevo_restorable_lag_seconds", **second) is None
    assert value(text, "relevo_repository_bytes", **second) is None
    assert value(text, "relevo_restore_test_bytes_per_second", cluster="minimarket", repository="1") is None
    assert value(text, "relevo_predicted_seconds", runbook="failover", part="recovery", percentile="90") is None
    # A test that never passed is, and nobody has to measure that.
    assert value(text, "relevo_test_overdue") == 1.0


def test_the_calendar_may_say_what_is_overdue() -> None:
    text = exposition(Facts(NOW, [], {}, overdue=[Overdue("c", "failover", overdue=True), Overdue("c", "backup", overdue=False)]))
    assert value(text, "relevo_test_overdue", cluster="c", test="failover") == 1
    assert value(text, "relevo_test_overdue", cluster="c", test="backup") == 0


def test_both_formats_read_the_same_samples(text: bytes) -> None:
    def seen(families: Any) -> list[Any]:
        return sorted(
            (sample.name, sorted(sample.labels.items()), sample.value) for family in families for sample in family.samples
        )

    assert text.endswith(b"# EOF\n")
    assert seen(read_openmetrics(text.decode())) == seen(read_older_text(text.decode()))
    assert len(seen(read_openmetrics(text.decode()))) == len(samples_of(text))


def samples_of(text: bytes) -> list[str]:
    return [line for line in text.decode().splitlines() if not line.startswith("#")]


def test_any_name_of_a_cluster_is_a_label_and_no_other_line() -> None:
    odd = 'a"b\\c\nd{e}'
    past = PlainHistory([summarize(a_record("failover_drill", "x", cluster=odd))])
    series = trend.series(past.tallies(), past.measured())
    assert value(exposition(Facts(NOW, series, {})), "relevo_last_run_duration_seconds", cluster=odd) == 20.7


def test_every_metric_is_documented_and_no_other() -> None:
    listed = re.findall(r"^\| `(relevo_[a-z_]+)` \| ([^|]*) \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    known = [(metric.name, ", ".join(f"`{label}`" for label in metric.labels)) for metric in METRICS]
    assert [(name, labels.strip()) for name, labels in listed] == known


def test_names_have_their_unit_and_the_prefix() -> None:
    unitless = {
        "relevo_runs",
        "relevo_last_run_verdict",
        "relevo_objective_verdict",
        "relevo_predicted_runs",
        "relevo_test_overdue",
    }
    counted = {"relevo_ledger_acknowledged", "relevo_ledger_lost", "relevo_ledger_indeterminate", "relevo_verified_backups"}
    rest = {metric.name for metric in METRICS} - unitless - counted - {"relevo_verified_missing_periods"}
    assert {name for name in rest if not re.fullmatch(r"relevo_[a-z_]+_(seconds|bytes|bytes_per_second)", name)} == set()


def test_every_declared_metric_can_have_a_sample(store: Store) -> None:
    facts = facts_of(store)
    said = {name for name, _, _ in samples(Facts(**{**vars(facts), "overdue": [Overdue("c", "t", overdue=True)]}))}
    # The only restore of this history found its files there.
    assert {metric.name for metric in METRICS} - said == {"relevo_restore_test_bytes_per_second"}


def test_a_file_is_replaced_as_a_whole_and_readable_by_the_collector(tmp_path: Path) -> None:
    file = tmp_path / "collector" / "relevo.prom"
    cli_metrics.write(file, b"old\n")
    with file.open("rb") as reading:
        cli_metrics.write(file, b"new\n")
        assert reading.read() == b"old\n"
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"new\n", 0o644)
    assert [path.name for path in file.parent.iterdir()] == ["relevo.prom"]


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "relevo.prom"
    file.mkdir()
    with pytest.raises(RelevoError, match="What was there is still there"):
        cli_metrics.write(file, b"new\n")
    assert [path.name for path in tmp_path.iterdir()] == ["relevo.prom"]
    with pytest.raises(RelevoError, match="cannot be written"):
        cli_metrics.write(Path("/proc/relevo/relevo.prom"), b"new\n")


@pytest.mark.usefixtures("store")
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "find_place", lambda _: Place(tmp_path / "state", f"sqlite:///{tmp_path}/state/relevo.db"))

    def called(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["relevo", "metrics", *words])
        with pytest.raises(SystemExit) as ended:
            app()
        return int(ended.value.code or 0), capsys.readouterr().out

    file = tmp_path / "relevo.prom"
    assert called("--textfile", str(file)) == (0, f"Written to {file}.\n")
    code, printed = called()
    assert (code, len(samples_of(file.read_bytes()))) == (0, len(samples_of(printed.encode())))
    code, printed = called("--json")
    assert (code, len(json.loads(printed))) == (0, len(samples_of(file.read_bytes())))


def summary(number: int, rto: float | None, verdict: str = "passed", **more: Any) -> Summary:
    known = summarize(record_of("failover_drill"))._asdict()
    at = f"2026-{12 - number // 28:02d}-{28 - number % 28:02d}T00:00:00.000000Z"
    return Summary(
        **{**known, "run_id": f"r{number}", "rto_seconds": rto, "rpo_seconds": rto, "verdict": verdict, "opened_at": at, **more}
    )


RUNS = st.lists(st.tuples(st.none() | st.floats(0, 1e5), st.sampled_from([str(verdict) for verdict in Verdict])), max_size=40)


@given(RUNS)
def test_every_run_is_counted_once_and_the_newest_is_the_newest(runs: list[tuple[float | None, str]]) -> None:
    made = [summary(number, rto, verdict) for number, (rto, verdict) in enumerate(runs)]
    past = PlainHistory(made)
    found = trend.series(past.tallies(), past.measured())
    assert sum(sum(series.counts.values()) for series in found) == len(runs)
    for series in found:
        assert series.newest is made[0]
        assert series.last[series.newest.verdict] is series.newest
        assert set(series.last) == set(series.counts)
        assert series.measured is next((run for run in made if run.rto_seconds is not None), None)


@given(RUNS, st.floats(0, 1e5))
def test_a_trend_misses_what_its_points_miss(runs: list[tuple[float | None, str]], target: float) -> None:
    past = PlainHistory([summary(number, rto, verdict) for number, (rto, verdict) in enumerate(runs)])
    found = past.trend("minimarket", trend.RTO, target)
    assert [point.at for point in found.points] == sorted(point.at for point in found.points)
    assert found.missed == sum(rto is not None and rto > target for rto, _ in runs)
    assert past.trend("minimarket", trend.RPO, None).missed == 0


def test_a_trend_compares_its_halves() -> None:
    past = PlainHistory([summary(number, rto) for number, rto in enumerate([40.0, 30.0, 20.0, 10.0])])
    found = past.trend("minimarket", trend.RTO, 35.0)
    assert (found.before_seconds, found.since_seconds, found.missed) == (15.0, 35.0, 1)
    alone = PlainHistory([summary(0, 40.0)]).trend("minimarket", trend.RTO, None)
    assert (alone.before_seconds, alone.since_seconds, alone.points[0].met) == (None, None, None)


def test_a_preview_is_no_run() -> None:
    past = PlainHistory([summary(0, 1.0, check_mode=True)])
    assert trend.series(past.tallies(), past.measured()) == []
