"""What several views of one look at a store say, each by its own way: the views, and the numbers that they have in common.

Another view joins with an entry in VIEWS and getters in COMMON; :func:`differing` compares whatever is there.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from relevo import assessment, checklist, cli_metrics, dashboard, documents, due, findings, metrics, overview
from relevo.beside import Beside
from relevo.clock import parse_utc, utc
from relevo.console import heard
from relevo.policy import Policy
from relevo.store import Store
from relevo.stored_history import StoredHistory
from relevo.took import WHOLES
from relevo.verdict import Verdict

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
    return {(entry.cluster, entry.test): _plain(entry.document()) for entry in found}


def _metrics(asked: Asked) -> Any:
    return {(name, *labels): value for name, labels, value in metrics.samples(cli_metrics.read(asked.look()))}


def _readiness(asked: Asked) -> Any:
    seen = asked.look()
    return {cluster: _plain(assessment.report(seen, asked.beside, cluster, EVER).document()) for cluster in seen.clusters}


def _checklist(asked: Asked) -> Any:
    seen = asked.look()
    return {cluster: _plain(checklist.judge(seen, asked.beside, cluster).document()) for cluster in seen.clusters}


def _dashboard(asked: Asked) -> Any:
    found = dashboard.board(asked.look(), {"source": "policy.yml", "sha256": None}).document()
    return {cluster["cluster"]: _plain(cluster) for cluster in found["clusters"]}


def _lists(asked: Asked) -> Any:
    """What `relevo results list` and `relevo findings list` say; runs stand newest first."""
    noted = findings.fold(heard(asked.store, findings.KIND))
    return {
        "runs": [_plain(run._asdict()) for run in asked.store.summaries()],
        "findings": [_plain(finding.document(asked.now.at.date())) for finding in noted],
    }


def _plain(tree: Any) -> Any:
    """As a program reads it."""
    return json.loads(json.dumps(tree))


VIEWS: Mapping[str, Callable[[Asked], Any]] = {
    "calendar": _calendar,
    "metrics": _metrics,
    "readiness": _readiness,
    "checklist": _checklist,
    "dashboard": _dashboard,
    "lists": _lists,
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
_OF_A_TEST = (
    *("title", "every", "state", "due_at", "age_seconds", "overdue"),
    *("last_passed", "last_attempt", "changed", "unobserved", "reasons"),
)


def _every_count() -> dict[str, Getter]:
    """How many runs of each runbook ended how; zero is silence."""

    def counted(found: Iterable[tuple[str, str, float]]) -> dict[tuple[str, str], float]:
        return {(runbook, verdict): float(count) for runbook, verdict, count in found if count}

    return {
        "dashboard": lambda view, cluster: counted(
            (one["runbook"], verdict, count) for one in view[cluster]["runbooks"] for verdict, count in one["counts"].items()
        ),
        "metrics": lambda view, cluster: counted(
            (key[2], key[3], value) for key, value in view.items() if key[:2] == ("relevo_runs", cluster)
        ),
        "readiness": lambda view, cluster: counted(
            (runbook, verdict, count) for runbook, counts in view[cluster]["runs"].items() for verdict, count in counts.items()
        ),
        "lists": lambda view, cluster: dict(Counter((run["runbook"], run["verdict"]) for run in _of(view, cluster))),
    }


def _in_all() -> dict[str, Getter]:
    """The years of these tests hold no run in check mode, which the dashboard would count too."""
    return {
        "dashboard": lambda view, cluster: float(view[cluster]["runs_total"]),
        "metrics": lambda view, cluster: sum(value for key, value in view.items() if key[:2] == ("relevo_runs", cluster)),
        "readiness": lambda view, cluster: float(sum(sum(counts.values()) for counts in view[cluster]["runs"].values())),
    }


def _of(view: Any, cluster: str) -> list[Any]:
    """The runs of a cluster in the list, newest first."""
    return [run for run in view["runs"] if run["cluster"] == cluster]


def _first(runs: Iterable[Any], *keys: str) -> dict[tuple[str, ...], Any]:
    """The first run of each kind."""
    found: dict[tuple[str, ...], Any] = {}
    for run in runs:
        found.setdefault(tuple(run[key] for key in keys), run)
    return found


def _newest_runs() -> dict[str, dict[str, Getter]]:
    """By runbook and verdict, and by runbook: which ran last, when it ended, how, and how long it took."""

    def stamps(view: Any, cluster: str) -> Any:
        return {key[2:]: value for key, value in view.items() if key[:2] == ("relevo_last_run_timestamp_seconds", cluster)}

    def verdicts(view: Any, cluster: str) -> Any:
        return {key[2:]: value for key, value in view.items() if key[:2] == ("relevo_last_run_verdict", cluster)}

    def newest(view: Any, cluster: str) -> Any:
        return _first(_of(view, cluster), "runbook")

    return {
        "when each kind ended last": {
            "metrics": stamps,
            "lists": lambda view, cluster: {
                kind: parse_utc(run["closed_at"]).timestamp()
                for kind, run in _first(_of(view, cluster), "runbook", "verdict").items()
            },
        },
        "how each ended last": {
            "metrics": verdicts,
            "lists": lambda view, cluster: {
                (runbook, verdict.value): float(run["verdict"] == verdict)
                for (runbook,), run in newest(view, cluster).items()
                for verdict in Verdict
            },
        },
        "how long each took last": {
            "metrics": lambda view, cluster: {
                key[2:]: value for key, value in view.items() if key[:2] == ("relevo_last_run_duration_seconds", cluster)
            },
            "lists": lambda view, cluster: {kind: run["duration_seconds"] for kind, run in newest(view, cluster).items()},
        },
        "newest runs": {
            "dashboard": lambda view, cluster: {(one["runbook"],): one["newest"] for one in view[cluster]["runbooks"]},
            "lists": lambda view, cluster: {kind: run["run_id"] for kind, run in newest(view, cluster).items()},
        },
        "newest passed runs": {
            "dashboard": lambda view, cluster: {
                (one["runbook"],): one["passed"] for one in view[cluster]["runbooks"] if one["passed"] is not None
            },
            "lists": lambda view, cluster: {
                kind: run["run_id"]
                for kind, run in _first((run for run in _of(view, cluster) if run["verdict"] == "passed"), "runbook").items()
            },
        },
        "listed runs": {
            "dashboard": lambda view, cluster: [
                {key: value for key, value in run.items() if key != "page"} for run in view[cluster]["runs"]
            ],
            "lists": lambda view, cluster: _of(view, cluster)[: dashboard.RUNS],
        },
    }


def _measured_runs() -> dict[str, Getter]:
    """By runbook the newest run that measured a recovery: when it ended, how long that took, what became of its transactions."""
    names = ("rto_seconds", "rpo_seconds", "ledger_acknowledged", "ledger_lost")

    def of_metrics(view: Any, cluster: str) -> Any:
        about = "relevo_measured_timestamp_seconds"
        kinds = {key[2]: value for key, value in view.items() if key[:2] == (about, cluster)}
        return {kind: (at, *(view.get((f"relevo_{name}", cluster, kind)) for name in names)) for kind, at in kinds.items()}

    def of_lists(view: Any, cluster: str) -> Any:
        found = _first((run for run in _of(view, cluster) if run["rto_seconds"] is not None), "runbook")
        keys = ("rto_seconds", "rpo_seconds", "acknowledged", "lost")
        return {kind: (parse_utc(run["closed_at"]).timestamp(), *(run[key] for key in keys)) for (kind,), run in found.items()}

    return {"metrics": of_metrics, "lists": of_lists}


def _of_the_objective(measure: str, line: str) -> dict[str, dict[str, Getter]]:
    """Met or missed, and by which run."""
    short, states = measure.removesuffix("_seconds"), {"proven": "met", "failed": "missed", "unproven": SILENT}

    def newest(view: Any, cluster: str) -> Any:
        return view[cluster][short]["newest"] or {}

    def of_checklist(view: Any, cluster: str) -> Any:
        return states[next(one for one in view[cluster]["lines"] if one["line"] == line)["state"]]

    return {
        f"{measure}, verdict": {
            "readiness": lambda view, cluster: _objective(view, cluster, measure)["verdict"],
            "dashboard": lambda view, cluster: {True: "met", False: "missed", None: "unknown"}[newest(view, cluster).get("met")],
            "checklist": of_checklist,
        },
        f"{measure}, run": {
            "readiness": lambda view, cluster: _objective(view, cluster, measure)["run_id"],
            "dashboard": lambda view, cluster: newest(view, cluster).get("run_id"),
        },
        f"{measure}, in short": {
            "readiness": lambda view, cluster: _objective(view, cluster, measure)["measured_seconds"],
            "readiness, in short": lambda view, cluster: view[cluster]["metrics"][f"{short}_achieved_seconds"],
        },
    }


def _going(findings: Iterable[Any]) -> list[Any]:
    return sorted((one for one in findings if one["state"] != "closed"), key=lambda one: str(one["id"]))


def _any_late() -> dict[str, Getter]:
    def of_checklist(view: Any, cluster: str) -> Any:
        return next(one for one in view[cluster]["lines"] if one["line"] == "Issues tracked to resolution")["state"] == "failed"

    return {
        "checklist": of_checklist,
        "readiness": lambda view, cluster: any(one["overdue"] for one in view[cluster]["findings"]),
        "dashboard": lambda view, cluster: view[cluster]["findings_overdue"] > 0,
    }


def _kept_up() -> dict[str, Getter]:
    """Whether every contact has acknowledged, and since when at least."""

    def of_checklist(view: Any, cluster: str) -> Any:
        line = next(one for one in view[cluster]["lines"] if one["line"] == "Contact information current")
        return (line["state"] == "proven", line["at"])

    def of_readiness(view: Any, cluster: str) -> Any:
        found = view[cluster]["contacts"]
        since = min((one["acknowledged_at"] for one in found if one["acknowledged_at"]), default=None)
        return (bool(found) and all(one["state"] == "acknowledged" for one in found), since)

    return {"checklist": of_checklist, "readiness": of_readiness}


def _documented() -> dict[str, Getter]:
    def of_checklist(view: Any, cluster: str) -> Any:
        return next(one for one in view[cluster]["lines"] if one["line"] == "DR procedures documented")["state"] == "proven"

    return {
        "checklist": of_checklist,
        "readiness": lambda view, cluster: view[cluster]["tests"]["documentation"] == "passed",
        "readiness, in full": lambda view, cluster: view[cluster]["documentation"]["problems"] == [],
    }


def _of_the_backups() -> dict[str, dict[str, Getter]]:
    """What readiness says of backups, against the counts of the others."""

    def all_of(view: Any, cluster: str, runbook: str) -> float:
        return float(sum(sum(one["counts"].values()) for one in view[cluster]["runbooks"] if one["runbook"] == runbook))

    found: dict[str, dict[str, Getter]] = {}
    for runbook, every, passed in (
        ("backup", "runs", "runs_passed"),
        ("verify_backup", "verifications", "verifications_passed"),
    ):
        found[f"{runbook}, runs"] = {
            "readiness": lambda view, cluster, name=every: float(view[cluster]["backups"][name]),
            "dashboard": lambda view, cluster, runbook=runbook: all_of(view, cluster, runbook),
        }
        found[f"{runbook}, passed"] = {
            "readiness": lambda view, cluster, name=passed: float(view[cluster]["backups"][name]),
            "dashboard": lambda view, cluster, runbook=runbook: _counted(view, cluster, runbook, "passed"),
        }
    found["success rate"] = {
        "readiness": lambda view, cluster: view[cluster]["metrics"]["backup_success_rate"],
        "readiness, backups": lambda view, cluster: view[cluster]["backups"]["success_rate"],
        "readiness, repositories": lambda view, cluster: min(
            (one["covered"] / one["periods"] for one in view[cluster]["backups"]["coverage"] if one["periods"]), default=None
        ),
    }
    found["share of each repository"] = {
        "readiness": lambda view, cluster: [one["share"] for one in view[cluster]["backups"]["coverage"]],
        "readiness, counts": lambda view, cluster: [
            one["covered"] / one["periods"] if one["periods"] else None for one in view[cluster]["backups"]["coverage"]
        ],
    }
    found["verdict of the newest verification"] = {
        "readiness": lambda view, cluster: view[cluster]["tests"]["backup_verification"],
        "readiness, in full": lambda view, cluster: (view[cluster]["backups"]["newest_verification"] or {}).get("verdict"),
        "metrics": _newest_decided("verify_backup"),
    }
    found["verdict of the newest restore test"] = {
        "readiness": lambda view, cluster: (view[cluster]["data_integrity"] or {}).get("verdict"),
        "metrics": _newest_decided("restore_test"),
    }
    found["whether the data is whole"] = {
        "readiness": lambda view, cluster: view[cluster]["tests"]["data_integrity"],
        "readiness, in full": lambda view, cluster: (
            {True: "passed", False: "failed"}[view[cluster]["data_integrity"]["holds"]] if view[cluster]["data_integrity"] else None
        ),
    }
    found["when backups were verified"] = {
        "readiness": lambda view, cluster: (
            {
                one["repository"]: parse_utc(view[cluster]["backups"]["newest_verification"]["closed_at"]).timestamp()
                for one in view[cluster]["backups"]["coverage"]
            }
            if (view[cluster]["backups"]["newest_verification"] or {}).get("verdict") in {"passed", "partial"}
            else SILENT
        ),
        "metrics": lambda view, cluster: {
            key[2]: value for key, value in view.items() if key[:2] == ("relevo_verified_timestamp_seconds", cluster)
        },
    }
    return found


def _newest_decided(runbook: str) -> Getter:
    """The verdict of the newest run that came to an end."""

    def of_metrics(view: Any, cluster: str) -> Any:
        key = ("relevo_last_run_timestamp_seconds", cluster, runbook)
        found = [(view[*key, verdict], verdict) for verdict in DECIDED if (*key, verdict) in view]
        return max(found)[1] if found else None

    return of_metrics


def _all_predictions() -> dict[str, Getter]:
    """Each way of each runbook, each whole, P50, P90 and the runs it rests on."""

    def of_dashboard(view: Any, cluster: str) -> Any:
        return {
            (one["runbook"], way["way"], part, key): float(way[part][key])
            for one in view[cluster]["predictions"]
            for way in one["ways"]
            for part in WHOLES
            for key in ("p50_seconds", "p90_seconds", "runs")
            if way[part][key]
        }

    def of_metrics(view: Any, cluster: str) -> Any:
        found = {}
        for key, value in view.items():
            if key[:2] == ("relevo_predicted_seconds", cluster):
                found[*key[2:5], f"p{key[5]}_seconds"] = value
            elif key[:2] == ("relevo_predicted_runs", cluster):
                found[*key[2:5], "runs"] = value
        return {key: value for key, value in found.items() if value}

    return {"dashboard": of_dashboard, "metrics": of_metrics}


def _main_predictions() -> dict[str, Getter]:
    """Of each runbook what people wait for, with its limit."""

    def of_readiness(view: Any, cluster: str) -> Any:
        return {
            one["runbook"]: (one["p50_seconds"], one["p90_seconds"], one["runs"], one["limit_seconds"])
            for one in view[cluster]["predicted"]
            if one["p50_seconds"] is not None
        }

    def of_dashboard(view: Any, cluster: str) -> Any:
        found = {}
        for one in view[cluster]["predictions"]:
            halves = [way[part] for way in one["ways"] for part in ("recovery", "total")]
            known = next((half for half in halves if half["p50_seconds"] is not None), None)
            if known:
                found[one["runbook"]] = (known["p50_seconds"], known["p90_seconds"], known["runs"], one["limit_seconds"])
        return found

    return {"readiness": of_readiness, "dashboard": of_dashboard}


def _worst_state() -> dict[str, Getter]:
    order = [state.value for state in due.State]
    return {
        "calendar": lambda view, cluster: min(
            (one["state"] for (name, _), one in view.items() if name == cluster), key=order.index, default=None
        ),
        "dashboard": lambda view, cluster: view[cluster]["state"],
    }


def _in_time() -> dict[str, Getter]:
    good = {due.State.CURRENT.value, due.State.DUE.value}
    return {
        "calendar": lambda view, cluster: sum(one["state"] in good for (name, _), one in view.items() if name == cluster),
        "dashboard": lambda view, cluster: view[cluster]["tests_current"],
    }


def _coming_dates() -> dict[str, Getter]:
    """Of tests, findings and contacts, those within three months. Nobody has signed off anything in these tests."""

    def of_tests(view: Any, cluster: str) -> Any:
        ahead = parse_utc(view[cluster]["at"]) + timedelta(days=90)
        found = [(one["due_at"], f"{one['title']} is due") for one in view[cluster]["calendar"] if one["due_at"]]
        found += [
            (f"{one['due']}T23:59:59.999999Z", f"Finding {one['id']} is due: {one['deficiency']} ({one['owner']})")
            for one in view[cluster]["findings"]
        ]
        known = [one for one in view[cluster]["contacts"] if one["due_at"]]
        found += [(one["due_at"], f"{one['name']} acknowledges their contact data again") for one in known]
        return sorted({pair for pair in found if parse_utc(pair[0]) <= ahead})

    def of_dates(view: Any, cluster: str) -> Any:
        return sorted((one["at"], one["what"]) for one in view[cluster]["dates"])

    return {"readiness, tests": of_tests, "readiness, dates": of_dates}


COMMON: Mapping[str, Mapping[str, Getter]] = {
    **{f"{key} of {name}": _test(name, key) for name in _TESTS for key in _OF_A_TEST},
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
    **_of_the_objective("rto_seconds", "RTO target achievable"),
    **_of_the_objective("rpo_seconds", "RPO target achievable"),
    "recovery time, in a word": {
        "readiness": lambda view, cluster: _objective(view, cluster, "rto_seconds")["verdict"],
        "readiness, in short": lambda view, cluster: view[cluster]["tests"]["recovery_time"] or "unknown",
    },
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
        "readiness": lambda view, cluster: _going(view[cluster]["findings"]),
        "dashboard": lambda view, cluster: _going(view[cluster]["findings"]),
    },
    "number of open findings": {
        "readiness": lambda view, cluster: len(view[cluster]["findings"]),
        "dashboard": lambda view, cluster: view[cluster]["findings_open"],
    },
    "overdue findings": {
        "readiness": lambda view, cluster: sum(one["overdue"] for one in view[cluster]["findings"]),
        "dashboard": lambda view, cluster: view[cluster]["findings_overdue"],
    },
    "whether a finding is overdue": _any_late(),
    "contacts": _kept_up(),
    "documentation": _documented(),
    "failovers completed": _failovers(),
    "runs": _every_count(),
    "runs in all": _in_all(),
    **_newest_runs(),
    "measured runs": _measured_runs(),
    "findings": {
        "dashboard": lambda view, cluster: sorted(view[cluster]["findings"], key=lambda one: str(one["id"])),
        "lists": lambda view, cluster: sorted(
            (one for one in view["findings"] if one["cluster"] == cluster), key=lambda one: str(one["id"])
        ),
    },
    **_of_the_backups(),
    "newest verification": _verified(),
    "newest passed restore": _restored(),
    "predictions": _all_predictions(),
    "what people wait for": _main_predictions(),
    **_course("rto_seconds"),
    **_course("rpo_seconds"),
    "overdue tests": _overdue_tests(),
    "tests in time": _in_time(),
    "worst state": _worst_state(),
    "next date": _next_date(),
    "coming dates": _coming_dates(),
    **{
        f"{key} of the checklist": {
            "checklist": lambda view, cluster, key=key: view[cluster][key],
            "readiness": lambda view, cluster, key=key: view[cluster]["checklist"][key],
        }
        for key in ("counts", "status", "ready")
    },
    "counted lines": {
        "checklist": lambda view, cluster: view[cluster]["counts"],
        "checklist, lines": lambda view, cluster: {
            state: sum(line["state"] == state for line in view[cluster]["lines"]) for state in view[cluster]["counts"]
        },
    },
}

# By view, what only that one says, or says by itself in no number: nothing else may contradict it.
ALONE: Mapping[str, tuple[str, ...]] = {
    "calendar": (r"cluster", r"test"),
    "metrics": (
        r"relevo_written_timestamp_seconds",
        # Of the run's own objectives, which may be others than those of the policy now.
        r"relevo_objective_(seconds|verdict)",
        r"relevo_(outage_seconds|writable_overlap_seconds|ledger_indeterminate)",
        r"relevo_backup_.*|relevo_verified_(backups|missing_periods)|relevo_repository_bytes|relevo_restorable_lag_seconds",
        r"relevo_restore_test_(rpo_seconds|predicted_rto_seconds|bytes_per_second)",
    ),
    "readiness": (
        r"cluster|at|since|week|verdict|calendar\.\*\.(cluster|test)",
        r"reasons\..*|changes\..*",
        r"tests\.team_readiness|team\..*|contacts\.\*\.(id|name|role|mail|phone|due_at|acknowledged_by)",
        # Another view says the oldest alone.
        r"contacts\.\*\.acknowledged_at",
        # Of the period, by repository; metrics tell of the newest verification alone.
        r"backups\.coverage\.\*\.(repository|missing.*)",
        r"backups\.newest_verification\.(?!closed_at|verdict).*",
        r"data_integrity\.(run_id|copies\..*)",
        r"objectives\.\*\.(measure|course\.(missed|before_seconds|since_seconds))",
        r"losses\.\*\..*",
        r"predicted\.\*\.(line|late)",
        r"documentation\.pages",
        r"dates\.\*\.over",
    ),
    "checklist": (
        r"cluster|at",
        r"lines\.\*\.(section|line|until|answers\..*|proofs\..*|at)",
        r"standards\..*",
    ),
    "dashboard": (
        r"cluster|page|tier|tests\.\*\.cluster|runs\.\*\.page",
        r"next\.test",
        r"(rto|rpo)\.newest\.(at|runbook)|(rto|rpo)\.rehearsed\.(at|runbook|met)",
        r"predictions\.\*\.(cluster|made_at|runs|sizes\..*|past\..*)",
        r"predictions\.\*\.ways\.\*\.(way|runs|borrowed_from|phases\..*)",
        r"predictions\.\*\.ways\.\*\.(outage|recovery|total)\.(longest_seconds|scaled_runs|stretch)",
    ),
    "lists": (
        # The rest of a run that is old: its own page says it.
        r"runs\.\*\.(mode|scope|objectives_met|check_mode|opened_at|closed_at|duration_seconds|operator|rpo_seconds|acknowledged|lost)",
        r"runs\.\*\.(run_id|cluster|rto_seconds)",
    ),
}


def said(asked: Asked) -> dict[str, Any]:
    """What each view says."""
    return {name: view(asked) for name, view in VIEWS.items()}


def differing(asked: Asked, clusters: tuple[str, ...]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Each number of which two views say something different, with what each says."""
    yield from compared(said(asked), clusters)


def compared(seen: Mapping[str, Any], clusters: tuple[str, ...]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """The same of what the views have said."""
    for cluster in clusters:
        for number, getters in COMMON.items():
            told = {name: getter(seen[name.partition(",")[0]], cluster) for name, getter in getters.items()}
            heard = {name: value for name, value in told.items() if value is not SILENT}
            values = list(heard.values())
            if any(value != values[0] for value in values):
                yield cluster, number, heard


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a view a value stands, each by the way to it."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from places(value, (*path, key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from places(value, (*path, index))
    else:
        yield path


def another(value: Any) -> Any:
    """Something else of the same kind."""
    if isinstance(value, bool):
        return not value
    if value is None or isinstance(value, (int, float)):
        return (value or 0) + 1
    try:
        return utc(parse_utc(value) + timedelta(days=1))
    except ValueError:
        return f"{value} else"
