# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an operator may say with ``-e``, and nothing else. Values are read as they were typed, never as templates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.clock import parse_utc
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.module_utils.way_out import AUTO, PATHS, PROMOTE, Wish

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_TEMPLATE = re.compile(r"\{\{|\{%|\{#")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SECRET = re.compile(r"password|passphrase|secret|token|private_key", re.IGNORECASE)
_NUMBER = re.compile(r"\d{1,9}(\.\d{1,6})?")
_GATES = re.compile(r"[A-Z][A-Z0-9]{1,15}(,[A-Z][A-Z0-9]{1,15})*")
_PROSE = re.compile(r"[^-].{0,499}")
# What AWX and its heirs put among the extra variables of every job, and what a workflow hands on of the jobs before: what we told them ourselves.
# Nobody decided it, and nothing here reads it.
_OF_THE_CONTROLLER = re.compile(r"(awx|tower)_[a-z0-9_]+|relevo")
_HOST = re.compile(r"[a-z0-9][a-z0-9.-]{0,252}")
_FLAG = re.compile(r"(?i)true|false|yes|no")
# The name of something that is kept elsewhere, such as CHG-4711 or the address of its page; and names with commas between them.
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/#-]{0,199}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PEOPLE = re.compile(r"(?=.{1,500}$)(?! *,)[^-,][^,]*(, *[^ ,][^,]*)*")

MODES = ("drill", "disaster")
SCOPES = ("database", "site")
# What a run is that is no drill and meets no disaster; nobody has to say so.
PLANNED = "planned"
METHODS = ("rewind", "delta", "full")

# Every name that -e may carry: anything else would override what the inventory or a role says of a host.
SCHEMA: dict[str, re.Pattern[str]] = {
    "dr_mode": re.compile("|".join(MODES)),
    "dr_scope": re.compile("|".join(SCOPES)),
    "dr_target_site": _NAME,
    "dr_confirm": re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,199}"),
    "dr_accept_loss_seconds": _NUMBER,
    "dr_accept_loss_transactions": re.compile(r"\d{1,9}"),
    "dr_accept_unknown": _GATES,
    "dr_accept_fence": re.compile("lease_expired"),
    "dr_attest_dead": re.compile(r"[A-Za-z0-9][A-Za-z0-9._,-]{0,499}"),
    "dr_attested_by": _PROSE,
    "dr_failed_at": re.compile(r"[0-9TZ:.+-]{20,40}"),
    "dr_reason": _PROSE,
    "dr_approver": _PROSE,
    "dr_allow_restart": _FLAG,
    "dr_backup_full": _FLAG,
    "dr_backup_type": re.compile("full|diff|incr"),
    "dr_backup_from": re.compile("primary|standby"),
    "dr_path": re.compile("|".join(PATHS)),
    # The run waits at its gates for a word; that brings the confirmation.
    "dr_armed": _FLAG,
    "dr_backup_repository": re.compile(r"\d{1,3}(,\d{1,3})*"),
    # Shapes only: what they mean is judged where the restorable window can be shown beside the refusal.
    "dr_restore_set": re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,62}"),
    "dr_restore_target_time": re.compile(r"[0-9A-Za-z][0-9A-Za-z :.+-]{0,49}"),
    "dr_restore_target_lsn": re.compile(r"[0-9A-Za-z/]{1,40}"),
    "dr_restore_target_name": re.compile(r"[!-&(-,.-\[\]-~][ -&(-\[\]-~]{0,99}"),
    "dr_restore_timeline": re.compile(r"[0-9a-z]{1,10}"),
    "dr_restore_repository": re.compile(r"[0-9]{1,3}|each"),
    "dr_files_host": _HOST,
    "dr_files_set": re.compile(r"[a-z][a-z0-9-]{0,30}"),
    "dr_files_target": re.compile(r"(/[A-Za-z0-9_][A-Za-z0-9._-]{0,99}){1,20}"),
    "dr_files_time": re.compile(r"[0-9TZ:.+-]{20,40}"),
    "dr_files_destination": _HOST,
    "dr_keys_renew": _FLAG,
    "dr_keys_path": _NAME,
    "dr_keys_lost_site": _NAME,
    "dr_keys_generation": re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}"),
    "dr_failback_method": re.compile("|".join(METHODS)),
    # Of a check: whose plan it is to show. Of the run after it: the plan that was shown, and agreed to.
    "dr_check_for": re.compile("failover|switchover|failback"),
    "dr_approved_failover": _DIGEST,
    "dr_approved_switchover": _DIGEST,
    "dr_approved_failback": _DIGEST,
    "dr_ticket": _REFERENCE,
    "dr_scenario": _REFERENCE,
    "dr_bia": _REFERENCE,
    "dr_requester": _PROSE,
    "dr_participants": _PEOPLE,
    "dr_observers": _PEOPLE,
    "dr_third_parties": _PEOPLE,
    "dr_exercise": re.compile(r"E-[0-9a-f]{6}"),
}
# Why a run takes place and who is there, for the record alone: nothing is decided by it.
CONTEXT = ("ticket", "scenario", "bia", "requester", "participants", "observers", "third_parties", "exercise")

