"""The policies that the roles' pages give, on a store that enforces them, with versions and an object lock: all goes on, and nothing can be removed for good.

It stands in for the store of site b, in that host's network and with its certificate.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from .conftest import INVENTORY, ROOT, SNAPSHOT, Bench, Run
from .ministack import ROOT_KEY, serving
from .test_files import Files
from .test_restore import archived, enter, proven

STORE, BUCKET, PRIMARY = "b-store1", "relevo-b", "a-db1"
WRITER, READER, FILES = "rights_writer", "rights_reader", "rights_files"


class Locked(Bench):
    """The laboratory whose repository 1 lies in that store."""

    address: str
    authority: str
    directory: Path

    def client(self, service: str, key: tuple[str, str] = ROOT_KEY) -> Any:
        return boto3.client(
            service,
            endpoint_url=f"https://{self.address}",
            region_name="us-east-1",
            verify=self.authority,
            aws_access_key_id=key[0],
            aws_secret_access_key=key[1],
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    def key(self, name: str) -> tuple[str, str]:
        secrets = self.lab.state / "secrets"
        return (secrets / f"{name}_key_id").read_text(), (secrets / f"{name}_key").read_text()

    def versions(self, prefix: str) -> list[dict[str, Any]]:
        """All versions of all objects below a prefix, those of deleted ones too."""
        pages = self.client("s3").get_paginator("list_object_versions").paginate(Bucket=BUCKET, Prefix=prefix)
        return [version for page in pages for version in page.get("Versions", [])]

    def pgbackrest(self, *words: str) -> str:
        return self.inside(PRIMARY, "runuser", "-u", "postgres", "--", "pgbackrest", "--stanza=minimarket", "--repo=1", *words)

    def labels(self) -> list[str]:
        return [entry["label"] for entry in json.loads(self.pgbackrest("--output=json", "info"))[0]["backup"]]

    def verify(self) -> Run:
        """From a controller that knows the store by its name, in a view of its own of the file of names."""
        names = self.directory / "hosts"
        names.write_text(f"{Path('/etc/hosts').read_text()}\n{self.address} {STORE}\n")
        view = ("unshare", "--mount", "--", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', names)
        return self.play(ROOT / "playbooks/verify_backup.yml", within=view, AWS_CA_BUNDLE=self.authority)


def policies(role: str) -> list[str]:
    """The policies on a role's page, for the laboratory's bucket."""
    page = (ROOT / "roles" / role / "README.md").read_text().partition("## Least rights")[2].partition("\n## ")[0]
    return [text.replace("minimarket-backups-b", BUCKET) for text in re.findall(r"```json\n(.*?)```", page, re.DOTALL)]


def inventory(directory: Path) -> Path:
    """The laboratory's, with keys of these rights for repository 1, and files in the other store alone."""
    copy = directory / "lab"
    subprocess.run(["cp", "-r", INVENTORY, copy], check=True)
    path = copy / "group_vars/all.yml"
    said = yaml.safe_load(path.read_text().replace("{{ inventory_dir }}/../..", str(ROOT)))
    keys = {"key_id_secret": f"{WRITER}_key_id", "key_secret": f"{WRITER}_key"}
    keys |= {"read_key_id_secret": f"{READER}_key_id", "read_key_secret": f"{READER}_key"}
    said["dr_pgbackrest_repositories"][0] |= {**keys, "region": "us-east-1", "versioning": True, "immutable": True}
    said["dr_files_repositories"] = said["dr_files_repositories"][1:]
    said["dr_backup_periods"] = 0
    path.write_text(yaml.safe_dump(said))
    return copy


def grant(locked: Locked) -> list[Path]:
    """A key for each policy, as secrets of the controller."""
    writer, reader = policies("dr_pgbackrest")
    (files,) = policies("dr_files")
    written = []
    # The page's words for forget: true.
    for name, policy in ((WRITER, writer), (READER, reader), (FILES, files.replace("files/*/locks/*", "files/*"))):
        account = locked.client("iam")
        account.create_user(UserName=name)
        account.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=policy)
        key = account.create_access_key(UserName=name)["AccessKey"]
        for suffix, value in (("key_id", key["AccessKeyId"]), ("key", key["SecretAccessKey"])):
            path = locked.lab.state / "secrets" / f"{name}_{suffix}"
            path.write_text(value)
            path.chmod(0o600)
            written.append(path)
    return written


def answers(locked: Locked) -> bool:
    try:
        locked.client("s3").list_buckets()
    except (BotoCoreError, ClientError):
        return False
    return True


@pytest.fixture(scope="module")
def locked(protected: Bench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    """Protected anew, since the store is empty at first."""
    place = tmp_path_factory.mktemp("rights")
    protected.verb("reset", SNAPSHOT)
    protected.wait_until_serving()
    found = Locked(protected.store, inventory(place))
    found.address, found.authority = found.lab.host(STORE).address, str(found.lab.state / "tls/ca.pem")
    found.directory = place
    found.inside(STORE, "systemctl", "stop", "relevo-lab-store")
    secrets: list[Path] = []
    certificate, key = (found.lab.state / f"tls/{STORE}.{kind}" for kind in ("pem", "key"))
    try:
        with serving(place, 8443, certificate, key, ["nsenter", "--target", str(found.leader(STORE)), "--net", "--"]):
            found.wait("the store answers", lambda: answers(found))
            objects = found.client("s3")
            objects.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
            rule = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}}
            objects.put_object_lock_configuration(Bucket=BUCKET, ObjectLockConfiguration=rule)
            secrets = grant(found)
            run = found.run("protect")
            assert run.code == 0, run.output[-4000:]
            yield found
    finally:
        for path in secrets:
            path.unlink()
        protected.verb("reset", SNAPSHOT)


