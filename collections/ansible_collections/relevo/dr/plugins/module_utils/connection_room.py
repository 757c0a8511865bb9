# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a server can take all clients at once, as they come when the old primary is gone. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Optional

# Sessions that a run has open over the server's socket at the same time: the promotion, a backup and its check.
RESERVED_MIN = 3
# Processes of a server that are no sessions: WAL, checkpoints, statistics, senders, workers.
_OTHER_PROCESSES = 32


@dataclass(frozen=True)
class Demand:
    """What will come at once.

    observed: sessions on the old primary now, None where it does not say; declared: by the inventory, 0 where it does not; own: sessions of
    Relevo's observers and guards, which come beside what is declared.
    """

    observed: Optional[int]
    declared: int
    own: int

    @property
    def sessions(self) -> Optional[int]:
        """The greater of both; None where nobody knows."""
        known = [self.declared + self.own] if self.declared else []
        known += [] if self.observed is None else [self.observed]
        return max(known) if known else None

    @property
    def said(self) -> str:
        """Where the number is from."""
        parts = ["%d declared and %d of Relevo's" % (self.declared, self.own)] if self.declared else ["none declared"]
        parts.append("%s on the old primary now" % ("unseen" if self.observed is None else self.observed))
        return ", ".join(parts)


@dataclass(frozen=True)
class Finding:
    """One limit beside the demand. ok: None where one of the two is not known."""

    title: str
    observed: str
    expected: str
    ok: Optional[bool]
    next_action: str


def judge(server: Mapping[str, Any], limits: Mapping[str, Any], demand: Demand) -> Iterator[Finding]:
    """Of a demand that nobody knows, what does not depend on it.

    server: settings, shared_buffers_bytes and work_mem_bytes of the server to be promoted; limits: what its host lets it have.
    """
    settings, need, tasks = server["settings"], demand.sessions, limits.get("tasks")
    if need is not None:
        yield _sessions(settings, need, demand.said)
        yield _memory(server, limits, need)
    # Where nothing limits them there is nothing to judge.
    if need is not None and tasks is not None:
        yield Finding(
            "processes for all clients at once",
            "at most %d processes" % tasks,
            "%d sessions and %d more" % (need, _OTHER_PROCESSES),
            tasks >= need + _OTHER_PROCESSES,
            "raise TasksMax of the unit",
        )
    yield _reserved(settings)
    files, wanted = limits.get("open_files"), settings.get("max_files_per_process")
    yield Finding(
        "open files for each session",
        "nofile %s" % ("not seen" if files is None else files),
        "max_files_per_process, %s" % (wanted or "not seen"),
        None if files is None or wanted is None else files >= int(wanted),
        "raise LimitNOFILE of the unit",
    )


def _sessions(settings: Mapping[str, str], need: int, said: str) -> Finding:
    kept = [int(settings[name]) for name in ("superuser_reserved_connections", "reserved_connections") if settings.get(name)]
    most = settings.get("max_connections")
    room = None if most is None or not kept else int(most) - sum(kept)
    return Finding(
        "connections for all clients at once",
        "max_connections %s, of which %d are kept back" % (most or "not seen", sum(kept)),
        "at least %d: %s" % (need, said),
        None if room is None else room >= need,
        "raise max_connections there (dr_standby_parameters or the server's own file, then a restart), or open fewer: a pooler holds a storm",
    )


def _reserved(settings: Mapping[str, str]) -> Finding:
    kept = settings.get("superuser_reserved_connections")
    return Finding(
        "connections kept for the run itself",
        "superuser_reserved_connections %s" % (kept or "not seen"),
        "at least %d" % RESERVED_MIN,
        None if kept is None else int(kept) >= RESERVED_MIN,
        "set superuser_reserved_connections, and restart that server: without it a storm locks the operator out",
    )


def _memory(server: Mapping[str, Any], limits: Mapping[str, Any], sessions: int) -> Finding:
    shared, each, have = server.get("shared_buffers_bytes"), server.get("work_mem_bytes"), limits.get("memory_bytes")
    need = None if shared is None or each is None else int(shared) + int(each) * sessions
    return Finding(
        "memory for all clients at once",
        "not seen" if have is None else "%d MiB, of %s" % (have >> 20, limits.get("memory_from")),
        "not known" if need is None else "%d MiB: shared_buffers, and work_mem for each session" % (need >> 20),
        None if need is None or have is None else have >= need,
        "lower work_mem or shared_buffers there, give it more memory, or open fewer sessions",
    )
