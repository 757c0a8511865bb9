# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where generations lie: Secrets Manager of a region, a bucket, a directory. A generation that is there is never written again."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Optional, Protocol

import boto3
from ansible_collections.relevo.dr.plugins.module_utils import escrow_bundle
from ansible_collections.relevo.dr.plugins.module_utils.escrow_fault import (
    CORRUPT,
    DECLARATION,
    DENIED,
    MISSING,
    SILENT,
    EscrowFault,
)
from ansible_collections.relevo.dr.plugins.module_utils.escrow_manifest import is_generation
from ansible_collections.relevo.dr.plugins.module_utils.host_files import sync_directory
from ansible_collections.relevo.dr.plugins.plugin_utils import bucket
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

PACK, LABEL = "bundle.tar.age", "label.json"
_KEY_PAIR = ("key_id_secret", "key_secret")
_ANSWER_SECONDS = 10
_ABSENT = {"ResourceNotFoundException", "NoSuchKey", "NoSuchBucket", "404"}
_REFUSED = {
    "403",
    "AccessDenied",
    "AccessDeniedException",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidAccessKeyId",
}
_REFUSED |= {"SignatureDoesNotMatch", "InvalidSignatureException", "ExpiredTokenException", "ExpiredToken"}


class Place(Protocol):
    """sealed: what lies there was sealed by age; else the place itself is the seal."""

    name: str
    sealed: bool

    def generations(self) -> list[str]:
        """The names of the whole ones."""

    def put(self, generation: str, label: Mapping[str, Any], payload: bytes) -> None:
        """Write a new one; it is there as a whole, or not at all."""

    def get(self, generation: str) -> tuple[dict[str, Any], bytes]:
        """Label and payload, as whole as they were put."""

    def beside(self, files: Mapping[str, bytes]) -> None:
        """What a person needs without Relevo, in clear beside the generations."""

    def forget(self, generation: str) -> None:
        """Remove one, as far as the place removes anything at once."""


def place(declared: Mapping[str, Any], cluster: str, secrets: Mapping[str, str]) -> Place:
    """The place that one entry of dr_keys_paths means. secrets: what its entries name, by name. Raises EscrowFault when it means none."""
    kinds: dict[str, tuple[Callable[[Mapping[str, Any], str, Mapping[str, str]], Place], tuple[str, ...]]] = {
        "secrets_manager": (SecretsManager, ("region",)),
        "bucket": (Bucket, ("endpoint", "bucket", *_KEY_PAIR)),
        "directory": (Directory, ("path",)),
    }
    kind, name = str(declared.get("kind")), str(declared.get("name") or "dr_keys_paths")
    if kind not in kinds or not declared.get("name"):
        raise _misdeclared(name, "kind %s" % kind, "one of %s" % ", ".join(kinds))
    made, needed = kinds[kind]
    # One key of a pair is none.
    pair = _KEY_PAIR if secret_names(declared) else ()
    lacking = [key for key in dict.fromkeys((*needed, *pair)) if not declared.get(key)]
    if lacking:
        raise _misdeclared(name, "no %s" % ", ".join(lacking), "what a path of the kind %s needs" % kind)
    with _told(name):
        try:
            return made(declared, cluster, secrets)
        except ValueError as error:
            raise _misdeclared(name, " ".join(str(error).split())[:300], "an address, such as https://HOST:PORT") from None


def secret_names(declared: Mapping[str, Any]) -> list[str]:
    """What a path needs from dr_secrets_directory."""
    return [str(declared[key]) for key in _KEY_PAIR if declared.get(key)]


def _misdeclared(name: str, observed: str, expected: str) -> EscrowFault:
    return EscrowFault(DECLARATION, name, observed, expected, "correct dr_keys_paths")


