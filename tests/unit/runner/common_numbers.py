"""What several views of one look at a store say, each by its own way: the views, and the numbers that they have in common.

Another view joins with an entry in VIEWS and getters in COMMON; :func:`differing` compares whatever is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from relevo import assessment, checklist, cli_metrics, dashboard, documents, due, metrics, overview
from relevo.beside import Beside
from relevo.clock import parse_utc
from relevo.policy import Policy
from relevo.store import Store
from relevo.stored_history import StoredHistory

# Before any record: then a period holds all of them, as the metrics do.
EVER = datetime(2000, 1, 1, tzinfo=UTC)
FAILOVERS = ("failover", "switchover")
DECIDED = ("passed", "partial", "failed")


@dataclass(frozen=True)
class Asked:
    """A store at a moment; every view looks by itself."""

    store: Store
    policy: Policy
    now: due.Now
    beside: Beside

    def look(self) -> overview.Overview:
        return overview.gather(self.store, self.policy, self.now)


def _calendar(asked: Asked) -> Any:
    history = StoredHistory(asked.store)
    found = due.entries(asked.policy, due.Past(history, documents.of(asked.store)), history.clusters(), asked.now)
    return {(entry.cluster, entry.test): entry.document() for entry in found}


def _metrics(asked: Asked) -> Any:
    return {(name, *labels): value for name, labels, value in metrics.samples(cli_metrics.read(asked.look()))}


def _readiness(asked: Asked) -> Any:
    seen = asked.look()
    return {cluster: assessment.report(seen, asked.beside, cluster, EVER).document() for cluster in seen.clusters}


def _checklist(asked: Asked) -> Any:
    seen = asked.look()
    return {cluster: checklist.judge(seen, asked.beside, cluster).document() for cluster in seen.clusters}


def _dashboard(asked: Asked) -> Any:
    found = dashboard.board(asked.look(), {"source": "policy.yml", "sha256": None}).document()
    return {cluster["cluster"]: cluster for cluster in found["clusters"]}


VIEWS: Mapping[str, Callable[[Asked], Any]] = {
    "calendar": _calendar,
    "metrics": _metrics,
    "readiness": _readiness,
    "checklist": _checklist,
    "dashboard": _dashboard,
}
# By name of the number, and by view: its value for a cluster; SILENT where that view says nothing of it just now.
Getter = Callable[[Any, str], Any]
SILENT = object()


def _test(name: str, key: str) -> dict[str, Getter]:
    def of_readiness(view: Any, cluster: str) -> Any:
        return next((entry[key] for entry in view[cluster]["calendar"] if entry["test"] == name), SILENT)

    def of_dashboard(view: Any, cluster: str) -> Any:
        return next(entry[key] for entry in view[cluster]["tests"] if entry["test"] == name)

    return {"calendar": lambda view, cluster: view[cluster, name][key], "readiness": of_readiness, "dashboard": of_dashboard}


def _passed_at(name: str, line: str) -> dict[str, Getter]:
    def of_calendar(view: Any, cluster: str) -> Any:
        passed = view[cluster, name]["last_passed"]
        return (passed["run_id"], passed["at"]) if passed else SILENT

    def of_checklist(view: Any, cluster: str) -> Any:
        (proof,) = next(one for one in view[cluster]["lines"] if one["line"] == line)["proofs"]
        return (proof["rests_on"], proof["at"]) if ": passed " in proof["sentence"] else SILENT

    return {"calendar": of_calendar, "checklist": of_checklist}


def _newest(measure: str) -> dict[str, Getter]:
    def of_metrics(view: Any, cluster: str) -> Any:
        stamps = {one: view.get(("relevo_measured_timestamp_seconds", cluster, one), -1.0) for one in FAILOVERS}
        newest = max(stamps, key=lambda one: stamps[one])
        return view.get((f"relevo_{measure}", cluster, newest))

    def of_readiness(view: Any, cluster: str) -> Any:
        return _objective(view, cluster, measure)["measured_seconds"]

    def of_dashboard(view: Any, cluster: str) -> Any:
        newest = view[cluster][measure.removesuffix("_seconds")]["newest"]
        return newest["seconds"] if newest else None

    return {"metrics": of_metrics, "readiness": of_readiness, "dashboard": of_dashboard}


def _proven(measure: str, line: str) -> dict[str, Getter]:
    def of_checklist(view: Any, cluster: str) -> Any:
        (proof,) = next(one for one in view[cluster]["lines"] if one["line"] == line)["proofs"]
        return (proof["rests_on"], proof["at"]) if proof["rests_on"] else SILENT

    def of_readiness(view: Any, cluster: str) -> Any:
        found = _objective(view, cluster, measure)
        return (found["run_id"], found["at"])

    return {"checklist": of_checklist, "readiness": of_readiness}


def _objective(view: Any, cluster: str, measure: str) -> Any:
    return next(one for one in view[cluster]["objectives"] if one["measure"] == measure)


def _counted(view: Any, cluster: str, runbook: str, verdict: str) -> float:
    """By the dashboard."""
    return float(sum(one["counts"].get(verdict, 0) for one in view[cluster]["runbooks"] if one["runbook"] == runbook))


def _runs(runbook: str, verdict: str) -> dict[str, Getter]:
    return {
        "dashboard": lambda view, cluster: _counted(view, cluster, runbook, verdict),
        "metrics": lambda view, cluster: view.get(("relevo_runs", cluster, runbook, verdict), 0.0),
        "readiness": lambda view, cluster: float(view[cluster]["runs"].get(runbook, {}).get(verdict, 0)),
    }


def _failovers() -> dict[str, Getter]:
    return {
        "dashboard": lambda view, cluster: sum(_counted(view, cluster, one, "passed") for one in FAILOVERS),
        "metrics": lambda view, cluster: sum(view.get(("relevo_runs", cluster, one, "passed"), 0.0) for one in FAILOVERS),
        "readiness": lambda view, cluster: view[cluster]["metrics"]["failover_tests_completed_in_all"],
        "readiness, of the period": lambda view, cluster: view[cluster]["metrics"]["failover_tests_completed"],
    }


def _verified() -> dict[str, Getter]:
    def of_metrics(view: Any, cluster: str) -> Any:
        stamps = [view.get(("relevo_last_run_timestamp_seconds", cluster, "verify_backup", verdict)) for verdict in DECIDED]
        return max((stamp for stamp in stamps if stamp is not None), default=None)

    def of_readiness(view: Any, cluster: str) -> Any:
        newest = view[cluster]["backups"]["newest_verification"]
        return parse_utc(newest["closed_at"]).timestamp() if newest else None

    return {"metrics": of_metrics, "readiness": of_readiness}


def _restored() -> dict[str, Getter]:
    def of_readiness(view: Any, cluster: str) -> Any:
        found = view[cluster]["data_integrity"]
        return parse_utc(found["at"]).timestamp() if found and found["verdict"] == "passed" else SILENT

    return {
        "metrics": lambda view, cluster: view.get(("relevo_restore_test_timestamp_seconds", cluster, "1")),
        "readiness": of_readiness,
    }


def _predicted(runbook: str, way: str, key: str) -> dict[str, Getter]:
    """key: p50_seconds, p90_seconds or runs, of the recovery or else of the run."""
    name, more = ("relevo_predicted_runs", ()) if key == "runs" else ("relevo_predicted_seconds", (key[1:3],))

    def of_metrics(view: Any, cluster: str) -> Any:
        halves = [("relevo_predicted_seconds", cluster, runbook, way, part, "50") for part in ("recovery", "total")]
        part = next((half[4] for half in halves if half in view), "total")
        return view.get((name, cluster, runbook, way, part, *more))

    def of_readiness(view: Any, cluster: str) -> Any:
        return next((one[key] or None for one in view[cluster]["predicted"] if one["runbook"] == runbook), None)

    def of_dashboard(view: Any, cluster: str) -> Any:
        ways = [one for found in view[cluster]["predictions"] if found["runbook"] == runbook for one in found["ways"]]
        parts = [one[part] for one in ways if one["way"] == way for part in ("recovery", "total")]
        return next((part[key] or None for part in parts if part["p50_seconds"] is not None), None)

    return {"metrics": of_metrics, "readiness": of_readiness, "dashboard": of_dashboard}


def _overdue_tests() -> dict[str, Getter]:
    return {
        "calendar": lambda view, cluster: sum(one["overdue"] for (name, _), one in view.items() if name == cluster),
        "metrics": lambda view, cluster: sum(value for key, value in view.items() if key[:2] == ("relevo_test_overdue", cluster)),
        "readiness": lambda view, cluster: sum(one["overdue"] for one in view[cluster]["calendar"]),
        "dashboard": lambda view, cluster: view[cluster]["tests_overdue"],
    }


def _next_date() -> dict[str, Getter]:
    def earliest(entries: Any) -> Any:
        return min((one["due_at"] for one in entries if one["due_at"] and not one["overdue"]), default=None)

    def of_dashboard(view: Any, cluster: str) -> Any:
        return view[cluster]["next"]["due_at"] if view[cluster]["next"] else None

    return {
        "calendar": lambda view, cluster: earliest(one for (name, _), one in view.items() if name == cluster),
        "dashboard": of_dashboard,
    }


def _course(measure: str) -> dict[str, dict[str, Getter]]:
    """How many measurements there are, in all and of runs that moved production, and the newest of each."""
    short = measure.removesuffix("_seconds")

    def rehearsed(view: Any, cluster: str) -> Any:
        found = view[cluster][short]["rehearsed"]
        return (found["run_id"], found["seconds"]) if found else (None, None)

    return {
        f"{measure}, measured": {
            "readiness": lambda view, cluster: _objective(view, cluster, measure)["course"]["measured"],
            "dashboard": lambda view, cluster: view[cluster][short]["measured"],
        },
        f"{measure}, moved": {
            "readiness": lambda view, cluster: _objective(view, cluster, measure)["trend"]["measured"],
            "dashboard": lambda view, cluster: view[cluster][short]["moved"],
        },
        f"{measure}, points": {
            "readiness": lambda view, cluster: _objective(view, cluster, measure)["course"]["points"],
            "dashboard": lambda view, cluster: view[cluster][short]["points"],
        },
        f"{measure}, rehearsed": {
            "readiness": lambda view, cluster: (
                _objective(view, cluster, measure)["rehearsed_run_id"],
                _objective(view, cluster, measure)["rehearsed_seconds"],
            ),
            "dashboard": rehearsed,
        },
    }


def _tendency(measure: str, key: str) -> dict[str, Getter]:
    return {
        "readiness": lambda view, cluster: _objective(view, cluster, measure)["trend"][key],
        "dashboard": lambda view, cluster: view[cluster][measure.removesuffix("_seconds")][key],
    }


_TESTS = ("backup_restoration", "partial_failover", "full_site", "encryption_keys")
COMMON: Mapping[str, Mapping[str, Getter]] = {
    **{
        f"{key} of {name}": _test(name, key)
        for name in _TESTS
        for key in ("state", "due_at", "age_seconds", "last_passed", "reasons")
    },
    **{
        f"overdue: {name}": {
            **_test(name, "overdue"),
            "metrics": lambda view, cluster, name=name: bool(view["relevo_test_overdue", cluster, name]),
        }
        for name in _TESTS
    },
    "last passed restore": _passed_at("backup_restoration", "Monthly backup restoration tests"),
    "last passed partial failover": _passed_at("partial_failover", "Quarterly failover tests"),
    "last passed full failover": _passed_at("full_site", "Annual full site DR test"),
    "RTO": _newest("rto_seconds"),
    "RPO": _newest("rpo_seconds"),
    "RTO and its run": _proven("rto_seconds", "RTO target achievable"),
    "RPO and its run": _proven("rpo_seconds", "RPO target achievable"),
    **{
        f"{measure}, {key}": _tendency(measure, key)
        for measure in ("rto_seconds", "rpo_seconds")
        for key in ("missed", "before_seconds", "since_seconds")
    },
    **{
        f"{measure}, target": {
            "readiness": lambda view, cluster, measure=measure: _objective(view, cluster, measure)["target_seconds"],
            "dashboard": lambda view, cluster, measure=measure: view[cluster][measure.removesuffix("_seconds")]["target_seconds"],
        }
        for measure in ("rto_seconds", "rpo_seconds")
    },
    "open findings": {
        "readiness": lambda view, cluster: len(view[cluster]["findings"]),
        "dashboard": lambda view, cluster: view[cluster]["findings_open"],
    },
    "failovers completed": _failovers(),
    **{
        f"{runbook} {verdict}": _runs(runbook, verdict)
        for runbook in ("backup", "verify_backup", "restore_test", "failover", "failback", "rehearse", "check")
        for verdict in ("passed", "partial", "failed", "refused", "interrupted")
    },
    "newest verification": _verified(),
    "newest passed restore": _restored(),
    **{
        f"expected {runbook}: {key}": _predicted(runbook, way, key)
        for runbook, way in (("failover", "promote"), ("rehearse", "all"), ("restore_test", "all"))
        for key in ("p50_seconds", "p90_seconds", "runs")
    },
    **_course("rto_seconds"),
    **_course("rpo_seconds"),
    "overdue tests": _overdue_tests(),
    "next date": _next_date(),
    "lines of the checklist": {
        "checklist": lambda view, cluster: view[cluster]["counts"],
        "readiness": lambda view, cluster: view[cluster]["checklist"]["counts"],
    },
    "overdue findings": {
        "readiness": lambda view, cluster: sum(one["overdue"] for one in view[cluster]["findings"]),
        "dashboard": lambda view, cluster: view[cluster]["findings_overdue"],
    },
    "status of the checklist": {
        "checklist": lambda view, cluster: view[cluster]["status"],
        "readiness": lambda view, cluster: view[cluster]["checklist"]["status"],
    },
}


def differing(asked: Asked, clusters: tuple[str, ...]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Each number of which two views say something different, with what each says."""
    seen = {name: view(asked) for name, view in VIEWS.items()}
    for cluster in clusters:
        for number, getters in COMMON.items():
            said = {name: getter(seen[name.partition(",")[0]], cluster) for name, getter in getters.items()}
            heard = {name: value for name, value in said.items() if value is not SILENT}
            values = list(heard.values())
            if any(value != values[0] for value in values):
                yield cluster, number, heard
