"""What is in escrow and how it comes back: real age files, real shares, real directories; and everything that can be wrong, by name."""

from __future__ import annotations

import copy
import dataclasses
import functools
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import escrow_bundle, escrow_choice, escrow_items, escrow_manifest
from ansible_collections.relevo.dr.plugins.module_utils.escrow_fault import (
    BAD_SHARE,
    CORRUPT,
    DECLARATION,
    DENIED,
    DIFFERENT,
    LINE_END,
    MISSING,
    NO_IDENTITY,
    SILENT,
    TOO_FEW_SHARES,
    TOO_LARGE,
    WRONG_GENERATION,
    EscrowFault,
)
from ansible_collections.relevo.dr.plugins.module_utils.escrow_fingerprint import fingerprint, new_salt, require_equal
from ansible_collections.relevo.dr.plugins.module_utils.escrow_manifest import Read
from ansible_collections.relevo.dr.plugins.plugin_utils import escrow_pack, escrow_places, escrow_shares, escrow_vault
from ansible_collections.relevo.dr.plugins.plugin_utils.escrow_memory import Memory
from ansible_collections.relevo.dr.plugins.plugin_utils.escrow_vault import Opener, Seals
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.house.tree import ROOT

CANARY = b"canary-9f3b7a1e-of-a-passphrase"
COMBINE = ROOT / "roles/dr_keys/files/combine_shares.py"
AT = "2026-11-28T04:03:36.000000Z"
LATER = "2026-11-28T05:03:36.000000Z"
TOMORROW = "2026-11-29T04:03:37.000000Z"
DECLARED = [
    {"name": "pgbackrest_repo1_passphrase", "kind": "secret"},
    {"name": "shop", "kind": "key", "generation": "1", "hosts": ["a-app1", "b-app1"], "path": "/etc/shop/key.1"},
    {"name": "shop", "kind": "key", "generation": "2", "hosts": ["a-app1", "b-app1"], "path": "/etc/shop/key"},
    {"name": "repositories", "kind": "pgbackrest_info", "hosts": ["a-db1"], "repositories": [1]},
    {"name": "versions", "kind": "versions"},
]
INFO = b'[backup:current]\n20261128-000000F={}\n[cipher]\ncipher-pass="x"\n[db:history]\n1={}\n'


def reads(**other: bytes) -> list[Read]:
    found = []
    for item in escrow_items.items(DECLARED):
        content = other.get(item.id.replace("/", "_").replace(".", "_"), CANARY + item.id.encode())
        essence = escrow_items.essence(item, INFO) if item.kind == escrow_items.PGBACKREST_INFO else content
        found.append(Read(item, content, essence))
    return found


@functools.cache
def _first() -> tuple[dict, dict[str, bytes]]:
    found = reads()
    return escrow_manifest.made("minimarket", AT, found, None), {one.item.id: one.content for one in found}


def generation(before: dict | None = None, at: str = AT, **other: bytes) -> tuple[dict, dict[str, bytes]]:
    if before is None and not other:
        # A fingerprint is slow on purpose.
        manifest, contents = _first()
        return copy.deepcopy(manifest), dict(contents)
    found = reads(**other)
    manifest = escrow_manifest.made("minimarket", at, found, before)
    return manifest, {one.item.id: one.content for one in found}


def directory(tmp_path: Path, name: str = "disk") -> escrow_places.Place:
    (tmp_path / name).mkdir(exist_ok=True)
    return escrow_places.place({"name": name, "kind": "directory", "path": str(tmp_path / name)}, "minimarket", {})


def people(number: int = 2) -> tuple[list, Seals]:
    made = [escrow_pack.new_identity() for _ in range(number)]
    return [escrow_pack.identities(secret, "test")[0] for secret, _ in made], Seals(tuple(recipient for _, recipient in made))


def fault(kind: str, act, *words: str) -> EscrowFault:
    """What is refused, by that name; never with a byte of a key."""
    with pytest.raises(EscrowFault) as caught:
        act()
    assert caught.value.kind == kind, caught.value
    assert all(word in str(caught.value) for word in words), caught.value
    assert CANARY.decode() not in str(caught.value)
    return caught.value


# -- fingerprints --


def test_a_fingerprint_is_of_exact_bytes_and_of_one_item() -> None:
    salt = new_salt()
    assert fingerprint(CANARY, salt, "a") == fingerprint(CANARY, salt, "a")
    others = {fingerprint(CANARY + b"\n", salt, "a"), fingerprint(CANARY, salt, "b"), fingerprint(CANARY, new_salt(), "a")}
    assert fingerprint(CANARY, salt, "a") not in others
    assert len(others) == 3