class SecretsManager:
    """The pieces first, the index last: a generation without one does not count."""

    sealed = False

    def __init__(self, declared: Mapping[str, Any], cluster: str, secrets: Mapping[str, str]) -> None:
        self.name = str(declared["name"])
        self._prefix = "%s/%s/" % (str(declared.get("prefix") or "relevo").strip("/"), cluster)
        self._key = declared.get("kms_key")
        self._client = _client(declared, secrets)

    def generations(self) -> list[str]:
        with _told(self.name):
            pages = self._client.get_paginator("list_secrets").paginate(Filters=[{"Key": "name", "Values": [self._prefix]}])
            names = [str(entry["Name"]) for page in pages for entry in page["SecretList"] if not entry.get("DeletedDate")]
        found = [
            name[len(self._prefix) : -len("/index")] for name in names if name.startswith(self._prefix) and name.endswith("/index")
        ]
        return sorted(name for name in found if is_generation(name))

    def put(self, generation: str, label: Mapping[str, Any], payload: bytes) -> None:
        pieces = escrow_bundle.cut(payload, {}, self.name)
        for number, piece in enumerate(pieces):
            self._create("%s/piece-%03d" % (generation, number), piece)
        self._create("%s/index" % generation, json.dumps({**label, "pieces": len(pieces)}).encode())

    def get(self, generation: str) -> tuple[dict[str, Any], bytes]:
        where = "%s, generation %s" % (self.name, generation)
        label = escrow_bundle.read_label(self._read("%s/index" % generation), where)
        pieces = [self._read("%s/piece-%03d" % (generation, number)) for number in range(int(label.get("pieces") or 0))]
        return label, escrow_bundle.joined(pieces, label, where)

    def beside(self, files: Mapping[str, bytes]) -> None:
        """Nothing: what is in clear does not belong there."""

    def forget(self, generation: str) -> None:
        pieces = int(escrow_bundle.read_label(self._read("%s/index" % generation), self.name).get("pieces") or 0)
        names = ["index", *("piece-%03d" % number for number in range(pieces))]
        for name in names:
            with _told(self.name):
                self._client.delete_secret(SecretId="%s%s/%s" % (self._prefix, generation, name), RecoveryWindowInDays=30)

    def _create(self, name: str, content: bytes) -> None:
        more = {"KmsKeyId": str(self._key)} if self._key else {}
        with _told(self.name):
            self._client.create_secret(Name=self._prefix + name, SecretBinary=content, ClientRequestToken=str(uuid.uuid4()), **more)

    def _read(self, name: str) -> bytes:
        with _told("%s, %s" % (self.name, name)):
            answer = self._client.get_secret_value(SecretId=self._prefix + name)
        return bytes(answer["SecretBinary"])


