"""Word of one run for people who were not there: what happened, what to do, where to read more. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from relevo import clock, report, story, wording

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relevo.record import Objective, Record

# More than a screen is read by nobody, and chat services cut it anywhere.
_MOST_GATES = 12
_LONGEST = 600
_LONGEST_TITLE = 150


@dataclass(frozen=True)
class Notice:
    """One message in both forms. mood: good | doubt | bad."""

    title: str
    page: str
    text: str
    mood: str


@dataclass(frozen=True)
class Attachment:
    """A file that goes with a message."""

    name: str
    contents: bytes


@dataclass(frozen=True)
class History:
    """What the store says of the runs before. passed_at: None when none ever passed; known: whether it could be asked."""

    passed_at: str | None = None
    passed_run: str | None = None
    known: bool = True
    over: bool = False


def compose(record: Record, history: History, footnote: str = "") -> Notice:
    """The message about a run. history.over: it is the first one that passed after others that did not; footnote: of the message itself."""
    gates = report.gates_in_order(record, {"fail", "unknown", "accepted"})
    reasons = [reason for reason in report.together(record) if not any(_tells(reason, gate) for gate in gates)]
    templates = environment()
    templates.filters.update(moment=wording.moment, seconds=wording.seconds, said=_said)
    view = {
        "record": record,
        "title": story.title(record),
        "mood": report.MOODS[record.verdict],
        "lead": " ".join([*(["It passes again."] if history.over else []), *story.sentences(record)]),
        "objectives": [(wording.NAMES.get(one.name, one.name), wording.judged(one)) for one in _measured(record)],
        "reasons": [_said(reason) for reason in reasons],
        "gates": gates[:_MOST_GATES],
        "more": len(gates) - _MOST_GATES,
        "gate_moods": report.GATE_MOODS,
        "gate_words": {"fail": "fails", "unknown": "unknown", "accepted": "accepted by name"},
        "holding": sum(gate.get("verdict") in {"pass", "not_applicable"} for gate in record.gates),
        "unobserved": wording.UNOBSERVED,
        "last_passed": _last_passed(record, history),
        "footnote": footnote,
    }
    return Notice(
        title=_title(record, gates, reasons, history),
        page=templates.get_template("notice.html.j2").render(view),
        text=templates.get_template("notice.txt.j2").render(view).strip() + "\n",
        mood=report.MOODS[record.verdict],
    )


def environment() -> Environment:
    """How the words of this package are filled in: what is not known is an error, and pages are escaped."""
    return Environment(
        loader=PackageLoader("relevo"),
        autoescape=select_autoescape(("html.j2",), default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _tells(reason: str, gate: dict[str, Any]) -> bool:
    """Whether a reason of the verdict says no more than a gate, which is shown with its next action anyway."""
    observed = rf"observed:? {re.escape(report.words(gate['observed']))};"
    return reason.startswith(f"Gate {gate['id']} on {gate['host']} ") or re.search(observed, reason, re.IGNORECASE) is not None


def _title(record: Record, gates: Sequence[dict[str, Any]], reasons: Sequence[str], history: History) -> str:
    """Verdict first, then what and where, then the worst of it: all that a telephone shows."""
    verdict = "PASSED again" if history.over else record.verdict.upper()
    about = f"{verdict}: {record.runbook.replace('_', ' ')}{f' of {record.cluster}' if record.cluster else ''}"
    # What somebody accepted by name is not why a run failed.
    if gates and (not reasons or gates[0]["verdict"] != "accepted"):
        worst = gates[0]
        rest = f" and {len(gates) - 1} more:" if len(gates) > 1 else ":"
        about += f" - {worst['title'] or worst['id']} on {worst['host']}{rest} {report.words(worst['observed'])}"
    elif reasons:
        about += f" - {reasons[0]}"
    about = " ".join(wording.visible(about).split())
    return about if len(about) <= _LONGEST_TITLE else f"{about[: _LONGEST_TITLE - 1]}…"


def _measured(record: Record) -> Sequence[Objective]:
    """The objectives, where there was a recovery to measure."""
    return record.objectives if story.owes_recovery(record) else ()


def _last_passed(record: Record, history: History) -> str:
    what = f"{record.runbook.replace('_', ' ')}{f' of {record.cluster}' if record.cluster else ''}"
    if record.verdict == "passed":
        return ""
    if not history.known:
        return "When it last passed is not known: the store of results did not answer."
    if history.passed_at is None:
        return f"No {what} has ever passed, as far as the store of results knows."
    ago = wording.seconds(clock.seconds_between(history.passed_at, record.closed_at))
    return f"It last passed {ago} before this run ended: {wording.moment(history.passed_at)}, run {history.passed_run}."


def _said(value: Any, nothing: str = "–") -> str:
    """What a host said, on one line and of a bearable length."""
    text = nothing if value in (None, "") else " ".join(wording.visible(report.words(value)).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
