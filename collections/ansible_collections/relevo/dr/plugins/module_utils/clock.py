# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Time as this host sees it: UTC for people, CLOCK_BOOTTIME for ages, the boot id so that ages never cross a reboot."""

from __future__ import annotations

import datetime
import time


def utc_now() -> str:
    """The wall clock, ISO 8601 UTC with microseconds and the suffix Z."""
    return utc(datetime.datetime.now(datetime.timezone.utc))


def utc(moment: datetime.datetime) -> str:
    """An aware datetime in the one form that records and journals use."""
    return moment.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_utc(text: str) -> datetime.datetime:
    """The inverse of :func:`utc`; also reads the offsets that PostgreSQL prints. ValueError without a zone."""
    normal = text.strip().replace(" ", "T")
    if normal.endswith("Z"):
        normal = normal[:-1] + "+00:00"
    elif len(normal) > 3 and normal[-3] in "+-":
        normal += ":00"
    moment = datetime.datetime.fromisoformat(normal)
    if moment.tzinfo is None:
        raise ValueError("the time %r has no zone" % text)
    return moment


def boottime_seconds() -> float:
    """Seconds since boot, suspend included; comes from no clock that anybody can set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """The kernel's id of this boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as source:
        return source.read().strip()
