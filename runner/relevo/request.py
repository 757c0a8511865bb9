"""What an operator may say with `-e`: judged before anything starts, and handed on as text that is never a template."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from relevo.clock import parse_utc
from relevo.errors import InputRefusedError
from relevo.redact import SECRET_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_KEY = re.compile(r"[a-z][a-z0-9_]{0,63}")
_TEMPLATE = re.compile(r"\{\{|\{%|\{#")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LONGEST = 500
_SHOWN = 60
_CLOCK_LEEWAY = timedelta(minutes=5)

_NAME = (re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"), "a name of letters, digits, dots, hyphens and underscores")
_SECONDS = (re.compile(r"\d{1,9}(\.\d{1,6})?"), "a number of seconds")
_COUNT = (re.compile(r"\d{1,9}"), "a whole number")
_HOST = (re.compile(r"[a-z0-9][a-z0-9.-]{0,252}"), "a host of the inventory")
_DIGEST = (re.compile(r"[0-9a-f]{64}"), "the digest that a check for that runbook told")
_PROSE = (re.compile(r"[^-].*"), "a sentence on one line")
_REFERENCE = (
    re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/#-]{0,199}"),
    "the name of something that is kept elsewhere: letters, digits, blanks and . _ : / # -",
)
_PEOPLE = (re.compile(r"(?=.{1,500}$)(?! *,)[^-,][^,]*(, *[^ ,][^,]*)*"), "names with commas between them")
_FLAG = (re.compile(r"(?i)true|false|yes|no"), "true or false")
EXERCISE_ID = r"E-[0-9a-f]{6}"

# The inputs that every runbook understands in the same way: their form, and that form in words.
FORMS: dict[str, tuple[re.Pattern[str], str]] = {
    "dr_mode": (re.compile("drill|disaster"), "drill (a rehearsal, which moves production) or disaster"),
    "dr_scope": (re.compile("database|site"), "database (the same application hosts) or site (the other site's)"),
    "dr_target_site": _NAME,
    "dr_confirm": (re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,199}"), "the words that the runbook asks for"),
    "dr_accept_loss_seconds": _SECONDS,
    "dr_accept_loss_transactions": _COUNT,
    "dr_accept_unknown": (
        re.compile(r"[A-Z][A-Z0-9]{1,15}(,[A-Z][A-Z0-9]{1,15})*"),
        "ids of gates with commas between them, such as G02,G15",
    ),
    "dr_accept_fence": (re.compile("lease_expired"), "lease_expired, the weak fence class that is taken over by name"),
    "dr_attest_dead": (re.compile(r"[A-Za-z0-9][A-Za-z0-9._,-]{0,499}"), "names of hosts with commas between them"),
    "dr_attested_by": _PROSE,
    "dr_failed_at": (re.compile(r"[0-9TZ:.+-]{20,40}"), "a time such as 2026-11-24T03:12:00Z"),
    "dr_reason": _PROSE,
    "dr_approver": _PROSE,
    "dr_allow_restart": _FLAG,
    "dr_armed": _FLAG,
    "dr_path": (re.compile("auto|promote|restore"), "auto, promote (a standby) or restore (a backup)"),
    "dr_backup_full": _FLAG,
    "dr_backup_type": (re.compile("full|diff|incr"), "full, diff or incr"),
    "dr_backup_from": (re.compile("primary|standby"), "primary or standby"),
    "dr_backup_repository": (re.compile(r"\d{1,3}(,\d{1,3})*"), "numbers of repositories with commas between them, such as 1,2"),
    "dr_restore_set": (re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,62}"), "latest, all, or the label of a backup"),
    "dr_restore_target_time": (
        re.compile(r"[0-9A-Za-z][0-9A-Za-z :.+-]{0,49}"),
        "a time with an offset, such as 2026-11-24T03:12:00Z",
    ),
    "dr_restore_target_lsn": (re.compile(r"[0-9A-Za-z/]{1,40}"), "an LSN such as 0/3000148"),
    "dr_restore_target_name": (
        re.compile(r"[!-&(-,.-\[\]-~][ -&(-\[\]-~]{0,99}"),
        "the name of a restore point: printable characters without quotes",
    ),
    "dr_restore_timeline": (re.compile(r"[0-9a-z]{1,10}"), "latest, current, or the number of a timeline"),
    "dr_restore_repository": (re.compile(r"[0-9]{1,3}|each"), "the number of a repository, or each"),
    "dr_files_host": _HOST,
    "dr_files_set": (re.compile(r"[a-z][a-z0-9-]{0,30}"), "the name of a set, such as configuration"),
    "dr_files_target": (
        re.compile(r"(/[A-Za-z0-9_][A-Za-z0-9._-]{0,99}){1,20}"),
        "the absolute path of a directory that is empty or not there yet",
    ),
    "dr_files_time": (re.compile(r"[0-9TZ:.+-]{20,40}"), "a time such as 2026-11-24T03:12:00Z"),
    "dr_files_destination": _HOST,
    "dr_keys_renew": _FLAG,
    "dr_keys_path": _NAME,
    "dr_keys_lost_site": _NAME,
    "dr_keys_generation": (re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}"), "the id of a generation, such as 20261128T051226Z-1f3a9c02"),
    "dr_failback_method": (re.compile("rewind|delta|full"), "rewind, delta or full"),
    "dr_check_for": (re.compile("failover|switchover|failback"), "failover, switchover or failback"),
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
    "dr_exercise": (re.compile(EXERCISE_ID), "the id of an exercise, such as E-1f3a9c"),
}
# Why a run takes place and who is there: for the record alone.
CONTEXT = ("ticket", "scenario", "bia", "requester", "participants", "observers", "third_parties", "exercise")
# Of these the names that are lists.
PEOPLE = ("participants", "observers", "third_parties")
# What a runbook cannot start without; the confirmation is asked for in a terminal.
REQUIRED: dict[str, tuple[str, ...]] = {
    "failover": ("dr_mode", "dr_scope", "dr_target_site"),
    "switchover": ("dr_scope", "dr_target_site"),
    "failback": ("dr_target_site",),
    "restore_files": ("dr_files_host", "dr_files_set", "dr_files_target"),
}
CONFIRMED = frozenset({"failover", "switchover", "failback"})


@dataclass(frozen=True)
class Inputs:
    """Extra variables that were judged and found fit. All values are text."""

    values: Mapping[str, str]

    def unsafe(self) -> dict[str, dict[str, str]]:
        """The form in which ansible-core never evaluates them, whatever they hold."""
        return {name: {"__ansible_unsafe": value} for name, value in self.values.items()}

    def shown(self) -> dict[str, str]:
        """Mode, scope, target site and occasion, where given, and whether it waits for a word: what is needed of a run even when nothing starts."""
        names = ("mode", "scope", "target_site", *CONTEXT, *(("armed",) if is_armed(self) else ()))
        return {name: self.values[f"dr_{name}"] for name in names if f"dr_{name}" in self.values}

    def joined(self, name: str, value: str) -> Inputs:
        """The same with one more value. InputRefusedError when it is not acceptable."""
        return Inputs({**self.values, name: _judge(name, value)})


def read_pairs(pairs: Iterable[str]) -> dict[str, str]:
    """`k=v` arguments as they were typed. InputRefusedError for what is no pair, or is given twice."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not _KEY.fullmatch(name):
            message = (
                f"-e {_short(pair)} is not acceptable: expected name=value, one pair for each -e. Files and JSON are not taken."
            )
            raise InputRefusedError(message)
        if name in found:
            message = f"-e {name} is given twice: give it once."
            raise InputRefusedError(message)
        found[name] = value
    return found