@given(content=st.binary(min_size=1, max_size=60), end=st.sampled_from([b"\n", b"\r\n", b"\n\n"]))
@settings(max_examples=2)
def test_a_line_end_too_many_or_too_few_is_told_from_another_value(content: bytes, end: bytes) -> None:
    bare = content.rstrip(b"\r\n") or b"x"
    for recorded, came in ((bare, bare + end), (bare + b"\n", bare)):
        salt = new_salt()
        entry = {"id": "i", "salt": salt, "fingerprint": fingerprint(recorded, salt, "i"), "bytes": len(recorded), "made_in": "g"}
        require_equal(recorded, entry, "disk")
        fault(LINE_END, lambda came=came, entry=entry: require_equal(came, entry, "disk"))
        fault(DIFFERENT, lambda came=came, entry=entry: require_equal(b"?" + came, entry, "disk"))


def test_a_value_of_an_older_generation_is_named_as_one() -> None:
    older, _ = generation()
    newer, contents = generation(older, LATER, keys_shop_2=CANARY + b"rotated")
    contents["keys/shop/2"] = CANARY + b"keys/shop/2"
    (found,) = escrow_manifest.require_items(newer, contents, "disk", [older])
    assert (found.kind, found.where) == (WRONG_GENERATION, "keys/shop/2 of disk")
    assert older["generation"] in found.observed


# -- when a generation is due --


def test_a_generation_is_due_when_something_changed_and_not_before() -> None:
    before, _ = generation()
    assert escrow_manifest.due(None, reads(), AT, 86400) == ["there is no generation yet"]
    assert escrow_manifest.due(before, reads(), LATER, 86400) == []
    assert escrow_manifest.due(before, reads(keys_shop_1=b"other"), LATER, 86400) == ["keys/shop/1 changed"]
    assert escrow_manifest.due(before, reads()[:-1], LATER, 86400) == ["versions.json is declared no more"]
    assert escrow_manifest.due(before, reads()[:-1], LATER, 86400, unread=["versions.json"]) == []
    elsewhere = [Read(dataclasses.replace(one.item, hosts=("c-app1",)), one.content, one.essence) for one in reads()]
    assert "keys/shop/2 is declared otherwise" in escrow_manifest.due(before, elsewhere, LATER, 86400)


def test_copies_that_change_by_themselves_are_taken_once_a_day() -> None:
    before, _ = generation()
    changed = reads(pgbackrest_1_backup_info=b"another backup in the list")
    assert escrow_manifest.due(before, changed, LATER, 86400) == []
    assert escrow_manifest.due(before, changed, TOMORROW, 86400) == ["copies of what changes by itself are 24 h old"]
    assert escrow_manifest.due(before, reads(), TOMORROW, 86400) == []


def test_the_version_of_the_keys_changes_with_a_key_alone() -> None:
    first, _ = generation()
    again, _ = generation(first, LATER, versions_json=b"{}", pgbackrest_1_backup_info=b"another list")
    rotated, _ = generation(again, LATER, keys_shop_2=b"rotated")
    versions = [escrow_manifest.keys_version(manifest) for manifest in (first, again, rotated)]
    assert versions[0] == versions[1] != versions[2]


def test_an_item_that_cannot_be_read_is_named_with_the_generation_that_has_it() -> None:
    first, _ = generation()
    rest = [one for one in reads() if one.item.id != "keys/shop/1"]
    second = escrow_manifest.made("minimarket", LATER, rest, first, (), {"keys/shop/1": "a-app1 does not answer"})
    third = escrow_manifest.made("minimarket", TOMORROW, rest, second, (), {"keys/shop/1": "a-app1 does not answer"})
    assert [entry["last_in"] for entry in third["absent"]] == [first["generation"]]
    assert escrow_manifest.keys_version(third) == escrow_manifest.keys_version(first)
    back, _ = generation(third, TOMORROW)
    assert (back["absent"], escrow_manifest.keys_version(back)) == ([], escrow_manifest.keys_version(first))


def test_of_an_info_file_the_passphrase_counts_and_not_the_list_of_backups() -> None:
    item = next(item for item in escrow_items.items(DECLARED) if item.id == "pgbackrest/1/backup.info")
    assert escrow_items.essence(item, INFO) == b'[cipher]cipher-pass="x"\n[db:history]1={}'


