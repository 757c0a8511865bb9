"""Calendar, metrics, readiness, checklist and dashboard say the same numbers, at any moment of a year and whatever part of its runs there was."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relevo import assessment, contacts, due, entries, findings, overview, pages, policy_file, signature
from relevo.beside import Beside
from relevo.clock import parse_utc
from relevo.entries import Speaker
from relevo.findings import Severity
from relevo.paths import Place
from relevo.record import Record, canonical
from relevo.store import Store
from tests.house.tree import ROOT
from tests.unit.runner import common_numbers, year
from tests.unit.runner.common_numbers import COMMON, VIEWS, Asked, differing

UNTIL = datetime(2026, 11, 28, 12, tzinfo=UTC)
CLUSTERS = ("minimarket", "archive")
POLICY = policy_file.parse((ROOT / "inventories/example/policy.yml").read_text() + "\n", "policy.yml")
# Enough of each kind to differ, few enough to be written in a moment.
NIGHTS, OTHERS = 6, 12


def asked(directory: Path, records: Sequence[Record], at: datetime, *, spoken: bool = True) -> Asked:
    """spoken: people have opened three findings, closed one of them, and acknowledged their contacts."""
    place = Place(directory, f"sqlite:///{directory}/relevo.db")
    store = Store(place)
    for record in records:
        store.add(record, canonical(record.document()), "signature")
    if spoken:
        speak(store, signature.ready_key(place.keys), at)
    return Asked(store, POLICY, due.Now(at, {}, lambda *_: None), Beside(pages.look(ROOT)))


def speak(store: Store, key: signature.SigningKey, at: datetime) -> None:
    before = Speaker("mira", "ctl1", at - timedelta(days=2))
    days = {"F-000001": -1, "F-000002": 40, "F-000003": 40}
    for number, ahead in days.items():
        due_at = f"{at + timedelta(days=ahead):%Y-%m-%d}"
        said = findings.opened(f"what {number} says", Severity.MEDIUM, "mira", due_at, ("minimarket", None))
        entries.append(store, entries.make(before, findings.KIND, number, findings.OPENED, said), key)
    closed = {"resolution": "mended", "accepted_without_retest": "seen by all"}
    entries.append(store, entries.make(before, findings.KIND, "F-000003", findings.CLOSED, closed), key)
    for name in POLICY.contacts:
        said = contacts.acknowledgement(POLICY, name, None)
        entries.append(store, entries.make(before, contacts.KIND, name, contacts.ACKNOWLEDGED, said), key)


@st.composite
def pasts(draw: st.DrawFn) -> tuple[list[Record], datetime, bool]:
    """Some runs of two clusters' year, and a moment after the newest of them."""
    whole = year.records(UNTIL, CLUSTERS)
    day = draw(st.integers(min_value=1, max_value=365))
    at = UNTIL - timedelta(days=365 - day)
    before = [record for record in whole if parse_utc(record.closed_at) <= at]
    nightly = [record for record in before if record.runbook in {"backup", "verify_backup"}]
    others = [record for record in before if record not in nightly]
    chosen = []
    for some, most in ((nightly, NIGHTS), (others, OTHERS)):
        chosen.append(draw(st.lists(st.sampled_from(some), max_size=most, unique_by=lambda one: one.run_id)) if some else [])
    records = sorted([*chosen[0], *chosen[1]], key=lambda one: one.opened_at)
    return records, at + draw(st.sampled_from([timedelta(), timedelta(days=40), timedelta(days=400)])), draw(st.booleans())


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(pasts())
def test_every_view_says_the_same_number(past: tuple[list[Record], datetime, bool]) -> None:
    records, at, spoken = past
    with tempfile.TemporaryDirectory() as directory:
        known = tuple(sorted({str(record.cluster) for record in records} | {"minimarket"}))
        assert list(differing(asked(Path(directory), records, at, spoken=spoken), known)) == []


