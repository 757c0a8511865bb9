"""Reports of one run: a page for people, on a screen or on paper, Markdown, JUnit, or the record itself; and bundles of signed records."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from relevo import criteria, junit, paper, particulars, picture, story, wording
from relevo.clock import parse_utc
from relevo.history import summarize
from relevo.junit import Criterion

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from relevo.policy import Policy
    from relevo.record import Record

MOODS = {"passed": "good", "partial": "doubt", "failed": "bad", "refused": "doubt", "interrupted": "bad", "cancelled": "doubt"}
GATE_MOODS = {"pass": "good", "fail": "bad", "unknown": "doubt", "accepted": "doubt", "not_applicable": "soft"}
# What needs a reader's eye comes first.
_GATE_ORDER = ("fail", "unknown", "accepted", "pass", "not_applicable")
# Of each table: nobody reads more on paper, and drawing a thousand rows takes half a minute.
_MOST_ON_PAPER, _MOST_REASONS_ON_PAPER = 200, 20
_LONGEST_ON_PAPER = 600
# Longer than a digest, which is to be copied whole.
_LONG_WORD, _PIECE = re.compile(r"\S{81,}"), re.compile(r"\S{20}")
# What reads badly when a line ends within it: days and moments, durations, ids of runs.
_WHOLE = re.compile(
    r"\d{4}-\d\d-\d\d(?: \d\d:\d\d:\d\d)?(?: UTC)?|\b\d[\d.]* (?:ms|s|min|h|d)(?: \d+ (?:s|min|h))?\b|\b\d{8}T\d{6}Z-[a-z_]+-[0-9a-f]{4,8}\b"
)
_ESCAPED = {"<": "&lt;", "&": "&amp;"} | {character: f"\\{character}" for character in "\\|`*[]~"}
_MARKDOWN = re.compile("[" + "".join(map(re.escape, _ESCAPED)) + "]")


class Form(StrEnum):
    """The forms of a report."""

    HTML = "html"
    PDF = "pdf"
    JUNIT = "junit"
    MARKDOWN = "markdown"
    JSON = "json"


@dataclass(frozen=True)
class Fact:
    """A line of the last table; code: shown as it is to be copied."""

    text: str
    code: bool = False


@dataclass(frozen=True)
class Link:
    """A way from the page to others, where it is one of several."""

    label: str
    target: str


def judged(policy: Policy, record: Record, document: Mapping[str, Any]) -> list[Criterion]:
    """The criteria of each test that the run counts as, as they came out. document: the record as it is stored, which is what is judged."""
    outcomes = criteria.of_run(policy, summarize(record), document)
    return [
        Criterion(f"{policy.tests[name].title}: {one.name}", one.seen, one.wanted, one.verdict)
        for name, outcome in outcomes.items()
        for one in outcome.judgements
    ]


def contents(record: Record, form: Form, found: Sequence[Criterion] = ()) -> bytes:
    """The report of one run as it stands in a file. found: the criteria of the test that the run was, where somebody judged them.

    RelevoError where a PDF cannot be made on this machine.
    """
    if form is Form.PDF:
        return paper.print_page(_page(record, found, paged=True))
    return render(record, form, found).encode("utf-8", "replace")


def render(record: Record, form: Form, found: Sequence[Criterion] = (), links: Sequence[Link] = ()) -> str:
    """The report of one run as text; of a PDF the page that is printed. links: from a page that is one of several to the others."""
    if form is Form.JSON:
        return json.dumps(record.document(), ensure_ascii=False, indent=2, sort_keys=True) + "\n"
    if form is Form.JUNIT:
        return junit.render(record, found)
    if form is Form.MARKDOWN:
        return _templates(as_cell).get_template("report.md.j2").render(_view(record, found, paged=False)).rstrip() + "\n"
    return _page(record, found, paged=form is Form.PDF, links=links)


def _page(record: Record, found: Sequence[Criterion], *, paged: bool, links: Sequence[Link] = ()) -> str:
    """paged: with what stands on top of each sheet of paper."""
    template = _templates(as_printed if paged else as_shown).get_template("report.html.j2")
    return template.render(_view(record, found, paged=paged), links=links).rstrip() + "\n"


@cache
def _templates(finalize: Callable[[Any], Any]) -> Environment:
    """Those of reports, made once: a dashboard has hundreds of them."""
    environment = templates(finalize)
    environment.filters.update(words=words, longest=lambda text: max(map(len, text.split()), default=0))
    return environment


def templates(finalize: Callable[[Any], Any]) -> Environment:
    """How pages are filled in: what is not known is an error, and what a host says is no markup."""
    environment = Environment(
        loader=PackageLoader("relevo"),
        autoescape=select_autoescape(("html.j2",), default=False),
        undefined=StrictUndefined,
        finalize=finalize,
    )
    environment.filters.update(
        seconds=wording.seconds,
        moment=wording.moment,
        time_of_day=wording.time_of_day,
        numbers=wording.numbers,
        size=wording.size,
        number=wording.number,
        whole=unbroken if finalize is as_shown else _as_it_is,
    )
    return environment


def _as_it_is(value: Any) -> Any:
    """Paper breaks lines where a reader would, and Markdown leaves it to others."""
    return value


def as_shown(value: Any) -> Any:
    """What a host says, without the characters that would turn, hide or end the text around it."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else wording.visible(value)


