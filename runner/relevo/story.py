"""A run told in sentences and in four numbers, for somebody who has ten seconds. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relevo import particulars, wording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from relevo.record import Record

_TITLES = {
    "protect": "Protection",
    "verify_backup": "Verification of the backups",
    "restore_files": "Restore of files",
    "rehearse": "Rehearsal of a recovery",
    "nightly": "Nightly jobs",
}
# In these clients wait for the new site. A failback builds up the old one while they are served.
_INTERRUPTS = frozenset({"failover", "switchover"})
_REHEARSES = "rehearse"
_MOST_CARDS = 4

VERDICTS = {
    "passed": "Everything that was required was done and observed.",
    "partial": "It was carried out, but not everything that was required was observed or held.",
    "failed": "It did not reach its end, or a required check does not hold.",
    "refused": "It was refused before any change.",
    "interrupted": "It was cut off before its end. Look at the hosts: relevo status.",
    "cancelled": "It was armed, and was not told to go: nothing was changed.",
}
FENCES = {
    "stopped": "The old primary was seen shut down and cannot start writable.",
    "powered_off": "The old primary's host was powered off by its provider.",
    "isolated": "The old primary's host was cut off from every address, read back and probed from two places.",
    "lease_expired": "The old primary had armed its own fence and its time had passed. Accepted by name.",
    "attested": "A person declared the old primary dead. Accepted by name.",
    "unknown": "Nobody knows whether the old primary still accepts writes.",
}


@dataclass(frozen=True)
class Card:
    """One big number. mood: good | bad | doubt | plain, always said in the note as well."""

    title: str
    value: str
    note: str
    mood: str
    share: float | None = None


def title(record: Record) -> str:
    """Such as `Failover of minimarket to site b`."""
    cluster = f" of {record.cluster}" if record.cluster else ""
    target = record.run.get("target_site")
    what = _TITLES.get(record.runbook, record.runbook.replace("_", " ").capitalize())
    return f"{what}{cluster}{f' to site {target}' if target else ''}"


def kind(record: Record) -> str:
    """Drill, disaster, check mode: how serious it was; empty when nobody said."""
    return "check mode, nothing changed" if record.check_mode else record.mode or ""


def owes_recovery(record: Record) -> bool:
    """Whether there was a recovery to measure: a run that was refused, changed nothing or found all done has none."""
    moved = record.verdict != "refused" and not record.check_mode and not record.run.get("done")
    return moved and record.runbook in {*_INTERRUPTS, _REHEARSES}


def accepted(record: Record) -> str:
    """What the operator accepted at the start, and so answers for; empty when nothing."""
    said = particulars.measured(record.run.get("accepted"))
    found = []
    if said.get("loss_seconds") is not None:
        found.append(f"a loss of at most {wording.seconds(said['loss_seconds'])}")
    if said.get("loss_transactions") is not None:
        found.append(f"a loss of at most {wording.count(said['loss_transactions'], 'transaction')}")
    for name, words in (("unknown", "unseen"), ("fence", "as a fence"), ("attested_dead", "declared dead")):
        values = said.get(name)
        if isinstance(values, list) and values:
            found.append(f"{words}: {', '.join(map(str, values))}")
    who = [f"by {record.operator}"] if found else []
    if said.get("attested_by"):
        who.append(f"attested by {said['attested_by']}")
    return "; ".join([*found, *who])


def sentences(record: Record) -> list[str]:
    """What happened, each sentence resting on a measure that was observed."""
    told = [VERDICTS[record.verdict]]
    measures = record.measures
    if record.run.get("done") and record.verdict == "passed":
        told = ["It was so already: nothing had to be changed."]
    told += _tested(record)
    if isinstance(measures.get("outage_seconds"), (int, float)):
        told.append(f"Clients could not write for {wording.seconds(measures['outage_seconds'])}.")
    if isinstance(measures.get("restore"), dict):
        told.append(_restored(measures["restore"]))
    sums = measures.get("ledger") or {}
    if isinstance(sums.get("lost"), int) and isinstance(sums.get("acknowledged"), int):
        told.append(_fate(sums))
    overlap = measures.get("writable_overlap_seconds")
    if isinstance(overlap, (int, float)):
        told.append(overlap_sentence(overlap))
    return told


def _tested(record: Record) -> Iterator[str]:
    """What other runbooks than those that move production did."""
    for test in particulars.listed(record.measures.get("restore_tests")):
        proven = test.get("proven_up_to")
        end = f"and proven up to: {proven}" if proven else "and nothing was proven"
        if test.get("label"):
            yield f"Backup {test['label']} of repository {test.get('repository', '–')} was restored {end}."
    for host, rebuild in particulars.measured(record.measures.get("rebuild")).items():
        if isinstance(rebuild, dict) and rebuild.get("method"):
            yield f"The data of {host} came back by {rebuild['method']} in {wording.seconds(rebuild.get('seconds'))}."
    for host, kept in particulars.measured(record.measures.get("salvage")).items():
        if isinstance(kept, dict) and kept.get("committed"):
            yield f"{wording.count(kept['committed'], 'committed transaction')} that only {host} had: kept there, sealed."


def _restored(restore: dict[str, Any]) -> str:
    """What was promoted instead of a standby."""
    what = f"Backup {restore.get('set')} of repository {restore.get('repository')} was restored to {restore.get('target')}"
    rate = restore.get("bytes_per_second")
    speed = f", {wording.size(rate)} a second" if isinstance(rate, (int, float)) else ""
    return f"{what} and promoted: {wording.size(restore.get('bytes'))} in {wording.seconds(restore.get('seconds'))}{speed}."


def overlap_sentence(seconds: Any) -> str:
    """Whether two primaries were writable at once, and how long."""
    if not isinstance(seconds, (int, float)):
        return "Whether two primaries were writable at once was not observed: no proof covers the whole time."
    if seconds == 0:
        return "At no time were two primaries writable."
    return f"Two primaries were writable at once for {wording.seconds(seconds)}: compare their data."


def _fate(sums: dict[str, Any]) -> str:
    known = wording.count(sums["acknowledged"], "acknowledged transaction")
    if sums["lost"] == 0:
        return f"None of {known} was lost."
    return f"{sums['lost']} of {known} {'was' if sums['lost'] == 1 else 'were'} lost; they are listed below."


def cards(record: Record) -> list[Card]:
    """Recovery time, loss window, lost transactions, overlap; for other runbooks what they measured, how long it took, and the gates.

    None for a run that was refused: nothing was started, so there is nothing to measure.
    """
    if record.verdict == "refused":
        return []
    found = [_objective(objective) for objective in record.objectives if owes_recovery(record) or objective.measured is not None]
    if owes_recovery(record) and record.runbook in _INTERRUPTS:
        return [*found, _lost(record.measures.get("ledger") or {}), _overlap(record.measures.get("writable_overlap_seconds"))]
    found += _measured(record.measures)
    if len(found) < _MOST_CARDS:
        found.append(Card("Duration", wording.seconds(record.duration_seconds), "from command to record", "plain"))
    if len(found) < _MOST_CARDS and record.gates:
        found.append(_gates(record))
    return found[:_MOST_CARDS]


def _measured(measures: dict[str, Any]) -> list[Card]:
    """What the runbooks measure that do not move production."""
    found = []
    tests = particulars.listed(measures.get("restore_tests"))
    if tests:
        test = tests[0]
        live = f"for the live database of {wording.size(test.get('live_bytes'))}"
        found.append(
            Card("Restored", wording.seconds(test.get("restore_seconds")), wording.size(test.get("restored_bytes")), "plain")
        )
        if test.get("predicted_rto_seconds") is not None:
            found.append(Card("Predicted recovery time", wording.seconds(test["predicted_rto_seconds"]), live, "plain"))
    if measures.get("time_to_reprotect_seconds") is not None:
        value = wording.seconds(measures["time_to_reprotect_seconds"])
        found.append(Card("Without protection", value, "from the promotion to a standby that follows", "plain"))
    backups = [entry for entry in particulars.measured(measures.get("backups")).values() if isinstance(entry, dict)]
    if backups:
        whole = sum(size for entry in backups if isinstance(size := entry.get("copied_bytes"), (int, float)))
        found.append(Card("Backups taken", str(len(backups)), f"{wording.size(whole)} copied", "plain"))
    verified = [entry for entry in particulars.measured(measures.get("backup_verification")).values() if isinstance(entry, dict)]
    if verified:
        seen = sum(count for entry in verified if isinstance(count := entry.get("backups"), int))
        found.append(Card("Backups found", str(seen), f"in {wording.count(len(verified), 'repository', 'repositories')}", "plain"))
    return found


def _objective(objective: Any) -> Card:
    name = wording.NAMES.get(objective.name, objective.name)
    mood = {"met": "good", "missed": "bad", "unknown": "doubt"}[objective.verdict]
    note = f"target {wording.seconds(objective.target)}, {objective.verdict}"
    share = None
    if objective.measured is not None and objective.target > 0:
        share = min(objective.measured / objective.target, 1.0)
    return Card(name, wording.seconds(objective.measured), note, mood, share)


def _lost(sums: dict[str, Any]) -> Card:
    lost, acknowledged = sums.get("lost"), sums.get("acknowledged")
    if not isinstance(lost, int) or not isinstance(acknowledged, int):
        return Card("Transactions lost", wording.UNOBSERVED, "no ledger was read", "doubt")
    note = f"of {acknowledged:,} acknowledged".replace(",", " ")
    if sums.get("indeterminate"):
        note += f"; {sums['indeterminate']} without an answer"
    return Card("Transactions lost", f"{lost:,}".replace(",", " "), note, "bad" if lost else "good")


def _overlap(seconds: Any) -> Card:
    if not isinstance(seconds, (int, float)):
        return Card("Two writable primaries", wording.UNOBSERVED, "no proof covers the whole time", "doubt")
    value = "never" if seconds == 0 else wording.seconds(seconds)
    return Card("Two writable primaries", value, "by observation or fence proof", "bad" if seconds else "good")


def _gates(record: Record) -> Card:
    verdicts = [gate.get("verdict") for gate in record.gates]
    passed = sum(verdict in {"pass", "not_applicable"} for verdict in verdicts)
    mood = "bad" if "fail" in verdicts else "good" if passed == len(verdicts) else "doubt"
    return Card("Gates", f"{passed} of {len(verdicts)}", "hold or do not apply", mood)
