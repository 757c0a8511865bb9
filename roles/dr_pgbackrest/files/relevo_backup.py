#!/usr/bin/python3
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""relevo-backup: take a backup from this host, if this host is the one to take it.

  relevo-backup --name hourly-full --type full                      asked by a timer; does nothing unless this host is the primary
  relevo-backup --name on-demand --type incr --repository 1 --run RUN   asked by a runbook
  relevo-backup --name weekly-full --type full --standby            copied from a standby, or from the primary with a word why

One backup after the other, into each repository in turn; one that does not answer does not keep the others from theirs. Every attempt
is a line of backups.jsonl. Exit: 0 done or not this host's turn, 1 no repository got its backup, 3 some did not, 75 another backup was at work.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

SETTINGS = Path("/etc/relevo/backup.json")
STATE = Path("/var/lib/relevo-backup")
LOG, LOCK = "backups.jsonl", "lock"

TAKEN, DAMAGED, FAILED, SKIPPED = "taken", "damaged", "failed", "skipped"
DONE, NONE_TAKEN, SOME_TAKEN, BUSY = 0, 1, 3, 75

_PROMOTED_JUST_NOW = "select timeline_id <> ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int from pg_control_checkpoint()"
PRIMARY, STANDBY, STOPPED, SILENT = "primary", "standby", "stopped", "silent"

# How long a repository may take to say that it is there, before PostgreSQL is asked for anything.
ANSWER_SECONDS = 30.0
CONNECT_SECONDS = 3.0
# A standby that is cut off while it is copied from is noticed by these; pgBackRest alone would wait for half an hour.
KEEP_ALIVE = ("--tcp-keep-alive-idle=10", "--tcp-keep-alive-interval=5", "--tcp-keep-alive-count=3")


# -- deciding: pure --


@dataclass(frozen=True)
class Settings:
    """/etc/relevo/backup.json.

    wait_seconds: for another backup on this host; timeout_seconds: for one backup; log_bytes: of backups.jsonl; standbys: options of pgBackRest for
    each other host, without their prefix pgN-.
    """

    stanza: str
    bin_directory: str
    repositories: list[int]
    config: str = "/etc/pgbackrest/pgbackrest.conf"
    port: int = 5432
    wait_seconds: float = 1800.0
    timeout_seconds: float = 86400.0
    log_bytes: int = 4 << 20
    standbys: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Standby:
    """Where a backup may be copied from. place: what must take a connection first; options: of pgBackRest, none where its own file has them."""

    name: str
    place: Optional[tuple[str, int]] = None
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Attempt:
    """One line of backups.jsonl: one backup in one repository.

    started, ended: UTC; outcome: taken | damaged | failed | skipped; copied_from: ``primary``, ``primary, because ...`` or ``standby HOST``.
    """

    name: str
    type: str
    repository: int
    started: str
    ended: str
    outcome: str
    label: Optional[str] = None
    reason: Optional[str] = None
    run: Optional[str] = None
    copied_from: Optional[str] = None


def standbys(settings: Settings, by_hand: Sequence[str]) -> list[Standby]:
    """Each way to a standby. by_hand: hosts to which somebody set up a way in pgBackRest's own file; that one is taken as it is."""
    if by_hand:
        return [Standby(" or ".join(by_hand))]
    return [
        Standby(
            str(options["host"]),
            (str(options["host"]), int(options["host-port"])),
            (*KEEP_ALIVE, *("--pg2-%s=%s" % option for option in sorted(options.items()))),
        )
        for options in settings.standbys
    ]


def unfit(output: str) -> str:
    """Why pgBackRest found no standby to copy from, or an empty text when it found one."""
    if "unable to find standby cluster" not in output:
        return ""
    found = re.search(r"unable to check pg(?!1:)\d+: (.+)", output)
    return found.group(1).strip()[:300] if found else "it is no standby"


