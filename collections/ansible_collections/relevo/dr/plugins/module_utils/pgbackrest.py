# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""pgBackRest on its host: bounded calls, and errors as sentences that say which repository and what to do."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.postgresql import owner_switch

_AT_WORK = "another pgBackRest command is at work on this stanza"
# What pgBackRest prints -> (what it means, what to do). The first match counts.
_EXPLANATIONS = (
    (
        r"certificate has expired",
        "the certificate of the store has expired",
        "renew the store's certificate; verification stays on",
    ),
    (
        r"unable to verify certificate|certificate verify failed|unable to get local issuer|self.signed certificate|unable to find hostname",
        "the certificate of the store is not signed by a CA that this host was told to trust, or is for another name",
        "check ca_file and endpoint of the repository; verification stays on",
    ),
    (
        r"RequestTimeTooSkewed|request time too skewed",
        "the store says that this host's clock is wrong",
        "set the clock (timedatectl, chronyc tracking)",
    ),
    (
        r"\b403\b|Forbidden|SignatureDoesNotMatch|InvalidAccessKeyId|AccessDenied",
        "the store answered 403: access key or secret is wrong, or has no right to this bucket",
        "check the files that key_id_secret and key_secret name in dr_secrets_directory",
    ),
    (
        r"\b404\b|NoSuchBucket",
        "the store answered 404: there is no such bucket",
        "make the bucket, or correct bucket and endpoint of the repository",
    ),
    (
        r"cipher header invalid|unable to decrypt|found outside of section|CipherError|unable to flush|is or was the repo encrypted",
        "the repository cannot be read with this passphrase, or is not encrypted",
        "put the repository's own passphrase file back into dr_secrets_directory",
    ),
    (
        r"timeout|timed out|unable to connect|Connection refused|unable to get address|No route to host|Network is unreachable|HostConnectError",
        "the store does not answer",
        "check that the store runs and that nothing between it and this host drops packets",
    ),
    (r"unable to acquire lock|lock is held", _AT_WORK, "wait for it, then run again"),
)
# In the meanings above, and in what pgBackRest says of a store that has an error of its own.
_OF_STORE = re.compile(r"\bthe store\b|HTTP request failed with 5\d\d")


class PgbackrestError(Exception):
    """pgBackRest failed; observed and next_action are for a person."""

    def __init__(self, observed: str, next_action: str, output: str = "") -> None:
        super().__init__(observed)
        self.observed, self.next_action, self.output = observed, next_action, output

    @property
    def of_store(self) -> bool:
        """Whether the whole store is the matter, and not one object in it."""
        return bool(_OF_STORE.search(self.observed))


