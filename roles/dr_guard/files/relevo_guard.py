#!/usr/bin/python3
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""relevo-guard: may PostgreSQL on this host start writable, and may it go on?

  relevo-guard boot                    asked by systemd before every start (ExecStartPre); exit 1 keeps PostgreSQL down
  relevo-guard watch                   the self-fence, a service: stops a primary that nobody outside its site hears any more
  relevo-guard check                   what the next start would be, as JSON; changes nothing
  relevo-guard start --reason "..."    end a read-only hold on this host's own word; needs nobody else
  relevo-guard lift --reason "..."     lift a fence, where what is seen allows it

Nothing but Python and PostgreSQL is needed. What cannot be decided is decided against writing.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import contextlib
import hashlib
import json
import os
import pwd
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

SETTINGS = Path("/etc/relevo/guard.json")
STATE = Path("/var/lib/relevo")
# In memory, so that nothing of an earlier boot is ever taken for news.
RUN = Path("/run/relevo-guard")
FENCE, HOLD, PERMIT, JOURNAL = "fence.json", "guard-held.json", "guard-permit.json", "journal.jsonl"
RESERVE = "fence-reserve"
LOCK = "lock.json"
WATCHED, GIVEN = "watch.json", "given.json"
PERMIT_SECONDS = 120.0

# A stop begins that long before the lease ends, so that it has ended by then whatever PostgreSQL does: fast, then immediate, then killed.
LEAD_SECONDS, IMMEDIATE_SECONDS, KILL_SECONDS = 5.0, 2.0, 1.0
TICK_SECONDS, HEARING_SECONDS, GIVING_SECONDS, ANSWER_SECONDS = 0.05, 0.5, 1.0, 3.0
# A watch that has not written its state for that long is dead, or as good as.
ALIVE_SECONDS = 5.0
# A watch that is told to stop takes that long to have it seen from outside; systemd would kill it after 10 s.
LEAVING_SECONDS = 5.0

WRITABLE, STANDBY, HOLD_READ_ONLY, REFUSE, FENCE_AND_REFUSE = (
    "start",
    "start-as-standby",
    "hold-read-only",
    "refuse",
    "fence-and-refuse",
)


BRING_BACK = (
    "keep this data directory if it may hold transactions that are nowhere else; then move it away, say so with "
    "relevo-guard lift --reason '...', and run playbooks/protect.yml, which builds a standby here"
)


# -- deciding: pure --


@dataclass(frozen=True)
class Peer:
    """What another database host of the cluster answered. role: primary | standby | silent | other-system."""

    name: str
    role: str
    timeline: int = 0
    detail: str = ""


@dataclass(frozen=True)
class Evidence:
    """Everything a decision rests on.

    cluster: there is a cluster in the data directory. signal: standby.signal is there. hold: our own mark that we put it there. fence: the fence mark.
    permit: a fresh word of an operator on this host. timeline: this cluster's. archive_timeline: the newest in any repository, None when none answered.
    archive_silent: the repositories that did not answer; a newer timeline may be in one of them.
    """

    cluster: bool
    signal: bool = False
    hold: Optional[dict[str, Any]] = None
    fence: Optional[dict[str, Any]] = None
    permit: Optional[dict[str, Any]] = None
    timeline: int = 0
    peers: tuple[Peer, ...] = ()
    archive_timeline: Optional[int] = None
    archive_silent: tuple[int, ...] = ()


@dataclass(frozen=True)
class Decision:
    """action: one of the five; reason and next_action for a person."""

    action: str
    reason: str
    next_action: str = ""


def decide_alone(evidence: Evidence) -> Optional[Decision]:
    """What this host's own files settle, without asking anybody; None when they do not."""
    if evidence.fence is not None:
        mark = evidence.fence
        reason = "this host was fenced by %s at %s (%s)" % (
            _who(mark),
            mark.get("at", "?"),
            mark.get("reason") or mark.get("class") or "no reason kept",
        )
        return Decision(REFUSE, reason, BRING_BACK)
    if not evidence.cluster:
        return Decision(WRITABLE, "there is no cluster here that could be writable")
    if evidence.signal and evidence.hold is None:
        return Decision(STANDBY, "standby.signal is in place")
    if evidence.signal and evidence.hold is not None and evidence.timeline > int(evidence.hold.get("timeline", 0)):
        return Decision(STANDBY, "this host was held and has followed a newer timeline since: it is a standby now")
    return None


def decide(evidence: Evidence) -> Decision:
    """The whole rule: the first part that can tell decides, in the order of what is worse to get wrong."""
    for rule in (decide_alone, _another_primary, _newer_timeline, _known_or_permitted):
        decision = rule(evidence)
        if decision is not None:
            return decision
    heard = [peer.name for peer in evidence.peers if peer.role == "standby"]
    unheard = _silence(evidence.peers)
    return Decision(
        HOLD_READ_ONLY,
        "%s answers, yet neither these hosts nor %s (%s): it cannot be known that none of them is primary"
        % (", ".join(heard), _silent_archive(evidence), unheard)
        if heard
        else "no other host of the cluster answers (%s): it cannot be known that none of them is primary" % unheard,
        "when you know that no other host is primary: relevo-guard start --reason '...'; or restart this unit once %s"
        % ("they answer, or every repository does" if heard else "another host answers"),
    )


def _silent_archive(evidence: Evidence) -> str:
    if evidence.archive_timeline is None:
        return "the archive do"
    return "repository %s of the archive" % ", ".join(map(str, evidence.archive_silent))


def _another_primary(evidence: Evidence) -> Optional[Decision]:
    primaries = [peer for peer in evidence.peers if peer.role == "primary"]
    for peer in primaries:
        if peer.timeline >= evidence.timeline:
            seen = "%s is the primary, on timeline %d; this host's data end on timeline %d" % (
                peer.name,
                peer.timeline,
                evidence.timeline,
            )
            return Decision(FENCE_AND_REFUSE, seen, BRING_BACK)
    if primaries:
        peer = primaries[0]
        return Decision(
            HOLD_READ_ONLY,
            "%s accepts writes on timeline %d, which is older than %d here: two hosts claim to be primary"
            % (peer.name, peer.timeline, evidence.timeline),
            "stop PostgreSQL on %s, then restart it here" % peer.name,
        )
    return None


def _newer_timeline(evidence: Evidence) -> Optional[Decision]:
    for peer in evidence.peers:
        if peer.role == "standby" and peer.timeline > evidence.timeline:
            seen = "%s follows timeline %d; this host's data end on timeline %d" % (peer.name, peer.timeline, evidence.timeline)
            return Decision(FENCE_AND_REFUSE, seen, BRING_BACK)
    if evidence.archive_timeline is None or evidence.archive_timeline <= evidence.timeline:
        return None
    seen = "the archive holds timeline %d; this host's data end on timeline %d" % (evidence.archive_timeline, evidence.timeline)
    if not evidence.peers or any(peer.role != "standby" for peer in evidence.peers):
        return Decision(FENCE_AND_REFUSE, seen, BRING_BACK)
    if evidence.permit is None:
        # Every other host follows our timeline, so nobody serves the newer one: an abandoned promotion, or somebody is at work on it.
        return Decision(HOLD_READ_ONLY, seen, "if that timeline was abandoned on purpose: relevo-guard start --reason '...'")
    return None


