"""The configuration file of pgBackRest: rendered, adopted, repaired, and never swapped for another repository."""

from __future__ import annotations

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import pgbackrest_file as file
from ansible_collections.relevo.dr.plugins.module_utils.change import HIDDEN

REPOSITORY = {
    "id": 1,
    "bucket": "relevo-b",
    "endpoint": "b-store1",
    "port": 443,
    "region": "lab",
    "path": "/minimarket",
    "ca_file": "/etc/ssl/ca.pem",
    "key_id_secret": "store_b_key_id",
    "key_secret": "store_b_key",
}
SECRETS = {"store_b_key_id": "KEY-ID", "store_b_key": "KEY", "pgbackrest_repo1_passphrase": "PASS"}


def wanted(version=(2, 55, 1), repository=REPOSITORY):
    options = {"process-max": "2", **file.repository_options(repository, SECRETS, version)}
    return {"global": options, "minimarket": {"pg1-path": "/var/lib/postgresql/17/main"}}


def plan(current, **kwargs):
    return file.plan(current, wanted(**kwargs), "file pgbackrest.conf")


def options(text, section="global"):
    return file.parse(text)[0][section]


def test_a_repository_is_encrypted_and_its_certificate_is_verified():
    said = options(plan("").text)
    assert said["repo1-cipher-type"] == ["aes-256-cbc"]
    assert said["repo1-cipher-pass"] == ["PASS"]
    assert said["repo1-storage-verify-tls"] == ["y"]
    assert said["repo1-storage-ca-file"] == ["/etc/ssl/ca.pem"]
    assert said["repo1-s3-uri-style"] == ["path"]


@pytest.mark.parametrize(("version", "block"), [((2, 45), False), ((2, 46), True), ((2, 55, 1), True)])
def test_options_are_those_that_the_version_knows(version, block):
    said = options(plan("", version=version).text)
    assert ("repo1-block" in said) == block
    assert said["repo1-bundle"] == ["y"]


def test_a_repository_without_encryption_needs_no_passphrase():
    plain = {**REPOSITORY, "cipher": "none"}
    assert file.secret_names([plain]) == ["store_b_key_id", "store_b_key"]
    assert "repo1-cipher-pass" not in options(plan("", repository=plain).text)


def test_who_only_restores_gets_the_key_that_only_reads_where_there_is_one():
    both = {**REPOSITORY, "read_key_id_secret": "store_b_read_key_id", "read_key_secret": "store_b_read_key"}
    reader, other = file.read_only([both, {**REPOSITORY, "id": 2}])
    secrets = {"store_b_read_key_id": "READ-ID", "store_b_read_key": "READ", "pgbackrest_repo1_passphrase": "PASS"}
    said = file.repository_options(reader, secrets, (2, 55, 1))
    assert (said["repo1-s3-key"], said["repo1-s3-key-secret"]) == ("READ-ID", "READ")
    assert file.secret_names([reader]) == ["store_b_read_key_id", "store_b_read_key", "pgbackrest_repo1_passphrase"]
    assert (other["key_id_secret"], other["key_secret"]) == ("store_b_key_id", "store_b_key")


def test_a_second_run_changes_nothing():
    first = plan("")
    assert first.changes
    second = plan(first.text)
    assert (second.text, second.changes, second.conflict) == (first.text, [], "")


@pytest.mark.parametrize(
    ("before", "after", "item"),
    [
        ("process-max=2", "process-max=8", "process-max"),
        ("process-max=2\n", "", "process-max"),
        ("[minimarket]", "[minimarket]\nrecovery-option=x=y", "recovery-option"),
        ("repo1-s3-bucket=relevo-b", "repo1-s3-bucket=elsewhere", "repo1-s3-bucket"),
        ("[global]", "[global]\narchive-push-queue-max=1MB", "archive-push-queue-max"),
    ],
)
def test_drift_of_each_kind_is_named_and_repaired(before, after, item):
    good = plan("").text
    drifted = plan(good.replace(before, after))
    assert [change.item.rsplit(" ", 1)[-1] for change in drifted.changes] == [item]
    assert drifted.text == good


def test_secrets_are_never_shown():
    good = plan("").text
    drifted = plan(good.replace("repo1-cipher-pass=PASS", "repo1-cipher-pass=OLD"))
    assert [(change.current, change.wanted) for change in drifted.changes] == [(HIDDEN, HIDDEN)]
    assert "PASS" not in str(drifted.changes)


THEIRS = """
# made by hand
[global]
repo1-type=s3
repo1-s3-bucket=relevo-b
repo1-s3-endpoint=b-store1
repo1-path=/minimarket
repo1-cipher-pass=PASS
log-path=/var/log/backups
process-max=4

[other]
pg1-path=/var/lib/postgresql/17/other
recovery-option=a=1
recovery-option=b=2
"""


def test_a_file_of_somebody_else_is_adopted():
    adopted = plan(THEIRS)
    assert not adopted.conflict
    said, kept = file.parse(adopted.text)
    assert said["global"]["log-path"] == ["/var/log/backups"]
    assert said["global"]["process-max"] == ["2"]
    assert said["other"] == {"pg1-path": ["/var/lib/postgresql/17/other"], "recovery-option": ["a=1", "b=2"]}
    assert kept["global"] == {"log-path": ["/var/log/backups"]}
    assert plan(adopted.text).changes == []
    assert plan(adopted.text).text == adopted.text


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ("repo1-s3-bucket=relevo-b", "repo1-s3-bucket=theirs"),
        ("repo1-path=/minimarket", "repo1-path=/else"),
        ("repo1-type=s3", "repo1-type=posix"),
    ],
)
def test_a_file_that_leads_to_another_repository_is_a_conflict(mine, theirs):
    assert theirs in plan(THEIRS.replace(mine, theirs)).conflict


def test_our_own_file_follows_the_inventory_to_another_repository():
    moved = file.plan(plan("").text, wanted(repository={**REPOSITORY, "bucket": "new"}), "file")
    assert not moved.conflict
    assert options(moved.text)["repo1-s3-bucket"] == ["new"]
