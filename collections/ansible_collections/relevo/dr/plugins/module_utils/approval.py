# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Two persons for one change: what is asked to be approved, and whether a statement approves exactly that. Pure functions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import way_out
from ansible_collections.relevo.dr.plugins.module_utils.clock import parse_utc
from ansible_collections.relevo.dr.plugins.module_utils.gates import FAIL, PASS, Gate, verdict
from ansible_collections.relevo.dr.plugins.module_utils.inputs import Inputs
from ansible_collections.relevo.dr.plugins.module_utils.plan import Plan

NAMESPACE = "relevo-approval"
SINGLE, DUAL = "single", "dual"
# Who does what, and what is accepted on the way; not who is alive at the moment, which may change while a person reads.
_OF_THE_PLAN = (
    "source_site",
    "target_site",
    "scope",
    "promote",
    "fence",
    "follow",
    "cutover",
    "system_identifier",
    "planned",
    "path",
)
_OF_THE_WISH = (
    "mode",
    "accept_loss_seconds",
    "accept_loss_transactions",
    "accept_unknown",
    "accept_fence",
    "attest_dead",
    "attested_by",
    "method",
)
# The two clocks are of one machine, or of two that keep time.
_CLOCKS_SECONDS = 60.0


@dataclass(frozen=True)
class Approver:
    """A person who may approve. account: whose own runs they cannot approve. key: type and base64, as ssh-keygen writes it."""

    name: str
    account: str
    key: str


@dataclass(frozen=True)
class Statement:
    """A statement whose signature holds. digest: of what was approved; at: UTC."""

    digest: str
    approver: str
    at: str


def subject(runbook: str, cluster: str, plan: Plan, inputs: Inputs) -> dict[str, Any]:
    """What a second person is asked for, as it is shown and signed."""
    parts = {name: getattr(plan, name) for name in _OF_THE_PLAN}
    parts["restore"] = way_out.sentence(plan.restore) if plan.restore else None
    return {"runbook": runbook, "cluster": cluster, **parts, **{name: getattr(inputs, name) for name in _OF_THE_WISH}}


def digest(asked: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON of a subject."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def same_plan(asked: Mapping[str, Any], approved: str) -> Gate:
    """The gate PLAN: what was shown and agreed to before this run began is what it would do. approved: the digest that a check told."""
    present = digest(asked)
    return Gate(
        "PLAN",
        "the plan is the one that was agreed to",
        "controller",
        "plan %s" % present[:12],
        "plan %s, which the check before this run showed" % approved[:12],
        verdict(present == approved),
        "something has changed since: start the workflow again, so that somebody agrees to what would happen now",
    )


def read_statement(text: str) -> Optional[Statement]:
    """What was signed; None when it has not the shape of a statement."""
    try:
        value = json.loads(text)
        parse_utc(value["approved_at"])
        return Statement(str(value["digest"]), str(value["approver"]), str(value["approved_at"]))
    except (ValueError, KeyError, TypeError):
        return None


def read_approvers(entries: Sequence[Mapping[str, Any]]) -> list[Approver]:
    """From the inventory; without an account the name is the account."""
    return [
        Approver(str(one["name"]), str(one.get("account") or one["name"]), " ".join(str(one["key"]).split()[:2])) for one in entries
    ]


def judge(
    asked: Mapping[str, Any],
    statements: Sequence[Statement],
    approvers: Sequence[Approver],
    operator: str,
    now: str,
    limit_seconds: float,
    request: str,
) -> Gate:
    """The gate APPROVAL. statements: those whose signature holds; request: where a second person finds what is asked."""
    wanted = digest(asked)
    known = {one.name: one for one in approvers}
    fitting = [one for one in statements if one.digest == wanted and one.approver in known]
    others = [one for one in fitting if known[one.approver].account != operator]
    ages = {one: (parse_utc(now) - parse_utc(one.at)).total_seconds() for one in others}
    valid = [one for one in others if -_CLOCKS_SECONDS <= ages[one] <= limit_seconds]
    title, expected = (
        "a second person agrees to this very plan",
        "one of %s, other than %s" % (", ".join(known) or "nobody", operator),
    )
    if valid:
        newest = max(valid, key=lambda one: one.at)
        return Gate("APPROVAL", title, "controller", "approved by %s at %s" % (newest.approver, newest.at), expected, PASS)
    if others:
        observed = "the approval of %s is %.0f s old, at most %.0f s are allowed" % (
            others[-1].approver,
            ages[others[-1]],
            limit_seconds,
        )
    elif fitting:
        observed = "%s asked for it and approved it" % operator
    else:
        observed = "no approval of plan %s" % wanted[:12]
    return Gate(
        "APPROVAL",
        title,
        "controller",
        observed,
        expected,
        FAIL,
        "a second person looks at it and says: relevo approve %s --as NAME --key KEY; then start the same again" % request,
    )
