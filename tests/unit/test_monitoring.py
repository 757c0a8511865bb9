"""Alert rules and the Grafana dashboard: accepted by promtool, made of metrics that exist, and each alert leads to a page that says what to do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from relevo.history import summarize
from relevo.metrics import METRICS, Facts, exposition
from relevo.trend import series
from tests.unit.runner.streams import record_of

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "docs/monitoring"
RULES, TESTS = MONITORING / "alerts.yml", ROOT / "tests/fixtures/monitoring/alerts_test.yml"
LABELS = {metric.name: set(metric.labels) for metric in METRICS}

promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian package prometheus) is not installed")


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((MONITORING / "grafana.json").read_text(encoding="utf-8"))
    return tree


def queries() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]


def run(*words: str, given: bytes = b"") -> str:
    done = subprocess.run(["promtool", *words], input=given, capture_output=True, timeout=120, check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


@promtool
def test_the_rules_are_rules() -> None:
    assert f"SUCCESS: {len(alerts())} rules found" in run("check", "rules", str(RULES))


@promtool
def test_each_alert_speaks_when_it_should_and_only_then() -> None:
    run("test", "rules", str(TESTS))


@promtool
def test_the_metrics_are_metrics_by_its_rules_of_naming() -> None:
    record = record_of("failover_drill")
    facts = Facts(record.closed_at, series([summarize(record)]), {record.run_id: record})
    assert run("check", "metrics", given=exposition(facts)) == ""


@promtool
def test_the_queries_of_the_dashboard_are_queries(tmp_path: Path) -> None:
    rules = [{"record": f"relevo:query_{number}", "expr": query} for number, query in enumerate(queries())]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}), encoding="utf-8")
    assert f"SUCCESS: {len(rules)} rules found" in run("check", "rules", str(file))


def test_every_alert_is_tried_by_a_test_in_which_it_speaks() -> None:
    tests = yaml.safe_load(TESTS.read_text(encoding="utf-8"))["tests"]
    tried = {case["alertname"] for test in tests for case in test.get("alert_rule_test", []) if case["exp_alerts"]}
    assert tried == {rule["alert"] for rule in alerts()}


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_every_alert_says_what_is_wrong_and_where_it_is_explained(rule: dict[str, Any]) -> None:
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    titles = {title.lower() for title in re.findall(r"^## (.+)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)}
    assert anchor == rule["alert"].lower()
    assert anchor in titles
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert len(rule["annotations"]["summary"]) > 20


@pytest.mark.parametrize("query", [*(rule["expr"] for rule in alerts()), *queries()])
def test_every_query_is_made_of_metrics_and_labels_that_exist(query: str) -> None:
    names = re.findall(r"relevo_[a-z_]+", query)
    assert names and set(names) <= set(LABELS)
    for name, selector in re.findall(r"(relevo_[a-z_]+)\{([^}]*)\}", query):
        assert set(re.findall(r"(\w+)\s*(?:=|!=|=~|!~)\"", selector)) <= LABELS[name], name
    grouped = {label for labels in re.findall(r"(?:by|on) \(([^)]*)\)", query) for label in labels.split(", ")}
    assert grouped <= set.union(*(LABELS[name] for name in names))


def test_panels_do_not_overlap_and_each_says_what_it_shows_and_in_which_unit() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        assert panel["title"] and panel["description"] and panel["fieldConfig"]["defaults"]["unit"]
    identifiers = [panel["id"] for panel in dashboard()["panels"]]
    assert len(identifiers) == len(set(identifiers))


def test_the_dashboard_belongs_to_nobodys_prometheus() -> None:
    sources = {json.dumps(panel["datasource"]) for panel in dashboard()["panels"]}
    assert sources == {json.dumps({"type": "prometheus", "uid": "${datasource}"})}
    assert all("$cluster" in query or "relevo_written" in query for query in queries())
