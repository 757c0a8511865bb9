"""Restic's words in both supported versions, as they were printed by real ones, and what is made of them."""

from __future__ import annotations

import json
import stat
import textwrap

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import restic
from ansible_collections.relevo.dr.plugins.module_utils.restic import (
    ABSENT,
    DAMAGED,
    LOCKED,
    OTHER,
    PASSWORD,
    SILENT,
    Restic,
    ResticError,
)

PACK = "fc81cef66d32d724e42cc7b12e005d88da0915c439f9715ef8b297f03b155ae8"
WHERE = "\nIs there a repository at the following location?\ns3:https://store:443/bucket/files/h1\n"
RETRYING = "Stat(<config/>) returned error, retrying after 1.3s: "


@pytest.mark.parametrize(
    ("output", "kind", "meaning"),
    [
        ("Fatal: unable to open config file: Stat: The specified key does not exist." + WHERE, ABSENT, "no repository"),
        (
            "Fatal: repository does not exist: unable to open config file: Stat: The specified key does not exist." + WHERE,
            ABSENT,
            "no repository",
        ),
        ("Fatal: unable to open config file: Stat: The specified bucket does not exist" + WHERE, OTHER, "no such bucket"),
        (RETRYING + "Stat: The specified bucket does not exist", OTHER, "no such bucket"),
        ("Fatal: wrong password or no key found", PASSWORD, "does not open"),
        (
            RETRYING
            + "Stat: The request signature we calculated does not match the signature you provided. Check your key"
            + WHERE,
            OTHER,
            "403",
        ),
        ("Fatal: unable to open config file: Stat: Access Denied." + WHERE, OTHER, "403"),
        (
            RETRYING
            + 'Get "https://store:443/b/?location=": tls: failed to verify certificate: x509: certificate signed by unknown authority',
            OTHER,
            "not signed by a CA",
        ),
        ("x509: certificate has expired or is not yet valid: current time 2026-11-25T03:28:39Z is after", OTHER, "expired"),
        (RETRYING + 'Get "https://store:443/": dial tcp 192.0.2.1:443: connect: connection refused', SILENT, "does not answer"),
        (RETRYING + 'Get "https://store:443/": dial tcp 192.0.2.1:443: i/o timeout', SILENT, "does not answer"),
        ("unable to create lock in backend: repository is already locked by PID 6643 on h1 by root", LOCKED, "another restic"),
        (
            '{"message_type":"exit_error","code":11,"message":"unable to create lock in backend: repository is already locked by PID 1"}',
            LOCKED,
            "another",
        ),
        ("Fatal: repository contains errors", DAMAGED, "damaged"),
    ],
)
def test_what_restic_prints_is_explained(output, kind, meaning):
    error = restic.explained(output)
    assert error.kind == kind
    assert meaning in error.observed
    assert error.next_action


def test_what_nobody_foresaw_is_shown_as_it_is_without_the_hints_that_come_with_every_error():
    error = restic.explained("Fatal: the moon is full" + WHERE)
    assert (error.kind, error.observed) == (OTHER, "Fatal: the moon is full")


OLD_DAMAGE = f"""using temporary cache in /tmp/restic-check-cache-4155765942
create exclusive lock for repository
load indexes
check all packs
check snapshots, trees and blobs
[0:00] 100.00%  1 / 1 snapshots

read all data
Pack ID does not match, want {PACK}, got 0b70f878501b8c7291099f2c6b27f8dc146c09ccd21aa7f67cc5a61cabea84d4
[0:00] 100.00%  2 / 2 packs

Fatal: repository contains errors"""
NEW_DAMAGE = "\n".join(
    json.dumps(message)
    for message in (
        {
            "message_type": "error",
            "message": f"pack {PACK} contains 2 errors: [blob 0bfe: decrypting blob <data/0bfe> from fc81 failed]\n",
        },
        {"message_type": "error", "message": f"restic repair packs {PACK}\nrestic repair snapshots --forget\n\n"},
        {"message_type": "summary", "num_errors": 1, "broken_packs": [PACK], "suggest_repair_index": False, "suggest_prune": False},
        {"message_type": "exit_error", "code": 1, "message": "Fatal: repository contains errors"},
    )
)
MISSING = f"check all packs\npack {PACK}: does not exist\ncheck snapshots, trees and blobs\nFatal: repository contains errors"