def judge(values: Mapping[str, str]) -> Inputs:
    """Each value against its form and the rules for all. InputRefusedError names the input and what is expected."""
    return Inputs({name: _judge(name, value) for name, value in values.items()})


def salvage(pairs: Iterable[str]) -> Inputs:
    """What is acceptable among arguments that were refused as a whole: enough to name the refused run."""
    fit: dict[str, str] = {}
    for pair in pairs:
        try:
            fit.update(judge(read_pairs([pair])).values)
        except InputRefusedError:
            continue
    return Inputs(fit)


def is_armed(inputs: Inputs) -> bool:
    """Whether the run waits for a word, which brings the confirmation."""
    return inputs.values.get("dr_armed", "").lower() in {"true", "yes"}


def require(runbook: str, inputs: Inputs) -> None:
    """InputRefusedError for what the runbook cannot start without."""
    for name in REQUIRED.get(runbook, ()):
        if not inputs.values.get(name):
            raise _refused(name, "is missing", f"{FORMS[name][1]}; it has no default")


def confirmation(inputs: Inputs, cluster: str, runbook: str = "failover") -> str:
    """The words that an operator types: a drill on production really moves production, and says so."""
    verb = "drill production" if inputs.values.get("dr_mode") == "drill" else runbook
    return f"{verb} {cluster} to {inputs.values['dr_target_site']}"


def _judge(name: str, value: str) -> str:
    if SECRET_NAME.search(name):
        message = (
            f"-e {name} looks like a secret: secrets are files that the inventory names, never variables. It was not passed on."
        )
        raise InputRefusedError(message)
    if name.startswith(("ansible_", "relevo_")):
        message = f"-e {name} would change how hosts are reached or what is recorded: put it into the inventory."
        raise InputRefusedError(message)
    if _TEMPLATE.search(value):
        raise _refused(name, "holds a template", "plain text; values are never evaluated")
    if _CONTROL.search(value):
        raise _refused(name, "holds control characters", "plain text on one line")
    if value.startswith("-"):
        raise _refused(name, "begins with a hyphen", "plain text that no command could take for an option")
    if len(value) > _LONGEST:
        raise _refused(name, f"has {len(value)} characters", f"at most {_LONGEST}")
    form = FORMS.get(name)
    if form and not form[0].fullmatch(value):
        raise _refused(name, f"is {_short(value)}", form[1])
    if name == "dr_failed_at":
        _judge_time(name, value)
    return value


def _judge_time(name: str, value: str) -> None:
    try:
        moment = parse_utc(value)
    except ValueError:
        raise _refused(name, f"is {_short(value)}", FORMS[name][1]) from None
    if moment > datetime.now(UTC) + _CLOCK_LEEWAY:
        raise _refused(name, f"is {value}, in the future", "the time at which the failure began")


def _refused(name: str, observed: str, expected: str) -> InputRefusedError:
    return InputRefusedError(f"-e {name} {observed}; expected {expected}. Nothing was started.")


def _short(value: str) -> str:
    return repr(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}...")
