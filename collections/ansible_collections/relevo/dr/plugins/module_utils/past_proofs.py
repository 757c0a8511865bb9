# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""To which second each repository can be restored, and when a restore was last proven: what the newest records say. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.clock import parse_utc, utc
from ansible_collections.relevo.dr.plugins.module_utils.gates import FAIL, NOT_APPLICABLE, PASS, UNKNOWN, Gate, Limits

# What a controller whose clock was ahead wrote must not prove anything for years.
LEEWAY_SECONDS = 300.0
_PROVE = "relevo run restore_test -i INVENTORY; relevo run nightly installs the timer that does it every month"


@dataclass(frozen=True)
class Past:
    """now, protected_since: epoch seconds. verified, proven, tried: records. unreadable: why nothing is known, else empty.

    verified: the newest verification that looked at the repositories; proven: the newest restore test that passed; tried: the newest, however it ended.
    """

    now: float
    verified: Optional[Mapping[str, Any]] = None
    proven: Optional[Mapping[str, Any]] = None
    tried: Optional[Mapping[str, Any]] = None
    protected_since: Optional[float] = None
    unreadable: str = ""

    def age(self, record: Mapping[str, Any]) -> float:
        """Seconds since a run ended."""
        return max(0.0, self.now - ended(record))

    def younger_than(self, seconds: float) -> bool:
        """Whether the cluster was not protected for so long yet: nothing can be too old then."""
        return self.protected_since is not None and self.now - self.protected_since < seconds


def read(
    verifications: Iterable[Mapping[str, Any]],
    restore_tests: Iterable[Mapping[str, Any]],
    protected_since: Optional[float],
    now: float,
) -> Past:
    """From the finished runs of both runbooks, newest first."""
    looked = [one for one in verifications if is_past(one, now) and one["measures"].get("backup_verification") is not None]
    tried = [one for one in restore_tests if is_past(one, now) and one["verdict"] != "refused"]
    return Past(
        now,
        verified=looked[0] if looked else None,
        # A run that restored nothing proved nothing.
        proven=next((one for one in tried if one["verdict"] == "passed" and _tests(one)), None),
        tried=tried[0] if tried else None,
        protected_since=protected_since,
    )


def gate(past: Past, limit_seconds: float, phase: str = "PREFLIGHT", *, required: bool = True) -> Gate:
    """G02: a restore was proven, and not too long ago. A cluster that is younger than that is not late."""
    observed, verdict, fix = _proof(past, limit_seconds), FAIL, _PROVE
    if past.unreadable:
        verdict, fix = UNKNOWN, "look at RELEVO_STORE"
    elif past.proven is not None and past.age(past.proven) <= limit_seconds:
        verdict, fix = PASS, ""
    elif past.younger_than(limit_seconds):
        verdict, fix = NOT_APPLICABLE, ""
        observed += "; protected since %s" % _utc(past.protected_since or 0.0)
    expected = "a passed restore_test of this cluster, at most %s old" % words(limit_seconds)
    return Gate("G02", "a restore was proven", "controller", observed, expected, verdict, fix, phase, required)


def _proof(past: Past, limit_seconds: float) -> str:
    if past.unreadable:
        return "not known: %s" % past.unreadable
    said = (
        "never: no passed restore_test in this store"
        if past.proven is None
        else "%s ago by run %s, up to: %s" % (words(past.age(past.proven)), past.proven["run_id"], _reached(past.proven))
    )
    failed = _failed_since(past)
    return said + ("; the newest one, run %s, ended as %s" % (failed["run_id"], failed["verdict"]) if failed else "")


def _failed_since(past: Past) -> Optional[Mapping[str, Any]]:
    """The newest restore test, when it did not pass."""
    return past.tried if past.tried is not None and past.tried["verdict"] != "passed" else None