# What the runbooks that change production need to hear, and what they do not take: a planned change accepts no loss and nothing unseen.
_REQUIRED = {
    "dr_mode": "drill or disaster; it has no default",
    "dr_scope": "database (same application hosts) or site (the other site's); it has no default",
    "dr_target_site": "the site that shall serve afterwards",
}
REQUIRED: dict[str, tuple[str, ...]] = {
    "failover": ("dr_mode", "dr_scope", "dr_target_site"),
    "switchover": ("dr_scope", "dr_target_site"),
    "failback": ("dr_target_site",),
}
_LOSS = ("dr_accept_loss_seconds", "dr_accept_loss_transactions", "dr_attest_dead", "dr_attested_by", "dr_failed_at")
# What a failover restores, by what restore tests call it; together they are the target.
RESTORE_WORDS = {
    "dr_restore_target_time": "time",
    "dr_restore_target_lsn": "lsn",
    "dr_restore_target_name": "name",
    "dr_restore_set": "set",
    "dr_restore_timeline": "timeline",
    "dr_restore_repository": "repository",
}
_NOT_TAKEN: dict[str, tuple[str, ...]] = {
    "switchover": (*_LOSS, "dr_accept_unknown", "dr_accept_fence", "dr_path", *RESTORE_WORDS),
    "failback": (*_LOSS, "dr_mode", "dr_scope", "dr_accept_fence", "dr_path", *RESTORE_WORDS),
}

ACCEPTS_BY_NAME = "an entry of dr_accept_unknown with dr_reason"


@dataclass(frozen=True)
class Inputs:
    """One operator's wish.

    accept_unknown: gate ids; accept_fence: weak fence classes; attest_dead: hosts that a person declares dead (with attested_by); method: of a failback;
    path: of a failover, with the words of what it is to restore.
    """

    mode: str
    scope: str
    target_site: str
    confirm: str = ""
    accept_loss_seconds: Optional[float] = None
    accept_loss_transactions: Optional[int] = None
    accept_unknown: tuple[str, ...] = ()
    accept_fence: tuple[str, ...] = ()
    attest_dead: tuple[str, ...] = ()
    attested_by: str = ""
    failed_at: Optional[str] = None
    reason: str = ""
    approver: str = ""
    method: str = ""
    path: str = AUTO
    restore: Mapping[str, str] = field(default_factory=dict)
    given: tuple[str, ...] = field(default=())


def _refuse(name: str, observed: str, expected: str, runbook: str = "failover") -> Refusal:
    return Refusal(
        "INPUT", "controller", "%s %s" % (name, observed), expected, "give -e %s=... as docs/runbooks/%s.md shows" % (name, runbook)
    )


def check_extra_variables(extra: Mapping[str, Any]) -> dict[str, str]:
    """The operator's variables as text. Raises Refusal for an unknown name or a value of the wrong shape.

    An empty value is nothing said: so comes a question of a survey that nobody answered.
    """
    checked = {}
    for name, value in extra.items():
        if _OF_THE_CONTROLLER.fullmatch(str(name)):
            continue
        if name not in SCHEMA:
            hint = "secrets are files, never variables" if _SECRET.search(str(name)) else "one of %s" % ", ".join(sorted(SCHEMA))
            raise Refusal("INPUT", "controller", "-e %s" % name, hint, "remove it; what hosts are for belongs in the inventory")
        if value not in (None, ""):
            checked[name] = check_value(name, value)
    return checked


def check_value(name: str, value: Any) -> str:
    """One value against the schema; templates and control characters are refused before anything reads them."""
    text = str(value)
    if _TEMPLATE.search(text):
        raise _refuse(name, "holds a template", "plain text: values are never evaluated")
    if _CONTROL.search(text):
        raise _refuse(name, "holds control characters", "plain text on one line")
    if not SCHEMA[name].fullmatch(text):
        raise _refuse(name, "is %r" % text[:80], "the form %s" % SCHEMA[name].pattern)
    return text


def meant(runbook: str, given: Mapping[str, str]) -> str:
    """The runbook that a run is about: a check may be of a certain one, which somebody is to agree to, and judges as that will."""
    return given.get("dr_check_for", runbook) if runbook == "check" else runbook


def armed(given: Mapping[str, str]) -> bool:
    """Whether a run waits at its gates until somebody says go."""
    return given.get("dr_armed", "").lower() in ("true", "yes")


