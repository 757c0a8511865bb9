#!/usr/bin/python3
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""relevo-guard: may PostgreSQL on this host start writable?

  relevo-guard boot                    asked by systemd before every start (ExecStartPre); exit 1 keeps PostgreSQL down
  relevo-guard check                   what the next start would be, as JSON; changes nothing
  relevo-guard start --reason "..."    end a read-only hold on this host's own word; needs nobody else

Nothing but Python and PostgreSQL is needed. What cannot be decided is decided against writing.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import os
import pwd
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

SETTINGS = Path("/etc/relevo/guard.json")
STATE = Path("/var/lib/relevo")
FENCE, HOLD, PERMIT, JOURNAL = "fence.json", "guard-held.json", "guard-permit.json", "journal.jsonl"
PERMIT_SECONDS = 120.0

WRITABLE, STANDBY, HOLD_READ_ONLY, REFUSE, FENCE_AND_REFUSE = (
    "start",
    "start-as-standby",
    "hold-read-only",
    "refuse",
    "fence-and-refuse",
)


BRING_BACK = (
    "keep this data directory if it may hold transactions that are nowhere else; then move it away, remove /var/lib/relevo/fence.json, "
    "unmask the unit, and run playbooks/protect.yml, which builds a standby here"
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
    permit: a fresh word of an operator on this host. timeline: this cluster's. archive_timeline: the newest in the repository, None when it did not answer.
    """

    cluster: bool
    signal: bool = False
    hold: Optional[dict[str, Any]] = None
    fence: Optional[dict[str, Any]] = None
    permit: Optional[dict[str, Any]] = None
    timeline: int = 0
    peers: tuple[Peer, ...] = ()
    archive_timeline: Optional[int] = None


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
        "%s answers, yet neither these hosts nor the archive do (%s): it cannot be known that none of them is primary"
        % (", ".join(heard), unheard)
        if heard
        else "no other host of the cluster answers (%s): it cannot be known that none of them is primary" % unheard,
        "when you know that no other host is primary: relevo-guard start --reason '...'; or restart this unit once %s"
        % ("they answer, or the archive" if heard else "another host answers"),
    )


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
            told = "%s answers as standby; the archive holds no newer timeline, so nobody was promoted meanwhile (%s)"
            return Decision(WRITABLE, told % (standbys, silence))
        return Decision(WRITABLE, "%s answers and is a standby; nobody else is primary" % standbys)
    if evidence.permit is not None:
        return Decision(WRITABLE, "%s said so: %s" % (_who(evidence.permit), evidence.permit.get("reason")))
    return None


def _known(evidence: Evidence) -> bool:
    """Whether what was seen shows that nobody else is primary: every other host is a standby, or one is and the archive has seen no promotion.

    A standby that answers says nothing about the others: a neighbour on this side of a cut is no witness of the other side.
    """
    heard = [peer for peer in evidence.peers if peer.role == "standby"]
    if not heard:
        return False
    return len(heard) == len(evidence.peers) or (
        evidence.archive_timeline is not None and evidence.archive_timeline <= evidence.timeline
    )


def _silence(peers: tuple[Peer, ...]) -> str:
    return "; ".join("%s: %s" % (peer.name, peer.detail or peer.role) for peer in peers if peer.role != "standby")


def _who(mark: dict[str, Any]) -> str:
    return "run %s" % mark["run_id"] if mark.get("run_id") else str(mark.get("by") or "an unknown hand")


# -- seeing --


@dataclass(frozen=True)
class Settings:
    """/etc/relevo/guard.json. peers: [{name, host, port}]; host is a name in the server's certificate."""

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
    evidence = Evidence(
        cluster=settings.file("global/pg_control").exists(),
        signal=settings.file("standby.signal").exists(),
        hold=read_mark(HOLD),
        fence=read_mark(FENCE),
        permit=fresh_permit(read_mark(PERMIT)),
        timeline=newest_timeline(control, settings.file("pg_wal")),
    )
    if decide_alone(evidence) is not None:
        return evidence
    wait_seconds = settings.wait_seconds if patient and evidence.permit is None else 0.0
    with concurrent.futures.ThreadPoolExecutor() as pool:
        archive = pool.submit(archive_timeline, settings)

        def enough(peers: tuple[Peer, ...]) -> bool:
            newest = archive.result() if archive.done() else None
            return settled(Evidence(**{**_shallow(evidence), "peers": peers, "archive_timeline": newest}))

        peers = ask_peers(settings, control.get("Database system identifier", ""), pool, wait_seconds, enough)
        newest = archive.result()
    return Evidence(**{**_shallow(evidence), "peers": peers, "archive_timeline": newest})


def _shallow(evidence: Evidence) -> dict[str, Any]:
    return {name: getattr(evidence, name) for name in evidence.__dataclass_fields__}


def controldata(settings: Settings) -> dict[str, str]:
    """pg_controldata by label; empty when there is no cluster. Raises GuardError for a cluster that cannot be read."""
    if not settings.file("global/pg_control").exists():
        return {}
    done = run_as_owner(settings, [settings.program("pg_controldata"), settings.data_directory], 10)
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


def ask_peer(settings: Settings, peer: dict[str, Any], system_identifier: str) -> Peer:
    """One peer over verified TLS, in bounded time."""
    words = {
        "host": peer["host"],
        "port": str(peer.get("port", 5432)),
        "dbname": settings.database,
        "user": settings.monitor_role,
        "passfile": settings.passfile,
        "connect_timeout": str(max(2, settings.connect_seconds)),
        "sslmode": "verify-full" if settings.ca_file else "require",
        "application_name": "relevo-guard",
    }
    if settings.ca_file:
        words["sslrootcert"] = settings.ca_file
    conninfo = " ".join("%s='%s'" % (name, value.replace("\\", "\\\\").replace("'", "\\'")) for name, value in words.items())
    command = [
        settings.program("psql"),
        "-XAtqw",
        "--field-separator=|",
        "--dbname=%s" % conninfo,
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


def archive_timeline(settings: Settings) -> Optional[int]:
    """The newest timeline that any repository knows; None when none of them answered in time.

    One that does not answer takes nothing away: what the others hold is there, and without them the peers decide.
    """
    if not settings.stanza or not settings.repositories:
        return None
    deadline = time.monotonic() + settings.archive_seconds
    with concurrent.futures.ThreadPoolExecutor(max_workers=len(settings.repositories)) as pool:
        found = pool.map(lambda repository: repository_timeline(settings, repository, deadline), settings.repositories)
        return max((timeline for timeline in found if timeline is not None), default=None)


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
    left = deadline - time.monotonic()
    if left <= 0:
        return None
    command = ["pgbackrest", "--config=%s" % settings.pgbackrest_config, "--stanza=%s" % settings.stanza, "--repo=%d" % repository]
    command += ["--io-timeout=2", "--log-level-console=off", "--log-level-file=off", "repo-ls", path]
    done = run_as_owner(settings, command, left)
    return done.stdout.split() if done is not None and done.returncode == 0 else None


def run_as_owner(settings: Settings, command: list[str], timeout: float) -> Optional[subprocess.CompletedProcess[str]]:
    """A command as the cluster's owner; None when it had no result in time or could not be started."""
    account = pwd.getpwnam(settings.owner)
    switch: dict[str, Any] = {}
    if os.geteuid() == 0:
        switch = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": os.getgrouplist(settings.owner, account.pw_gid)}
    environment = {
        "PATH": "/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        "HOME": account.pw_dir,
        "PGOPTIONS": "-c search_path=pg_catalog,pg_temp -c statement_timeout=2000",
    }
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout,
            cwd="/",
            env=environment,
            **switch,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


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
    return carry_out(settings, evidence, decision)


def check(settings: Settings) -> int:
    """Asked by the runbooks; changes nothing."""
    evidence = look(settings, patient=False)
    decision = decide(evidence)
    say(json.dumps({"cluster": settings.cluster, "evidence": asdict(evidence), "decision": asdict(decision)}))
    return 0


def start(settings: Settings, reason: str) -> int:
    """End a hold that the guard itself put in place. A fence is never lifted here."""
    if read_mark(FENCE) is None and read_mark(HOLD) is None:
        say("relevo-guard: nothing is held on this host. Use systemctl start %s." % settings.unit)
        return 0
    by = os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    permit = {
        "by": by,
        "reason": reason,
        "at": utc_now(),
        "boot_id": boot_id(),
        "boottime": time.clock_gettime(time.CLOCK_BOOTTIME),
    }
    evidence = Evidence(**{**_shallow(look(settings, patient=False)), "permit": permit})
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


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="relevo-guard", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("boot", help="decide before PostgreSQL starts")
    verbs.add_parser("check", help="show what the next start would be")
    verbs.add_parser("start", help="end a read-only hold").add_argument(
        "--reason", required=True, help="why it is safe; kept in the journal"
    )
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        say("relevo-guard: must be run as root")
        return 1
    try:
        settings = read_settings()
        if arguments.verb == "start":
            return start(settings, arguments.reason)
        return boot(settings) if arguments.verb == "boot" else check(settings)
    except (GuardError, OSError) as error:
        say("relevo-guard: PostgreSQL must NOT start: %s" % error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