def lacks(past: Past, limits: Limits) -> list[tuple[str, str]]:
    """What is not known, too old or did not pass, each with what to do about it."""
    if past.unreadable:
        return [("what was verified and proven is not known: %s" % past.unreadable, "look at RELEVO_STORE: %s" % past.unreadable)]
    found: list[tuple[str, str]] = []
    verified, failed = past.verified, _failed_since(past)
    if verified is None and not past.younger_than(limits.verification_age_seconds):
        found.append(_with("the backups were never verified", "run playbooks/verify_backup.yml"))
    elif verified is not None and past.age(verified) > limits.verification_age_seconds:
        said = "the newest verification of the backups, run %s, is %s old" % (verified["run_id"], words(past.age(verified)))
        found.append(_with(said, "run playbooks/verify_backup.yml"))
    if verified is not None and verified["verdict"] != "passed":
        said = "the newest verification of the backups, run %s, ended as %s" % (verified["run_id"], verified["verdict"])
        found.append(_with(said, "relevo results show %s" % verified["run_id"]))
    judged = gate(past, limits.proof_age_seconds)
    if judged.verdict == FAIL:
        said = (
            "a restore was never proven"
            if past.proven is None
            else "a restore was last proven %s ago" % words(past.age(past.proven))
        )
        found.append(_with(said, "run playbooks/restore_test.yml"))
    if failed is not None:
        said = "the newest restore test, run %s, ended as %s" % (failed["run_id"], failed["verdict"])
        found.append(_with(said, "relevo results show %s" % failed["run_id"]))
    return found


def _with(said: str, action: str) -> tuple[str, str]:
    return said, "%s: %s" % (said, action)


def told(past: Past) -> dict[str, Any]:
    """For the status: restorable and restore_proven, null for never; history_error when nobody can know."""
    if past.unreadable:
        return {"history_error": past.unreadable}
    return {"restorable": _restorable(past), "restore_proven": _proven(past)}


def _restorable(past: Past) -> Optional[dict[str, Any]]:
    record = past.verified
    if record is None:
        return None
    windows = {
        number: {"from": _utc(said.get("restorable_from")), "until": said.get("restorable_until")}
        for number, said in sorted(record["measures"]["backup_verification"].items())
    }
    away = ["%s: %s" % (one["host"], one["observed"]) for one in record["gates"] if _away(one)]
    return {**_about(past, record), "repositories": windows, "unreadable": away}


def _away(entry: Mapping[str, Any]) -> bool:
    return entry.get("id") == "REPOSITORY" and entry.get("verdict") == FAIL


def _proven(past: Past) -> Optional[dict[str, Any]]:
    record = past.proven
    if record is None:
        return None
    return {**_about(past, record), "copies": len(_tests(record)), "proven_up_to": _reached(record)}


def _about(past: Past, record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "run_id": record["run_id"],
        "at": record["closed_at"],
        "age_seconds": round(past.age(record)),
        "verdict": record["verdict"],
    }


def _tests(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return record["measures"].get("restore_tests") or []


def _reached(record: Mapping[str, Any]) -> str:
    """The highest rung that each copy reached."""
    return ", ".join(dict.fromkeys(str(test["proven_up_to"]) for test in _tests(record))) or "nothing"


def ended(record: Mapping[str, Any]) -> float:
    """When a run was over, epoch seconds."""
    return parse_utc(record["closed_at"]).timestamp()


def is_past(record: Mapping[str, Any], now: float) -> bool:
    """Whether it ended by now, as far as clocks agree."""
    return ended(record) <= now + LEEWAY_SECONDS


def _utc(moment: Optional[float]) -> Optional[str]:
    return None if moment is None else utc(datetime.datetime.fromtimestamp(moment, datetime.timezone.utc))


def words(seconds: float) -> str:
    """An age for people."""
    size = round(seconds)
    if size < 7200:
        return "%d s" % size if size < 120 else "%d min" % (size // 60)
    return "%d h" % (size // 3600) if size < 172800 else "%d d" % (size // 86400)
