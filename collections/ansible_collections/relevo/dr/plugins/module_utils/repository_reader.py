# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One repository of one stanza, read by pgBackRest itself: what is in it, and whether its bytes are the ones that were written."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.backup_manifest import Part
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import Pgbackrest, PgbackrestError, explained, printable
from ansible_collections.relevo.dr.plugins.module_utils.reading_plan import Stored

_CHUNK_BYTES = 1 << 20
# The slowest store that is still worth waiting for, for the limit of one object.
_SLOWEST_BYTES_PER_SECOND = 1 << 20
_SALT = b"Salted__"
_WORDS_BYTES = 4096


@dataclass(frozen=True)
class RepositoryReader:
    """Every call is bounded: ``command.timeout`` seconds, and for an object what its size makes of a slow store on top."""

    command: Pgbackrest
    repository: int

    def info(self) -> dict[str, Any]:
        """The stanza as this repository has it. PgbackrestError, also where ``info`` itself would end well with the error inside."""
        stanzas = json.loads(printable(self.command.run("info", self._option(), "--output=json")))
        if not stanzas:
            raise PgbackrestError("the stanza %s is not in it" % self.command.stanza, "run playbooks/protect.yml")
        found: dict[str, Any] = stanzas[0]
        for repo in found.get("repo", []):
            if repo["status"]["code"] == 99:  # "other": the repository could not be read
                raise explained(repo["status"]["message"])
        return found

    def listing(self, path: str) -> dict[str, Stored]:
        """The objects below a path such as ``backup/minimarket``, by their path below it."""
        listed = json.loads(self.command.run("repo-ls", self._option(), "--recurse", "--output=json", path) or "{}")
        return {
            name: Stored(int(about["size"]), float(about.get("time", 0)))
            for name, about in listed.items()
            if about.get("type") == "file"
        }

    def text(self, path: str) -> str:
        """A decrypted file such as a manifest."""
        return self.command.run("repo-get", self._option(), path)

    def is_encrypted(self, path: str) -> bool:
        """Whether the bytes of a file begin as OpenSSL's salted format does."""
        _, first = self._read(path, 0, ())
        return first.startswith(_SALT)

    def wrong_part(self, path: str, size: int, parts: Sequence[Part]) -> str:
        """What is wrong with an object, or an empty text: its bytes are read as they lie in the store."""
        end = max(part.offset + part.size for part in parts)
        # backup/STANZA/LABEL/bundle/N; only there may be more than the files that the manifest names.
        if size < end or (size > end and path.split("/")[3:4] != ["bundle"]):
            return "%d bytes instead of %d" % (size, end)
        sums, _ = self._read(path, size, parts)
        wrong = [part.file for part, checksum in zip(parts, sums) if part.checksum and part.checksum != checksum]
        return (
            "wrong checksum of %s%s" % (wrong[0], " and %d more files" % (len(wrong) - 1) if len(wrong) > 1 else "")
            if wrong
            else ""
        )

    def wrong_segment(self, name: str, checksum: str) -> str:
        """What is wrong with a WAL segment, or an empty text: it is fetched as a restore would fetch it. PgbackrestError when it is not given."""
        account = pwd.getpwnam(self.command.owner)
        directory = tempfile.mkdtemp(prefix="relevo-verify-", dir="/var/tmp")
        try:
            os.chown(directory, account.pw_uid, account.pw_gid)
            target = os.path.join(directory, "segment")
            got, said = self.command.succeeds("archive-get", "--no-archive-async", self._option(), name, target)
            if not got:
                raise explained(said) if said else PgbackrestError("it is not found", "look whether it was expired or deleted")
            with open(target, "rb") as source:
                found = hashlib.sha1(source.read(), usedforsecurity=False).hexdigest()
        finally:
            shutil.rmtree(directory)
        return "" if found == checksum else "its content has the checksum %s, not the one in its name" % found

    def _option(self) -> str:
        return "--repo=%d" % self.repository

    def _read(self, path: str, size: int, parts: Sequence[Part]) -> tuple[list[str], bytes]:
        """The SHA-1 of each part, and the first bytes. PgbackrestError when the store does not give the object."""
        limit = self.command.timeout + size / _SLOWEST_BYTES_PER_SECOND
        process = subprocess.Popen(
            self.command.words("repo-get", self._option(), "--raw", path),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **self.command.process(),
        )
        watchdog = threading.Timer(limit, process.kill)
        watchdog.start()
        sums = [hashlib.sha1(usedforsecurity=False) for _ in parts]
        begin, position = b"", 0
        try:
            while True:
                chunk = process.stdout.read(_CHUNK_BYTES) if process.stdout else b""
                if not chunk:
                    break
                begin = begin or chunk[:_WORDS_BYTES]
                for digest, part in zip(sums, parts):
                    first, last = max(part.offset, position), min(part.offset + part.size, position + len(chunk))
                    if first < last:
                        digest.update(chunk[first - position : last - position])
                position += len(chunk)
            code = process.wait()
        finally:
            watchdog.cancel()
            process.kill()
            process.wait()
        if code < 0:
            raise PgbackrestError(
                "%s was not read to its end within %g s: the store does not answer" % (path, limit),
                "check that the store runs and that nothing between it and this host drops packets",
            )
        if code > 0:
            # What it prints then is its error, unless the error came in the middle of an object.
            raise explained(begin.decode(errors="replace") if position <= _WORDS_BYTES else "")
        return [digest.hexdigest() for digest in sums], begin