# -- the declaration --


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ({"name": "a/b", "kind": "secret"}, "no name"),
        ({"name": "a", "kind": "vault"}, "kind vault"),
        ({"name": "a", "kind": "secret", "secret": "../shadow"}, "no file name"),
        ({"name": "a", "kind": "file", "hosts": ["h"], "path": "etc/x"}, "no absolute path"),
        ({"name": "a", "kind": "file", "path": "/etc/x"}, "no host"),
        ({"name": "a", "kind": "key", "hosts": ["h"], "path": "/etc/x"}, "without a generation"),
    ],
)
def test_a_declaration_that_cannot_be_meant_is_refused(entry: dict, word: str) -> None:
    fault(DECLARATION, lambda: escrow_items.items([entry]), word)


def test_one_name_for_two_things_is_refused() -> None:
    fault(DECLARATION, lambda: escrow_items.items([*DECLARED, {**DECLARED[1], "path": "/etc/other"}]), "declared twice")
    fault(DECLARATION, lambda: escrow_items.items([]), "nothing")


def test_every_cluster_has_its_passphrases_store_keys_info_files_and_host_keys() -> None:
    repository = {"id": 1, "key_id_secret": "store_id", "key_secret": "store_key", "read_key_id_secret": "reader_id"}
    files = {"id": 1, "endpoint": "s", "bucket": "b", "key_id_secret": "store_id", "key_secret": "store_key"}
    hosts = {"database": ["a-db1", "b-db1"], "all": ["a-app1", "a-db1", "b-db1"]}
    found = {item.id for item in escrow_items.items(escrow_items.defaults([repository], [files], hosts))}
    assert found == {
        *(f"secrets/{name}" for name in ("store_id", "store_key", "reader_id", "pgbackrest_repo1_passphrase")),
        *(f"secrets/files_{host}_password" for host in hosts["all"]),
        *(f"ssh_host_keys/{host}.tar" for host in hosts["all"]),
        "pgbackrest/1/archive.info",
        "pgbackrest/1/backup.info",
    }


def run(command: str) -> bytes:
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=True)
    return subprocess.run(["base64", "-d"], input=done.stdout, capture_output=True, check=True).stdout


def test_a_file_is_read_byte_for_byte_and_a_missing_one_is_no_content(tmp_path: Path) -> None:
    path = tmp_path / "a key, it's one"
    path.write_bytes(bytes(range(256)) + b"\r\n\n")
    (item,) = escrow_items.items([{"name": "k", "kind": "file", "hosts": ["h"], "path": str(path)}])
    assert run(escrow_items.command(item, "s", "c")) == path.read_bytes()
    path.unlink()
    assert run(escrow_items.command(item, "s", "c")).endswith(escrow_items.FAILED)


# -- the archive --


def test_a_generation_goes_through_its_archive_unchanged() -> None:
    manifest, contents = generation()
    data = escrow_bundle.built(manifest, contents, "page")
    assert escrow_bundle.opened(data, "disk", "minimarket", manifest["generation"]) == (manifest, contents)
    fault(WRONG_GENERATION, lambda: escrow_bundle.opened(data, "disk", "minimarket", "20200101T000000Z-00000000"), "under the name")
    fault(WRONG_GENERATION, lambda: escrow_bundle.opened(data, "disk", "other", manifest["generation"]), "cluster minimarket")


@given(st.binary(max_size=escrow_bundle.PIECE_BYTES * 3))
@settings(max_examples=20)
def test_what_is_cut_is_joined_again(data: bytes) -> None:
    manifest = {"cluster": "c", "generation": "g"}
    pieces = escrow_bundle.cut(data, {}, "aws")
    assert all(len(piece) <= 65536 for piece in pieces)
    assert escrow_bundle.joined(pieces, escrow_bundle.label(manifest, data), "aws") == data


def test_an_archive_that_is_too_large_is_refused_with_its_largest_items() -> None:
    data = bytes(escrow_bundle.PIECE_BYTES * escrow_bundle.MOST_PIECES + 1)
    fault(
        TOO_LARGE,
        lambda: escrow_bundle.cut(data, {"trees/inventory.tar": 3000000, "small": 1}, "aws"),
        "trees/inventory.tar has 3000000",
    )