def _known_or_permitted(evidence: Evidence) -> Optional[Decision]:
    if not evidence.peers:
        return Decision(WRITABLE, "this cluster has no other host")
    if _known(evidence):
        standbys = ", ".join(peer.name for peer in evidence.peers if peer.role == "standby")
        silence = _silence(evidence.peers)
        if silence:
            told = (
                "%s answers as standby; no repository of the archive holds a newer timeline, so nobody was promoted meanwhile (%s)"
            )
            return Decision(WRITABLE, told % (standbys, silence))
        return Decision(WRITABLE, "%s answers and is a standby; nobody else is primary" % standbys)
    if evidence.permit is not None:
        return Decision(WRITABLE, "%s said so: %s" % (_who(evidence.permit), evidence.permit.get("reason")))
    return None


def _known(evidence: Evidence) -> bool:
    """Whether what was seen shows that nobody else is primary: every other host is a standby, or one is and no repository has seen a promotion.

    A standby that answers says nothing about the others: a neighbour on this side of a cut is no witness of the other side. Nor is a store of this side:
    whoever was promoted beyond the cut archives to the others only.
    """
    heard = [peer for peer in evidence.peers if peer.role == "standby"]
    if not heard:
        return False
    return len(heard) == len(evidence.peers) or (
        evidence.archive_timeline is not None and not evidence.archive_silent and evidence.archive_timeline <= evidence.timeline
    )


def _silence(peers: tuple[Peer, ...]) -> str:
    return "; ".join("%s: %s" % (peer.name, peer.detail or peer.role) for peer in peers if peer.role != "standby")


def _who(mark: dict[str, Any]) -> str:
    return "run %s" % mark["run_id"] if mark.get("run_id") else str(mark.get("by") or "an unknown hand")


# -- lifting a fence: pure --


@dataclass(frozen=True)
class Lineage:
    """How this host's data relate to a primary's timeline.

    state: in pg_control. location: where its data end; of a primary that was shut down where its last checkpoint begins.
    own, forks: by timeline where this host's, and the primary's, history leaves it; None when unknown.
    """

    state: str = ""
    location: int = 0
    own: Optional[dict[int, int]] = None
    forks: Optional[dict[int, int]] = None


def decide_lift(evidence: Evidence, lineage: Lineage, *, running: str = "") -> Decision:
    """What a fenced host becomes when its mark is lifted: WRITABLE (after the boot guard has looked again), STANDBY, or REFUSE.

    running: the state in postmaster.pid, empty when PostgreSQL is stopped.
    """
    if not evidence.cluster:
        return Decision(WRITABLE, "there is no cluster here that could be writable")
    if running and running != "standby":
        return Decision(REFUSE, "PostgreSQL runs here (%s)" % running, "stop it, then lift the fence")
    primaries = [peer for peer in evidence.peers if peer.role == "primary" and peer.timeline >= evidence.timeline]
    if primaries:
        return _lift_beside(max(primaries, key=lambda peer: peer.timeline), evidence, lineage)
    seen = decide(replace(evidence, fence=None, hold=None, permit=None, signal=False))
    if seen.action == WRITABLE:
        return seen
    silent = ", ".join(peer.name for peer in evidence.peers if peer.role == "silent")
    if seen.action == HOLD_READ_ONLY and silent:
        gone = "let %s answer, then lift it; what is lost for good is named: --gone %s" % (silent, silent.replace(", ", " --gone "))
        return Decision(REFUSE, seen.reason, gone)
    return Decision(REFUSE, seen.reason, BRING_BACK if seen.action == FENCE_AND_REFUSE else seen.next_action)


def _lift_beside(primary: Peer, evidence: Evidence, lineage: Lineage) -> Decision:
    """Beside a living primary a host may only come back as its standby, and only with data that can follow it."""
    where = "%s is the primary, on timeline %d" % (primary.name, primary.timeline)
    if not evidence.signal:
        return Decision(REFUSE, "%s, and standby.signal is gone here: the next start would be writable" % where, BRING_BACK)
    if lineage.forks is None:
        return Decision(
            REFUSE,
            "%s; the archive does not tell, or not with one voice, how it came there" % where,
            "let every repository answer, then lift it",
        )
    # The number of a timeline is no name: two hosts that were promoted apart have the same.
    shared = {timeline: left for timeline, left in lineage.forks.items() if timeline < evidence.timeline}
    if lineage.own == shared and _followed(evidence.timeline == primary.timeline, lineage, lineage.forks.get(evidence.timeline, 0)):
        return Decision(STANDBY, "%s, and holds all that this host has" % where)
    return Decision(REFUSE, "%s; this host's data went another way" % where, BRING_BACK)


def _followed(same_timeline: bool, lineage: Lineage, fork: int) -> bool:
    """Whether this host's data are an earlier state of the primary's. On its own timeline only who was in recovery has them from it."""
    if same_timeline:
        return lineage.state in ("shut down in recovery", "in archive recovery")
    if lineage.state == "shut down in recovery":
        return 0 < lineage.location <= fork
    return lineage.state == "shut down" and lineage.location < fork


def history_forks(text: str) -> dict[int, int]:
    """By timeline the position at which a history file leaves it."""
    found = re.findall(r"^(\d+)\s+([0-9A-Fa-f]+)/([0-9A-Fa-f]+)", text, re.MULTILINE)
    return {int(timeline): (int(high, 16) << 32) + int(low, 16) for timeline, high, low in found}


# -- the lease of a primary: pure --


@dataclass(frozen=True)
class Lease:
    """How long this host may go on being primary.

    postmaster: the process that it is for. heard: when, by the boot clock, it was last certain that somebody outside this site would hear us.
    samples: by giver what its count was and when that was asked, newest first.
    """

    postmaster: int
    heard: float
    heard_from: str = ""
    samples: dict[str, tuple[tuple[int, float], ...]] = field(default_factory=dict)

    def ends(self, seconds: float) -> float:
        """When PostgreSQL has to be stopped, by the boot clock."""
        return self.heard + seconds


def renew(lease: Lease, counts: Mapping[str, int], asked: float) -> Lease:
    """What the givers' counts, asked at that time, add to it.

    A giver sends one write at a time. The last one may be old: a frozen host commits it when it thaws. The one after it was sent when the giver had our
    answer, so a count that went up by two since it was asked proves that the giver heard us after that asking.
    """
    heard, heard_from, samples = lease.heard, lease.heard_from, dict(lease.samples)
    for giver, count in counts.items():
        known = samples.get(giver, ())
        if known and known[0][0] > count:
            known = ()
        known = ((count, asked), *(known[1:] if known and known[0][0] == count else known))
        certain = next((number for number, (before, _) in enumerate(known) if before <= count - 2), None)
        if certain is not None:
            known = known[: certain + 1]
            if known[certain][1] > heard:
                heard, heard_from = known[certain][1], giver
        samples[giver] = known
    return replace(lease, heard=heard, heard_from=heard_from, samples=samples)