@pytest.fixture(scope="module")
def autumn(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """The last seven weeks of the year, a night without a backup among them."""
    records = [record for record in year.records(UNTIL) if parse_utc(record.closed_at) > UNTIL - timedelta(days=49)]
    return asked(tmp_path_factory.mktemp("state"), records, UNTIL)


def test_the_numbers_are_there_and_no_view_is_silent_of_all(autumn: Asked) -> None:
    seen = {name: view(autumn) for name, view in VIEWS.items()}
    said: dict[str, list[str]] = {name: [] for name in VIEWS}
    for number, getters in COMMON.items():
        assert len(getters) > 1, number
        for name, getter in getters.items():
            view = name.partition(",")[0]
            value = getter(seen[view], "minimarket")
            if value is not common_numbers.SILENT and value is not None:
                said[view].append(number)
    assert all(said.values()), said
    assert {"RTO", "failovers completed", "runs", "newest verification"} <= {*said["metrics"]} & {*said["readiness"]}
    assert list(differing(autumn, ("minimarket",))) == []


def test_a_look_at_one_cluster_says_of_it_what_a_look_at_all_says(tmp_path: Path) -> None:
    records = [one for one in year.records(UNTIL, CLUSTERS) if parse_utc(one.closed_at) > UNTIL - timedelta(days=3)]
    here = asked(tmp_path, records, UNTIL)
    whole, alone = here.look(), overview.gather(here.store, POLICY, here.now, "archive")
    since = UNTIL - timedelta(days=7)
    reports = [assessment.report(seen, here.beside, "archive", since).document() for seen in (whole, alone)]
    assert reports[0] == reports[1]
    assert (alone.clusters, alone.known, whole.clusters) == (["archive"], ["archive", "minimarket"], ["archive", "minimarket"])


@pytest.mark.parametrize("view", VIEWS)
def test_no_value_of_any_view_changes_unnoticed(autumn: Asked, view: str) -> None:
    """Each place of each view is changed in turn: another view contradicts it, or it is listed as what that view alone says."""
    seen = common_numbers.said(autumn)
    assert list(common_numbers.compared(seen, ("minimarket",))) == []
    alone, tried, unnoticed = re.compile("|".join(common_numbers.ALONE[view])), 0, set()
    for path in list(common_numbers.places(seen[view])):
        steps = path if view == "lists" else path[:1] if view == "metrics" else path[1:]
        name = steps[0][0] if view == "metrics" else ".".join("*" if isinstance(step, int) else str(step) for step in steps)
        if not (view == "lists" or path[0] == "minimarket" or "minimarket" in path[0]) or alone.fullmatch(name):
            continue
        inner = seen[view]
        for step in path[:-1]:
            inner = inner[step]
        value, tried = inner[path[-1]], tried + 1
        inner[path[-1]] = common_numbers.another(value)
        try:
            noticed = bool(list(common_numbers.compared(seen, ("minimarket",))))
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError):
            noticed = True  # nobody overlooks a view that cannot be read
        inner[path[-1]] = value
        unnoticed |= set() if noticed else {path}
    assert unnoticed == set()
    assert tried > 20


@pytest.mark.parametrize(
    ("number", "wrong"),
    [
        ("RTO", lambda seen: replace(seen, series=[replace(one, measured=None) for one in seen.series])),
        (
            "overdue: full_site",
            lambda seen: replace(seen, calendar=[replace(one, overdue=not one.overdue) for one in seen.calendar]),
        ),
        ("runs", lambda seen: replace(seen, series=[replace(one, counts={}) for one in seen.series])),
    ],
)
def test_a_view_that_says_something_else_is_noticed(
    autumn: Asked, monkeypatch: pytest.MonkeyPatch, number: str, wrong: Any
) -> None:
    gathered, turns = overview.gather, iter(range(100))

    def other(*arguments: Any) -> Any:
        seen = gathered(*arguments)
        return wrong(seen) if next(turns) == 0 else seen  # the first look of all is the metrics'

    monkeypatch.setattr(overview, "gather", other)
    assert number in [found[1] for found in differing(autumn, ("minimarket",))]
