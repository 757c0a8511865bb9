#!/usr/bin/python3
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""relevo-files backup SET: a snapshot of one set of files in every repository, by restic.

A repository that does not answer never keeps the next one waiting for long. Each attempt is one line of the record, on disk before the
next begins. Exit codes: 0 a whole snapshot in every repository, 1 not so, 2 not set up.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import fcntl
import functools
import hashlib
import json
import os
import re
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, Optional

Settings = dict[str, Any]
Line = dict[str, Any]

SETTINGS = "/etc/relevo/files.json"
TAKEN, INCOMPLETE, FAILED, UNREACHABLE, BUSY = "taken", "incomplete", "failed", "unreachable", "busy"
# restic backup's code for a snapshot in which some files could not be read.
SOME_UNREAD = 3
RETRY_LOCK_SINCE = (0, 16)
KEEPS = ("last", "hourly", "daily", "weekly", "monthly", "yearly")


def main() -> int:
    parser = argparse.ArgumentParser(prog="relevo-files", description="Snapshots of this host's files")
    parser.add_argument("verb", choices=["backup"])
    parser.add_argument("set", help="name of a set in the settings")
    parser.add_argument("--settings", default=SETTINGS)
    arguments = parser.parse_args()
    try:
        with open(arguments.settings, encoding="utf-8") as source:
            settings = json.load(source)
        wanted = settings["sets"][arguments.set]
    except (OSError, ValueError, KeyError) as error:
        print("relevo-files: no set %s in %s (%r)" % (arguments.set, arguments.settings, error), file=sys.stderr)
        return 2
    with lock(settings) as held:
        if not held:
            reason = "another snapshot of this host was at work for %d s" % settings["lock_wait_seconds"]
            append(settings, {"set": arguments.set, "repository": None, "outcome": BUSY, "reason": reason})
            return 1
        return backup(settings, arguments.set, wanted)


def backup(settings: Settings, name: str, wanted: Settings) -> int:
    """One snapshot in each repository."""
    paths = [path for path in wanted["paths"] if os.path.lexists(path)]
    missing = [path for path in wanted["paths"] if path not in paths]
    if not paths:
        for repository in settings["repositories"]:
            reason = "none of its paths is there: %s" % ", ".join(missing)
            append(settings, {"set": name, "repository": repository["id"], "outcome": FAILED, "reason": reason})
        return 1
    manifest = write_manifest(settings, name, wanted["canaries"])
    paths += [] if any(os.path.commonpath([path, manifest]) == path for path in paths) else [manifest]
    outcomes = []
    for repository in settings["repositories"]:
        line = {"set": name, "repository": repository["id"], "missing_paths": missing}
        began = time.monotonic()
        line.update(attempt(settings, repository, name, wanted, paths))
        line["seconds"] = round(time.monotonic() - began, 3)
        append(settings, line)
        outcomes.append(line["outcome"])
    return 0 if set(outcomes) == {TAKEN} else 1


def attempt(settings: Settings, repository: Settings, name: str, wanted: Settings, paths: list[str]) -> Line:
    """One snapshot in one repository; what went wrong is in the line, never an exception."""
    silent = unanswered(repository, settings["answer_seconds"])
    if silent:
        return {"outcome": UNREACHABLE, "reason": silent}
    try:
        # Only what a killed restic of this host left behind: a lock of a running one is not stale, and stays.
        call(settings, repository, ["unlock"], 120)
        words = ["backup", "--json", "--host=%s" % settings["host"], "--tag=%s" % wanted["tag"], "--exclude-caches"]
        words += ["--exclude=%s" % pattern for pattern in wanted["excludes"]]
        words += ["--limit-upload=%d" % settings["limit_upload_kib"]] if settings["limit_upload_kib"] else []
        done = call(settings, repository, [*words, "--", *paths], wanted["timeout_seconds"])
    except subprocess.TimeoutExpired as error:
        return {"outcome": FAILED, "reason": "restic %s was stopped after %d s" % (name, error.timeout)}
    except OSError as error:
        return {"outcome": FAILED, "reason": "restic could not be started: %s" % error}
    summary = summary_of(done.stdout)
    if not summary.get("snapshot_id"):
        return {"outcome": FAILED, "reason": said(done)}
    line: Line = {
        "outcome": INCOMPLETE if done.returncode == SOME_UNREAD else TAKEN if done.returncode == 0 else FAILED,
        "reason": "" if done.returncode == 0 else said(done),
        "snapshot": summary["snapshot_id"],
        "files": summary.get("total_files_processed"),
        "bytes": summary.get("total_bytes_processed"),
        "added_bytes": summary.get("data_added"),
    }
    line.update(forget(settings, repository, wanted))
    return line