def judge(output: str, returncode: int) -> tuple[str, Optional[str], Optional[str]]:
    """Outcome, label and reason from what ``pgbackrest backup`` said. It ends with 0 when it copied damaged pages."""
    found = re.search(r"new backup label = (\S+)", output)
    label = found.group(1) if found else None
    if returncode == 0 and label:
        damaged = re.findall(r"(?:invalid page checksums? .*?found|page misalignment) in file (\S+)", output)
        if damaged:
            return DAMAGED, label, "page checksum errors in %s" % ", ".join(damaged[:5])
        return TAKEN, label, None
    if re.search(r"unable to acquire lock|lock is held", output):
        return SKIPPED, None, "another pgBackRest command holds this stanza's lock"
    return FAILED, label, first_error(output) or "pgbackrest ended with %d and named no backup" % returncode


def first_error(output: str) -> str:
    """The line that says what went wrong."""
    for line in output.splitlines():
        if "ERROR" in line or "Error]" in line:
            return re.sub(r"^\S+ \S+ +P\d+ +", "", line).strip()[:300]
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def exit_code(outcomes: Sequence[str]) -> int:
    """What the outcomes of all repositories come to; a damaged backup is none that counts."""
    good = [outcome for outcome in outcomes if outcome == TAKEN]
    if len(good) == len(outcomes):
        return DONE
    if not good and all(outcome == SKIPPED for outcome in outcomes):
        return BUSY
    return SOME_TAKEN if good else NONE_TAKEN


def trimmed(text: str, most: int) -> str:
    """The newest whole lines that fit, a torn last line left out."""
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    size, first = 0, len(lines)
    while first and size + len(lines[first - 1].encode()) <= most:
        first -= 1
        size += len(lines[first].encode())
    return "".join(lines[first:])


# -- seeing and acting --


@dataclass
class Work:
    """One call of this program. processes: what must end when this program is told to end; stopped: it was."""

    settings: Settings
    name: str
    type: str
    repositories: list[int]
    standby: bool = False
    run: Optional[str] = None
    wait_seconds: float = 0.0
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    stopped: bool = False


def read_settings(path: Path = SETTINGS) -> Settings:
    """Raises OSError, ValueError or TypeError."""
    return Settings(**json.loads(path.read_text(encoding="utf-8")))


def configured(config: str) -> set[int]:
    """The repositories that pgBackRest's file has; one that was left out is not there until playbooks/protect.yml brings it back."""
    with open(config, encoding="utf-8") as source:
        return {int(found.group(1)) for found in (re.match(r"repo(\d+)-", line) for line in source) if found}


def hosts_by_hand(config: str, stanza: str) -> list[str]:
    """Hosts of PostgreSQL beside this one that pgBackRest's file names for the stanza."""
    section, found = "", []
    with open(config, encoding="utf-8") as source:
        for line in source:
            section = line.strip()[1:-1].split(":")[0] if line.startswith("[") else section
            option = re.match(r"pg(?!1-)\d+-host\s*=\s*(\S+)", line)
            found += [option.group(1)] if option and section == stanza else []
    return found


def utc_now() -> str:
    """The wall clock, as journals and records have it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def say(text: str) -> None:
    """To the journal, by systemd."""
    sys.stdout.write("relevo-backup: %s\n" % text)
    sys.stdout.flush()


def ask(settings: Settings, sql: str, seconds: float = 20) -> tuple[Optional[str], str]:
    """The answer of PostgreSQL on this host, or None and what was said instead."""
    command = [
        str(Path(settings.bin_directory, "psql")),
        "-XAtqw",
        "--port=%d" % settings.port,
        "--dbname=postgres",
        "--command=%s" % sql,
    ]
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "PGCONNECT_TIMEOUT": "10", "PGAPPNAME": "relevo-backup"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds, cwd="/", env=environment)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    return (done.stdout.strip() if done.returncode == 0 else None), " ".join(done.stderr.split())[:300]


def role(settings: Settings) -> tuple[str, str]:
    """What PostgreSQL on this host is, by its own word, and what it said when it gave none."""
    answer, said = ask(settings, "select pg_catalog.pg_is_in_recovery()")
    known = {"f": PRIMARY, "t": STANDBY}.get(answer or "")
    if known:
        return known, ""
    return (STOPPED if re.search(r"No such file or directory|Connection refused", said) else SILENT), said


def settle(settings: Settings) -> None:
    """Until its first checkpoint a promoted server's pg_control names the timeline that it left, and pgBackRest refuses to begin."""
    if ask(settings, _PROMOTED_JUST_NOW)[0] == "t":
        ask(settings, "checkpoint", settings.timeout_seconds)