@pytest.mark.parametrize("output", [OLD_DAMAGE, NEW_DAMAGE, MISSING], ids=["old", "new", "missing"])
def test_a_damaged_pack_is_named_whatever_the_version(output):
    assert restic.damaged_packs(output) == [PACK]
    assert any(PACK in line for line in restic.damages(output))
    assert not any("repair" in line or "contains errors" in line.lower().replace("2 errors", "") for line in restic.damages(output))


def test_damage_that_is_no_packs_is_told_in_restics_words():
    said = restic.damages(
        "error for tree 841a6ce5:\n  decrypting blob 841a failed: ciphertext verification failed\nFatal: repository contains errors"
    )
    assert said == ["error for tree 841a6ce5:", "decrypting blob 841a failed: ciphertext verification failed"]


def test_a_good_check_names_nothing():
    text = '{"message_type":"summary","num_errors":0,"broken_packs":null,"suggest_repair_index":false,"suggest_prune":false}'
    assert (restic.damaged_packs(text), restic.damages(text)) == ([], [])
    assert restic.damages("check all packs\n[0:00] 100.00%  1 / 1 snapshots\n\nno errors were found\n") in (
        [],
        ["no errors were found"],
    )


def test_versions():
    assert restic.parse_version("restic 0.14.0 compiled with go1.19.8 on linux/amd64") == (0, 14, 0)
    assert restic.parse_version("restic 0.18.0 compiled with go1.24.4 on linux/amd64") > restic.JSON_CHECK_SINCE
    with pytest.raises(ValueError, match="not a version"):
        restic.parse_version("bash: restic: command not found")


def test_messages_pass_over_what_is_no_json():
    assert restic.summary('using parent\n{"message_type":"status"}\n{"message_type":"summary","snapshot_id":"ab"}\n[1]\n') == {
        "message_type": "summary",
        "snapshot_id": "ab",
    }


@pytest.fixture
def binary(tmp_path):
    def write(script):
        path = tmp_path / "restic"
        path.write_text("#!/usr/bin/python3\n" + textwrap.dedent(script))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return Restic(
            "s3:https://store/bucket",
            "/run/password",
            {"AWS_SECRET_ACCESS_KEY": "hidden"},
            "/ca.pem",
            binary=str(path),
            timeout=0.8,
        )

    return write


def test_no_secret_is_an_argument_or_is_shown(binary):
    command = binary("import os, sys; print(sys.argv, os.environ['AWS_SECRET_ACCESS_KEY'])")
    said = command.run("snapshots", "--json")
    assert said.rstrip().endswith("hidden")
    assert "hidden" not in " ".join(command.words("snapshots")) + repr(command)


def test_a_store_that_says_nothing_is_given_up_in_time(binary):
    with pytest.raises(ResticError) as caught:
        binary("import time; time.sleep(60)").run("cat", "config")
    assert caught.value.kind == SILENT
    assert "0.8 s" in caught.value.observed


def test_what_restic_said_while_it_tried_again_is_the_reason(binary):
    script = f"""
    import sys, time
    print({RETRYING!r} + "Stat: Access Denied.", file=sys.stderr, flush=True)
    time.sleep(60)
    """
    with pytest.raises(ResticError, match="403"):
        binary(script).run("cat", "config")


def test_a_late_restic_is_interrupted_so_that_it_removes_its_lock(binary, tmp_path):
    script = f"""
    import signal, sys, time
    def end(*_):
        open({str(tmp_path / "unlocked")!r}, "w").close()
        sys.exit(130)
    signal.signal(signal.SIGINT, end)
    time.sleep(60)
    """
    with pytest.raises(ResticError):
        binary(script).run("backup")
    assert (tmp_path / "unlocked").exists()


def test_a_host_without_restic_is_told_what_to_install(tmp_path):
    with pytest.raises(ResticError) as caught:
        Restic("s3:x", "/p", binary=str(tmp_path / "none")).run("snapshots")
    assert "install" in caught.value.next_action
