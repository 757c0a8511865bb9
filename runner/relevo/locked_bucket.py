"""An anchor in a bucket whose objects are locked. Apart from the others, because what speaks to buckets is slow to import."""

from __future__ import annotations

import base64
import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from relevo.anchor import MODES, NAME, NEWEST, holding
from relevo.errors import AnchorError, UsageError
from relevo.head import SignedHead

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECONDS = 10


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
        mode = self.options.get("mode", MODES[0])
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
                if NAME.fullmatch(version["Key"].removeprefix(self.prefix))
            ]
            found = []
            for key, version in sorted(versions)[-NEWEST:]:
                body = client.get_object(Bucket=self.bucket, Key=key, VersionId=version)["Body"].read()
                found.append(SignedHead.of_file(body, f"s3://{self.bucket}/{key}"))
        return holding(found, self._name)

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