def unbroken(value: Any) -> Any:
    """As :func:`as_shown`, for a screen: days, moments, durations and ids of runs stay on one line each."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    text = wording.visible(value)
    between, found = _WHOLE.split(text), _WHOLE.findall(text)
    spans = (Markup('<span class="once">{}</span>{}').format(*pair) for pair in zip(found, between[1:], strict=True))
    return Markup("").join([between[0], *spans])


def as_printed(value: Any) -> Any:
    """As :func:`as_shown`, of a length that a sheet holds; a long word may be broken, for which the engine would try each letter."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    text = wording.visible(value)
    text = text if len(text) <= _LONGEST_ON_PAPER else f"{text[:_LONGEST_ON_PAPER]} … (cut: --format html shows all)"
    return _LONG_WORD.sub(lambda word: _PIECE.sub("\\g<0>\u200b", word[0]), text)


def _filled(items: Sequence[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    """What modules said, with an empty place for what they left out."""
    return [dict.fromkeys(names, "") | {name: value for name, value in item.items() if value is not None} for item in items]


def _view(record: Record, found: Sequence[Criterion], *, paged: bool) -> dict[str, Any]:
    most = _MOST_ON_PAPER if paged else None
    parts = record.measures.get("rto_breakdown") or []
    return {
        "record": record,
        "title": story.title(record),
        "mood": MOODS[record.verdict],
        "kind": story.kind(record),
        "overlap": story.overlap_sentence(record.measures.get("writable_overlap_seconds")),
        "reasons": _reasons(record),
        "sentences": story.sentences(record),
        "cards": story.cards(record),
        "pictures": _pictures(record, paged=paged),
        "paged": paged,
        "most": most,
        "most_reasons": _MOST_REASONS_ON_PAPER if paged else None,
        "phases": _filled(record.phases, "name", "host", "started_at", "ended_at", "duration_seconds", "outcome", "detail"),
        "probes": _filled(record.fence["probes"], "host", "vantage", "method", "address", "at", "result"),
        "failures": _filled(
            [failure for failure in record.failures if not _is_reason(str(failure.get("message")), record)],
            "at",
            "host",
            "task",
            "message",
            "tolerated",
        ),
        "parts": parts,
        "longest": max((part["seconds"] for part in parts), default=0) or 1,
        "ledger": record.measures["ledger"],
        "observers": _observers(record.measures.get("observers")),
        "fence_meaning": story.FENCES.get(str(record.fence.get("class")), ""),
        "criteria": found,
        "tables": particulars.tables(record),
        "gates": gates_in_order(record),
        "gate_moods": GATE_MOODS,
        "passed_gates": sum(gate.get("verdict") in {"pass", "not_applicable"} for gate in record.gates),
        "basis": _basis(record),
        "unobserved": wording.UNOBSERVED,
        "verify_time": f"{parse_utc(record.closed_at):%Y%m%d%H%M%SZ}",
    }


def _pictures(record: Record, *, paged: bool) -> list[tuple[str, picture.Picture]]:
    """The timeline for a wide screen and a narrow one; paper is wide."""
    sheets = {"wide": picture.WIDE} if paged else {"wide": picture.WIDE, "narrow": picture.NARROW}
    drawn = {name: picture.draw(record, sheet) for name, sheet in sheets.items()}
    return [(name, found) for name, found in drawn.items() if found is not None]


def gates_in_order(record: Record, wanted: Collection[str] = ()) -> list[dict[str, Any]]:
    """The gates, or those of the wanted verdicts, with an empty place for what nobody said; what needs an eye comes first.

    A verdict that nobody knows counts as unknown.
    """
    gates = _filled(record.gates, "id", "title", "host", "observed", "expected", "verdict", "next_action")
    gates.sort(key=lambda gate: _rank(str(gate["verdict"])))
    return [gate for gate in gates if not wanted or (gate["verdict"] if gate["verdict"] in _GATE_ORDER else "unknown") in wanted]


def _is_reason(message: str, record: Record) -> bool:
    return any(reason.endswith(message) for reason in record.verdict_reasons)


def _reasons(record: Record) -> list[str]:
    """The reasons of the verdict; that a phase failed of what its task has said already is not said again."""
    kept: list[str] = []
    for reason in together(record):
        _, failed, why = reason.partition(" ended as failed: ")
        if not (failed and any(why.rstrip(".") in earlier for earlier in kept)):
            kept.append(reason)
    return kept


def together(record: Record) -> list[str]:
    """The reasons of the verdict; what the same task said of several hosts is said once, with all their names."""
    by_words: dict[str, list[str]] = {}
    failed = {failure.get("host") for failure in record.failures}
    for reason in record.verdict_reasons:
        host, said, why = reason.partition(": ")
        if said and host in failed:
            by_words.setdefault(f": {why}", []).append(host)
        else:
            by_words.setdefault(reason, [""])
    return [f"{', '.join(hosts)}{words}" for words, hosts in by_words.items()]


def _rank(verdict: str) -> int:
    return _GATE_ORDER.index(verdict) if verdict in _GATE_ORDER else 1


def _observers(value: Any) -> list[dict[str, Any]]:
    """One row per observer and address."""
    rows = []
    for entry in value if isinstance(value, list) else []:
        for address, seen in (entry.get("addresses") or {}).items():
            rows.append({**seen, "observer": entry.get("observer"), "address": address})
    return _filled(rows, "observer", "address", "accepted", "first_accepted_at", "last_accepted_at")


def _basis(record: Record) -> list[tuple[str, Fact]]:
    digests = record.digests
    commit = str(digests.get("commit") or wording.UNOBSERVED) + (" with uncommitted changes" if digests.get("commit_dirty") else "")
    versions = ", ".join(f"{name} {version}" for name, version in sorted(record.versions.items()) if version)
    rows = [
        ("Run", Fact(record.run_id, code=True)),
        ("Continues", Fact(record.parent_run_id or "", code=True)),
        ("Began, ended", Fact(f"{wording.moment(record.opened_at)}, {wording.moment(record.closed_at)}")),
        ("Operator, controller", Fact(f"{record.operator} on {record.controller}")),
        ("Requested by", Fact(_listed(record.run.get("requester")))),
        ("Approver", Fact(record.approver or "")),
        ("Change ticket", Fact(_listed(record.run.get("ticket")))),
        ("Scenario", Fact(_listed(record.run.get("scenario")))),
        ("Business impact analysis", Fact(_listed(record.run.get("bia")))),
        ("Exercise", Fact(_listed(record.run.get("exercise")), code=True)),
        ("Participants", Fact(_listed(record.run.get("participants")))),
        ("Observers", Fact(_listed(record.run.get("observers")))),
        ("Third parties involved", Fact(_listed(record.run.get("third_parties")))),
        ("Accepted by name", Fact(story.accepted(record))),
        ("Reason given", Fact(str(record.run.get("reason") or ""))),
        ("T0 known from", Fact(str(record.measures.get("t0_source") or ""))),
        ("Cluster's system identifier", Fact(_listed(record.run.get("system_identifier")), code=True)),
        ("Stanza", Fact(_listed(record.run.get("stanza")), code=True)),
        ("Clocks, against the controller", Fact(_clocks(record))),
        ("Versions", Fact(versions)),
        ("Commit", Fact(commit, code=True)),
        ("Inventory, SHA-256", Fact(str(digests.get("inventory") or ""), code=True)),
        ("Journal, SHA-256", Fact(str(digests.get("events") or ""), code=True)),
        ("Output, SHA-256", Fact(str(digests.get("log") or ""), code=True)),
        ("Signed by", Fact(str(record.signature.get("key") or ""), code=True)),
    ]
    return [(name, fact) for name, fact in rows if fact.text]


def _listed(value: Any) -> str:
    """What was typed: a text, or a list of texts."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")


def _clocks(record: Record) -> str:
    offsets = record.measures.get("clock_offset_seconds")
    known = offsets.items() if isinstance(offsets, dict) else ()
    return ", ".join(f"{host} {seconds:+.3f} s" for host, seconds in sorted(known) if isinstance(seconds, (int, float)))


def words(value: Any) -> str:
    """Any JSON value in a table: text as it is, a tree as JSON."""
    if value is None or value == "":
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def as_cell(value: Any) -> str:
    """Text that is no Markdown: it fits in a cell of a table, and what a host says is never markup."""
    return _MARKDOWN.sub(lambda found: _ESCAPED[found[0]], " ".join(wording.visible(str(value)).split()))