def lease_of(lease: Optional[Lease], server: Optional[tuple[int, str]], now: float, over: Optional[int] = None) -> Optional[Lease]:
    """The lease that the server at hand needs: kept for the same process, new for one that was started since (systemd asked the boot guard), else none.

    over: the process that was shut down and is none, as long as it stops; its number may be given again.
    """
    if server is None or server == (over, "stopping"):
        return None
    postmaster, state = server
    # A signal file that appears beside a primary is somebody's fence at work: until it has ended, the primary is one.
    if lease is not None and lease.postmaster == postmaster:
        return lease
    return Lease(postmaster, now) if state == "ready" else None


def givers_digest(names: Iterable[str]) -> str:
    """Names of those who are heard, short enough to be told in a session's name."""
    return hashlib.sha256(",".join(sorted(names)).encode()).hexdigest()[:8]


# -- seeing --


@dataclass(frozen=True)
class Settings:
    """/etc/relevo/guard.json. peers: [{name, host, port}]; host is a name in the server's certificate.

    name: this host's in the inventory. self_fence_seconds: 0 = never. heard_by: observers and database hosts outside this host's site.
    lease_database: where they write.
    """

    cluster: str
    unit: str
    data_directory: str
    bin_directory: str
    stanza: str = ""
    pgbackrest_config: str = "/etc/pgbackrest/pgbackrest.conf"
    owner: str = "postgres"
    database: str = "postgres"
    monitor_role: str = "relevo_monitor"
    passfile: str = "/etc/relevo/pgpass"
    ca_file: str = ""
    connect_seconds: int = 2
    archive_seconds: float = 6.0
    wait_seconds: float = 10.0
    peers: list[dict[str, Any]] = field(default_factory=list)
    repositories: list[int] = field(default_factory=lambda: [1])
    name: str = ""
    self_fence_seconds: int = 0
    heard_by: list[str] = field(default_factory=list)
    lease_database: str = "postgres"

    def file(self, name: str) -> Path:
        """A file of the data directory."""
        return Path(self.data_directory, name)

    def program(self, name: str) -> str:
        """A program of PostgreSQL."""
        return str(Path(self.bin_directory, name))


class GuardError(Exception):
    """The guard cannot decide; the message is a sentence."""


