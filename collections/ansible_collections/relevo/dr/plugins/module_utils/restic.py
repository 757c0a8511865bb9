# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Restic on its host: bounded calls, its JSON, and its errors as sentences that say what to do. Secrets go by file and environment, never by argument."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

BINARY = "/usr/bin/restic"
# Restic 0.16 and newer wait for another's lock; older ones fail at once.
RETRY_LOCK_SINCE = (0, 16)
# restic check speaks JSON from here on.
JSON_CHECK_SINCE = (0, 18)

ABSENT, PASSWORD, SILENT, DAMAGED, LOCKED, OTHER = "absent", "password", "silent", "damaged", "locked", "other"
_ASK_THE_STORE = "check that the store runs and that nothing between it and this host drops packets"
# What restic prints -> (kind, what it means, what to do). The first match counts; "Is there a repository" comes with every error.
_EXPLANATIONS = (
    (
        r"certificate has expired or is not yet valid",
        OTHER,
        "the certificate of the store has expired",
        "renew the store's certificate; verification stays on",
    ),
    (
        r"x509:|failed to verify certificate",
        OTHER,
        "the certificate of the store is not signed by a CA that this host was told to trust, or is for another name",
        "check ca_file and endpoint of the repository; verification stays on",
    ),
    (
        r"RequestTimeTooSkewed|difference between the request time and the (?:server's|current) time",
        OTHER,
        "the store says that this host's clock is wrong",
        "set the clock (timedatectl, chronyc tracking)",
    ),
    (
        r"wrong password or no key found",
        PASSWORD,
        "the password does not open this repository",
        "put the repository's own password file back into dr_secrets_directory, or give the repository another path",
    ),
    (
        r"specified bucket does not exist|NoSuchBucket",
        OTHER,
        "there is no such bucket",
        "make the bucket, or correct bucket and endpoint of the repository",
    ),
    (
        r"Access Denied|AccessDenied|request signature we calculated|SignatureDoesNotMatch|InvalidAccessKeyId|access key Id you provided|403 Forbidden",
        OTHER,
        "the store answered 403: access key or secret is wrong, or has no right to this bucket",
        "check the files that key_id_secret and key_secret name in dr_secrets_directory",
    ),
    (
        r"config file: Stat: The specified key does not exist|config file does not exist|<config/?> does not exist",
        ABSENT,
        "there is no repository",
        "run playbooks/protect.yml, which makes it",
    ),
    (r"already locked", LOCKED, "another restic is at work in the repository", "wait for it, then run again"),
    (
        r"ciphertext verification failed|does not match|unexpected pack id|repository contains errors|(?:data|pack)[^\n]*does not exist",
        DAMAGED,
        "the repository is damaged",
        "take a new snapshot, restore from the other repository, and mend this one with restic repair",
    ),
    (
        r"timeout|timed out|connection refused|connection reset|no route to host|network is unreachable|no such host|deadline exceeded|\bEOF\b",
        SILENT,
        "the store does not answer",
        _ASK_THE_STORE,
    ),
    (r"no space left on device", OTHER, "there is no space left", "free space, then run again"),
)
# In progress lines and hints nothing is said about the cause.
_NOISE = re.compile(r"^(?:Is there a repository|s3:|\[|using temporary|create exclusive|load indexes|check |read |signal )")


class ResticError(Exception):
    """Restic failed; observed and next_action are for a person. kind: one of the words above."""

    def __init__(self, kind: str, observed: str, next_action: str, output: str = "") -> None:
        super().__init__(observed)
        self.kind, self.observed, self.next_action, self.output = kind, observed, next_action, output