class Bucket:
    """Any S3-compatible store."""

    sealed = True

    def __init__(self, declared: Mapping[str, Any], cluster: str, secrets: Mapping[str, str]) -> None:
        self.name, self._bucket = str(declared["name"]), str(declared["bucket"])
        self._root = "%s/" % str(declared.get("path") or "relevo-escrow").strip("/")
        self._prefix = "%s%s/" % (self._root, cluster)
        self._client = bucket._client(declared, secrets)

    def generations(self) -> list[str]:
        with _told(self.name):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
            keys = [str(entry["Key"]) for page in pages for entry in page.get("Contents", [])]
        found = [key[len(self._prefix) : -len("/" + LABEL)] for key in keys if key.endswith("/" + LABEL)]
        return sorted(name for name in found if is_generation(name))

    def put(self, generation: str, label: Mapping[str, Any], payload: bytes) -> None:
        self._write("%s%s/%s" % (self._prefix, generation, PACK), payload)
        self._write("%s%s/%s" % (self._prefix, generation, LABEL), json.dumps(label, indent=1).encode() + b"\n")

    def get(self, generation: str) -> tuple[dict[str, Any], bytes]:
        where = "%s, generation %s" % (self.name, generation)
        label = escrow_bundle.read_label(self._read("%s/%s" % (generation, LABEL)), where)
        return label, escrow_bundle.whole(self._read("%s/%s" % (generation, PACK)), label, where)

    def beside(self, files: Mapping[str, bytes]) -> None:
        for name, content in files.items():
            self._write(self._root + name, content)

    def forget(self, generation: str) -> None:
        for name in (LABEL, PACK):
            with _told(self.name):
                self._client.delete_object(Bucket=self._bucket, Key="%s%s/%s" % (self._prefix, generation, name))

    def _write(self, key: str, content: bytes) -> None:
        with _told(self.name):
            self._client.put_object(Bucket=self._bucket, Key=key, Body=content, ContentMD5=bucket.content_md5(content))

    def _read(self, name: str) -> bytes:
        with _told("%s, %s" % (self.name, name)):
            return bytes(self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"].read())


class Directory:
    """A directory of the controller: a disk of its own, a mounted share, a stick."""

    sealed = True

    def __init__(self, declared: Mapping[str, Any], cluster: str, _secrets: Mapping[str, str]) -> None:
        self.name, self._root = str(declared["name"]), str(declared["path"])
        self._base = os.path.join(self._root, cluster)

    def generations(self) -> list[str]:
        with _told(self.name):
            if not os.path.isdir(self._root):
                raise EscrowFault(
                    SILENT, self.name, "no directory %s" % self._root, "the directory", "mount it, or make it with mode 0700"
                )
            names = os.listdir(self._base) if os.path.isdir(self._base) else []
        return sorted(name for name in names if is_generation(name) and os.path.exists(os.path.join(self._base, name, LABEL)))

    def put(self, generation: str, label: Mapping[str, Any], payload: bytes) -> None:
        final = os.path.join(self._base, generation)
        aside = os.path.join(self._base, ".%s.new" % generation)
        with _told(self.name):
            os.makedirs(self._base, mode=0o700, exist_ok=True)
            if os.path.exists(final):
                raise FileExistsError(17, "generation %s is there already" % generation)
            shutil.rmtree(aside, ignore_errors=True)
            os.mkdir(aside, 0o700)
            _write(os.path.join(aside, PACK), payload)
            _write(os.path.join(aside, LABEL), json.dumps(label, indent=1).encode() + b"\n")
            os.rename(aside, final)
            sync_directory(self._base)

    def get(self, generation: str) -> tuple[dict[str, Any], bytes]:
        where = "%s, generation %s" % (self.name, generation)
        label = escrow_bundle.read_label(self._read(generation, LABEL), where)
        return label, escrow_bundle.whole(self._read(generation, PACK), label, where)

    def beside(self, files: Mapping[str, bytes]) -> None:
        with _told(self.name):
            for name, content in files.items():
                path = os.path.join(self._root, name)
                _write(path + ".new", content)
                os.replace(path + ".new", path)

    def forget(self, generation: str) -> None:
        with _told(self.name):
            os.unlink(os.path.join(self._base, generation, LABEL))
            shutil.rmtree(os.path.join(self._base, generation))

    def _read(self, generation: str, name: str) -> bytes:
        with _told("%s, %s/%s" % (self.name, generation, name)), open(os.path.join(self._base, generation, name), "rb") as source:
            return source.read()


def _client(declared: Mapping[str, Any], secrets: Mapping[str, str]) -> Any:
    """Keys that are not named are looked for as every program of AWS does: environment, profile, role of the machine."""
    authorities = declared.get("ca_file")
    keys: dict[str, Optional[str]] = {}
    if declared.get("key_id_secret"):
        keys = {
            "aws_access_key_id": secrets[str(declared["key_id_secret"])],
            "aws_secret_access_key": secrets[str(declared["key_secret"])],
        }
    return boto3.client(
        "secretsmanager",
        region_name=str(declared["region"]),
        endpoint_url=declared.get("endpoint_url"),
        verify=authorities if authorities and os.path.exists(authorities) else None,
        config=Config(connect_timeout=_ANSWER_SECONDS, read_timeout=_ANSWER_SECONDS, retries={"total_max_attempts": 3}),
        **keys,
    )


@contextlib.contextmanager
def _told(where: str) -> Iterator[None]:
    """What a place answers, by the names of an escrow's faults."""
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _ABSENT:
            raise EscrowFault(MISSING, where, "nothing there (%s)" % code, "what was put there", "use another path") from None
        if code in _REFUSED:
            raise EscrowFault(
                DENIED,
                where,
                "the answer %s" % code,
                "the right to read and write there",
                "correct the key pair or its policy (docs/keys.md)",
            ) from None
        raise EscrowFault(
            CORRUPT, where, "the answer %s" % code, "an answer without an error", "see what the store says of it"
        ) from None
    except BotoCoreError as error:
        raise EscrowFault(
            SILENT,
            where,
            " ".join(str(error).split())[:300],
            "an answer over verified TLS",
            "use another path, or bring this one back",
        ) from None
    except FileNotFoundError as error:
        raise EscrowFault(MISSING, where, "no %s" % error.filename, "what was put there", "use another path") from None
    except PermissionError as error:
        raise EscrowFault(
            DENIED, where, "%s: %s" % (error.filename, error.strerror), "a file that can be read", "correct its owner"
        ) from None
    except OSError as error:
        raise EscrowFault(
            SILENT, where, "%s: %s" % (error.filename or "", error.strerror), "a directory that works", "use another path"
        ) from None


def _write(path: str, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as target:
        target.write(content)
        target.flush()
        os.fsync(target.fileno())
