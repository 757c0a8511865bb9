"""An overview of runs that lie in no store, for what judges overviews."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from relevo import contacts, due, policy_file, trend
from relevo.beside import Beside
from relevo.contacts import ACKNOWLEDGED, Standing
from relevo.entries import Entry
from relevo.findings import Finding
from relevo.overview import Overview
from relevo.pages import Library, Page
from relevo.policy import Policy
from relevo.record import Record
from relevo.sign_offs import SignOff
from relevo.verified import Standing as Verified
from relevo.verified import Verification
from tests.house.tree import ROOT
from tests.unit.runner.past import Past

EXAMPLE = policy_file.parse(Path(ROOT / "inventories/example/policy.yml").read_text(encoding="utf-8"), "policy.yml")
ALL_PAGES = Library(
    {name: Page(name) for line in EXAMPLE.checklist for one in line.rests_on for name in getattr(one, "runbooks", ())},
    "a" * 40,
    False,
)


def look(
    at: datetime,
    records: Sequence[Record],
    policy: Policy = EXAMPLE,
    *,
    findings: Sequence[Finding] = (),
    acknowledged_at: str | None = None,
    signed: Sequence[SignOff] = (),
) -> Overview:
    """What these records say at a moment. acknowledged_at: when every contact did."""
    past = Past(*records)
    now = due.Now(at, {}, lambda *_: None)
    return Overview(
        at,
        policy,
        past.past,
        Counter(run.cluster or "" for run in past.summaries),
        due.entries(policy, past.past, past.clusters(), now),
        trend.series(past.tallies(), past.measured()),
        {},
        findings,
        _standings(policy, acknowledged_at, at),
        contacts.team(policy, past, past.clusters(), at),
        signed,
        now.same,
    )


def _standings(policy: Policy, acknowledged_at: str | None, at: datetime) -> list[Standing]:
    said = [
        Entry(
            f"e-{name}",
            contacts.KIND,
            name,
            ACKNOWLEDGED,
            acknowledged_at,
            "root",
            "ctl1",
            contacts.acknowledgement(policy, name, None),
        )
        for name in policy.contacts
        if acknowledged_at
    ]
    return contacts.standings(policy, said, at)


def beside(**changes: Any) -> Beside:
    """All pages are right, and the records were verified a day before the last of November."""
    verification = Verified(Verification("2026-11-27T12:00:00.000000Z", "ana", 815, 816, "0" * 64, 0, ()), 3)
    return Beside(**{"library": ALL_PAGES, "verification": verification, **changes})
