"""Readiness and checklist as something to hand on: a page for a screen or paper, Markdown, JSON, and the words of a mail. Pure but for the paper."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from relevo import chart, contacts, due, notice, paper, report, wording
from relevo.checklist import State
from relevo.clock import parse_utc
from relevo.notice import Attachment, Notice
from relevo.readiness import Outcome, Weight
from relevo.story import Card

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from relevo.checklist import Checklist
    from relevo.readiness import Measured, Readiness

OUTCOME_MOODS = {Outcome.READY: "good", Outcome.DOUBTS: "doubt", Outcome.NOT_READY: "bad"}
STATE_MOODS = {State.PROVEN: "good", State.UNPROVEN: "doubt", State.FAILED: "bad"}
_CONTACT_MOODS = {one: "good" if one is contacts.State.CURRENT else "doubt" for one in contacts.State}
_LEADS = {
    Outcome.READY: "Everything that is asked was proven, in time, and nothing is known against it.",
    Outcome.DOUBTS: "A failover was proven. What follows should be settled before anybody relies on it without a second thought.",
    Outcome.NOT_READY: "At least one thing that a failover rests on is not proven, or was disproved.",
}
_LONGEST_TITLE = 150
_SEVERAL = "several clusters"


class Form(StrEnum):
    """The forms of these reports."""

    HTML = "html"
    PDF = "pdf"
    MARKDOWN = "markdown"
    JSON = "json"


@dataclass(frozen=True)
class About:
    """at: the moment, UTC; policy: what judged, as its file says; controller: where it was made."""

    at: str
    policy: Mapping[str, str | None]
    controller: str


def readiness(reports: Sequence[Readiness], about: About, form: Form) -> bytes:
    """The readiness of some clusters as it stands in a file. RelevoError where this machine can make no PDF."""
    if form is Form.JSON:
        return _json({"at": about.at, "policy": dict(about.policy), "clusters": [one.document() for one in reports]})
    return _made("readiness", [_view(one) for one in reports], about, form)


def checklists(lists: Sequence[Checklist], about: About, form: Form) -> bytes:
    """The checklists of some clusters, likewise."""
    if form is Form.JSON:
        return _json({"at": about.at, "policy": dict(about.policy), "clusters": [one.document() for one in lists]})
    return _made("checklist", [{"one": one, "mood": "good" if one.ready else "bad"} for one in lists], about, form)


def word_of_readiness(made: Readiness, about: About) -> Notice:
    """The mail of one cluster, which the report goes with."""
    first = f" - {made.reasons[0].sentence}" if made.reasons else ""
    view = {
        "head": made.outcome.upper(),
        "title": f"Readiness of {made.cluster}",
        "lead": _LEADS[made.outcome],
        "reasons": [(f"{'Blocks' if one.weight is Weight.BLOCKS else 'Doubt'}: {one.sentence}") for one in made.reasons],
        "facts": [
            *((card.title, f"{card.value} ({card.note})") for card in cards(made)),
            # What is open of it stands among the reasons already.
            *([("Checklist", made.checklist.status)] if made.checklist.ready else []),
            *((wording.moment(one.at), f"{one.what}{' (overdue)' if one.over else ''}") for one in made.dates[:3]),
        ],
        "about": about,
        "command": f"relevo readiness --cluster {made.cluster}",
    }
    return _notice(f"{made.outcome.upper()}: {made.cluster}{first}", view, OUTCOME_MOODS[made.outcome])


def word_of_a_checklist(made: Checklist, about: About) -> Notice:
    """The mail of one cluster's checklist."""
    view = {
        "head": "READY FOR PRODUCTION" if made.ready else "NOT READY",
        "title": f"Checklist of {made.cluster}",
        "lead": f"{made.counts[State.PROVEN]} of {wording.count(len(made.lines), 'line')} proven.",
        "reasons": [f"{line.line}: {line.state}; {proof.sentence}" for line in made.open for proof in line.proofs[:1]],
        "facts": [],
        "about": about,
        "command": f"relevo checklist --cluster {made.cluster}",
    }
    return _notice(f"{view['head']}: {made.cluster} - {view['lead']}", view, "good" if made.ready else "bad")


def attachment(kind: str, cluster: str, about: About, contents: bytes) -> Attachment:
    """The PDF under a name that sorts by date."""
    return Attachment(f"{kind}-{cluster}-{about.at[:10]}.pdf", contents)


