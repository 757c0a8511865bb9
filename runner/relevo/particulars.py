"""What a runbook measured beside the recovery itself: restore tests, backups, files, what was sealed. As tables in words; pure.

Tolerant: what a module did not say, or said in another shape, is not shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relevo import wording

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from relevo.record import Record

_HOST_COLUMNS = ("site", "role", "state", "timeline", "lsn", "lag_seconds", "fence", "guard")
# The share of requests that a P95 is about.
_P95 = 0.95
_HOST_TITLES = {"lsn": "position", "lag_seconds": "lag"}


@dataclass(frozen=True)
class Table:
    """One table. columns: titles, none for a list of names and values; numbers: indices of the columns that are set to the right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()
    lead: str = ""


def tables(record: Record) -> list[Table]:
    """The tables of a record that have a row."""
    measures = record.measures
    found = [
        *(_restore_test(test) for test in listed(measures.get("restore_tests"))),
        _window(measures.get("restore_window")),
        _backups(measured(measures.get("backups"))),
        _verified(measured(measures.get("backup_verification"))),
        *_files(measured(measures.get("files"))),
        _promotion(measures),
        _application(measures),
        *(_salvaged(host, kept) for host, kept in _each(measures.get("salvage"))),
        _rebuilt(measures),
        _hosts(measured(record.status.get("hosts"))),
    ]
    return [table for table in found if table.rows]


def measured(value: Any) -> dict[str, Any]:
    """What was said under a name, when it is a tree."""
    return value if isinstance(value, dict) else {}


