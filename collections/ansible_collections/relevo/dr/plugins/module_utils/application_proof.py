# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What was seen from outside of an application after a cutover, as measures and gates. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.gates import NOT_APPLICABLE, UNKNOWN, Gate, verdict
from ansible_collections.relevo.dr.plugins.module_utils.percentile import LEAST_VALUES, percentile
from ansible_collections.relevo.dr.plugins.module_utils.request_mix import Answer

READ_ONLY = "25006"


def summed(answers: Sequence[Answer]) -> dict[str, Any]:
    """Of a window. A request that failed was never answered, however fast that was said: with more than 5 of 100 of them there is no P95."""
    p95 = percentile([answer.seconds if answer.ok else math.inf for answer in answers], 0.95)
    failed: dict[str, int] = {}
    for answer in answers:
        if not answer.ok:
            key = "%s: %s" % (answer.name, answer.error or answer.status or "no answer")
            failed[key] = failed.get(key, 0) + 1
    return {
        "requests": len(answers),
        "failed": sum(failed.values()),
        "failures": failed,
        "read_only_errors": sum(answer.said.get("sqlstate") == READ_ONLY for answer in answers),
        "p95_seconds": None if p95 is None or math.isinf(p95) else round(p95, 6),
    }


def measures(before: Optional[Mapping[str, Any]], after: Mapping[str, Any], nonce_found: Optional[bool]) -> dict[str, Any]:
    """For the record: ``measures.application``."""
    window = after.get("window") or {}
    return {
        "p95_seconds": window.get("p95_seconds"),
        "p95_before_seconds": (before or {}).get("p95_seconds"),
        "login": word(after.get("login")),
        "requests": window.get("requests"),
        "failed_requests": window.get("failed"),
        "window_seconds": after.get("window_seconds"),
        "read_only_errors": window.get("read_only_errors"),
        "nonce": word(nonce_found),
        "endpoints": sorted(after["identities"]),
    }


def word(ok: Optional[bool]) -> Optional[str]:
    """For a criterion of the policy."""
    return None if ok is None else "pass" if ok else "fail"


def judge(
    expected: Mapping[str, Any],
    before: Optional[Mapping[str, Any]],
    after: Mapping[str, Any],
    nonce_found: Optional[bool],
    limit_seconds: float,
) -> list[Gate]:
    """expected: promote, system_identifier, timeline. nonce_found: on the new primary; None when that was not looked at."""
    host, window = str(expected["promote"]), after.get("window") or {}
    if after.get("error"):
        title, fix = "the application was used from outside", "mend that, and use it by hand"
        return [Gate("IDENTITY", title, host, str(after["error"]), "as its users do", UNKNOWN, fix, "CUTOVER")]
    return [
        _nonce(host, after, nonce_found),
        *_identities(host, expected, after),
        _read_only(host, window),
        _login(host, after.get("login"), after.get("login_said")),
        _failed(host, window),
        _p95(host, before, window, limit_seconds),
    ]


def _nonce(host: str, after: Mapping[str, Any], found: Optional[bool]) -> Gate:
    title = "a nonce written through the application is on the new primary"
    nonce = after.get("nonce")
    if nonce is None:
        return Gate(
            "NONCE", title, host, "no request is declared that writes one", "one", NOT_APPLICABLE, "", "CUTOVER", required=False
        )
    if not nonce["acknowledged"]:
        observed, found = "not acknowledged: %s" % (nonce["said"] or "no answer"), False
    else:
        observed = "acknowledged, and %s" % {True: "found", False: "NOT found", None: "not looked for"}[found]
    fix = "the application writes somewhere else: find out where %s is connected to" % (after.get("endpoint") or "it")
    return Gate("NONCE", title, host, observed, "acknowledged, and found", verdict(found), "" if found else fix, "CUTOVER")


