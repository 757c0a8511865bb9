"""One event of a playbook run, whichever feed told it: ansible-runner's event handler or the callback plugin."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from relevo.clock import parse_utc, utc, utc_now

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from relevo.redact import Redactor

KEPT = frozenset({
    "playbook_on_start",
    "playbook_on_play_start",
    "playbook_on_task_start",
    "playbook_on_no_hosts_matched",
    "runner_on_ok",
    "runner_on_failed",
    "runner_on_unreachable",
    "runner_on_skipped",
    "playbook_on_stats",
})  # fmt: skip
COUNTS = ("ok", "changed", "failures", "dark", "ignored", "rescued", "skipped")
_LONGEST_MESSAGE = 4000


@dataclass(frozen=True, slots=True)
class Event:
    """What the record needs of one event.

    at, start, end: ISO 8601 UTC; duration: seconds; said: the `relevo` data of the result, one entry per loop item;
    counts: of the closing statistics, {"ok": {"a-db1": 3}, ...}; dropped: the last word of a failed task was ignored.
    """

    event: str
    at: str
    play: str | None = None
    task: str | None = None
    role: str | None = None
    host: str | None = None
    start: str | None = None
    end: str | None = None
    duration: float | None = None
    changed: bool = False
    ignored: bool = False
    message: str | None = None
    said: tuple[dict[str, Any], ...] = ()
    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    def line(self) -> dict[str, Any]:
        """The event as a journal line: only what is there."""
        return {key: value for key, value in asdict(self).items() if value not in (None, False, (), {})}


def from_line(line: Mapping[str, Any]) -> Event:
    """The inverse of :meth:`Event.line`; unknown keys of a newer version are left out."""
    known = {key: value for key, value in line.items() if key in Event.__dataclass_fields__}
    known["said"] = tuple(known.get("said", ()))
    return Event(**known)


def from_runner(raw: Mapping[str, Any], redactor: Redactor) -> Event | None:
    """An event of ansible-runner's shape without secrets; None for the kinds that no record needs."""
    kind = raw.get("event")
    if kind not in KEPT:
        return None
    data: Mapping[str, Any] = raw.get("event_data") or {}
    result = data.get("res")
    result = result if isinstance(result, dict) else {}
    message = _message(result) if kind in {"runner_on_failed", "runner_on_unreachable"} else None
    return Event(
        event=str(kind),
        at=_time(raw.get("created")) or utc_now(),
        play=_word(data.get("name") if kind == "playbook_on_play_start" else data.get("play"), redactor),
        task=_word(data.get("task"), redactor),
        role=_word(data.get("role"), redactor),
        host=_word(data.get("host"), redactor),
        start=_time(data.get("start")),
        end=_time(data.get("end")),
        duration=data.get("duration"),
        changed=bool(result.get("changed")),
        ignored=bool(data.get("ignore_errors")),
        message=redactor.text(message)[:_LONGEST_MESSAGE] if message else None,
        said=tuple(redactor.tree(item) for item in _said(result)),
        counts={name: redactor.tree(data.get(name) or {}) for name in COUNTS} if kind == "playbook_on_stats" else {},
    )


def _word(name: Any, redactor: Redactor) -> str | None:
    """A title or a name: Ansible renders templates in them, and what a template shows may be a secret."""
    return redactor.text(str(name)) if name is not None else None


def _said(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The `relevo` data of a result: of its own, of each loop item, or of a set_stats task."""
    stats = result.get("ansible_stats")
    told = stats.get("data") if isinstance(stats, dict) else None
    for holder in (result, told):
        if isinstance(holder, dict) and isinstance(holder.get("relevo"), dict):
            yield holder["relevo"]
            break
    items = result.get("results")
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict):
            yield from _said(item)


def _message(result: Mapping[str, Any]) -> str:
    items = result.get("results")
    failed = [item for item in items if isinstance(item, dict) and item.get("failed")] if isinstance(items, list) else []
    if failed:
        return "; ".join(_message(item) for item in failed)
    return str(result.get("msg") or result.get("censored") or "no message")


def _time(value: Any) -> str | None:
    """The runner's times: with an offset, or UTC without one."""
    if not isinstance(value, str) or not value:
        return None
    zoned = value if value.endswith("Z") or "+" in value[10:] else f"{value}+00:00"
    return utc(parse_utc(zoned))
