"""Where the signed heads of a chain are kept, out of reach of whoever can change the store: a locked bucket, or a directory elsewhere."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from relevo.errors import AnchorError, UsageError
from relevo.head import SignedHead

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECONDS = 10
# How many of the heads that reached farthest are judged: more than one, so that one that was written over hides nothing.
_NEWEST = 5
_NAME = re.compile(r"(\d{10})-\d{14}Z\.head")
_OPTIONS = frozenset({"endpoint", "region", "ca_file", "key_id_file", "secret_file", "days", "mode"})
_MODES = ("COMPLIANCE", "GOVERNANCE")


class Anchor(Protocol):
    """A place for heads."""

    def keep(self, name: str, content: bytes) -> str:
        """Keep one; a sentence about where, and until when. AnchorError when it is not kept there for sure."""

    def newest(self) -> list[SignedHead]:
        """The heads that reach farthest. AnchorError when the place cannot be read, or never got one."""


def name(sequence: int, stamp: str) -> str:
    """The name of a head, in the order of the chain."""
    return f"{sequence:010d}-{stamp}.head"


def find(words: str) -> Anchor:
    """The anchor that a path or an s3:// URL names. UsageError says what is wrong with it."""
    if "://" not in words:
        return Directory(Path(words).expanduser().absolute())
    parts = urlsplit(words)
    if parts.scheme == "file":
        return Directory(Path(unquote(parts.path)))
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme != "s3" or not parts.hostname or parts.username or parts.password:
        message = (
            "An anchor is a directory, or s3://BUCKET/PREFIX?days=400&endpoint=https://...&key_id_file=...&secret_file=...&ca_file=...; "
            "secrets only as files."
        )
        raise UsageError(message)
    unknown = sorted(options.keys() - _OPTIONS)
    if unknown or not options.get("days", "1").isdigit() or options.get("mode", _MODES[0]) not in _MODES:
        message = (
            f"The anchor's options are {', '.join(sorted(_OPTIONS))} (days: a number; mode: {' or '.join(_MODES)}); "
            f"not understood: {', '.join(unknown) or 'days or mode'}."
        )
        raise UsageError(message)
    if not options.get("endpoint", "https://").startswith("https://"):
        message = f"The anchor's endpoint is {options['endpoint']}, expected https://: a head that anybody can change on its way proves nothing."
        raise UsageError(message)
    prefix = unquote(parts.path).strip("/")
    return Bucket(parts.hostname, f"{prefix}/" if prefix else "", options)


@dataclass(frozen=True)
class Directory:
    """Files in a directory, such as one of another machine; nothing but its own rights keeps it."""

    path: Path

    def keep(self, name: str, content: bytes) -> str:
        """A file that is on the disk when this returns."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            with os.fdopen(descriptor, "wb") as target:
                target.write(content)
                target.flush()
                os.fsync(target.fileno())
        except FileExistsError:
            return f"{self.path / name} is there already."
        except OSError as error:
            message = f"The head cannot be written to {self.path}: {error.strerror}. Nothing was anchored."
            raise AnchorError(message) from error
        return f"Kept as {self.path / name}. Only the rights of that directory protect it."

    def newest(self) -> list[SignedHead]:
        """The last files by name."""
        try:
            names = sorted(path.name for path in self.path.iterdir() if _NAME.fullmatch(path.name))[-_NEWEST:]
            found = [SignedHead.of_file((self.path / name).read_bytes(), str(self.path / name)) for name in names]
        except OSError as error:
            message = f"The anchor {self.path} cannot be read: {error.strerror}."
            raise AnchorError(message) from error
        return _some(found, str(self.path))


@dataclass(frozen=True)
class Bucket:
    """Objects under a lock: not even who wrote them can change or remove them before their time."""

    bucket: str
    prefix: str
    options: dict[str, str]

    @property
    def _name(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def keep(self, name: str, content: bytes) -> str:
        """An object with a retention, which is read back: a store that takes one without enforcing it has been seen."""
        if "days" not in self.options:
            message = f"For how long shall {self._name} keep the head? Give it as days=400 in the URL."
            raise UsageError(message)
        until = (datetime.now(UTC) + timedelta(days=int(self.options["days"]))).replace(microsecond=0)
        mode = self.options.get("mode", _MODES[0])
        key = f"{self.prefix}{name}"
        digest = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
        with _explained(self._name):
            client = self._client()
            lock = {"ObjectLockMode": mode, "ObjectLockRetainUntilDate": until}
            version = client.put_object(Bucket=self.bucket, Key=key, Body=content, ContentMD5=digest, **lock).get("VersionId")
            seen = client.head_object(Bucket=self.bucket, Key=key, **({"VersionId": version} if version else {}))
        if not version or seen.get("ObjectLockMode") != mode or seen["ObjectLockRetainUntilDate"] < until:
            message = (
                f"{self._name} took the head, but does not lock it (observed: mode {seen.get('ObjectLockMode')}, "
                f"until {seen.get('ObjectLockRetainUntilDate')}; expected: {mode} until {until}). Give a bucket with object lock."
            )
            raise AnchorError(message)
        return f"Kept as s3://{self.bucket}/{key}, locked ({mode.lower()}) until {until:%Y-%m-%d %H:%M:%S} UTC."

    def newest(self) -> list[SignedHead]:
        """The versions that reach farthest, those that somebody hid or wrote over among them."""
        with _explained(self._name):
            client = self._client()
            pages = client.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=self.prefix)
            versions = [
                (version["Key"], version["VersionId"])
                for page in pages
                for version in page.get("Versions", [])
                if _NAME.fullmatch(version["Key"].removeprefix(self.prefix))
            ]
            found = []
            for key, version in sorted(versions)[-_NEWEST:]:
                body = client.get_object(Bucket=self.bucket, Key=key, VersionId=version)["Body"].read()
                found.append(SignedHead.of_file(body, f"s3://{self.bucket}/{key}"))
        return _some(found, self._name)

    def _client(self) -> Any:
        secrets = {name: _secret(self.options[f"{name}_file"]) for name in ("key_id", "secret") if f"{name}_file" in self.options}
        return boto3.client(
            "s3",
            endpoint_url=self.options.get("endpoint"),
            region_name=self.options.get("region", "us-east-1"),
            verify=self.options.get("ca_file", True),
            aws_access_key_id=secrets.get("key_id"),
            aws_secret_access_key=secrets.get("secret"),
            config=Config(
                s3={"addressing_style": "path" if "endpoint" in self.options else "auto"},
                # Many appliances do not know the checksums that are sent by default.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                connect_timeout=_SECONDS,
                read_timeout=_SECONDS,
                retries={"total_max_attempts": 3},
            ),
        )


def _some(found: list[SignedHead], place: str) -> list[SignedHead]:
    if not found:
        message = (
            f"The anchor {place} holds no head: nothing was ever anchored there, or it was emptied. Next: relevo results anchor."
        )
        raise AnchorError(message)
    return found


def _secret(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        message = f"The secret in {path} cannot be read: {error}."
        raise AnchorError(message) from error


@contextmanager
def _explained(place: str) -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ClientError, OSError) as error:
        message = f"The anchor {place} cannot be used: {' '.join(str(error).split())[:300]}."
        raise AnchorError(message) from error
