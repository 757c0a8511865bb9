# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a stopped and fenced host becomes a standby of the new primary: what is left to do, or why it must not be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.parting import Line, part
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import lsn_bytes
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import lsn_text

START_ASIDE, PROVE, STOP, LIFT, UNMASK, START = "start aside", "prove", "stop", "lift", "unmask", "start"
_FAILBACK = "run playbooks/failback.yml: it keeps what is only here, and then makes this host a standby"


@dataclass(frozen=True)
class Follower:
    """What was found on the host.

    unit_leads: whether the running server is systemd's. rebuilt, half: our mark that its data were taken from the new primary's lineage, or are being so.
    line: how its data came to be, as far as that is known.
    """

    running: bool
    in_recovery: Optional[bool]
    streaming: bool
    signal: bool
    fence: Optional[Mapping[str, Any]]
    masked: bool
    unit_leads: bool
    rebuilt: bool
    half: bool
    control: Mapping[str, str]
    line: Optional[Line]


@dataclass(frozen=True)
class Lineage:
    """The new primary's: its system, and how it came to its timeline."""

    system_identifier: str
    line: Line


def plan(found: Follower, lineage: Lineage, host: str) -> tuple[str, ...]:
    """The steps that are left. Raises Refusal.

    The mark is lifted only after the server, started aside of its unit and read-only, was seen to stream from the new primary.
    """
    if found.running and found.in_recovery is not True:
        said = "a writable primary" if found.in_recovery is False else "a server that does not answer"
        raise Refusal("FOLLOW", host, said, "a stopped server, or a standby", "stop: find out which primary the application uses")
    identifier = found.control.get("Database system identifier")
    if identifier != lineage.system_identifier:
        raise Refusal("FOLLOW", host, "system %s" % identifier, "system %s" % lineage.system_identifier, "is this the right host?")
    if found.running and not found.fence and not found.masked and found.unit_leads:
        return () if found.streaming else (PROVE,)
    if found.fence is None:
        # Lifted already, by a run that ended right after it.
        start = () if found.running and found.unit_leads else (*((STOP,) if found.running else ()), START)
        return (*((UNMASK,) if found.masked else ()), *start, PROVE)
    if not found.running:
        _safe(found, lineage, host)
    aside = () if found.running else (START_ASIDE,)
    return (*aside, PROVE, STOP, LIFT, UNMASK, START, PROVE)


def _safe(found: Follower, lineage: Lineage, host: str) -> None:
    """PostgreSQL itself would follow from pages that are newer than the fork, and say nothing."""
    if found.half:
        raise Refusal("FOLLOW", host, "a rebuild that did not end", "data that are whole", _FAILBACK)
    if not found.signal:
        raise Refusal("FOLLOW", host, "no standby.signal", "one: without it this host would start writable", _FAILBACK)
    if found.rebuilt:
        return
    reason = diverged(found.control, found.line, lineage.line)
    if reason:
        raise Refusal("FOLLOW", host, reason, "data that end before the new primary's timeline begins", _FAILBACK)


def newest(control: Mapping[str, str]) -> int:
    """The timeline that a stopped server's data have come to."""
    return max(int(control.get(label) or 0) for label in ("Latest checkpoint's TimeLineID", "Min recovery ending loc's timeline"))


def diverged(control: Mapping[str, str], ours: Optional[Line], theirs: Line) -> Optional[str]:
    """Why a stopped server's data are not, or may not be, an earlier state of the new primary's; None when they are."""
    state = control.get("Database cluster state")
    parting = part(ours, theirs) if ours else None
    if ours is None or parting is None:
        return "data of timeline %d, of which nothing leads to timeline %d of the new primary" % (newest(control), theirs.timeline)
    if parting.position is None:
        wrote = "a server that wrote on timeline %d itself (%s)" % (ours.timeline, state)
        return None if state == "shut down in recovery" else wrote
    fork = lsn_text(parting.position)
    if ours.timeline != parting.timeline:
        return "data of its own timeline %d, which left timeline %d at %s" % (ours.timeline, parting.timeline, fork)
    # A checkpoint is named by where it begins, a recovery by where it ended.
    label, inclusive = {
        "shut down": ("Latest checkpoint location", True),
        "shut down in recovery": ("Minimum recovery ending location", False),
    }.get(str(state), (None, False))
    if label is None:
        return "a server that was not shut down cleanly (%s)" % state
    end = lsn_bytes(control.get(label) or "0/0")
    if end > parting.position or (inclusive and end == parting.position):
        return "data up to %s, behind the fork at %s" % (lsn_text(end), fork)
    return None