@dataclass(frozen=True)
class Restic:
    """One way to call restic. password_file: a file that only root reads; environment: the store's keys; timeout: seconds for a command."""

    url: str
    password_file: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_file: Optional[str] = None
    cache_directory: Optional[str] = None
    binary: str = BINARY
    timeout: float = 60.0

    def run(self, command: str, *arguments: str, timeout: Optional[float] = None) -> str:
        """What the command printed. Raises ResticError."""
        code, stdout, stderr = self.attempt(command, *arguments, timeout=timeout)
        if code != 0:
            raise explained("%s\n%s" % (stderr, stdout))
        return stdout

    def attempt(self, command: str, *arguments: str, timeout: Optional[float] = None) -> tuple[int, str, str]:
        """Exit code, output and errors. Raises ResticError only when there was no end within the time."""
        limit = self.timeout if timeout is None else timeout
        try:
            process = subprocess.Popen(
                self.words(command, *arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent", **self.environment},
            )
        except FileNotFoundError:
            raise ResticError(OTHER, "%s does not exist" % self.binary, "install the package restic on this host") from None
        try:
            stdout, stderr = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            raise self._late(process, command, limit) from None
        return process.returncode, stdout, stderr

    def words(self, command: str, *arguments: str) -> list[str]:
        """The whole command line: it holds places of secrets, no secret."""
        found = [self.binary, "--repo=%s" % self.url, "--password-file=%s" % self.password_file, "--option=s3.bucket-lookup=path"]
        found += ["--cacert=%s" % self.ca_file] if self.ca_file else []
        found += ["--cache-dir=%s" % self.cache_directory] if self.cache_directory else ["--no-cache"]
        return [*found, command, *arguments]

    def _late(self, process: subprocess.Popen[str], command: str, limit: float) -> ResticError:
        """Restic tries again for a quarter of an hour, also what can never succeed; what it said while trying is the reason."""
        process.send_signal(2)  # SIGINT: it removes its lock
        try:
            stdout, stderr = process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            stdout, stderr = process.communicate()
        said = explained("%s\n%s" % (stderr, stdout))
        if said.kind == OTHER and "canceled" in said.observed:
            return ResticError(
                SILENT, "restic %s had no result within %g s: the store does not answer" % (command, limit), _ASK_THE_STORE
            )
        if said.kind in (OTHER, ABSENT) and not _known(stderr):
            return ResticError(SILENT, "restic %s had no result within %g s" % (command, limit), _ASK_THE_STORE)
        return said


def _known(output: str) -> bool:
    return any(re.search(pattern, output, re.IGNORECASE) for pattern, *_ in _EXPLANATIONS)


def explained(output: str) -> ResticError:
    """The error behind restic's words."""
    for pattern, kind, meaning, next_action in _EXPLANATIONS:
        if re.search(pattern, output, re.IGNORECASE):
            return ResticError(kind, "%s (%s)" % (meaning, _first_line(output, pattern)), next_action, output)
    text = " ".join(_lines(output))[:300]
    return ResticError(
        OTHER, text or "restic failed without a word", "run the same restic command on the host and read what it says", output
    )


def _lines(output: str) -> list[str]:
    found = []
    for line in output.splitlines():
        text = line.strip()
        if text.startswith("{"):
            message = _json(text) or {}
            text = str(message.get("message") or (message.get("error") or {}).get("message") or "").strip()
        if text and not _NOISE.match(text):
            found.append(text)
    return found


def _first_line(output: str, pattern: str) -> str:
    lines = [line for line in _lines(output) if re.search(pattern, line, re.IGNORECASE)]
    return re.sub(r"^.*?returned error, retrying after [\w.]+: ", "", (lines or [""])[0])[:200]


def _json(line: str) -> Optional[dict[str, Any]]:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def messages(output: str) -> list[dict[str, Any]]:
    """The JSON objects that restic printed, one a line; whatever else it printed is passed over."""
    return [value for value in map(_json, output.splitlines()) if value is not None]


def summary(output: str) -> dict[str, Any]:
    """The last summary among the messages of ``backup`` or ``check``, or {}."""
    return next((value for value in reversed(messages(output)) if value.get("message_type") == "summary"), {})


def damaged_packs(output: str) -> list[str]:
    """The packs that ``check`` found missing or different, by name, in any version's words."""
    broken = set(summary(output).get("broken_packs") or [])
    text = "\n".join(_lines(output))
    broken.update(re.findall(r"\bpack ([0-9a-f]{64})\b", text, re.IGNORECASE))
    broken.update(re.findall(r"pack id does not match, want ([0-9a-f]{64})", text, re.IGNORECASE))
    return sorted(broken)


def damages(output: str) -> list[str]:
    """What ``check`` found wrong, in its own words, without its advice."""
    wrong = re.compile(r"pack|tree|blob|snapshot|index|error|failed|missing", re.IGNORECASE)
    advice = re.compile(
        r"troubleshooting|^restic |can be caused|must be repaired|Load\(|^The repository|contains errors|damaged pack files"
    )
    return [line[:200] for line in _lines(output) if wrong.search(line) and not advice.search(line)]


def parse_version(text: str) -> tuple[int, ...]:
    """``restic 0.18.0 compiled with ...`` as (0, 18, 0)."""
    match = re.search(r"\brestic (\d+(?:\.\d+)+)", text)
    if not match:
        raise ValueError("not a version of restic: %r" % text[:80])
    return tuple(int(part) for part in match.group(1).split("."))


def version(binary: str = BINARY) -> tuple[int, ...]:
    """The installed version. Raises ResticError."""
    try:
        done = subprocess.run([binary, "version"], capture_output=True, text=True, check=False, timeout=10, cwd="/")
    except FileNotFoundError:
        raise ResticError(OTHER, "%s does not exist" % binary, "install the package restic on this host") from None
    return parse_version(done.stdout)


def parse_environment(text: str) -> dict[str, str]:
    """NAME=value lines, taken as they are."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