def confirmation(mode: str, cluster: str, target_site: str, runbook: str = "failover") -> str:
    """What the operator must type: a drill on production really moves production, and says so."""
    return "%s %s to %s" % ("drill production" if mode == "drill" else runbook, cluster, target_site)


def read_inputs(variables: Mapping[str, str], runbook: str = "failover") -> Inputs:
    """A complete wish for a runbook that changes production. Raises Refusal for what is missing, or not to be had there."""
    for name in REQUIRED[runbook]:
        if not variables.get(name):
            raise _refuse(name, "is missing", _REQUIRED[name], runbook)
    for name in _NOT_TAKEN.get(runbook, ()):
        if variables.get(name):
            raise Refusal(
                "INPUT",
                "controller",
                "-e %s" % name,
                "nothing lost and nothing unseen in a planned run",
                "remove it; what needs it is a failover",
            )
    if runbook == "switchover" and variables.get("dr_mode") == "disaster":
        raise _refuse("dr_mode", "is 'disaster'", "drill, or nothing: the way out of a disaster is a failover", runbook)
    wished = wish(variables)
    if runbook == "failover":
        _check_way(wished)
    failed_at = variables.get("dr_failed_at")
    if failed_at:
        try:
            parse_utc(failed_at)
        except ValueError:
            raise _refuse("dr_failed_at", "is %r" % failed_at, "ISO 8601 with an offset, such as 2026-11-24T03:12:00Z") from None
    accepts = _named(variables, "dr_accept_unknown", "dr_reason", "the reason why %s may stay unknown")
    fences = _named(variables, "dr_accept_fence", "dr_reason", "the reason why a fence of the class %s is enough")
    attested = _named(variables, "dr_attest_dead", "dr_attested_by", "who saw that %s is dead, and how")
    seconds, transactions = variables.get("dr_accept_loss_seconds"), variables.get("dr_accept_loss_transactions")
    return Inputs(
        mode=variables.get("dr_mode", PLANNED),
        scope=variables.get("dr_scope", ""),
        target_site=variables["dr_target_site"],
        confirm=variables.get("dr_confirm", ""),
        accept_loss_seconds=float(seconds) if seconds else None,
        accept_loss_transactions=int(transactions) if transactions else None,
        accept_unknown=accepts,
        accept_fence=fences,
        attest_dead=attested,
        attested_by=variables.get("dr_attested_by", ""),
        failed_at=failed_at,
        reason=variables.get("dr_reason", ""),
        approver=variables.get("dr_approver", ""),
        method=variables.get("dr_failback_method", ""),
        path=wished.path,
        restore=wished.words,
        given=tuple(sorted(variables)),
    )


def context(variables: Mapping[str, str]) -> dict[str, Any]:
    """What the record shall say of the occasion, as it was typed; None where nobody said."""
    said: dict[str, Any] = {name: variables.get("dr_%s" % name) or None for name in CONTEXT}
    for name in ("participants", "observers", "third_parties"):
        said[name] = [one.strip() for one in said[name].split(",")] if said[name] else None
    return said


def wish(variables: Mapping[str, str]) -> Wish:
    """Which way a failover shall take, as it was typed."""
    words = {word: variables[name] for name, word in RESTORE_WORDS.items() if variables.get(name)}
    return Wish(variables.get("dr_path", AUTO), words)


def _check_way(wished: Wish) -> None:
    """Raises Refusal for words that speak against each other, or that only a restore test can mean."""
    if wished.path == PROMOTE and wished.words:
        given = ", ".join(name for name, word in RESTORE_WORDS.items() if word in wished.words)
        raise _refuse("dr_path", "is promote, beside %s" % given, "no target: a standby holds the newest data only")
    for name, all_of_them in (("dr_restore_set", "all"), ("dr_restore_repository", "each")):
        if wished.words.get(RESTORE_WORDS[name]) == all_of_them:
            raise _refuse(name, "is %r" % all_of_them, "one: only a restore test takes several")


def _named(variables: Mapping[str, str], name: str, needs: str, expected: str) -> tuple[str, ...]:
    """What is accepted by name, and only beside another input that says why. Raises Refusal."""
    names = tuple(variables.get(name, "").split(",")) if variables.get(name) else ()
    if names and not variables.get(needs):
        raise _refuse(needs, "is missing", expected % ", ".join(names))
    return names


def check_confirmation(inputs: Inputs, cluster: str, runbook: str = "failover") -> None:
    """Raises Refusal unless the typed words name mode, cluster and site."""
    wanted = confirmation(inputs.mode, cluster, inputs.target_site, runbook)
    if inputs.confirm != wanted:
        raise Refusal(
            "CONFIRM",
            "controller",
            "dr_confirm %r" % inputs.confirm if inputs.confirm else "no dr_confirm",
            "the words %r" % wanted,
            'if that is what you mean, give -e dr_confirm="%s"' % wanted,
        )
