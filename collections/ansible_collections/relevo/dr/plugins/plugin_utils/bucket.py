# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A bucket tried with the backups' own credential: does it keep what is deleted, and does it refuse to delete what it keeps?

Only ever a canary object that is written for this, below ``relevo-canary/``, never an object of a backup. A setting proves nothing: stores have
been seen that accept a retention and do not enforce it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

PREFIX = "relevo-canary/"
_BODY = b"Written by a verification, to see whether it can be deleted.\n"
_SECONDS = 5
# Missing rights and a lock, as nearly all say it; 403 is an answer without words. A wrong clock or signature is a 403 too, but says so.
_REFUSALS = {"AccessDenied", "403", "ObjectLocked"}
# MinIO's lock is an InvalidRequest like many others, but for its words.
_LOCKED = "WORM protected"


@dataclass(frozen=True)
class Trial:
    """kept: a deleted canary is still there as a version; refused: deleting that version was refused, and it is still there.

    error: why what is not true is unknown.
    """

    kept: bool = False
    refused: bool = False
    said: str = ""
    error: str = ""


def attempt(repository: Mapping[str, Any], secrets: Mapping[str, str]) -> Trial:
    """Write a canary, delete it, then try to delete the version that a versioned bucket keeps."""
    try:
        return _attempt(_client(repository, secrets), str(repository["bucket"]))
    except (BotoCoreError, ClientError, OSError) as error:
        return Trial(error=" ".join(str(error).split())[:300])


def content_md5(body: bytes) -> str:
    """A bucket with a default retention takes no object without a checksum; this one is older than any appliance."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def _client(repository: Mapping[str, Any], secrets: Mapping[str, str]) -> Any:
    authorities = repository.get("ca_file")
    return boto3.client(
        "s3",
        endpoint_url="https://%s:%d" % (repository["endpoint"], int(repository.get("port") or 443)),
        region_name=repository.get("region") or "us-east-1",
        # The file is on the database hosts; a controller that has it uses it, any other those of AWS_CA_BUNDLE or of its system.
        verify=authorities if authorities and os.path.exists(authorities) else None,
        aws_access_key_id=secrets[repository["key_id_secret"]],
        aws_secret_access_key=secrets[repository["key_secret"]],
        config=Config(
            s3={"addressing_style": "virtual" if repository.get("uri_style") == "host" else "path"},
            # Many appliances do not know the checksums that are sent by default.
            request_checksum_calculation="when_required",
            connect_timeout=_SECONDS,
            read_timeout=_SECONDS,
            retries={"total_max_attempts": 2},
        ),
    )


def _attempt(client: Any, bucket: str) -> Trial:
    key = PREFIX + uuid.uuid4().hex
    version = client.put_object(Bucket=bucket, Key=key, Body=_BODY, ContentMD5=content_md5(_BODY)).get("VersionId")
    client.delete_object(Bucket=bucket, Key=key)
    if not version or not _exists(client, bucket, key, version):
        return Trial(said="a deleted object is gone")
    error = None
    try:
        client.delete_object(Bucket=bucket, Key=key, VersionId=version)
    except ClientError as refusal:
        error = refusal
    if not _exists(client, bucket, key, version):
        return Trial(kept=True, said="its version was deleted")
    if error is None:
        return Trial(kept=True, refused=True, said="its version outlived its deletion")
    said = "deleting its version was answered with %s" % _answer(error)
    if _refuses(error):
        return Trial(kept=True, refused=True, said=said)
    return Trial(
        kept=True, said="a deleted object is kept as a version", error="%s, which says nothing of a lock or of rights" % said
    )


def _answer(error: ClientError) -> str:
    """Status and code, for a person."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
    return " ".join(dict.fromkeys(word for word in (status, code) if word))


def _refuses(error: ClientError) -> bool:
    """Whether the store refused to delete, and did not merely fail to answer."""
    said = error.response.get("Error", {})
    return said.get("Code") in _REFUSALS or _LOCKED in str(said.get("Message", ""))


def _exists(client: Any, bucket: str, key: str, version: str) -> bool:
    try:
        client.head_object(Bucket=bucket, Key=key, VersionId=version)
    except ClientError as error:
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in {404, 405}:
            return False
        raise
    return True