def test_an_item_that_the_archive_lacks_is_missing_by_name() -> None:
    manifest, contents = generation()
    less = {**manifest, "items": [entry for entry in manifest["items"] if entry["id"] != "keys/shop/1"]}
    data = bytearray(escrow_bundle.built(less, contents, "page"))
    whole = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(bytes(data))) as source, tarfile.open(fileobj=whole, mode="w") as target:
        for member in source:
            content = source.extractfile(member).read()
            if member.name == "manifest.json":
                content = json.dumps(manifest).encode()
                member.size = len(content)
            target.addfile(member, io.BytesIO(content))
    fault(MISSING, lambda: escrow_bundle.opened(whole.getvalue(), "disk", "minimarket", manifest["generation"]), "keys/shop/1")


# -- packs, shares, directories --


def test_each_recipient_alone_opens_a_pack_and_nobody_else_does(tmp_path: Path) -> None:
    manifest, contents = generation()
    place, (identities, seals) = directory(tmp_path), people(3)
    escrow_vault.store(place, manifest, contents, "page", seals)
    assert place.generations() == [manifest["generation"]]
    for identity in identities:
        back = escrow_vault.recover(place, "minimarket", manifest["generation"], Opener((identity,)))
        assert (back.contents, back.faults) == (contents, ())
    strangers, _ = people(1)
    fault(
        NO_IDENTITY,
        lambda: escrow_vault.recover(place, "minimarket", manifest["generation"], Opener(tuple(strangers))),
        "none of its 3",
    )
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert CANARY not in everything
    assert b"keys/shop" not in everything


