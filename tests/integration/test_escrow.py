"""Escrow on a Secrets Manager of two regions and a bucket, over TLS, on a real server; every path alone leads back to the keys."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import boto3
import pytest
from ansible_collections.relevo.dr.plugins.module_utils import escrow_bundle, escrow_choice, escrow_items, escrow_manifest
from ansible_collections.relevo.dr.plugins.module_utils.escrow_fault import (
    CORRUPT,
    DENIED,
    MISSING,
    SILENT,
    TOO_LARGE,
    WRONG_GENERATION,
    EscrowFault,
)
from ansible_collections.relevo.dr.plugins.module_utils.escrow_manifest import Read
from ansible_collections.relevo.dr.plugins.plugin_utils import bucket, escrow_pack, escrow_places, escrow_vault
from ansible_collections.relevo.dr.plugins.plugin_utils.escrow_vault import Opener, Seals
from botocore.exceptions import BotoCoreError, ClientError

from .ministack import ROOT_KEY, serving_here

SECRETS = dict(zip(("id", "key"), ROOT_KEY, strict=True))
CANARY = b"canary-5d20c1aa-of-a-passphrase\n"
AT, LATER = "2026-11-28T04:03:36.000000Z", "2026-11-28T05:03:36.000000Z"
REGIONS = ("eu-west-1", "us-east-1")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict]]:
    """A path in each region and one in a bucket, as the inventory declares them."""
    with serving_here(tmp_path_factory.mktemp("ministack")) as here:
        keys = {"ca_file": str(here.certificate), "key_id_secret": "id", "key_secret": "key"}
        url = f"https://localhost:{here.port}"
        found = {
            region: {"name": region, "kind": "secrets_manager", "region": region, "endpoint_url": url, **keys} for region in REGIONS
        }
        found["bucket"] = {
            "name": "bucket",
            "kind": "bucket",
            "endpoint": "localhost",
            "port": here.port,
            "bucket": "escrow",
            **keys,
        }
        limit = time.monotonic() + 180
        while True:
            try:
                bucket._client(found["bucket"], SECRETS).create_bucket(Bucket="escrow")
            except (BotoCoreError, ClientError):
                assert time.monotonic() < limit, "the store did not come up"
                time.sleep(0.3)
            else:
                break
        yield found


def place(declared: dict, cluster: str, secrets: dict | None = None) -> escrow_places.Place:
    return escrow_places.place(declared, cluster, secrets or SECRETS)


def generation(cluster: str, before: dict | None = None, at: str = AT, **other: bytes) -> tuple[dict, dict[str, bytes]]:
    declared = [{"name": name, "kind": "secret"} for name in ("repo1", "repo2", *other)]
    contents = {item: other.get(item.source, CANARY + item.source.encode()) for item in escrow_items.items(declared)}
    manifest = escrow_manifest.made(cluster, at, [Read(item, content, content) for item, content in contents.items()], before)
    return manifest, {item.id: content for item, content in contents.items()}


def stored(paths: dict[str, dict], cluster: str, **other: bytes) -> tuple[dict, dict[str, bytes], Opener]:
    secret, first = escrow_pack.new_identity()
    seals = Seals((first, escrow_pack.new_identity()[1]))
    manifest, contents = generation(cluster, **other)
    for declared in paths.values():
        escrow_vault.store(place(declared, cluster), manifest, contents, "page", seals)
    return manifest, contents, Opener(tuple(escrow_pack.identities(secret, "test")))


def secrets_manager(declared: dict) -> boto3.client:
    return escrow_places._client(declared, SECRETS)


def fault(kind: str, act, *words: str) -> None:
    with pytest.raises(EscrowFault) as caught:
        act()
    assert caught.value.kind == kind, caught.value
    assert all(word in str(caught.value) for word in words), caught.value
    assert CANARY.decode().strip() not in str(caught.value)


def test_every_path_alone_leads_back_to_the_same_bytes(paths: dict[str, dict]) -> None:
    manifest, contents, opener = stored(paths, "alone", large=bytes(range(256)) * 700)
    for name, declared in paths.items():
        where = place(declared, "alone")
        assert where.generations() == [manifest["generation"]]
        assert escrow_choice.newest(where.generations(), name, manifest["generation"]) == manifest["generation"]
        # Secrets Manager is its own seal: there nobody needs an identity.
        back = escrow_vault.recover(where, "alone", manifest["generation"], opener if where.sealed else Opener())
        assert (back.manifest, back.contents, back.faults) == (manifest, contents, ())


def test_what_is_larger_than_a_secret_may_be_is_cut(paths: dict[str, dict]) -> None:
    manifest, _, _ = stored({"eu": paths["eu-west-1"]}, "cut", large=bytes(150000))
    client = secrets_manager(paths["eu-west-1"])
    name = f"relevo/cut/{manifest['generation']}"
    index = json.loads(client.get_secret_value(SecretId=f"{name}/index")["SecretBinary"])
    pieces = [client.get_secret_value(SecretId=f"{name}/piece-{number:03d}")["SecretBinary"] for number in range(index["pieces"])]
    assert index["pieces"] > 2
    assert max(map(len, pieces)) <= 65536
    assert len(b"".join(pieces)) == index["bytes"]
    too_large = bytes(escrow_bundle.PIECE_BYTES * escrow_bundle.MOST_PIECES)
    fault(TOO_LARGE, lambda: stored({"eu": paths["eu-west-1"]}, "much", large=too_large), "secrets/large")
    assert place(paths["eu-west-1"], "much").generations() == []


def test_a_generation_is_never_written_again(paths: dict[str, dict]) -> None:
    manifest, contents, _ = stored({"eu": paths["eu-west-1"]}, "once")
    where = place(paths["eu-west-1"], "once")
    with pytest.raises(EscrowFault):
        escrow_vault.store(where, manifest, dict.fromkeys(contents, b"other"), "page", Seals(()))
    assert escrow_vault.recover(where, "once", manifest["generation"], Opener()).contents == contents


def test_a_piece_that_is_gone_or_changed_and_a_generation_without_index_are_named(paths: dict[str, dict]) -> None:
    manifest, _, _ = stored({"us": paths["us-east-1"]}, "damaged")
    where, client = place(paths["us-east-1"], "damaged"), secrets_manager(paths["us-east-1"])
    name = f"relevo/damaged/{manifest['generation']}"

    def recover() -> None:
        escrow_vault.recover(where, "damaged", manifest["generation"], Opener())

    piece = client.get_secret_value(SecretId=f"{name}/piece-000")["SecretBinary"]
    flipped = piece[:3000] + bytes([piece[3000] ^ 1]) + piece[3001:]
    client.put_secret_value(SecretId=f"{name}/piece-000", SecretBinary=flipped)
    fault(CORRUPT, recover, "other bytes")
    client.put_secret_value(SecretId=f"{name}/piece-000", SecretBinary=piece[:-1])
    fault(CORRUPT, recover)
    client.delete_secret(SecretId=f"{name}/piece-000", ForceDeleteWithoutRecovery=True)
    fault(MISSING, recover, "piece-000")
    client.delete_secret(SecretId=f"{name}/index", ForceDeleteWithoutRecovery=True)
    assert where.generations() == []


def test_a_path_that_was_left_behind_has_the_wrong_generation(paths: dict[str, dict]) -> None:
    first, _, _ = stored(paths, "behind")
    second, contents = generation("behind", first, LATER)
    escrow_vault.store(place(paths["eu-west-1"], "behind"), second, contents, "page", Seals(()))
    known = max(name for declared in paths.values() for name in place(declared, "behind").generations())
    assert known == second["generation"]
    behind = place(paths["us-east-1"], "behind")
    fault(WRONG_GENERATION, lambda: escrow_choice.newest(behind.generations(), behind.name, known), known)


def test_regions_are_apart_and_a_forgotten_generation_is_gone(paths: dict[str, dict]) -> None:
    manifest, _, _ = stored({"eu": paths["eu-west-1"]}, "regions")
    assert place(paths["us-east-1"], "regions").generations() == []
    where = place(paths["eu-west-1"], "regions")
    where.forget(manifest["generation"])
    assert where.generations() == []


def test_a_key_that_is_no_key_is_denied_and_a_path_that_is_gone_silent(paths: dict[str, dict]) -> None:
    for declared in (paths["eu-west-1"], paths["bucket"]):
        # The root's key pair has another secret.
        fault(DENIED, place(declared, "denied", {"id": ROOT_KEY[0] + "x", "key": "not-the-one"}).generations)
    gone = {**paths["eu-west-1"], "endpoint_url": "https://localhost:9"}
    fault(SILENT, place(gone, "gone").generations)
    untrusted = {**paths["eu-west-1"], "ca_file": None}
    fault(SILENT, place(untrusted, "untrusted").generations)