def _identities(host: str, expected: Mapping[str, Any], after: Mapping[str, Any]) -> list[Gate]:
    """Of each endpoint that answers. A page that is fine and names no server stands on nothing that was seen."""
    found = []
    title = "the application answers from the new primary"
    wanted = "system %s, timeline %s, writable" % (expected["system_identifier"], expected["timeline"])
    for endpoint, said in after["identities"].items():
        system, timeline = said.get("system_identifier"), said.get("timeline")
        ok = (str(system), str(timeline)) == (str(expected["system_identifier"]), str(expected["timeline"]))
        ok = ok and not said.get("in_recovery") and not said.get("read_only")
        observed = "system %s, timeline %s, %s" % (
            system,
            timeline,
            "read-only" if said.get("in_recovery") or said.get("read_only") else "writable",
        )
        if system is None:
            observed = "no server is named in the answer"
        fix = "" if ok else "restart the application behind %s, and see which address it uses" % endpoint
        if system is None:
            fix = "let dr_app_proof_identity be a page whose JSON names system_identifier, timeline and in_recovery"
        found.append(Gate("IDENTITY", "%s: %s" % (title, endpoint), host, observed, wanted, verdict(ok), fix, "CUTOVER"))
    if not found:
        found.append(
            Gate("IDENTITY", title, host, "no endpoint answers", wanted, verdict(False), "look at the application", "CUTOVER")
        )
    return found


def _read_only(host: str, window: Mapping[str, Any]) -> Gate:
    number = window.get("read_only_errors")
    observed = "not measured" if number is None else "%d of %d answers" % (number, window["requests"])
    fix = "" if number == 0 else "a connection still leads to a standby: restart the application and its pooler"
    ok = None if number is None else number == 0
    return Gate("READONLY", "no answer with SQLSTATE %s" % READ_ONLY, host, observed, "none", verdict(ok), fix, "CUTOVER")


def _login(host: str, ok: Optional[bool], said: Optional[str]) -> Gate:
    title = "users log in"
    if ok is None:
        return Gate("LOGIN", title, host, "no login is declared", "a login", NOT_APPLICABLE, "", "CUTOVER", required=False)
    return Gate(
        "LOGIN", title, host, said or "logged in", "a login", verdict(ok), "" if ok else "log in by hand and see why", "CUTOVER"
    )


def _failed(host: str, window: Mapping[str, Any]) -> Gate:
    """Shown and not required: right after a change of site a request may fail of which the next one is fine."""
    number = window.get("failed")
    said = ", ".join("%s (%d)" % pair for pair in sorted((window.get("failures") or {}).items())[:3])
    observed = (
        "not measured" if number is None else "%d of %d failed%s" % (number, window["requests"], ": %s" % said if said else "")
    )
    ok = None if number is None else number == 0
    return Gate(
        "REQUESTS",
        "the request mix is answered",
        host,
        observed,
        "all of it",
        verdict(ok),
        "" if ok else "see the application's log",
        "CUTOVER",
        required=False,
    )


def _p95(host: str, before: Optional[Mapping[str, Any]], window: Mapping[str, Any], limit_seconds: float) -> Gate:
    """A slow service is served: the test that wants it fast fails by its criterion, the run does not."""
    now, failed = window.get("p95_seconds"), bool(_unanswered(window))
    observed = "not measured" if now is None else "%.3f s over %d requests" % (now, window["requests"])
    if now is not None and window.get("failed"):
        observed += ", of which %d failed" % window["failed"]
    then = (before or {}).get("p95_seconds")
    was = _unanswered(before or {}) or ("not measured" if then is None else "%.3f s" % then)
    observed = "%s; before: %s" % (_unanswered(window) or observed, was)
    ok = False if failed else None if now is None else now < limit_seconds
    fix = "" if ok else "see the application's log" if failed else "compare the load and the size of both sides"
    return Gate(
        "P95",
        "95 of 100 requests are fast",
        host,
        observed,
        "below %g s" % limit_seconds,
        verdict(ok),
        fix,
        "CUTOVER",
        required=False,
    )


def _unanswered(window: Mapping[str, Any]) -> str:
    """Why enough requests have no P95; empty where they have one, or were too few."""
    if window.get("p95_seconds") is not None or (window.get("requests") or 0) < LEAST_VALUES:
        return ""
    return "%d of %d requests failed" % (window["failed"], window["requests"])