def forget(settings: Settings, repository: Settings, wanted: Settings) -> Line:
    """Snapshots beyond the policy. That it is refused does no harm to the snapshot that was taken: it is said, and no failure."""
    keep = ["--keep-%s=%d" % (kind, number) for kind, number in wanted["keep"].items() if kind in KEEPS and number > 0]
    if not keep or not repository["forget"]:
        return {"forgotten": None}
    # Grouped without paths: a set whose paths were changed is still the same set.
    words = ["forget", "--json", "--host=%s" % settings["host"], "--tag=%s" % wanted["tag"], "--group-by=host,tags", *keep]
    words += ["--prune"] if repository["prune"] else []
    try:
        done = call(settings, repository, words, wanted["timeout_seconds"])
    except subprocess.TimeoutExpired as error:
        return {"forgotten": None, "forget_reason": "restic forget was stopped after %d s" % error.timeout}
    if done.returncode != 0:
        return {"forgotten": None, "forget_reason": said(done)}
    return {"forgotten": forgotten(done.stdout)}


def forgotten(output: str) -> int:
    """How many snapshots restic removed from its list."""
    for line in output.splitlines():
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            return sum(len(group.get("remove") or []) for group in json.loads(line))
    return 0


# -- restic --


def call(settings: Settings, repository: Settings, words: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    """The store's keys go through the environment, the password through a file: neither is an argument."""
    command = [
        settings.get("restic", "/usr/bin/restic"),
        "--repo=%s" % repository["url"],
        "--password-file=%s" % repository["password_file"],
        "--cache-dir=%s" % settings["cache_directory"],
        "--option=s3.bucket-lookup=path",
    ]
    command += ["--cacert=%s" % repository["ca_file"]] if repository.get("ca_file") else []
    if version(command[0]) >= RETRY_LOCK_SINCE:
        command += ["--retry-lock=%ds" % settings["retry_lock_seconds"]]
    # Packs are put together on disk, where this service may write.
    base = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent", "TMPDIR": settings["cache_directory"]}
    environment = {**base, **keys(repository["environment_file"])}
    process = subprocess.Popen(
        [*command, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd="/",
        text=True, errors="replace",
    )  # fmt: skip
    try:
        output, errors = process.communicate(timeout=seconds)
    except BaseException:
        # Interrupted it removes its lock; killed it would leave one.
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    return subprocess.CompletedProcess(words, process.returncode, output, errors)


@functools.lru_cache(maxsize=1)
def version(binary: str) -> tuple[int, ...]:
    done = subprocess.run([binary, "version"], capture_output=True, text=True, check=False, timeout=10)
    match = re.search(r"restic (\d+)\.(\d+)", done.stdout)
    return tuple(map(int, match.groups())) if match else (0,)


def keys(path: str) -> dict[str, str]:
    """NAME=value lines, taken as they are."""
    with open(path, encoding="utf-8") as source:
        return dict(line.rstrip("\n").split("=", 1) for line in source if "=" in line)


def summary_of(output: str) -> Line:
    found: Line = {}
    for line in output.splitlines():
        with contextlib.suppress(ValueError):
            message = json.loads(line)
            if isinstance(message, dict) and message.get("message_type") == "summary":
                found = message
    return found


def said(done: subprocess.CompletedProcess[str]) -> str:
    """What restic gave as its reason: its last words on the other stream, and errors among its messages."""
    lines = [*done.stderr.splitlines(), *(line for line in done.stdout.splitlines() if '"error"' in line)]
    texts = [" ".join(words_of(line.strip()).split()) for line in lines]
    hints = ("Is there a repository", "s3:", "using parent", "open repository")
    told = [text for text in texts if text and not text.startswith(hints)]
    return "; ".join(told[-3:])[:400] or "restic ended with %d without a word" % done.returncode


def words_of(line: str) -> str:
    """A line as a person would write it: newer restics print their errors as JSON."""
    try:
        message = json.loads(line)
        error = message.get("error") or {}
        return "%s %s" % (message.get("item") or "", message.get("message") or error.get("message") or "")
    except (ValueError, AttributeError):
        return line


def unanswered(repository: Settings, seconds: float) -> str:
    """Why the store cannot be asked, or empty. Restic itself would try again for a quarter of an hour."""
    endpoint, port = repository["endpoint"], repository["port"]
    try:
        context = ssl.create_default_context(cafile=repository.get("ca_file"))
        with (
            socket.create_connection((endpoint, port), timeout=seconds) as plain,
            context.wrap_socket(plain, server_hostname=endpoint),
        ):
            return ""
    except ssl.SSLCertVerificationError as error:
        return "the certificate of %s:%d is not trusted: %s" % (endpoint, port, error.verify_message)
    except OSError as error:
        reason = "no answer within %g s" % seconds if isinstance(error, TimeoutError) else error.strerror or str(error)
        return "%s:%d does not answer (%s)" % (endpoint, port, reason)


# -- canaries: what a restore proves itself by, inside the snapshot --


def write_manifest(settings: Settings, name: str, canaries: list[str]) -> str:
    """Digests of the declared files and a number used once, in a file that becomes part of the snapshot. Returns its path."""
    directory = os.path.join(settings["state_directory"], "files-canaries")
    os.makedirs(directory, mode=0o700, exist_ok=True)
    path = os.path.join(directory, "%s.json" % name)
    content = {
        "host": settings["host"],
        "set": name,
        "at": utc_now(),
        "nonce": secrets.token_hex(16),
        "files": {canary: digest(canary) for canary in canaries},
    }
    write_atomically(path, json.dumps(content, sort_keys=True) + "\n")
    return path


def digest(path: str) -> Optional[str]:
    """None for a file that is not there."""
    total = hashlib.sha256()
    try:
        with open(path, "rb") as source:
            for block in iter(lambda: source.read(1 << 20), b""):
                total.update(block)
    except OSError:
        return None
    return total.hexdigest()


# -- files of this host --


@contextlib.contextmanager
def lock(settings: Settings) -> Iterator[bool]:
    """One at a time on a host, timers and people alike; false when the wait was too long."""
    limit = time.monotonic() + settings["lock_wait_seconds"]
    with open(settings["lock_file"], "w", encoding="ascii") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > limit:
                    yield False
                    return
                time.sleep(0.5)
        yield True


def append(settings: Settings, line: Line) -> None:
    """One line of the record, on disk before anything else happens; of a record that grew too long the newer half stays."""
    path = os.path.join(settings["state_directory"], "files.jsonl")
    os.makedirs(settings["state_directory"], mode=0o700, exist_ok=True)
    whole = {"at": utc_now(), **line}
    with open(path, "a", encoding="utf-8") as target:
        os.chmod(path, 0o600)
        # A line that a power cut left unfinished must not swallow this one.
        begin = "" if target.tell() == 0 or ends_whole(path) else "\n"
        target.write(begin + json.dumps(whole, sort_keys=True) + "\n")
        target.flush()
        os.fsync(target.fileno())
        size = target.tell()
    if size > settings["record_max_bytes"]:
        with open(path, encoding="utf-8") as source:
            lines = source.readlines()
        write_atomically(path, "".join(lines[len(lines) // 2 :]))
    print(json.dumps(whole, sort_keys=True), flush=True)


def ends_whole(path: str) -> bool:
    with open(path, "rb") as source:
        source.seek(-1, os.SEEK_END)
        return source.read(1) == b"\n"


def write_atomically(path: str, content: str) -> None:
    temporary = "%s.new" % path
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as target:
        target.write(content)
        target.flush()
        os.fsync(target.fileno())
    os.replace(temporary, path)


def utc_now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


if __name__ == "__main__":
    sys.exit(main())