@dataclass(frozen=True)
class Pgbackrest:
    """One way to call pgBackRest. io_timeout bounds each answer of a store, timeout the whole command, in seconds."""

    config: str
    stanza: str
    owner: str = "postgres"
    binary: str = "/usr/bin/pgbackrest"
    io_timeout: float = 3.0
    timeout: float = 30.0

    def run(
        self, command: str, *arguments: str, timeout: Optional[float] = None, console: str = "warn", log_file: bool = False
    ) -> str:
        """What the command printed. Raises PgbackrestError."""
        limit = self.timeout if timeout is None else timeout
        done = self._call(command, arguments, limit, console, log_file)
        if done.returncode != 0:
            raise explained(done.stderr.strip() + "\n" + done.stdout.strip())
        return done.stdout

    def run_when_free(self, command: str, wait_seconds: float, log_file: bool = False) -> str:
        """As :meth:`run`, but another command at work on the stanza is waited for: an archiver that began before there was a stanza holds its lock."""
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                return self.run(command, log_file=log_file)
            except PgbackrestError as error:
                if not error.observed.startswith(_AT_WORK) or time.monotonic() > deadline:
                    raise
            time.sleep(0.5)

    def succeeds(self, command: str, *arguments: str) -> tuple[bool, str]:
        """Whether the command ended well, and what it said if not."""
        try:
            done = self._call(command, arguments, self.timeout, "warn", False)
        except PgbackrestError as error:
            return False, error.observed
        return done.returncode == 0, (done.stderr.strip() + "\n" + done.stdout.strip()).strip()

    def words(self, command: str, *arguments: str, console: str = "warn", log_file: bool = False) -> list[str]:
        """The command line, for who starts the process himself. Options come before the command."""
        words = [
            self.binary,
            "--config=%s" % self.config,
            "--stanza=%s" % self.stanza,
            "--log-level-console=%s" % console,
            "--log-level-stderr=off",
            "--io-timeout=%g" % self.io_timeout,
        ]
        if not log_file:
            words.append("--log-level-file=off")
        return [*words, *arguments[: _options(arguments)], command, *arguments[_options(arguments) :]]

    def process(self) -> dict[str, Any]:
        """Arguments for subprocess: as the cluster's owner, with nothing of our environment."""
        return {"cwd": "/", "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}, **owner_switch(self.owner)}

    def _call(
        self, command: str, arguments: Sequence[str], limit: float, console: str, log_file: bool
    ) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                self.words(command, *arguments, console=console, log_file=log_file),
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=limit,
                **self.process(),
            )
        except subprocess.TimeoutExpired:
            raise PgbackrestError(
                "pgbackrest %s had no result within %g s: the store does not answer" % (command, limit),
                "check that the store runs and that nothing between it and this host drops packets",
            ) from None
        except FileNotFoundError:
            raise PgbackrestError("%s does not exist" % self.binary, "install the package pgbackrest on this host") from None

    def info(self, repository: Optional[int] = None) -> dict[str, Any]:
        """The stanza as ``info`` reports it (status, db, backup, archive, repo), of one repository or of all."""
        only = [] if repository is None else ["--repo=%d" % repository]
        stanzas: list[dict[str, Any]] = json.loads(printable(self.run("info", "--output=json", *only)))
        return (
            stanzas[0]
            if stanzas
            else {"name": self.stanza, "status": {"code": 1, "message": "missing stanza path"}, "db": [], "backup": [], "repo": []}
        )


def _options(arguments: Sequence[str]) -> int:
    """How many of the arguments are options, which go before the command."""
    return sum(1 for argument in arguments if argument.startswith("--"))


def printable(text: str) -> str:
    """Plain signs only. What could not be decrypted is quoted by pgBackRest, and some of its signs end a line for whoever reads a module's answer."""
    return "".join(sign if sign.isprintable() or sign == "\n" else "?" for sign in text.encode("ascii", "replace").decode())


def explained(output: str) -> PgbackrestError:
    """The error behind pgBackRest's words, which quote the bytes of a file that could not be decrypted."""
    output = printable(output)
    text = " ".join(re.sub(r"\*\*\*.*", "", line).strip() for line in output.strip().splitlines())[:400]
    for pattern, meaning, next_action in _EXPLANATIONS:
        if re.search(pattern, output, re.IGNORECASE):
            return PgbackrestError("%s (%s)" % (meaning, _first_error(output)), next_action, output)
    return PgbackrestError(text or "pgbackrest failed without a word", "read /var/log/pgbackrest on this host", output)


def _first_error(output: str) -> str:
    for line in output.splitlines():
        if "ERROR" in line or "Error]" in line:
            return line.strip()[:200]
    return (output.strip().splitlines() or [""])[0][:200]


def parse_version(text: str) -> tuple[int, ...]:
    """``pgBackRest 2.55.1`` as (2, 55, 1)."""
    match = re.search(r"(\d+(?:\.\d+)+)", text)
    if not match:
        raise ValueError("not a version: %r" % text)
    return tuple(int(part) for part in match.group(1).split("."))


def version(binary: str = "/usr/bin/pgbackrest") -> tuple[int, ...]:
    """The installed version. Raises PgbackrestError."""
    try:
        done = subprocess.run([binary, "version"], capture_output=True, text=True, check=False, timeout=10, cwd="/")
    except FileNotFoundError:
        raise PgbackrestError("%s does not exist" % binary, "install the package pgbackrest on this host") from None
    return parse_version(done.stdout)