def test_a_key_of_openssh_is_a_recipient_too(tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    _, seals = people(1)
    both = Seals((*seals.recipients, (tmp_path / "key.pub").read_text().strip()))
    manifest, contents = generation()
    escrow_vault.store(directory(tmp_path), manifest, contents, "page", both)
    opener = Opener(tuple(escrow_pack.identities((tmp_path / "key").read_text(), "key")))
    assert escrow_vault.recover(directory(tmp_path), "minimarket", manifest["generation"], opener).contents == contents


def test_one_recipient_is_too_few_and_the_same_one_twice_is_one(tmp_path: Path) -> None:
    manifest, contents = generation()
    _, seals = people(1)
    for few in ((), seals.recipients, seals.recipients * 2):
        fault(
            DECLARATION,
            lambda few=few: escrow_vault.store(directory(tmp_path), manifest, contents, "", Seals(tuple(few))),
            "at least 2",
        )
    assert not list(tmp_path.rglob("*.age"))
    fault(DECLARATION, lambda: escrow_pack.seal(b"x", ["age1nonsense", "nobody"]), "no recipient")


@pytest.mark.parametrize(("holders", "threshold"), [(2, 2), (3, 3), (5, 1)])
def test_shares_that_one_loss_makes_useless_or_one_thief_enough_are_refused(holders: int, threshold: int) -> None:
    fault(DECLARATION, lambda: escrow_shares.deal(holders, threshold))


def shared(tmp_path: Path) -> tuple[escrow_places.Place, dict, dict, list[escrow_shares.Share], dict]:
    public, shares = escrow_shares.deal(5, 3)
    manifest, contents = generation()
    escrow_vault.store(directory(tmp_path), manifest, contents, "page", Seals((), public))
    return directory(tmp_path), manifest, contents, shares, public


def test_any_three_of_five_shares_open_a_pack(tmp_path: Path) -> None:
    place, manifest, contents, shares, _ = shared(tmp_path)
    for numbers in ((0, 1, 2), (4, 2, 0), (1, 3, 4)):
        opener = Opener(shares=tuple(escrow_shares.read(shares[number].text(), "paper") for number in numbers))
        back = escrow_vault.recover(place, "minimarket", manifest["generation"], opener)
        assert (back.contents, back.used, back.bad) == (contents, tuple(sorted(number + 1 for number in numbers)), ())
    # Of more than are needed the first, so that each has its turn.
    all_of_them = Opener(shares=tuple(shares[number] for number in (4, 3, 1, 0, 2)))
    assert escrow_vault.recover(place, "minimarket", manifest["generation"], all_of_them).used == (2, 4, 5)


def test_too_few_shares_and_one_share_twice_are_named(tmp_path: Path) -> None:
    place, manifest, _, shares, _ = shared(tmp_path)
    for given_shares in (shares[:2], [shares[0], shares[0], shares[1]], []):
        opener = Opener(shares=tuple(given_shares))
        fault(
            TOO_FEW_SHARES,
            lambda opener=opener: escrow_vault.recover(place, "minimarket", manifest["generation"], opener),
            "3 of 5",
        )


@given(position=st.integers(min_value=0), letter=st.sampled_from("0123456789abcdef"))
@settings(max_examples=60)
def test_a_mistyped_share_is_named_by_its_number_and_not_shown(position: int, letter: str) -> None:
    text = SHARES[1][1].text()
    start = text.index(".2.") + 3
    at = start + position % (len(text) - start)
    if text[at] in {letter, "."}:
        return
    mistyped = text[:at] + letter + text[at + 1 :]
    found = fault(BAD_SHARE, lambda: escrow_shares.read(mistyped, "paper"), "share 2")
    assert text[start : start + 12] not in str(found)


SHARES = escrow_shares.deal(5, 3)


def test_a_false_share_whose_check_fits_is_named_by_what_was_dealt(tmp_path: Path) -> None:
    place, manifest, contents, shares, public = shared(tmp_path)
    flipped = bytearray(shares[1].value)
    flipped[5] ^= 1
    false = escrow_shares.Share(2, bytes(flipped))
    fault(
        BAD_SHARE,
        lambda: escrow_vault.recover(place, "minimarket", manifest["generation"], Opener(shares=(shares[0], false, shares[2]))),
        "share 2",
    )
    enough = escrow_vault.recover(
        place, "minimarket", manifest["generation"], Opener(shares=(shares[0], false, shares[2], shares[3]))
    )
    assert (enough.contents, enough.used, enough.bad) == (contents, (1, 3, 4), (2,))
    # And where the label was changed to fit the false share, the identity that comes out is another one.
    digests = [
        {**entry, "digest": escrow_shares.digest(false.value)} if entry["number"] == 2 else entry for entry in public["shares"]
    ]
    fault(
        BAD_SHARE,
        lambda: escrow_shares.combine([shares[0], false, shares[2]], {**public, "shares": digests}, "disk"),
        "shares 1, 2, 3",
    )


def test_the_page_beside_a_pack_is_enough_without_relevo(tmp_path: Path) -> None:
    _, _, shares, _ = shared(tmp_path)[1:]
    files = []
    for share in shares[1:4]:
        (tmp_path / f"share{share.number}").write_text(f"# words for a person\n{share.text()}\n")
        files.append(str(tmp_path / f"share{share.number}"))
    done = subprocess.run([sys.executable, "-I", COMBINE, *files], capture_output=True, text=True, check=True)
    pack = next(tmp_path.rglob("*.age")).read_bytes()
    data = escrow_pack.open_sealed(pack, escrow_pack.identities(done.stdout, "out"), "disk", [])
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.extractfile("items/keys/shop/2").read() == CANARY + b"keys/shop/2"
    few = subprocess.run([sys.executable, "-I", COMBINE, *files[:2]], capture_output=True, text=True, check=False)
    assert (few.returncode, few.stdout) == (1, "")
    assert "too few" in few.stderr


def test_a_pack_that_was_changed_or_cut_is_corrupt(tmp_path: Path) -> None:
    manifest, contents = generation()
    place, (identities, seals) = directory(tmp_path), people()
    escrow_vault.store(place, manifest, contents, "page", seals)
    pack = next(tmp_path.rglob("*.age"))
    whole = pack.read_bytes()

    def recover() -> None:
        escrow_vault.recover(place, "minimarket", manifest["generation"], Opener(tuple(identities)))

    for damaged in (whole[:-1], whole[:100], b"", whole[:-1] + bytes([whole[-1] ^ 1]), whole[:80] + b"?" + whole[81:]):
        pack.write_bytes(damaged)
        fault(CORRUPT, recover)
    # Also where the label was made to fit: what age sealed cannot be changed.
    damaged = whole[:-1] + bytes([whole[-1] ^ 1])
    pack.write_bytes(damaged)
    label = pack.with_name("label.json")
    label.write_text(json.dumps({**json.loads(label.read_text()), **escrow_bundle.label(manifest, damaged)}))
    fault(CORRUPT, recover, "age does not open")
    label.write_text("{}")
    fault(CORRUPT, recover, "label")
    pack.unlink()
    label.unlink()
    fault(MISSING, recover)


def test_a_directory_never_overwrites_a_generation_and_a_half_written_one_does_not_count(tmp_path: Path) -> None:
    manifest, contents = generation()
    place, (_, seals) = directory(tmp_path), people()
    escrow_vault.store(place, manifest, contents, "page", seals)
    before = next(tmp_path.rglob("*.age")).read_bytes()
    fault(SILENT, lambda: escrow_vault.store(place, manifest, contents, "page", seals))
    assert next(tmp_path.rglob("*.age")).read_bytes() == before
    (tmp_path / "disk/minimarket/20991128T040336Z-00000000").mkdir()
    assert place.generations() == [manifest["generation"]]
    place.forget(manifest["generation"])
    assert place.generations() == []
    shutil.rmtree(tmp_path / "disk")
    fault(SILENT, place.generations, "mount it")


@pytest.mark.parametrize("seen", [[], ["20261127T000000Z-00000000"]])
def test_a_path_without_the_newest_generation_is_named(seen: list[str]) -> None:
    known = "20261128T000000Z-00000000"
    fault(WRONG_GENERATION if seen else MISSING, lambda: escrow_choice.newest(seen, "disk", known))
    assert escrow_choice.newest([*seen, known, "junk"], "disk", known) == known
    fault(MISSING, lambda: escrow_choice.newest(seen, "disk", known, wanted=known))


def test_shares_are_asked_for_so_that_in_time_each_is_proven() -> None:
    proven: dict[int, str] = {}
    for month in range(1, 4):
        for number in escrow_choice.longest_unproven(range(1, 6), proven)[:3]:
            proven[number] = f"2026-0{month}-01T00:00:00Z"
    assert set(proven) == {1, 2, 3, 4, 5}
    assert escrow_choice.unproven(range(1, 7), proven, "2025-01-01T00:00:00Z", "2026-11-28T00:00:00Z", 365) == [6]
    assert escrow_choice.unproven([1], {1: "2025-11-27T00:00:00Z"}, "2024-01-01T00:00:00Z", "2026-11-28T00:00:00Z", 365) == [1]
    assert escrow_choice.unproven([1], {}, "2026-11-27T00:00:00Z", "2026-11-28T00:00:00Z", 365) == []


def test_a_site_with_which_every_path_is_lost_is_named() -> None:
    assert escrow_choice.sites_without([{"site": "a"}, {"site": "a"}], ["a", "b"]) == ["a"]
    assert escrow_choice.sites_without([{"site": "a"}, {}], ["a", "b"]) == []


# -- memory files --


def test_what_workers_hand_each_other_is_in_memory_and_gone(tmp_path: Path) -> None:
    memory = Memory("/dev/shm", f"test-{os.getpid()}")
    memory.open()
    try:
        memory.write("read/a-app1", {"keys/shop/2": CANARY})
        path = Path(memory.path, "read/a-app1")
        assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        assert memory.read_all("read") == {"a-app1": {"keys/shop/2": CANARY}}
        assert memory.read_all("nothing") == {}
    finally:
        memory.remove()
    assert not Path(memory.path).exists()
    if (
        subprocess.run(["findmnt", "-no", "FSTYPE", "-T", tmp_path], capture_output=True, text=True, check=True).stdout.strip()
        != "tmpfs"
    ):
        fault(DECLARATION, Memory(str(tmp_path), "run").open, "tmpfs")


def test_what_a_killed_run_left_in_memory_is_removed_by_the_next() -> None:
    dead, living = Memory("/dev/shm", f"dead-{os.getpid()}"), Memory("/dev/shm", f"living-{os.getpid()}")
    dead.open()
    Path(dead.path, "owner").write_text(json.dumps({"pid": os.getpid(), "started": "1"}))
    try:
        living.open()
        assert not Path(dead.path).exists()
        Memory("/dev/shm", f"other-{os.getpid()}").open()
        assert Path(living.path).exists()
    finally:
        for memory in (dead, living, Memory("/dev/shm", f"other-{os.getpid()}")):
            memory.remove()


def test_rights_are_told_from_absence(tmp_path: Path) -> None:
    manifest, contents = generation()
    place, (identities, seals) = directory(tmp_path), people()
    escrow_vault.store(place, manifest, contents, "page", seals)
    for path in tmp_path.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    program = (
        "import os, sys\n"
        "from ansible_collections.relevo.dr.plugins.plugin_utils import escrow_places\n"
        "from ansible_collections.relevo.dr.plugins.module_utils.escrow_fault import EscrowFault\n"
        "place = escrow_places.place({'name': 'disk', 'kind': 'directory', 'path': sys.argv[1]}, 'minimarket', {})\n"
        "os.setuid(65534)\n"
        "try: place.get(sys.argv[2])\n"
        "except EscrowFault as fault: print(fault.kind)\n"
    )
    assert identities
    next(tmp_path.rglob("label.json")).chmod(0o600)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.geteuid() and str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "collections")}
    words = [sys.executable, "-c", program, str(tmp_path / "disk"), manifest["generation"]]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == DENIED, done.stderr
