"""The pages of the dashboard as bytes by path, each drawn when it is asked for. Pure but for the records, which the overview reads."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from relevo import appointments, chart, due, expectation, report, wording
from relevo.clock import parse_utc
from relevo.record import from_document
from relevo.report import Link
from relevo.took import ONE_WAY, OUTAGE, RECOVERY, TOTAL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jinja2 import Environment

    from relevo.dashboard import Board, Cluster, Measure
    from relevo.due import Entry
    from relevo.prediction import Estimate, Prediction

FLEET, CALENDAR, DATA, DATES = "index.html", "calendar.html", "data.json", "calendar.ics"
UNMEASURED = "not measured"
_LATE = frozenset({due.State.NEVER_PASSED, due.State.FAILED, due.State.NEEDS_VERIFIED, due.State.OVERDUE})
SEVERITY_MOODS = {"critical": "bad", "high": "bad", "medium": "doubt", "low": "soft"}
_WHOLES = {RECOVERY: "recovery", OUTAGE: "outage", TOTAL: "whole run"}


@dataclass(frozen=True)
class Expected:
    """A row of the predicted times: one whole of one way of a runbook."""

    runbook: str
    way: str
    what: str
    estimate: Estimate
    limit_seconds: float | None
    borrowed_from: str | None

    @property
    def rests_on(self) -> str:
        """Why it may be believed."""
        borrowed = f"; restores of {self.borrowed_from}, nobody failed over like that here" if self.borrowed_from else ""
        return expectation.rests_on(self.estimate) + borrowed


class Site:
    """The pages of one board. Whoever has two boards of the same moment gets the same bytes."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self._clusters = {cluster.page: cluster for cluster in board.clusters}
        self._homes = {cluster.name: cluster.page for cluster in board.clusters}
        self._runs = {page: run_id for run_id, page in board.pages.items()}

    @property
    def paths(self) -> list[str]:
        """Every file of the site."""
        return [FLEET, CALENDAR, DATA, DATES, *self._clusters, *self._runs]

    def prepare(self) -> None:
        """Read the records of all pages at once."""
        self.board.overview.records(list(self.board.pages))

    def read(self, path: str) -> bytes | None:
        """The file at a path of the site; None when there is none."""
        if path == DATA:
            tree = self.board.document()
            return (json.dumps(tree, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode("utf-8", "replace")
        if path == DATES:
            return appointments.write(self.board.overview.calendar, self.board.overview.at)
        page = self._draw(path)
        return None if page is None else page.encode("utf-8", "replace")

    def _draw(self, path: str) -> str | None:
        if path in self._runs:
            return self._run(self._runs[path])
        if path in self._clusters:
            return self._cluster(self._clusters[path])
        if path == FLEET:
            return self._page("fleet", FLEET, title="Fleet")
        if path == CALENDAR:
            late = [one for one in self.board.calendar if one[1].state in _LATE]
            months = groupby((one for one in self.board.calendar if one[1].state not in _LATE), key=_month)
            return self._page(
                "calendar", CALENDAR, title="Calendar", late=late, months=[(name, list(some)) for name, some in months]
            )
        return None

    def _cluster(self, cluster: Cluster) -> str:
        return self._page(
            "cluster",
            cluster.page,
            title=cluster.name,
            cluster=cluster,
            measures=[_Measured("Recovery time", "RTO", cluster.recovery), _Measured("Data loss window", "RPO", cluster.loss)],
            expected=_expected(cluster.predictions),
        )

    def _run(self, run_id: str) -> str:
        (document,) = self.board.overview.records([run_id])
        record = from_document(document)
        links = [Link("Fleet", f"../{FLEET}"), Link("Calendar", f"../{CALENDAR}")]
        if record.cluster in self._homes:
            links.append(Link(record.cluster, f"../{self._homes[record.cluster]}"))
        return report.render(record, report.Form.HTML, report.judged(self.board.overview.policy, record, document), links)

    def _page(self, name: str, path: str, **values: Any) -> str:
        shared = {"board": self.board, "here": path, "up": "../" * path.count("/"), "policy": self._policy()}
        return _ENVIRONMENT.get_template(f"dashboard_{name}.html.j2").render(shared | values).rstrip() + "\n"

    def _policy(self) -> str:
        """Which policy judged: the name of its file, not where it lies on this machine."""
        source, digest = self.board.policy.get("source"), self.board.policy.get("sha256")
        name = str(source).rpartition("/")[2]
        return f"{name} (SHA-256 {digest[:12]}…)" if digest else name


@dataclass(frozen=True)
class _Measured:
    """A measure as the page of a cluster shows it."""

    title: str
    short: str
    measure: Measure

    @property
    def sentences(self) -> list[str]:
        """What stands below the chart, and is read aloud instead of it."""
        found, everything, shown = self.measure.moved, self.measure.course.count, len(self.measure.course.points)
        number = wording.count(everything, "measurement")
        moved = "all" if everything == found.count else found.count or "none"
        told = [f"The newest {shown} of {number}." if shown < everything else f"{number}."]
        told.append(f"Counted are those that moved production ({moved}).")
        if found.target_seconds is not None and found.points:
            missed = wording.count(found.missed, "time") if found.missed else "never"
            told.append(f"Objective {wording.seconds(found.target_seconds)}, missed {missed}.")
        if found.before_seconds is not None:
            told.append(
                f"Median of the older half {wording.seconds(found.before_seconds)}, of the newer half {wording.seconds(found.since_seconds)}."
            )
        return told

    @property
    def charts(self) -> list[tuple[str, chart.Chart]]:
        """For a wide and for a narrow screen."""
        return chart.both(self.measure.course)


def _expected(predictions: Iterable[Prediction]) -> list[Expected]:
    """What was measured at least once, runbook by runbook."""
    return [
        Expected(
            one.runbook,
            way.way if way.way != ONE_WAY else "",
            _WHOLES[name],
            estimate,
            one.limit_seconds if name == RECOVERY else None,
            way.borrowed_from,
        )
        for one in predictions
        for way in one.ways
        for name in _WHOLES
        if (estimate := getattr(way, name)).runs
    ]


def _month(one: tuple[Cluster, Entry]) -> str:
    return f"{parse_utc(str(one[1].due_at)):%B %Y}"


def _seconds(value: Any) -> str:
    """A duration; nobody's zero."""
    return UNMEASURED if value is None else wording.seconds(value)


def _day(value: Any) -> str:
    return f"{parse_utc(str(value)):%Y-%m-%d} UTC"


def _digest(text: str) -> str:
    """A source of the content security policy: this text and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _text(name: str) -> str:
    return files("relevo").joinpath("templates", name).read_text(encoding="utf-8")


STYLE, SCRIPT = _text("palette.css") + _text("chart.css") + _text("dashboard.css"), _text("dashboard.js")
# What a page may load: itself. Nothing comes from anywhere, and nothing goes anywhere.
POLICY = f"default-src 'none'; style-src {_digest(STYLE)}; script-src {_digest(SCRIPT)}; img-src data:; base-uri 'none'; form-action 'none'"


def _environment() -> Environment:
    environment = report.templates(report.as_shown)
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.filters.update(seconds=_seconds, day=_day, count=wording.count)
    environment.globals.update(
        # They stand in the page as they are: their digests are in its policy.
        style=Markup(STYLE),  # noqa: S704 - a file of this package
        script=Markup(SCRIPT),  # noqa: S704 - a file of this package
        content_policy=POLICY,
        paths={"fleet": FLEET, "calendar": CALENDAR, "data": DATA, "dates": DATES},
        moods=due.MOODS,
        ranks={state: rank for rank, state in enumerate([*due.State, None])},
        verdict_moods=report.MOODS,
        severity_moods=SEVERITY_MOODS,
        State=due.State,
    )
    return environment


_ENVIRONMENT = _environment()
