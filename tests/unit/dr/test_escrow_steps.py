"""Single steps of an escrow: what hosts hand over, shares dealt once, ways to the keys, and what came of them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible_collections.relevo.dr.plugins.action import escrow_gather, escrow_share
from ansible_collections.relevo.dr.plugins.action.escrow_judge import verdicts
from ansible_collections.relevo.dr.plugins.filter.keys import public_shares, ways
from ansible_collections.relevo.dr.plugins.module_utils import escrow_items, escrow_manifest
from ansible_collections.relevo.dr.plugins.module_utils.escrow_fault import DIFFERENT, EscrowFault
from ansible_collections.relevo.dr.plugins.plugin_utils import escrow_pack, escrow_shares, escrow_vault

from tests.house.tree import ROOT

KEY = {"name": "shop", "kind": "key", "generation": "1", "hosts": ["a-app1", "b-app1"], "path": "/etc/shop/key"}


def handed(content: bytes = b"k") -> dict[str, Any]:
    return {"read": {"keys/shop/1": {"content": content, "essence": content}}, "unread": {}}


def test_a_key_is_taken_from_any_host_and_must_be_one_on_all() -> None:
    items = escrow_items.items([KEY])
    silent = {"read": {}, "unread": {"keys/shop/1": "a-app1: the host does not answer"}}
    reads, unread = escrow_manifest.gathered(items, {"a-app1": silent, "b-app1": handed()})
    assert ([read.content for read in reads], unread) == ([b"k"], {})
    assert escrow_manifest.gathered(items, {"a-app1": silent}) == ([], {"keys/shop/1": "a-app1: the host does not answer"})
    assert escrow_manifest.gathered(items, {}) == ([], {"keys/shop/1": "no host of it was asked: a-app1, b-app1"})
    with pytest.raises(EscrowFault) as caught:
        escrow_manifest.gathered(items, {"a-app1": handed(), "b-app1": handed(b"other")})
    assert (caught.value.kind, "other" in str(caught.value).replace("another", "")) == (DIFFERENT, False)


def test_a_directory_is_the_same_bytes_whenever_its_files_are(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "group_vars").mkdir(parents=True)
        (tmp_path / name / ".git").mkdir()
        (tmp_path / name / ".git/index").write_text(name)
        (tmp_path / name / "group_vars/all.yml").write_text("a: 1\n")
        (tmp_path / name / "hosts.yml").write_text("all: {}\n")
    first = escrow_gather.tree(str(tmp_path / "one"))
    assert first == escrow_gather.tree(str(tmp_path / "two"))
    (tmp_path / "two/hosts.yml").write_text("all:\n")
    assert first != escrow_gather.tree(str(tmp_path / "two"))
    with pytest.raises(OSError, match="no file"):
        escrow_gather.tree(str(tmp_path / "nothing"))


def deal(tmp_path: Path, holders: list[dict[str, str]], *, check: bool = False) -> dict[str, Any]:
    action = escrow_share.ActionModule.__new__(escrow_share.ActionModule)
    arguments = {"cluster": "minimarket", "holders": holders, "threshold": 2}
    arguments |= {"directory": str(tmp_path / "shares"), "public_file": str(tmp_path / "keys_shares.json")}
    action._task = SimpleNamespace(args=arguments, check_mode=check)
    action.host = "localhost"
    return action.act()


def test_shares_are_dealt_once_each_to_its_holder_and_the_identity_to_nobody(tmp_path: Path) -> None:
    secret, recipient = escrow_pack.new_identity()
    holders = [{"name": "ana"}, {"name": "mira", "recipient": recipient}, {"name": "board"}]
    assert deal(tmp_path, holders, check=True)["changed"]
    assert not list(tmp_path.iterdir())
    done = deal(tmp_path, holders)
    assert done["files"] == ["share-1-ana.txt", "share-2-mira.txt.age", "share-3-board.txt"]
    texts = {}
    for name in done["files"]:
        path = tmp_path / "shares" / name
        assert path.stat().st_mode & 0o777 == 0o600
        texts[name] = path.read_bytes()
    mine = escrow_pack.open_sealed(texts["share-2-mira.txt.age"], escrow_pack.identities(secret, "mira"), "mira", [])
    public = public_shares(str(tmp_path / "keys_shares.json"))
    pair = [escrow_shares.read(text.decode(), "file") for text in (mine, texts["share-3-board.txt"])]
    assert escrow_pack.public(escrow_shares.combine(pair, public, "test").identity) == public["recipient"]
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()) + json.dumps(done).encode()
    assert b"AGE-SECRET-KEY" not in everything
    again = deal(tmp_path, holders)
    assert again["failed"]
    assert "shares are made once" in again["msg"]
    assert public_shares(str(tmp_path / "none.json")) == public_shares("") == {}


def test_ways_to_the_keys_are_every_sealed_path_by_every_opener_and_each_other_path_as_it_is() -> None:
    paths = [
        {"name": "vault", "kind": "secrets_manager"},
        {"name": "a", "kind": "bucket", "site": "a"},
        {"name": "safe", "kind": "directory"},
    ]
    openers = [{"name": "ana"}, {"name": "shares"}]

    def named(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
        return [(way["path"]["name"], way["opener"].get("name", "")) for way in found]

    every = [("vault", ""), ("a", "ana"), ("a", "shares"), ("safe", "ana"), ("safe", "shares")]
    assert named(ways(paths, openers)) == every
    assert named(ways(paths, openers, "safe")) == every[3:]
    assert named(ways(paths, openers, lost_site="a")) == [every[0], *every[3:]]


def way(fault: str = "", *, intact: bool = True) -> dict[str, Any]:
    return {"recovered": False, "intact": False, "fault": fault} if fault else {"recovered": True, "intact": intact}


@pytest.mark.parametrize(
    ("tried", "copies", "said"),
    [
        ([way(), way()], ["pass", "pass"], ("pass", "pass", "pass")),
        ([way(), way(intact=False)], ["pass", "pass"], ("pass", "fail", "pass")),
        ([way(), way("CORRUPT")], ["pass"], ("fail", "fail", "unknown")),
        ([way(), way("TOO_FEW_SHARES")], ["pass"], ("fail", "unknown", "unknown")),
        # A path that does not answer was not seen to fail.
        ([way(), way("SILENT")], ["pass"], ("unknown", "unknown", "unknown")),
        ([way()], ["pass"], ("unknown", "unknown", "unknown")),
        # It led to the keys, and no further.
        ([way(), way()], ["pass"], ("pass", "pass", "fail")),
        ([way(), way()], ["pass", "fail"], ("pass", "pass", "fail")),
        ([way(), way()], ["pass", "unknown"], ("pass", "pass", "unknown")),
        ([], [], ("unknown", "unknown", "unknown")),
    ],
)
def test_what_nobody_saw_is_unknown_and_a_way_that_ends_early_has_failed(
    tried: list[dict[str, Any]], copies: list[str], said: tuple[str, str, str]
) -> None:
    found = verdicts(2, tried, [{"verdict": verdict} for verdict in copies])
    assert (found["recovered"], found["intact"], found["decrypted"]) == said


def test_the_recipients_of_the_example_are_recipients() -> None:
    example = yaml.safe_load((ROOT / "inventories/example/group_vars/all.yml").read_text())
    assert escrow_pack.seal(b"x", escrow_vault.Seals(tuple(example["dr_keys_recipients"])).everybody())
    assert {place["kind"] for place in example["dr_keys_paths"]} == {"secrets_manager", "bucket", "directory"}
    assert escrow_items.items(example["dr_keys_items_more"])