def read_settings(path: Path = SETTINGS) -> Settings:
    """Raises GuardError: a guard without settings must not wave anything through."""
    try:
        return Settings(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise GuardError(
            "%s cannot be read (%s). Next: run playbooks/protect.yml, or remove the drop-in of the unit if this host is unprotected"
            % (path, error)
        ) from None


def read_mark(name: str) -> Optional[dict[str, Any]]:
    """A mark in our state directory; one that cannot be read is still a mark."""
    try:
        value = json.loads((STATE / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        return {"reason": "the mark cannot be read: %s" % error}
    return value if isinstance(value, dict) else {"reason": "the mark is not an object"}


def look(settings: Settings, *, patient: bool = True) -> Evidence:
    """This host's own files and, unless they settle it, the peers and the archive. patient: wait for peers that may still be booting."""
    control = controldata(settings)
    evidence = own_files(settings, control)
    if decide_alone(evidence) is not None:
        return evidence
    wait_seconds = settings.wait_seconds if patient and evidence.permit is None else 0.0
    return ask_around(settings, evidence, control.get("Database system identifier", ""), wait_seconds)


def own_files(settings: Settings, control: dict[str, str]) -> Evidence:
    """What this host knows by itself."""
    return Evidence(
        cluster=settings.file("global/pg_control").exists(),
        signal=settings.file("standby.signal").exists(),
        hold=read_mark(HOLD),
        fence=read_mark(FENCE),
        permit=fresh_permit(read_mark(PERMIT)),
        timeline=newest_timeline(control, settings.file("pg_wal")),
    )


def ask_around(settings: Settings, evidence: Evidence, system_identifier: str, wait_seconds: float) -> Evidence:
    """The same with what the peers and the archive say."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        archive = pool.submit(archive_timelines, settings)

        def enough(peers: tuple[Peer, ...]) -> bool:
            return settled(with_archive(replace(evidence, peers=peers), archive.result() if archive.done() else {}))

        peers = ask_peers(settings, system_identifier, pool, wait_seconds, enough)
        return with_archive(replace(evidence, peers=peers), archive.result())


def with_archive(evidence: Evidence, found: Mapping[int, Optional[int]]) -> Evidence:
    """The same with what the repositories say: one of them is enough to refuse, and all of them are needed to permit."""
    newest = max((timeline for timeline in found.values() if timeline is not None), default=None)
    silent = tuple(repository for repository, timeline in found.items() if timeline is None)
    return replace(evidence, archive_timeline=newest, archive_silent=silent)


def controldata(settings: Settings, seconds: float = 10) -> dict[str, str]:
    """pg_controldata by label; empty when there is no cluster. Raises GuardError for a cluster that cannot be read."""
    if not settings.file("global/pg_control").exists():
        return {}
    done = run_as_owner(settings, [settings.program("pg_controldata"), settings.data_directory], seconds)
    if done is None or done.returncode != 0:
        raise GuardError("pg_controldata cannot read %s" % settings.data_directory)
    pairs = (line.split(":", 1) for line in done.stdout.splitlines() if ":" in line)
    return {label.strip(): value.strip() for label, value in pairs}


def newest_timeline(control: dict[str, str], wal_directory: Path) -> int:
    """The timeline on which this cluster's data end.

    pg_control alone is late: a server that dies right after its promotion has not written the first checkpoint of the new timeline, but has its segments.
    """
    labels = ("Latest checkpoint's TimeLineID", "Min recovery ending loc's timeline")
    known = [int(control.get(label) or 0) for label in labels]
    with contextlib.suppress(FileNotFoundError):
        known += [int(path.name[:8], 16) for path in wal_directory.iterdir() if re.fullmatch(r"[0-9A-F]{24}", path.name)]
    return max(known)


def settled(evidence: Evidence) -> bool:
    """Whether waiting for more peers could change nothing for the better."""
    return (
        not evidence.peers
        or _known(evidence)
        or any(peer.role == "primary" or (peer.role == "standby" and peer.timeline > evidence.timeline) for peer in evidence.peers)
    )


def ask_peers(
    settings: Settings,
    system_identifier: str,
    pool: concurrent.futures.Executor,
    wait_seconds: float,
    enough: Callable[[tuple[Peer, ...]], bool],
) -> tuple[Peer, ...]:
    """Every peer's answer; asked again for a while until it is enough, for after a power cut hosts come up in any order."""
    deadline = time.monotonic() + wait_seconds
    while True:
        peers = tuple(pool.map(lambda peer: ask_peer(settings, peer, system_identifier), settings.peers))
        if enough(peers) or time.monotonic() > deadline:
            return peers
        time.sleep(1.0)


_QUESTION = """
select case when pg_is_in_recovery() then 'standby' else 'primary' end,
       (select system_identifier from pg_control_system()),
       greatest((select timeline_id from pg_control_checkpoint()), coalesce((select received_tli from pg_stat_wal_receiver), 0),
                case when pg_is_in_recovery() then 0 else ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int end)
"""


def peer_conninfo(settings: Settings, peer: Mapping[str, Any], database: str) -> str:
    """The way to a peer: verified TLS, in bounded time."""
    words = {
        "host": str(peer["host"]),
        "port": str(peer.get("port", 5432)),
        "dbname": database,
        "user": settings.monitor_role,
        "passfile": settings.passfile,
        "connect_timeout": str(max(2, settings.connect_seconds)),
        "sslmode": "verify-full" if settings.ca_file else "require",
        "application_name": "relevo-guard",
    }
    if settings.ca_file:
        words["sslrootcert"] = settings.ca_file
    return " ".join("%s='%s'" % (name, value.replace("\\", "\\\\").replace("'", "\\'")) for name, value in words.items())


def ask_peer(settings: Settings, peer: dict[str, Any], system_identifier: str) -> Peer:
    """One peer's answer."""
    command = [
        settings.program("psql"),
        "-XAtqw",
        "--field-separator=|",
        "--dbname=%s" % peer_conninfo(settings, peer, settings.database),
        "--command=%s" % _QUESTION,
    ]
    done = run_as_owner(settings, command, settings.connect_seconds + 3)
    name = str(peer["name"])
    if done is None:
        return Peer(name, "silent", detail="no answer within %d s" % (settings.connect_seconds + 3))
    answer = re.fullmatch(r"(primary|standby)\|(\d+)\|(\d+)", done.stdout.strip())
    if done.returncode != 0 or answer is None:
        return Peer(name, "silent", detail=" ".join(done.stderr.split())[:300] or "no answer")
    role, system, timeline = answer.groups()
    if system != system_identifier:
        return Peer(name, "other-system", detail="another cluster, system identifier %s" % system)
    return Peer(name, role, int(timeline))


def archive_timelines(settings: Settings) -> dict[int, Optional[int]]:
    """By repository the newest timeline that it knows; None for one that did not answer in time."""
    if not settings.stanza or not settings.repositories:
        return {}
    deadline = time.monotonic() + settings.archive_seconds
    with concurrent.futures.ThreadPoolExecutor(max_workers=len(settings.repositories)) as pool:
        found = pool.map(lambda repository: repository_timeline(settings, repository, deadline), settings.repositories)
        return dict(zip(settings.repositories, found))


def repository_timeline(settings: Settings, repository: int, deadline: float) -> Optional[int]:
    """The newest timeline whose history file is in one repository (1 when there is none); None when it did not answer in time."""
    clusters = list_archive(settings, repository, "archive/%s" % settings.stanza, deadline)
    if clusters is None:
        return None
    newest = 1
    for cluster in clusters:
        if not re.fullmatch(r"\d+(\.\d+)?-\d+", cluster):
            continue
        names = list_archive(settings, repository, "archive/%s/%s" % (settings.stanza, cluster), deadline)
        if names is None:
            return None
        newest = max([newest, *(int(name[:8], 16) for name in names if re.fullmatch(r"[0-9A-F]{8}\.history", name))])
    return newest


def list_archive(settings: Settings, repository: int, path: str, deadline: float) -> Optional[list[str]]:
    """Names below a path of a repository."""
    answer = ask_archive(settings, repository, ["repo-ls", path], deadline)
    return None if answer is None else answer.split()


def ask_archive(settings: Settings, repository: int, words: list[str], deadline: float) -> Optional[str]:
    """What pgBackRest prints; None when it did not answer in time."""
    left = deadline - time.monotonic()
    if left <= 0:
        return None
    command = ["pgbackrest", "--config=%s" % settings.pgbackrest_config, "--stanza=%s" % settings.stanza, "--repo=%d" % repository]
    command += ["--io-timeout=2", "--log-level-console=off", "--log-level-file=off", *words]
    done = run_as_owner(settings, command, left)
    return done.stdout if done is not None and done.returncode == 0 else None


def run_as_owner(settings: Settings, command: list[str], timeout: float) -> Optional[subprocess.CompletedProcess[str]]:
    """A command as the cluster's owner; None when it had no result in time or could not be started."""
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout,
            **as_owner(settings),
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def as_owner(settings: Settings, **environment: str) -> dict[str, Any]:
    """Arguments for subprocess: the cluster's owner, nothing of our environment, and no object of an attacker in the search path."""
    account = pwd.getpwnam(settings.owner)
    switch: dict[str, Any] = {}
    if os.geteuid() == 0:
        switch = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": os.getgrouplist(settings.owner, account.pw_gid)}
    base = {
        "PATH": "/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        "HOME": account.pw_dir,
        "PGOPTIONS": "-c search_path=pg_catalog,pg_temp -c statement_timeout=2000 -c synchronous_commit=local",
    }
    return {"cwd": "/", "env": {**base, **environment}, **switch}


def fresh_permit(permit: Optional[dict[str, Any]]) -> Optional[dict[str, Any]]:
    """An operator's word counts for one start, within this boot and for a short time."""
    if permit is None or permit.get("boot_id") != boot_id():
        return None
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - float(permit.get("boottime", 0))
    return permit if 0 <= age <= PERMIT_SECONDS else None


def boot_id() -> str:
    """The kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


# -- acting --


def utc_now() -> str:
    """The wall clock, as journals and records have it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def write_mark(name: str, mark: dict[str, Any]) -> None:
    """Durable before it returns."""
    STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=STATE, prefix=".guard-")
    with os.fdopen(handle, "w", encoding="utf-8") as target:
        json.dump(mark, target)
        target.flush()
        os.fsync(target.fileno())
    Path(temporary).replace(STATE / name)
    sync(STATE)


def remove_mark(name: str) -> None:
    """Durable too; nothing to do when there is none."""
    remove(STATE / name)


def remove(path: Path) -> None:
    """Remove a name and make that durable."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        sync(path.parent)


def sync(directory: Path) -> None:
    """Make names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put_signal(settings: Settings) -> None:
    """standby.signal makes even a bare pg_ctl start read-only."""
    account = pwd.getpwnam(settings.owner)
    descriptor = os.open(settings.file("standby.signal"), os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.fchown(descriptor, account.pw_uid, account.pw_gid)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync(Path(settings.data_directory))


def write_journal(**detail: Any) -> None:
    """One line beside those of the runs."""
    STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    line = {
        "run_id": "guard",
        "phase": "GUARD",
        "kind": "result",
        "at": utc_now(),
        "boottime": time.clock_gettime(time.CLOCK_BOOTTIME),
        "boot_id": boot_id(),
        **detail,
    }
    with (STATE / JOURNAL).open("a", encoding="utf-8") as target:
        os.fchmod(target.fileno(), 0o600)
        target.write(json.dumps(line) + "\n")
        target.flush()
        os.fsync(target.fileno())


def carry_out(settings: Settings, evidence: Evidence, decision: Decision) -> int:
    """Put the decision on disk, safest part first, and return the exit code that systemd acts on."""
    if decision.action == HOLD_READ_ONLY:
        # The mark before the signal: a signal without our mark would look like a standby's for ever.
        write_mark(HOLD, {"by": "relevo-guard", "at": utc_now(), "reason": decision.reason, "timeline": evidence.timeline})
        put_signal(settings)
    elif decision.action == FENCE_AND_REFUSE:
        put_signal(settings)
        write_mark(FENCE, {"kind": "guard", "by": "relevo-guard", "at": utc_now(), "class": "stopped", "reason": decision.reason})
        remove_mark(HOLD)
    elif decision.action == REFUSE:
        if evidence.cluster:
            put_signal(settings)
    elif decision.action == STANDBY:
        remove_mark(HOLD)
    elif evidence.hold is not None:
        remove(settings.file("standby.signal"))
        remove_mark(HOLD)
    remove_mark(PERMIT)
    if decision.action != STANDBY:
        write_journal(decision=decision.action, reason=decision.reason, evidence=asdict(evidence))
    return 1 if decision.action in (REFUSE, FENCE_AND_REFUSE) else 0


_SAID = {
    WRITABLE: "PostgreSQL may start writable",
    STANDBY: "PostgreSQL starts as a standby",
    HOLD_READ_ONLY: "PostgreSQL is held READ-ONLY",
    REFUSE: "PostgreSQL must NOT start",
    FENCE_AND_REFUSE: "PostgreSQL must NOT start; this host is fenced from now on",
}


def sentence(decision: Decision) -> str:
    """The decision for the journal and for a person."""
    return "relevo-guard: %s: %s.%s" % (
        _SAID[decision.action],
        decision.reason,
        " Next: %s." % decision.next_action if decision.next_action else "",
    )


def say(text: str) -> None:
    """To the operator, or to the journal by systemd."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def boot(settings: Settings) -> int:
    """Asked by systemd."""
    evidence = look(settings)
    decision = decide(evidence)
    say(sentence(decision))
    forget_dead_server(settings)
    return carry_out(settings, evidence, decision)


def check(settings: Settings) -> int:
    """Asked by the runbooks; changes nothing."""
    evidence = look(settings, patient=False)
    decision = decide(evidence)
    seen = {"evidence": asdict(evidence), "decision": asdict(decision), "watch": watch_state(settings)}
    say(json.dumps({"cluster": settings.cluster, **seen}))
    return 0


def locked_by_another(lock: Optional[dict[str, Any]], run_id: str) -> Optional[Decision]:
    """A refusal while a run may be at work that is not this one: what it has proven of this host must stay true until it has promoted another."""
    if lock is None or (run_id and lock.get("run_id") == run_id):
        return None
    if "run_id" not in lock:
        reason = "%s cannot be read: a run may be at work" % (STATE / LOCK)
        return Decision(REFUSE, reason, "make sure that no run is at work (relevo status), then remove that file on this host")
    left = float(lock.get("lease_until_boottime") or 0) - boottime()
    if lock.get("boot_id") != boot_id() or left < 0:
        return None
    who = "run %s of %s on %s holds the lock of this cluster since %s" % tuple(
        lock.get(name, "?") for name in ("run_id", "owner", "controller", "since")
    )
    reason = "%s; its lease ends in %.0f s" % (who, left)
    return Decision(
        REFUSE, reason, "wait for that run; when it is dead, start the same runbook again, or wait until its lease has ended"
    )


def start(settings: Settings, reason: str, run_id: str = "") -> int:
    """End a hold that the guard itself put in place. A fence is never lifted here."""
    if read_mark(FENCE) is None and read_mark(HOLD) is None:
        say("relevo-guard: nothing is held on this host. Use systemctl start %s." % settings.unit)
        return 0
    locked = locked_by_another(read_mark(LOCK), run_id)
    if locked is not None:
        say(sentence(locked))
        return 1
    by = run_id or os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    permit = {
        "by": by,
        "reason": reason,
        "at": utc_now(),
        "boot_id": boot_id(),
        "boottime": time.clock_gettime(time.CLOCK_BOOTTIME),
    }
    evidence = replace(look(settings, patient=False), permit=permit)
    decision = decide(evidence)
    if decision.action != WRITABLE:
        say(sentence(decision))
        write_journal(decision="start-refused", reason=decision.reason, by=by, said=reason)
        return 1
    write_mark(PERMIT, permit)
    write_journal(decision="start-permitted", reason=reason, by=by)
    say("relevo-guard: restarting %s, permitted by %s: %s" % (settings.unit, by, reason))
    done = subprocess.run(["systemctl", "restart", settings.unit], check=False, timeout=3600)
    if done.returncode != 0 or read_mark(HOLD) is not None:
        say("relevo-guard: %s did not start writable. Next: journalctl -u %s" % (settings.unit, settings.unit))
        return 1
    return 0


# -- lifting --


def lineage(settings: Settings, evidence: Evidence) -> Lineage:
    """Where the newest primary's timeline left ours, from this host's pg_control and pg_wal and the archive's history file."""
    control = controldata(settings)
    state = control.get("Database cluster state", "")
    label = "Minimum recovery ending location" if state == "shut down in recovery" else "Latest checkpoint location"
    high, _, low = control.get(label, "0/0").partition("/")
    newest = max((peer.timeline for peer in evidence.peers if peer.role == "primary"), default=0)
    forks = archived_forks(settings, newest) if newest >= evidence.timeline else None
    return Lineage(state, (int(high, 16) << 32) + int(low, 16), own_forks(settings, evidence.timeline), forks)


def own_forks(settings: Settings, timeline: int) -> Optional[dict[int, int]]:
    """By timeline where this host's own history leaves it; None when its file is not there."""
    if timeline == 1:
        return {}
    try:
        return history_forks(settings.file("pg_wal/%08X.history" % timeline).read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None


def archived_forks(settings: Settings, timeline: int) -> Optional[dict[int, int]]:
    """By timeline where the history of this one leaves it; None when no repository tells, or two of them tell it differently."""
    if timeline == 1:
        return {}
    told = []
    for repository in settings.repositories if settings.stanza else []:
        deadline = time.monotonic() + settings.archive_seconds
        place = "archive/%s" % settings.stanza
        for cluster in list_archive(settings, repository, place, deadline) or []:
            if re.fullmatch(r"\d+(\.\d+)?-\d+", cluster):
                text = ask_archive(settings, repository, ["repo-get", "%s/%s/%08X.history" % (place, cluster, timeline)], deadline)
                if text:
                    told.append(history_forks(text))
    return told[0] if told and all(one == told[0] for one in told) else None


def lift(
    settings: Settings, reason: str, *, gone: Iterable[str] = (), run_id: str = "", dry: bool = False
) -> tuple[bool, Decision]:
    """Lift the fence mark of this host, where what is seen allows it. True when there was one and it is lifted (would be, when dry)."""
    if read_mark(FENCE) is None:
        return False, Decision(WRITABLE, "this host is not fenced")
    locked = locked_by_another(read_mark(LOCK), run_id)
    if locked is not None:
        return False, locked
    control = controldata(settings)
    evidence = replace(own_files(settings, control), hold=None, permit=None)
    if evidence.cluster:
        evidence = ask_around(settings, evidence, control.get("Database system identifier", ""), 0.0)
        silent = {peer.name for peer in evidence.peers if peer.role == "silent"}
        wrong = sorted(set(gone) - silent)
        if wrong:
            return False, Decision(
                REFUSE, "%s answers, or is no host of this cluster" % ", ".join(wrong), "name only hosts that are lost"
            )
        evidence = replace(evidence, peers=tuple(peer for peer in evidence.peers if peer.name not in set(gone)))
    server = server_state(settings)
    decision = decide_lift(evidence, lineage(settings, evidence), running=server[1] if server else "")
    if dry or decision.action == REFUSE:
        return decision.action != REFUSE, decision
    if decision.action == WRITABLE and evidence.cluster:
        # From fenced to held: the boot guard looks again at the moment of the start, and only then lets it write.
        put_signal(settings)
        write_mark(HOLD, {"by": "relevo-guard", "at": utc_now(), "reason": decision.reason, "timeline": evidence.timeline})
    by = run_id or os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    said = {"said": reason, "by": by, "gone": list(gone), "reason": decision.reason, "evidence": asdict(evidence)}
    write_journal(decision="fence-lifted", **said)
    remove_mark(FENCE)
    subprocess.run(["systemctl", "unmask", "--", settings.unit], capture_output=True, check=False, timeout=30)
    return True, decision


def say_lift(settings: Settings, arguments: argparse.Namespace) -> int:
    """Lift for a person, or for a runbook as JSON."""
    lifted, decision = lift(settings, arguments.reason, gone=arguments.gone, run_id=arguments.run_id, dry=arguments.dry_run)
    if arguments.json:
        say(json.dumps({"lifted": lifted, "decision": asdict(decision)}))
    elif decision.action == REFUSE:
        say("relevo-guard: the fence is NOT lifted: %s. Next: %s." % (decision.reason, decision.next_action))
    elif lifted and not arguments.dry_run:
        say("relevo-guard: the fence is lifted: %s. Next: systemctl start %s" % (decision.reason, settings.unit))
    else:
        say("relevo-guard: %s: %s" % ("the fence could be lifted" if lifted else "nothing to lift", decision.reason))
    return 1 if decision.action == REFUSE else 0


# -- the server's processes --


def server_state(settings: Settings) -> Optional[tuple[int, str]]:
    """The running postmaster and its state (starting, ready, standby, stopping), from its files: it may be frozen and not answer.

    postmaster.pid says ready of a standby too, as soon as it lets readers in.
    """
    try:
        lines = settings.file("postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
        pid = int(lines[0])
    except (OSError, ValueError, IndexError):
        return None
    if not of_the_server(settings, pid):
        return None
    state = lines[7].strip() if len(lines) > 7 else "starting"
    recovering = any(settings.file(name).exists() for name in ("standby.signal", "recovery.signal"))
    return pid, "standby" if recovering and state == "ready" else state


def shut_down(settings: Settings, server: Optional[tuple[int, str]]) -> bool:
    """Whether a server that stops has written its last checkpoint: it commits nothing any more, and only waits for who streams from it."""
    if server is None or server[1] != "stopping":
        return False
    with contextlib.suppress(GuardError):
        return controldata(settings, ANSWER_SECONDS / 3).get("Database cluster state") == "shut down"
    return False


def local_conninfo(settings: Settings) -> str:
    """The way to the server on this host: its own socket and port, as it says in postmaster.pid."""
    with contextlib.suppress(OSError, IndexError):
        lines = settings.file("postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
        return "host='%s' port='%s' dbname='%s'" % (lines[4], lines[3], settings.lease_database)
    return "dbname='%s'" % settings.lease_database


def of_the_server(settings: Settings, pid: int) -> str:
    """The kernel's letter for the state of a process of this cluster: a server program that works in the data directory. Empty for any other."""
    try:
        name, _, rest = Path("/proc/%d/stat" % pid).read_text(encoding="utf-8", errors="replace").partition("(")[2].rpartition(")")
        ours = os.path.samestat(os.stat("/proc/%d/cwd" % pid), os.stat(settings.data_directory))
    except OSError:
        return ""
    state = rest.split()[0]
    return state if ours and ("postgres" in name or name == "postmaster") and state not in "ZX" else ""


def server_processes(settings: Settings) -> list[int]:
    """All of them: backends outlive a killed postmaster."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and of_the_server(settings, int(name))]


def forget_dead_server(settings: Settings) -> None:
    """After a crash the number in postmaster.pid may be another process's: pg_ctlcluster takes it for a running server, and nothing starts."""
    if not server_processes(settings):
        remove(settings.file("postmaster.pid"))


def send(pid: int, number: int) -> None:
    """A signal to a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def end_server(settings: Settings, end: float, pause: Callable[[], None] = lambda: None) -> bool:
    """Fast, then immediate, then killed, so that nothing of it is left at that time of the boot clock. pause: called while waiting."""
    for number, until in ((signal.SIGINT, end - IMMEDIATE_SECONDS), (signal.SIGQUIT, end - KILL_SECONDS)):
        server = server_state(settings)
        if server is None or boottime() >= until:
            continue
        send(server[0], number)
        # One that is stopped by a signal takes no other but SIGKILL.
        while boottime() < until and of_the_server(settings, server[0]) not in ("", "T"):
            pause()
            time.sleep(0.02)
    deadline = boottime() + 30.0
    server = server_state(settings)
    if server is not None:
        # It shall start no new backends while the others are ended.
        send(server[0], signal.SIGSTOP)
    while left := server_processes(settings):
        if boottime() > deadline:
            return False
        for pid in [pid for pid in left if server is None or pid != server[0]] or left:
            send(pid, signal.SIGKILL)
        pause()
        time.sleep(0.01)
    return True


# -- the self-fence --


def boottime() -> float:
    """Seconds since this boot; it goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Session:
    """One psql session that is kept, so that asking needs neither a new process nor a free connection slot."""

    def __init__(self, settings: Settings, conninfo: Callable[[], str], **environment: str) -> None:
        self._command = [settings.program("psql"), "-XAtqw", "--field-separator=|"]
        self._conninfo = conninfo
        self._arguments = as_owner(settings, **environment)
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._number = 0

    def open(self, seconds: float) -> bool:
        """Whether the session is there: psql echoes only when it is connected."""
        if self._process is None:
            with contextlib.suppress(OSError):
                self._process = subprocess.Popen(
                    [*self._command, "--dbname=%s" % self._conninfo()],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    **self._arguments,
                )
            return self.ask("", seconds) is not None
        return True

    def ask(self, sql: str, seconds: float) -> Optional[str]:
        """What it answers; None when it did not in time, and the session is closed then."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return None
        self._number += 1
        ending = b"relevo-%d\n" % self._number
        received, deadline = b"", time.monotonic() + seconds
        try:
            process.stdin.write(("%s\n\\echo %s" % (sql, ending.decode())).encode())
            process.stdin.flush()
            while not received.endswith(ending):
                left = deadline - time.monotonic()
                chunk = (
                    os.read(process.stdout.fileno(), 65536) if select.select([process.stdout], [], [], max(0.0, left))[0] else b""
                )
                if not chunk:
                    self.close()
                    return None
                received += chunk
        except OSError:
            self.close()
            return None
        return received[: -len(ending)].decode(errors="replace").strip()

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            for stream in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):
                    if stream is not None:
                        stream.close()
            self._process.wait()
            self._process = None


class Watch:
    """What the threads of the watch share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.leaving = threading.Event()
        self.stopping = threading.Event()
        self.primary = threading.Event()
        self.heard: collections.deque[tuple[float, dict[str, int]]] = collections.deque(maxlen=100)
        # When who asks was first told that nobody watches here any more.
        self.disarmed: Optional[float] = None
        # What an earlier watch sent may have renewed a lease; who forgets it would prove too much.
        given = read_running(GIVEN)
        self.sent: dict[str, float] = dict(given.get("sent", {}))
        self.accepted: dict[str, dict[str, Any]] = dict(given.get("accepted", {}))


ARMED = re.compile(r"relevo-guard armed=(\d+) by=([0-9a-f]{8})")
_COUNTS = "select observer, count from relevo.observation;"
_DISARM = "set application_name to 'relevo-guard';"
_GIVE = "update relevo.observation set seen_at = pg_catalog.now(), count = count + 1 where observer = '%s' returning 'given';"
_IS_ARMED = (
    "select application_name from pg_stat_activity where usename = '%s' and application_name like 'relevo-guard armed=%%' limit 1;"
)


def hear(watch: Watch) -> None:
    """While this host is primary: who has written into it. The name of the session tells the givers that it is watched, and for how long it may go unheard."""
    settings = watch.settings
    armed = "relevo-guard armed=%d by=%s" % (settings.self_fence_seconds, givers_digest(settings.heard_by))
    session = Session(settings, lambda: local_conninfo(settings), PGAPPNAME=armed, PGCONNECT_TIMEOUT="3")
    while not watch.stopping.is_set():
        if not watch.primary.is_set():
            session.close()
        elif session.open(ANSWER_SECONDS):
            if watch.leaving.is_set() and watch.disarmed is None and session.ask(_DISARM, ANSWER_SECONDS) is not None:
                watch.disarmed = boottime()
            asked = boottime()
            answer = session.ask(_COUNTS, ANSWER_SECONDS)
            if answer is None:
                # The next session comes armed.
                watch.disarmed = None
            else:
                rows = (line.rpartition("|") for line in answer.splitlines())
                watch.heard.append((asked, {name: int(count) for name, _, count in rows if name in settings.heard_by}))
        watch.stopping.wait(HEARING_SECONDS)
    session.close()


def give(watch: Watch, peer: dict[str, Any], own_name: str) -> None:
    """While this host is not primary: write into a peer, as the observers do, and keep when a write was last on its way to it."""
    settings, name = watch.settings, str(peer["name"])
    session = Session(settings, lambda: peer_conninfo(settings, peer, settings.lease_database))
    while not watch.stopping.is_set():
        if watch.primary.is_set():
            session.close()
        elif session.open(settings.connect_seconds + 3):
            watch.sent[name] = boottime()
            write_given(watch)
            answer = session.ask(_GIVE % own_name.replace("'", "''"), settings.connect_seconds)
            if answer == "given":
                armed = ARMED.fullmatch(session.ask(_IS_ARMED % settings.owner, settings.connect_seconds) or "")
                watch.accepted[name] = {
                    "at": boottime(),
                    "self_fence_seconds": int(armed.group(1)) if armed else 0,
                    "heard_by": armed.group(2) if armed else "",
                }
                write_given(watch)
        watch.stopping.wait(GIVING_SECONDS)
    session.close()


_WRITING = threading.Lock()


def write_given(watch: Watch) -> None:
    """For the run that asks whether a peer's lease has ended."""
    with _WRITING:
        write_running(GIVEN, {"boot_id": boot_id(), "sent": watch.sent, "accepted": watch.accepted})


def write_running(name: str, value: dict[str, Any]) -> None:
    """Replace a file in memory as a whole."""
    RUN.mkdir(mode=0o755, parents=True, exist_ok=True)
    temporary = RUN / (".%s" % name)
    temporary.write_text(json.dumps(value), encoding="utf-8")
    temporary.replace(RUN / name)


def read_running(name: str) -> dict[str, Any]:
    """What was written during this boot; empty when nothing was, or it cannot be read."""
    try:
        value = json.loads((RUN / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) and value.get("boot_id") == boot_id() else {}


def notify(word: str) -> None:
    """To systemd, which kills and starts anew a watch that it does not hear."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(word.encode(), "\0" + address[1:] if address.startswith("@") else address)


def guarded(work: Callable[..., None], *arguments: Any) -> None:
    """A thread that dies takes the watch with it: systemd starts it anew, and the lease goes on where it was."""
    try:
        work(*arguments)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the watch must not go on without this thread
        say("relevo-guard: %s: %s" % (type(error).__name__, error))
        os._exit(1)


def watch(settings: Settings) -> int:
    """The self-fence: stop this host's primary in time when nobody outside its site has heard it."""
    if settings.self_fence_seconds <= 0:
        say("relevo-guard: no self-fence is wanted on this host (self_fence_seconds is 0)")
        notify("READY=1")
        return 0
    shared = Watch(settings)
    signal.signal(signal.SIGTERM, lambda *_: shared.leaving.set())
    set_reserve_aside()
    # Before PostgreSQL's processes when a frozen host thaws; where that is not allowed the unit's niceness has to do.
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    lease = resumed(server_state(settings), settings.self_fence_seconds)
    own_name = settings.name or socket.gethostname()
    works = [(hear, shared), *((give, shared, peer, own_name) for peer in settings.peers)]
    threads = [threading.Thread(target=guarded, args=work, daemon=True) for work in works]
    written, told, give_up = 0.0, False, float("inf")
    # The process number of a primary that was shut down: what is left of it is none.
    over: Optional[int] = None
    while not told and boottime() < give_up:
        now = boottime()
        server = server_state(settings)
        lease = lease_of(lease, server, now, over)
        if lease is not None and now < lease.ends(settings.self_fence_seconds):
            # What was heard before a freeze is as old as its asking; a lease that ended meanwhile is not renewed by it.
            lease = renewed(shared, lease)
        (shared.primary.set if lease is not None else shared.primary.clear)()
        if lease is not None and now >= lease.ends(settings.self_fence_seconds) - LEAD_SECONDS:
            over = end_of_lease(settings, server, lease)
        if now - written >= HEARING_SECONDS:
            written = now
            write_running(WATCHED, watched(settings, lease, now))
        if threads[0].ident is None:
            for thread in threads:
                thread.start()
            notify("READY=1")
        notify("WATCHDOG=1")
        if shared.leaving.is_set():
            # A planned stop is no fence, and ends the lease once it is known outside; until then this goes on watching.
            give_up = min(give_up, now + LEAVING_SECONDS)
            told = known_outside(shared, lease)
        time.sleep(TICK_SECONDS)
    write_running(WATCHED, {**watched(settings, lease, boottime()), "self_fence_seconds": 0, "stopped": True, "told": told})
    shared.stopping.set()
    ended_by = boottime() + ANSWER_SECONDS
    for thread in threads:
        thread.join(max(0.0, ended_by - boottime()))
    say("relevo-guard: the watch was stopped; this host fences itself no more")
    return 0


def renewed(watch: Watch, lease: Lease) -> Lease:
    """The lease with all that was heard since."""
    while watch.heard:
        asked, counts = watch.heard.popleft()
        lease = renew(lease, counts, asked)
    return lease


def known_outside(watch: Watch, lease: Optional[Lease]) -> bool:
    """Whether one who could prove by the lease has seen that nobody watches here any more."""
    disarmed = watch.disarmed
    return lease is None or (disarmed is not None and lease.heard >= disarmed)


def watched(settings: Settings, lease: Optional[Lease], now: float) -> dict[str, Any]:
    """What a watch that is started anew goes on with, and what the runbooks see of it."""
    return {
        "boot_id": boot_id(),
        "at": now,
        "self_fence_seconds": settings.self_fence_seconds,
        "postmaster": lease.postmaster if lease else None,
        "heard": lease.heard if lease else None,
        "heard_from": lease.heard_from if lease else "",
    }


def resumed(server: Optional[tuple[int, str]], seconds: float) -> Optional[Lease]:
    """The lease that an earlier watch left. None where a new one may begin: another server, or a planned stop that was known outside or outlasted the lease.

    Before its last seconds a watch does not end by itself, so who only starts it anew never finds it over.
    """
    kept = read_running(WATCHED)
    if server is None or kept.get("postmaster") != server[0]:
        return None
    lease = Lease(server[0], float(kept["heard"]), str(kept.get("heard_from", "")))
    planned = kept.get("stopped") and (kept.get("told") or boottime() >= lease.ends(seconds))
    return None if planned else lease


def watch_state(settings: Settings) -> dict[str, Any]:
    """Whether the self-fence is armed, alive, and when this host was last heard."""
    kept, now = read_running(WATCHED), boottime()
    age = now - float(kept["at"]) if kept else None
    heard = kept.get("heard")
    return {
        "self_fence_seconds": settings.self_fence_seconds,
        "alive": age is not None and age <= ALIVE_SECONDS and kept.get("self_fence_seconds") == settings.self_fence_seconds,
        "heard_age_seconds": None if heard is None else round(now - float(heard), 1),
        "heard_from": kept.get("heard_from", ""),
    }


def end_of_lease(settings: Settings, server: Optional[tuple[int, str]], lease: Lease) -> Optional[int]:
    """Fence this host. One whose primary was shut down is none to fence, however long a standby that is gone is waited for: its process number."""
    if shut_down(settings, server):
        return lease.postmaster
    self_fence(settings, lease)
    return None


def self_fence(settings: Settings, lease: Lease) -> None:
    """Marks first, as long as they do not keep us from stopping; when the lease has ended already, nothing comes before the stop."""
    end, now = lease.ends(settings.self_fence_seconds), boottime()
    if now >= end:
        end_server(settings, end)
    reason = "nobody outside this site heard this primary for %.0f s, since %s; its self-fence is armed with %d s" % (
        now - lease.heard,
        "it started" if not lease.heard_from else "%s did" % lease.heard_from,
        settings.self_fence_seconds,
    )
    say("relevo-guard: %s: PostgreSQL is stopped and this host fenced" % reason)
    mark = {"kind": "self", "by": "relevo-guard", "at": utc_now(), "class": "self", "reason": reason}
    # A disk that hangs must not keep PostgreSQL alive.
    marking = threading.Thread(target=leave_marks, args=(settings, mark), daemon=True)
    marking.start()
    marking.join(0.0 if now >= end else 0.5)

    def pause() -> None:
        notify("WATCHDOG=1")

    ended = end_server(settings, end, pause)
    late = boottime() - end
    marking.join(30.0)
    for _ in range(100):
        if masked(settings):
            break
        notify("WATCHDOG=1")
        time.sleep(0.1)
    outcome = "all its processes have ended" if ended else "processes do not end, even by SIGKILL"
    say("relevo-guard: %s, %.1f s %s the end of the lease" % (outcome, abs(late), "after" if late > 0 else "before"))
    with contextlib.suppress(OSError):
        write_journal(decision="self-fence", reason=reason, outcome=outcome, late_seconds=round(late, 3))


def leave_marks(settings: Settings, mark: dict[str, Any]) -> None:
    """The fence mark, the read-only signal and the mask: each whatever becomes of the others."""
    try:
        write_mark(FENCE, mark)
    except OSError:
        with contextlib.suppress(OSError):
            use_reserve(mark)
    with contextlib.suppress(OSError):
        put_signal(settings)
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(["systemctl", "mask", "--", settings.unit], capture_output=True, check=False, timeout=10)


def masked(settings: Settings) -> bool:
    """Whether the unit is masked on disk."""
    path = Path("/etc/systemd/system", settings.unit)
    return path.is_symlink() and os.readlink(path) == "/dev/null"


_RESERVED_BYTES = 4096


def set_reserve_aside() -> None:
    """Room for the fence mark on a disk that will be full."""
    if not (STATE / RESERVE).exists():
        STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            (STATE / RESERVE).write_bytes(b" " * _RESERVED_BYTES)


def use_reserve(mark: dict[str, Any]) -> None:
    """Write the mark where its room is, and give it its name."""
    descriptor = os.open(STATE / RESERVE, os.O_WRONLY)
    try:
        os.pwrite(descriptor, json.dumps(mark).encode().ljust(_RESERVED_BYTES)[:_RESERVED_BYTES], 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    (STATE / RESERVE).replace(STATE / FENCE)
    sync(STATE)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="relevo-guard", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("boot", help="decide before PostgreSQL starts")
    verbs.add_parser("check", help="show what the next start would be")
    starting = verbs.add_parser("start", help="end a read-only hold")
    starting.add_argument("--reason", required=True, help="why it is safe; kept in the journal")
    starting.add_argument("--run-id", default="", help=argparse.SUPPRESS)
    verbs.add_parser("watch", help="the self-fence, as a service")
    lifting = verbs.add_parser("lift", help="lift a fence where what is seen allows it")
    lifting.add_argument("--reason", required=True, help="why; kept in the journal")
    lifting.add_argument("--gone", action="append", default=[], metavar="HOST", help="a silent host that is lost for good")
    lifting.add_argument("--run-id", default="", help=argparse.SUPPRESS)
    lifting.add_argument("--dry-run", action="store_true", help="only say what would be done")
    lifting.add_argument("--json", action="store_true", help="for programs")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        say("relevo-guard: must be run as root")
        return 1
    try:
        settings = read_settings()
        if arguments.verb == "start":
            return start(settings, arguments.reason, arguments.run_id)
        if arguments.verb == "lift":
            return say_lift(settings, arguments)
        if arguments.verb == "watch":
            return watch(settings)
        return boot(settings) if arguments.verb == "boot" else check(settings)
    except (GuardError, OSError) as error:
        say("relevo-guard: %s%s" % ("PostgreSQL must NOT start: " if arguments.verb == "boot" else "", error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