def listed(value: Any) -> list[dict[str, Any]]:
    """The trees in a list."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _each(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, entry in measured(value).items():
        if isinstance(entry, dict):
            yield str(name), entry


def _known(*facts: tuple[str, str | None]) -> tuple[tuple[str, ...], ...]:
    """The facts that somebody observed."""
    return tuple((name, said) for name, said in facts if said and said != wording.UNOBSERVED)


def _text(value: Any) -> str | None:
    return None if value in (None, "", [], {}) else " ".join(str(value).split())


def _joined(values: Any) -> str | None:
    return ", ".join(str(value) for value in values) or None if isinstance(values, list) else None


def _sentence(form: str, said: Mapping[str, Any]) -> str | None:
    """A sentence of several facts; None when one of them was not said."""
    known = {name: _text(value) for name, value in said.items()}
    try:
        sentence = form.format_map({name: value for name, value in known.items() if value})
    except KeyError:
        return None
    return sentence


def _said_of(value: Any, yes: str, no: str) -> str | None:
    return None if value is None else yes if value is True else no


def _restore_test(test: Mapping[str, Any]) -> Table:
    rungs = [rung for rung in listed(test.get("rungs")) if rung.get("seconds") and rung.get("name")]
    rate = test.get("restore_bytes_per_second")
    copied = "only what had changed in an older copy" if test.get("delta") else "the whole backup"
    restored = f"{wording.size(test.get('restored_bytes'))} in {wording.seconds(test.get('restore_seconds'))}, {copied}"
    live = f" for the live database of {wording.size(test['live_bytes'])}" if test.get("live_bytes") else ""
    return Table(
        f"Restore test: backup {_text(test.get('label')) or wording.UNOBSERVED}, repository {_text(test.get('repository')) or '–'}",
        (),
        _known(
            ("Result", _text(test.get("verdict"))),
            ("Proven up to", _text(test.get("proven_up_to"))),
            ("Restored to", _text(test.get("target"))),
            ("Restored", restored if test.get("restored_bytes") is not None else None),
            ("Rate", f"{wording.size(rate)} a second" if rate is not None else None),
            ("Replay of the WAL", wording.seconds(test.get("replay_seconds"))),
            ("Replayed to", _text(test.get("replayed_to_lsn"))),
            ("Newest commit in the copy", wording.moment(test.get("last_commit_at"))),
            ("End of the backup", wording.moment(test.get("backup_stopped_at"))),
            ("Newest commit in the archive", wording.moment(test.get("archive_end_commit_at"))),
            ("Data loss window of this restore", wording.seconds(test.get("rpo_seconds"))),
            (
                "Predicted recovery time",
                f"{wording.seconds(test['predicted_rto_seconds'])}{live}"
                if test.get("predicted_rto_seconds") is not None
                else None,
            ),
            ("Time of each proof", ", ".join(f"{rung['name']} {wording.seconds(rung['seconds'])}" for rung in rungs)),
        ),
    )


def _window(lines: Any) -> Table:
    """To which times can be restored, a row for each repository and timeline."""
    rows = []
    for line in lines if isinstance(lines, list) else ():
        place, _, stretches = str(line).partition(": ")
        rows += [(place, wording.with_moments(stretch)) for stretch in stretches.split("; ") if stretch]
    return Table("What can be restored", ("Repository", "Stretch"), tuple(rows))


def _backups(backups: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            name.replace("_", " "),
            _text(backup.get("label")) or "–",
            _text(backup.get("type")) or "–",
            wording.size(backup.get("size_bytes")),
            wording.size(backup.get("copied_bytes")),
            wording.size(backup.get("repository_bytes")),
            wording.seconds(backup.get("duration_seconds")),
            _text(backup.get("copied_from")) or wording.UNOBSERVED,
        )
        for name, backup in _each(backups)
    )
    columns = ("Where", "Backup", "Kind", "Database", "Copied", "Stored", "Time", "Copied from")
    return Table("Backups that were taken", columns, rows, frozenset({3, 4, 5, 6}))


def _verified(repositories: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            number,
            _text(seen.get("backups")) or "0",
            _range(seen.get("restorable_from"), seen.get("restorable_until")),
            _text(seen.get("coverage")) or wording.UNOBSERVED,
            (
                f"{wording.count(seen.get('objects_read'), 'object')}, {wording.size(seen.get('bytes_read'))}"
                f" of {wording.count(seen.get('objects'), 'object')}, {wording.size(seen.get('bytes'))}"
            ),
            wording.seconds(seen.get("seconds")),
        )
        for number, seen in _each(repositories)
    )
    columns = ("Repository", "Backups", "Restorable", "Coverage", "Read in full", "Time")
    return Table("Backups that were verified", columns, rows, frozenset({1, 5}))


def _range(begin: Any, end: Any) -> str:
    if not begin:
        return "nothing"
    return f"from {wording.moment(begin)} until {wording.moment(end) if end else 'an unproven end'}"


def _files(hosts: Mapping[str, Any]) -> list[Table]:
    """Three shapes: snapshots by set and repository, repositories that were read, and what was restored."""
    taken, read, restored = [], [], []
    for host, sets in _each(hosts):
        for name, entry in sets.items():
            if name == "restored":
                restored += [_restored_files(host, kind, one) for kind, one in _each(entry)]
            elif isinstance(entry, dict) and "age_seconds" in entry:
                read.append(_read_files(host, name, entry))
            else:
                taken += [_snapshot(host, str(name), number, one) for number, one in _each(entry)]
    return [
        Table(
            "Snapshots of files that were taken",
            ("Host", "Set", "Repository", "Snapshot", "Files", "Size", "Added", "Time", "Outcome"),
            tuple(taken),
            frozenset({4, 5, 6, 7}),
        ),
        Table(
            "Snapshots of files that were verified",
            ("Host", "Repository", "Snapshots", "Age of the newest", "Read in full", "Time"),
            tuple(read),
            frozenset({2, 5}),
        ),
        Table(
            "Files that were restored",
            ("Host", "Set", "Snapshot", "Age", "Entries", "Size", "Time", "Compared with the host"),
            tuple(restored),
            frozenset({3, 4, 5, 6}),
        ),
    ]


def _snapshot(host: str, name: str, number: str, one: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        host,
        name,
        number,
        (_text(one.get("snapshot")) or "–")[:8],
        wording.number(one.get("files")),
        wording.size(one.get("bytes")),
        wording.size(one.get("added_bytes")),
        wording.seconds(one.get("seconds")),
        _text(one.get("outcome")) or wording.UNOBSERVED,
    )


def _read_files(host: str, number: str, one: Mapping[str, Any]) -> tuple[str, ...]:
    ages = [f"{name} {wording.seconds(age)}" for name, age in measured(one.get("age_seconds")).items()]
    return (
        host,
        number,
        wording.number(one.get("snapshots")),
        ", ".join(ages) or wording.UNOBSERVED,
        _text(one.get("read")) or wording.UNOBSERVED,
        wording.seconds(one.get("seconds")),
    )


def _restored_files(host: str, kind: str, one: Mapping[str, Any]) -> tuple[str, ...]:
    canaries = one.get("canaries")
    return (
        host,
        kind,
        (_text(one.get("id") or one.get("snapshot")) or "–")[:8],
        wording.seconds(one.get("age_seconds")),
        wording.number(one.get("entries")),
        wording.size(one.get("bytes")),
        wording.seconds(one.get("seconds")),
        wording.count(len(canaries), "file") if isinstance(canaries, list) else wording.UNOBSERVED,
    )


def _promotion(measures: Mapping[str, Any]) -> Table:
    """Lineage: which timeline forked from which, where, and by what right."""
    promotion, handover = measured(measures.get("promotion")), measured(measures.get("handover"))
    before = measured(measures.get("loss_before_promotion"))
    loss = (
        f"{wording.count(before.get('transactions'), 'transaction')}, {wording.seconds(before.get('seconds'))}" if before else None
    )
    fork = _sentence("timeline {timeline} forks from {parent} at {fork_lsn}", promotion) or _sentence(
        "timeline {timeline}, forked at {fork_lsn}", promotion
    )
    left_out = _joined(measured(measures.get("repositories")).get("left_out"))
    return Table(
        "Promotion",
        (),
        _known(
            ("Way", _text(measures.get("path"))),
            ("Promoted", wording.moment(promotion.get("promoted_at"))),
            ("Lineage", fork),
            ("Replayed to", _text(measures.get("replay_lsn"))),
            ("The archive", _said_of(measures.get("archive_replayed"), "replayed to its end", "not replayed to its end")),
            ("Handed over", wording.moment(handover.get("at"))),
            ("Shut down at", _sentence("{shutdown_lsn} on timeline {timeline}", handover)),
            ("Missing before the promotion", loss),
            ("Repositories left out", left_out),
        ),
    )


def _application(measures: Mapping[str, Any]) -> Table:
    """What users felt, from outside; the numbered writes are there on both sides of an outage that nobody saw coming."""
    proof, writes = measured(measures.get("application")), measured(measures.get("writes"))
    count, failed = proof.get("requests"), proof.get("failed_requests")
    requests = f"{count} in {wording.seconds(proof.get('window_seconds'))}, {failed} failed"
    answered = wording.seconds(proof.get("p95_seconds"))
    # Records of before counted a failure with the time that it took.
    if isinstance(count, int) and isinstance(failed, int) and failed > (1 - _P95) * count:
        answered = f"no time: {failed} of {count} failed"
    return Table(
        "The application as its users found it",
        (),
        _known(
            ("Endpoints", _joined(proof.get("endpoints"))),
            ("Login of a user", _text(proof.get("login"))),
            ("Nonce written through it, on the new primary", _text(proof.get("nonce"))),
            ("Requests", requests if count is not None else None),
            ("Answered, 95 of 100 within", answered),
            ("Answered before, 95 of 100 within", wording.seconds(proof.get("p95_before_seconds"))),
            ("Acknowledged writes, 95 of 100 within, before the outage", wording.seconds(writes.get("p95_before_seconds"))),
            ("The same, after it", wording.seconds(writes.get("p95_after_seconds"))),
        ),
    )


def _salvaged(host: str, kept: Mapping[str, Any]) -> Table:
    """What only the old primary has."""
    relations = [
        f"{name}: {', '.join(f'{wording.number(count)} {verb}' for verb, count in changes.items())}"
        for name, changes in _each(kept.get("relations"))
    ]
    missing = _joined(kept.get("missing"))
    return Table(
        f"What only {host} had, sealed",
        (),
        _known(
            ("Committed transactions", wording.number(kept.get("committed"))),
            ("Without an end", wording.number(len(kept["unfinished"])) if isinstance(kept.get("unfinished"), list) else None),
            ("WAL", _sentence("{fork_lsn} to {end_lsn} of timeline {timeline}", kept)),
            ("Size", wording.size(kept.get("bytes"))),
            ("Whole", _said_of(kept.get("complete"), "yes", f"no: {missing or 'a part is missing'}")),
            ("Rows", "; ".join(relations) or None),
            ("Kept in", _text(kept.get("directory"))),
            ("SHA-256", _text(kept.get("digest"))),
        ),
    )


def _rebuilt(measures: Mapping[str, Any]) -> Table:
    rows: list[tuple[str, ...]] = []
    for host, rebuild in _each(measures.get("rebuild")):
        ways = [
            f"{name} {wording.seconds(way.get('predicted_seconds'))}"
            if not way.get("obstacle")
            else f"{name} impossible: {way['obstacle']}"
            for name, way in _each(rebuild.get("ways"))
        ]
        failed = [f"{name}: {reason}" for name, reason in measured(rebuild.get("failed")).items()]
        rows += _known(
            (
                f"Data of {host} came back",
                f"by {rebuild['method']} in {wording.seconds(rebuild.get('seconds'))}" if rebuild.get("method") else None,
            ),
            ("Predicted", ", ".join(ways) or None),
            ("Tried in vain", "; ".join(failed) or None),
        )
    rows += _known(
        ("Protected again", wording.moment(measures.get("reprotected_at"))),
        ("Time without protection", wording.seconds(measures.get("time_to_reprotect_seconds"))),
    )
    return Table("Protected again", (), tuple(rows))


def _hosts(hosts: Mapping[str, Any]) -> Table:
    """What each host was seen to be before anything was changed; a column for whatever at least one of them says."""
    said = dict(_each(hosts))
    columns = [name for name in _HOST_COLUMNS if any(_text(entry.get(name)) for entry in said.values())]
    rows = tuple((host, *(_cell(name, entry.get(name)) for name in columns)) for host, entry in said.items())
    titles = ("Host", *(_HOST_TITLES.get(name, name).capitalize() for name in columns))
    return Table("Hosts as they were found", titles, rows)


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "–"
    return wording.seconds(value) if name == "lag_seconds" else _text(value) or "–"
