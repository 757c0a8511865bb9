# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A bucket tried with the backups' own credential: does it keep what is deleted, and does it refuse to delete what it keeps?

Only ever a canary object that is written for this, below ``relevo-canary/``, never an object of a backup. A setting proves nothing: stores have
been seen that accept a retention and do not enforce it.
"""

from __future__ import annotations

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


@dataclass(frozen=True)
class Trial:
    """kept: a deleted canary is still there as a version; refused: deleting that version was refused, and it is still there. error: why neither is known."""

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


def _client(repository: Mapping[str, Any], secrets: Mapping[str, str]) -> Any:
    authorities = repository.get("ca_file")
    return boto3.client(
        "s3",
        endpoint_url="https://%s:%d" % (repository["endpoint"], int(repository.get("port") or 443)),
        region_name=repository.get("region") or "us-east-1",
        # The file is on the database hosts; a controller that has it uses it, any other has its system's authorities.
        verify=authorities if authorities and os.path.exists(authorities) else True,
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
    version = client.put_object(Bucket=bucket, Key=key, Body=_BODY).get("VersionId")
    client.delete_object(Bucket=bucket, Key=key)
    if not version or not _exists(client, bucket, key, version):
        return Trial(said="a deleted object is gone")
    try:
        client.delete_object(Bucket=bucket, Key=key, VersionId=version)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        return Trial(
            kept=True, refused=_exists(client, bucket, key, version), said="deleting its version was answered with %s" % code
        )
    gone = not _exists(client, bucket, key, version)
    return Trial(kept=True, refused=not gone, said="its version %s" % ("was deleted" if gone else "outlived its deletion"))


def _exists(client: Any, bucket: str, key: str, version: str) -> bool:
    try:
        client.head_object(Bucket=bucket, Key=key, VersionId=version)
    except ClientError as error:
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in {404, 405}:
            return False
        raise
    return True