@pytest.mark.full
def test_a_verification_judges_a_bucket_that_is_asked_to_keep_and_to_refuse(locked):
    run = locked.verify()
    assert run.code == 0, run.output[-4000:]
    assert run.record["verdict"] == "passed", run.record["verdict_reasons"]
    tried = {gate["id"]: gate for gate in run.record["gates"] if gate["id"] in ("VERSIONING", "IMMUTABLE")}
    assert {name: gate["verdict"] for name, gate in tried.items()} == {"VERSIONING": "pass", "IMMUTABLE": "pass"}
    for gate in tried.values():
        assert gate["host"].startswith("repository 1 ")
    assert "403 AccessDenied" in tried["IMMUTABLE"]["observed"]


@pytest.mark.full
def test_a_controller_that_cannot_reach_the_bucket_leaves_it_unknown(locked):
    """Without that view of its names it finds no such host: not proven is not passed."""
    run = locked.run("verify_backup")
    tried = {gate["id"]: gate["verdict"] for gate in run.record["gates"] if gate["id"] in ("VERSIONING", "IMMUTABLE")}
    assert tried == {"VERSIONING": "unknown", "IMMUTABLE": "unknown"}
    assert run.record["verdict"] != "passed"


@pytest.mark.full
def test_backups_expire_and_their_versions_stay(locked):
    before = locked.labels()
    for _ in range(2):
        locked.pgbackrest("--type=full", "backup")
    locked.pgbackrest("--repo1-retention-full-type=count", "--repo1-retention-full=1", "expire")
    kept = locked.labels()
    assert len(kept) == 1
    for label in before:
        manifest = f"minimarket/backup/minimarket/{label}/backup.manifest"
        (version,) = [version for version in locked.versions(manifest) if version["Key"] == manifest]
        # Neither the one who wrote it nor whoever owns the bucket.
        for key in (locked.key(WRITER), ROOT_KEY):
            with pytest.raises(ClientError, match="AccessDenied"):
                locked.client("s3", key).delete_object(Bucket=BUCKET, Key=manifest, VersionId=version["VersionId"])
    run = locked.verify()
    assert run.code == 0, run.output[-4000:]


@pytest.mark.full
def test_snapshots_of_files_are_forgotten_and_their_versions_stay(locked):
    host, sets = (
        "a-app1",
        [{"name": "trial", "paths": ["/etc"], "calendar": "Sun *-*-* 03:00:00", "keep": {"last": 1}, "max_age_seconds": 9000}],
    )
    repository = {"id": 1, "endpoint": STORE, "port": 443, "bucket": BUCKET, "region": "us-east-1", "path": "/files/{host}"}
    repository |= {"ca_file": "/etc/ssl/relevo-lab/ca.pem", "key_id_secret": f"{FILES}_key_id", "key_secret": f"{FILES}_key"}
    files = Files(locked.store, INVENTORY)
    files.directory = locked.directory
    said = {"dr_files_repositories": [{**repository, "prune": True}], "dr_files_sets": sets}
    done = files.call("setup", host, **said)
    assert done.code == 0, done.output[-3000:]
    for _ in range(2):
        files.inside(host, "sh", "-c", "date +%s%N > /etc/relevo-rights")
        taken = files.call("backup", host, dr_files_backup_sets=["trial"], **said)
        assert taken.code == 0, taken.output[-3000:]
    last = files.attempts(host)[-1]
    assert (last["outcome"], last["forgotten"]) == ("taken", 1), last
    verified = files.call("verify", host, **said)
    assert verified.code == 0, verified.output[-3000:]
    assert len(locked.versions(f"files/{host}/snapshots/")) == 2


@pytest.mark.full
def test_the_sandbox_restores_with_the_key_that_only_reads(locked):
    enter(locked, f"rights{time.time_ns()}")
    archived(locked)
    (test,) = proven(locked.run("restore_test", dr_restore_repository="1"))
    assert test["repository"] == 1
    configuration = locked.inside("b-scratch", "cat", "/etc/pgbackrest/relevo-sandbox.conf")
    assert f"repo1-s3-key={locked.key(READER)[0]}" in configuration
    for secret in locked.key(WRITER):
        assert secret not in configuration
    reader = locked.client("s3", locked.key(READER))
    assert reader.list_objects_v2(Bucket=BUCKET, Prefix="minimarket/")["KeyCount"] > 0
    with pytest.raises(ClientError, match="AccessDenied"):
        reader.put_object(Bucket=BUCKET, Key="minimarket/backup/minimarket/backup.info", Body=b"")
    with pytest.raises(ClientError, match="AccessDenied"):
        reader.delete_object(Bucket=BUCKET, Key="minimarket/backup/minimarket/backup.info")