@contextlib.contextmanager
def alone(name: str, seconds: float) -> Iterator[Optional[str]]:
    """Hold this host's one lock for backups. Yields None, or who holds it when it did not come free in time."""
    STATE.mkdir(mode=0o750, parents=True, exist_ok=True)
    with (STATE / LOCK).open("a+", encoding="utf-8") as handle:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    handle.seek(0)
                    yield handle.read().strip() or "another backup"
                    return
                time.sleep(0.5)
        handle.seek(0)
        handle.truncate()
        handle.write("%s, pid %d, since %s" % (name, os.getpid(), utc_now()))
        handle.flush()
        yield None


def append(attempt: Attempt, most: int) -> None:
    """Durable before it returns; the oldest lines go when the file has grown too long."""
    path = STATE / LOG
    with path.open("a", encoding="utf-8") as target:
        os.fchmod(target.fileno(), 0o640)
        target.write(json.dumps(asdict(attempt)) + "\n")
        target.flush()
        os.fsync(target.fileno())
        size = target.tell()
    if size <= most:
        return
    kept = trimmed(path.read_text(encoding="utf-8", errors="replace"), most // 2)
    handle, temporary = tempfile.mkstemp(dir=STATE, prefix=".backups-")
    with os.fdopen(handle, "w", encoding="utf-8") as target:
        os.fchmod(target.fileno(), 0o640)
        target.write(kept)
        target.flush()
        os.fsync(target.fileno())
    Path(temporary).replace(path)
    directory = os.open(STATE, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def pgbackrest(work: Work, options: Sequence[str], command: str, seconds: float) -> tuple[int, str]:
    """Exit code and output. A command that takes too long is told to end, so that it leaves neither lock nor backup mode behind."""
    words = ["pgbackrest", "--config=%s" % work.settings.config, "--stanza=%s" % work.settings.stanza, *options, command]
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
    ) as process:
        work.processes.append(process)
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.terminate()
            try:
                output, _ = process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                output, _ = process.communicate()
            return 1, "%s\nERROR: no result within %g s" % (output, seconds)
        finally:
            work.processes.remove(process)
    return process.returncode, output


def silent(standby: Standby) -> str:
    """Why nothing over there takes a connection, or an empty text. pgBackRest alone would try for as long as it waits for a store."""
    if standby.place:
        try:
            socket.create_connection(standby.place, CONNECT_SECONDS).close()
        except OSError as error:
            return "takes no connection at port %d (%s)" % (standby.place[1], error)
    return ""


def copy(work: Work, repository: int) -> tuple[str, Optional[str], Optional[str], str]:
    """Outcome, label, reason, and from where the files were copied: a standby where that is asked for, and the primary for whatever reason it cannot be."""
    options = ["--repo=%d" % repository, "--type=%s" % work.type, "--log-level-console=info"]
    deadline = time.monotonic() + work.settings.timeout_seconds
    ways = standbys(work.settings, hosts_by_hand(work.settings.config, work.settings.stanza)) if work.standby else []
    reasons = ["no way to a standby is set up"] if work.standby and not ways else []
    for standby in ways:
        said = silent(standby)
        if not said:
            words = [*options, "--backup-standby", *standby.options]
            code, output = pgbackrest(work, words, "backup", deadline - time.monotonic())
            outcome, label, reason = judge(output, code)
            said = unfit(output)
            if (not said and outcome != FAILED) or work.stopped or time.monotonic() >= deadline:
                return outcome, label, reason, "standby %s" % standby.name
        reasons.append("%s: %s" % (standby.name, said or "the backup broke off (%s)" % reason))
        say("%s: not from the standby %s" % (work.name, reasons[-1]))
    options += ["--no-backup-standby"] if ways else []
    code, output = pgbackrest(work, options, "backup", deadline - time.monotonic())
    source = "primary, because %s" % "; ".join(reasons) if reasons else "primary"
    return (
        *judge(output, code),
        "standby, as pgBackRest's own file has it" if "replay on the standby reached" in output else source,
    )


def take(work: Work, repository: int) -> Attempt:
    """One backup in one repository, once that repository has answered at all."""
    started, source = utc_now(), None
    quiet = ["--repo=%d" % repository, "--log-level-file=off", "--log-level-console=warn", "--io-timeout=3"]
    code, output = pgbackrest(work, quiet, "repo-ls", ANSWER_SECONDS)
    if code == 0:
        outcome, label, reason, source = copy(work, repository)
    else:
        outcome, label, reason = FAILED, None, "repository %d does not answer: %s" % (repository, first_error(output))
    return Attempt(work.name, work.type, repository, started, utc_now(), outcome, label, reason, work.run, source)


def work_through(work: Work) -> int:
    """Every repository in turn. Returns the exit code."""
    outcomes = []
    for repository in work.repositories:
        attempt = take(work, repository)
        append(attempt, work.settings.log_bytes)
        say(sentence(attempt))
        outcomes.append(attempt.outcome)
        if work.stopped:
            return NONE_TAKEN
    return exit_code(outcomes)


def sentence(attempt: Attempt) -> str:
    """An attempt for a person."""
    what = "%s (%s) in repository %d" % (attempt.name, attempt.type, attempt.repository)
    label = " as %s" % attempt.label if attempt.label else ""
    source = ", from the %s" % attempt.copied_from if attempt.copied_from not in (None, "primary") else ""
    return "%s: %s%s%s%s" % (what, attempt.outcome, label, source, ": %s" % attempt.reason if attempt.reason else "")


def record_all(work: Work, outcome: str, reason: str) -> None:
    """The same for every repository of this call: nothing was tried."""
    for repository in work.repositories:
        now = utc_now()
        attempt = Attempt(work.name, work.type, repository, now, now, outcome, None, reason, work.run)
        append(attempt, work.settings.log_bytes)
        say(sentence(attempt))


def back_up(work: Work) -> int:
    """Only on the primary, and never beside another backup."""
    found, said = role(work.settings)
    if found in (STANDBY, STOPPED):
        say("%s: nothing to do: PostgreSQL on this host %s" % (work.name, "is a standby" if found == STANDBY else "does not run"))
        return DONE
    if found == SILENT:
        record_all(work, FAILED, "PostgreSQL on this host does not answer: %s" % said)
        return NONE_TAKEN
    with alone(work.name, work.wait_seconds) as holder:
        if holder:
            record_all(work, SKIPPED, "%s was still at work after %g s" % (holder, work.wait_seconds))
            return BUSY
        # The wait may have been long enough for a failover.
        if role(work.settings)[0] != PRIMARY:
            say("%s: nothing to do: this host is no longer the primary" % work.name)
            return DONE
        if not work.repositories:
            say("%s: none of its repositories is in use" % work.name)
            return NONE_TAKEN
        settle(work.settings)
        return work_through(work)


def arguments(settings: Settings, words: Optional[Sequence[str]] = None) -> Work:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="relevo-backup", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", required=True, help="under which the attempts are kept")
    parser.add_argument("--type", required=True, choices=["full", "diff", "incr"])
    parser.add_argument("--repository", type=int, action="append", help="number of a repository; all when not given")
    parser.add_argument("--standby", action="store_true", help="copy from a standby, or from the primary with a word why")
    parser.add_argument("--wait", type=float, default=settings.wait_seconds, help="seconds to wait for another backup on this host")
    parser.add_argument("--run", help="run of a runbook that asks")
    given = parser.parse_args(words)
    there = configured(settings.config)
    repositories = [key for key in given.repository or settings.repositories if key in there]
    return Work(settings, given.name, given.type, repositories, given.standby, given.run, given.wait)


def main() -> int:
    """The command."""
    try:
        settings = read_settings()
    except (OSError, ValueError, TypeError) as error:
        say("%s cannot be read (%s). Next: run playbooks/protect.yml" % (SETTINGS, error))
        return NONE_TAKEN
    try:
        work = arguments(settings)
    except OSError as error:
        say("%s cannot be read (%s). Next: run playbooks/protect.yml" % (settings.config, error))
        return NONE_TAKEN

    def end(*_: Any) -> None:
        work.stopped = True
        if not work.processes:
            sys.exit(NONE_TAKEN)
        for process in work.processes:
            with contextlib.suppress(OSError):
                process.terminate()

    signal.signal(signal.SIGTERM, end)
    return back_up(work)


if __name__ == "__main__":
    sys.exit(main())