def cards(made: Readiness) -> list[Card]:
    """The four numbers of the customer's report."""
    return [_objective(made.rto), _objective(made.rpo), _backups(made), _failovers(made)]


def percent(share: float | None) -> str:
    """Never rounded up: 100 % is all of them."""
    return wording.UNOBSERVED if share is None else f"{math.floor(share * 1000 + 1e-9) / 10:g} %"


def _objective(one: Measured) -> Card:
    target = f"target {wording.seconds(one.target_seconds)}"
    if one.newest is None or one.seconds is None:
        return Card(one.name, "not measured", f"{target}: unknown", "doubt")
    said = f"{target}: {'met' if one.met else 'missed'}; {one.newest.runbook}, {one.newest.closed_at[:10]}"
    share = min(1.0, one.seconds / one.target_seconds) if one.target_seconds else None
    return Card(one.name, wording.seconds(one.seconds), said, "good" if one.met else "bad", share)


def _backups(made: Readiness) -> Card:
    rate = made.backups.success_rate
    if rate is None:
        # Soon after the first protection there is one, and no whole period yet.
        why = "no whole period between backups yet" if made.backups.verifications else "no verification in this period"
        return Card("Backup success rate", "not observed", why, "doubt")
    worst = min(made.backups.coverage, key=lambda one: 1.0 if one.share is None else one.share)
    return Card(
        "Backup success rate",
        percent(rate),
        f"{worst.covered} of {wording.count(worst.periods, 'period')} with a usable backup, repository {worst.repository}",
        "good" if worst.covered == worst.periods else "doubt",
        rate,
    )


def _failovers(made: Readiness) -> Card:
    found = made.failovers
    newest = f"newest {found.newest.closed_at[:10]}" if found.newest else "none ever passed"
    said = f"passed in all, {found.in_period} in this period; {newest}"
    return Card("Failover tests completed", wording.number(found.in_all), said, "good" if found.in_all else "bad")


def _view(made: Readiness) -> dict[str, Any]:
    return {
        "one": made,
        "mood": OUTCOME_MOODS[made.outcome],
        "lead": _LEADS[made.outcome],
        "cards": cards(made),
        # One measurement is no course of anything.
        "measured": [(one, chart.both(one.course) if len(one.course.points) > 1 else []) for one in made.measured],
        "overdue": {one.id for one in made.findings if one.is_overdue(parse_utc(made.at).date())},
    }


def _made(kind: str, views: Sequence[Mapping[str, Any]], about: About, form: Form) -> bytes:
    paged = form is Form.PDF
    finalize = report.as_cell if form is Form.MARKDOWN else report.as_printed if paged else report.as_shown
    environment = report.templates(finalize)
    environment.filters["percent"] = percent
    view = {
        "views": views,
        "about": about,
        "paged": paged,
        "cards": [None] * 4,
        "subject": views[0]["one"].cluster if len(views) == 1 else _SEVERAL,
        "state_moods": STATE_MOODS,
        "test_moods": due.MOODS,
        "contact_moods": _CONTACT_MOODS,
        "rung_moods": report.GATE_MOODS,
    }
    template = f"{kind}.{'md' if form is Form.MARKDOWN else 'html'}.j2"
    page = environment.get_template(template).render(view).rstrip() + "\n"
    return paper.print_page(page) if paged else page.encode("utf-8", "replace")


def _notice(title: str, view: Mapping[str, Any], mood: str) -> Notice:
    templates = notice.environment()
    templates.filters["moment"] = wording.moment
    reasons = [wording.visible(reason) for reason in view["reasons"]]
    view = {**view, "reasons": reasons, "facts": [tuple(map(wording.visible, fact)) for fact in view["facts"]], "mood": mood}
    short = " ".join(wording.visible(title).split())
    return Notice(
        title=short if len(short) <= _LONGEST_TITLE else f"{short[: _LONGEST_TITLE - 1]}…",
        page=templates.get_template("briefing.html.j2").render(view),
        text=templates.get_template("briefing.txt.j2").render(view).strip() + "\n",
        mood=mood,
    )


def _json(tree: Mapping[str, Any]) -> bytes:
    return (json.dumps(tree, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode("utf-8", "replace")
