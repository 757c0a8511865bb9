"""The state of a cluster as it was just observed, in a terminal. Tolerant: what a check did not say is not shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from relevo import wording

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from relevo.armed import Waiting
    from relevo.record import Record

_TOLD_APART = {
    "primary",
    "primaries",
    "protected",
    "restorable",
    "restore_proven",
    "history_error",
    "next",
    "interrupted_run",
    "lock",
    "hosts",
    "unsafe",
}
_COLUMNS = ("site", "role", "state", "timeline", "lsn", "lag_seconds", "fence", "guard")
_TITLES = {"lsn": "position", "lag_seconds": "lag"}


def show(console: Console, cluster: str, record: Record, unfinished: Record | None, waiting: Sequence[Waiting] = ()) -> None:
    """Print the state. unfinished: the newest recorded run of the cluster, when it was cut off; waiting: its armed runs."""
    state = record.status
    console.print(Text.assemble((cluster, "bold"), f"  observed {wording.moment(record.closed_at)}"))
    facts = Table.grid(padding=(0, 2))
    for name, value, style in _facts(state, unfinished, waiting):
        facts.add_row(Text(f"  {name}", "dim"), Text(value, style))
    console.print(facts)
    hosts = state.get("hosts")
    if isinstance(hosts, dict) and hosts:
        console.print(_hosts(hosts))
    for gate in record.gates:
        if gate.get("verdict") not in {"pass", "not_applicable"}:
            line = f"  {gate.get('id')} on {gate.get('host')}: {gate.get('verdict')}. Observed {gate.get('observed')}; expected {gate.get('expected')}."
            console.print(Text(line, "red" if gate.get("verdict") == "fail" else "yellow"))
    passed = sum(gate.get("verdict") in {"pass", "not_applicable"} for gate in record.gates)
    if record.gates:
        console.print(Text(f"  {passed} of {len(record.gates)} gates hold or do not apply", "dim"))
    if not state:
        for reason in record.verdict_reasons:
            console.print(Text(f"  {reason}", "red"))


def _facts(state: Mapping[str, Any], unfinished: Record | None, waiting: Sequence[Waiting]) -> list[tuple[str, str, str]]:
    primaries = state.get("primaries")
    several = isinstance(primaries, list) and len(primaries) > 1
    primary = ", ".join(map(str, primaries)) if several and primaries else str(state.get("primary") or "none answers")
    facts = [("primary", primary, "bold red" if several else "green" if state.get("primary") else "red")]
    if "protected" in state:
        facts.append(("protected", *_yes_or_no(state["protected"])))
    facts += _past(state)
    facts += _runs(state, unfinished, waiting)
    for name, value in state.items():
        if name not in _TOLD_APART:
            facts.append((name.replace("_", " "), _plain(value), ""))
    unsafe = state.get("unsafe")
    if isinstance(unsafe, list):
        facts += [("" if number else "unsafe", str(said), "red") for number, said in enumerate(unsafe)] or [
            ("unsafe", "nothing", "green")
        ]
    if state.get("next"):
        facts.append(("next", str(state["next"]), "bold"))
    return facts


def _runs(state: Mapping[str, Any], unfinished: Record | None, waiting: Sequence[Waiting]) -> list[tuple[str, str, str]]:
    """Those that are at work, were cut off, or wait for a word."""
    facts: list[tuple[str, str, str]] = []
    lock = state.get("lock")
    if isinstance(lock, dict):
        facts.append(("lock", _pairs(lock), "yellow"))
    elif "lock" in state:
        facts.append(("lock", "free", ""))
    if state.get("interrupted_run"):
        facts.append(("interrupted run", str(state["interrupted_run"]), "red"))
    elif unfinished is not None:
        facts.append(("newest run", f"{unfinished.run_id} was interrupted: {' '.join(unfinished.verdict_reasons)}", "yellow"))
    for run in waiting:
        word = f"{len(run.red)} gates in the way of relevo go" if run.red else "waits for relevo go"
        facts.append(("armed", f"{run.run_id}: {word if run.ready else 'getting ready'}", "yellow"))
    return facts


def _past(state: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """To which second can be restored, and when that was last proven; never is said plainly."""
    if state.get("history_error"):
        return [("restorable", f"not known: {state['history_error']}", "yellow")]
    facts = []
    if "restorable" in state:
        lines = _windows(state["restorable"])
        facts += [("" if number else "restorable", said, style) for number, (said, style) in enumerate(lines)]
    if "restore_proven" in state:
        proven = state["restore_proven"]
        said = f"{_when(proven)}, up to: {proven.get('proven_up_to')}" if isinstance(proven, dict) else "never"
        facts.append(("restore proven", said, "" if isinstance(proven, dict) else "red"))
    return facts


def _windows(known: Any) -> list[tuple[str, str]]:
    """A line for each repository, and as of when that is."""
    if not isinstance(known, dict):
        return [("never verified", "red")]
    repositories = known.get("repositories") or {}
    lines = [
        (f"repository {number}: {_window(window)}", "" if window.get("from") else "red") for number, window in repositories.items()
    ]
    lines += [(str(said), "red") for said in known.get("unreadable") or []]
    passed = known.get("verdict") == "passed"
    return [
        *lines,
        (
            f"as verified {_when(known)}, which {'passed' if passed else 'ended as ' + str(known.get('verdict'))}",
            "" if passed else "red",
        ),
    ]


def _window(window: Mapping[str, Any]) -> str:
    if not window.get("from"):
        return "no usable backup"
    until = wording.moment(window["until"]) if window.get("until") else "an unproven end"
    return f"from {wording.moment(window['from'])} until {until}"


def _when(known: Mapping[str, Any]) -> str:
    return f"{wording.seconds(known.get('age_seconds'))} ago by run {known.get('run_id')}"


def _yes_or_no(value: Any) -> tuple[str, str]:
    if value is None:
        return wording.UNOBSERVED, "yellow"
    return ("yes", "green") if value else ("no", "bold red")


def _hosts(hosts: Mapping[str, Any]) -> Table:
    """One line per host; a column for whatever at least one host says."""
    said = [set(entry) for entry in hosts.values() if isinstance(entry, dict)]
    names = set().union(*said)
    columns = [name for name in _COLUMNS if name in names] + sorted(names - set(_COLUMNS))
    # Nothing is learnt from a column that is empty, or where all hosts are the same by design.
    columns = [name for name in columns if name != "system_identifier" and any(_plain(entry.get(name)) for entry in hosts.values())]
    table = Table(box=None, header_style="dim")
    for title in ("host", *columns):
        table.add_column(_TITLES.get(title, title.replace("_", " ")), overflow="fold")
    for host, entry in hosts.items():
        cells = (
            wording.seconds(entry[name]) if name == "lag_seconds" and entry.get(name) is not None else _plain(entry.get(name))
            for name in columns
        )
        table.add_row(Text(str(host), "bold"), *(Text(cell) for cell in cells))
    return table


def _plain(value: Any) -> str:
    if value in (None, [], {}):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return _pairs(value)
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value)


def _pairs(value: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_plain(item)}" for name, item in value.items() if item is not None)
