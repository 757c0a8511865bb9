"""The verification of one repository, on one that lives in memory and changes while it is looked at."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import backup_verification
from ansible_collections.relevo.dr.plugins.module_utils.backup_verification import Memory, Wish, verify
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import PgbackrestError
from ansible_collections.relevo.dr.plugins.module_utils.reading_plan import Stored
from ansible_collections.relevo.dr.plugins.module_utils.wal_archive import Segment

SHA = "0f02f23cf8d3491aad6a3646a60b2367610df115"
WISH = Wish(16 << 20, 7 * 86400.0)
OLD, NEW = "20261124-000000F", "20261125-000000F"
SILENT = PgbackrestError("the store does not answer (timeout)", "check that the store runs")

GONE = PgbackrestError("unable to open missing file", "look", "unable to open missing file")


def segment(number: int, timeline: int = 1) -> str:
    return f"{timeline:08X}00000000{number:08X}"


def wal(number: int, timeline: int = 1, archive: str = "17-1") -> str:
    name = segment(number, timeline)
    return f"archive/shop/{archive}/{name[:16]}/{name}-{SHA}.zst"


def backup(label: str, start: int, stop: int, timeline: int = 1, database: int = 1) -> dict:
    return {
        "label": label,
        "type": "full",
        "database": {"id": database, "repo-key": 1},
        "archive": {"start": segment(start, timeline), "stop": segment(stop, timeline)},
    }


def manifest(label: str) -> str:
    file = {"bni": 1, "rck": "r", "repo-size": 10, "size": 8192}
    return f'[backup]\nbackup-label="{label}"\n\n[target:file]\npg_data/a={json.dumps(file)}\n'


class Repository:
    """Stands for the reader. looks: what happens before each look; reads: before an object is read; wrong: by object."""

    def __init__(self) -> None:
        self.command = SimpleNamespace(stanza="shop")
        self.databases = [{"id": 1, "version": "17", "repo-key": 1}]
        self.backups: list[dict] = []
        self.files: dict[str, str] = {}
        self.times: dict[str, float] = {}
        self.wrong: dict[str, str | PgbackrestError] = {}
        self.looks: list[Callable[[], None]] = []
        self.reads: list[Callable[[], None]] = []
        self.read: list[str] = []
        self.lock = threading.Lock()
        for place in ("backup/shop/backup.info", "archive/shop/archive.info"):
            self.files[place] = self.files[place + ".copy"] = "info"

    def add(self, *backups: dict) -> None:
        for one in backups:
            self.backups.append(one)
            for name, content in (("backup.manifest", manifest(one["label"])), ("bundle/1", "0123456789")):
                self.files[f"backup/shop/{one['label']}/{name}"] = content
            self.files[f"backup/shop/{one['label']}/backup.manifest.copy"] = manifest(one["label"])

    def archive(self, first: int, last: int, timeline: int = 1) -> None:
        self.files.update({wal(number, timeline): "segment" for number in range(first, last + 1)})

    def expire(self, label: str, before: int) -> None:
        self.backups = [one for one in self.backups if one["label"] != label]
        for path in [path for path in self.files if f"/{label}/" in path or any(path == wal(number) for number in range(before))]:
            del self.files[path]

    def info(self) -> dict:
        if self.looks:
            self.looks.pop(0)()
        return {"db": self.databases, "backup": list(self.backups)}

    def listing(self, path: str) -> dict[str, Stored]:
        inside = {name[len(path) + 1 :]: name for name in self.files if name.startswith(path + "/")}
        return {short: Stored(len(self.files[name]), self.times.get(name, 1.0)) for short, name in inside.items()}

    def text(self, path: str) -> str:
        if path not in self.files:
            raise GONE
        return self.files[path]

    def is_encrypted(self, _path: str) -> bool:
        return True

    def wrong_part(self, path: str, _size: int, _parts: object) -> str:
        return self._read(path)

    def wrong_segment(self, name: str, checksum: str) -> str:
        newest = "{version}-{id}".format(**self.databases[-1])
        return self._read(f"archive/shop/{newest}/{name[:16]}/{name}-{checksum}.zst")

    def _read(self, path: str) -> str:
        with self.lock:
            self.read.append(path)
            if self.reads:
                self.reads.pop(0)()
        found = self.wrong.get(path, "")
        if isinstance(found, PgbackrestError):
            raise found
        if path not in self.files:
            raise GONE
        return found


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(backup_verification, "_SETTLE_SECONDS", 0.0)


@pytest.fixture
def repository() -> Repository:
    whole = Repository()
    whole.add(backup(OLD, 2, 3), backup(NEW, 5, 6))
    whole.archive(2, 8)
    return whole


def troubles(found: backup_verification.Findings) -> dict:
    names = ("information", "missing", "wrong", "wrong_segments", "holes", "broken_histories")
    return {name: getattr(found, name) for name in names if getattr(found, name)}


def test_a_whole_repository_is_read_once_and_then_only_listed(repository):
    first = verify(repository, WISH, Memory())
    assert troubles(first) == {}
    # Two backups of a bundle and two copies of a manifest, seven segments.
    assert first.objects_read == first.objects == 13
    assert verify(repository, WISH, first.memory).objects_read == 0


def test_what_expires_while_it_is_read_is_no_damage(repository):
    repository.reads = [lambda: repository.expire(OLD, before=5)]
    found = verify(repository, Wish(16 << 20, 7 * 86400.0, workers=1), Memory())
    assert troubles(found) == {}
    assert [one["label"] for one in found.info["backup"]] == [NEW]
    assert not any(OLD in path or segment(3) in path for path in found.memory.read)


def test_what_is_gone_and_did_not_expire_is_missed_also_when_it_went_while_it_was_read(repository):
    repository.reads = [lambda: repository.files.pop(f"backup/shop/{OLD}/bundle/1"), lambda: repository.files.pop(wal(4))]
    found = troubles(verify(repository, Wish(16 << 20, 7 * 86400.0, workers=1), Memory()))
    assert found == {"missing": {f"backup/{OLD}/bundle/1": f"gone; backup {OLD} needs it"}, "holes": (Segment(1, 4),)}


def test_what_expires_between_two_questions_is_not_missing(repository):
    def half() -> None:
        del repository.files[wal(2)]
        del repository.files[f"backup/shop/{OLD}/bundle/1"]

    repository.looks = [half, lambda: repository.expire(OLD, before=5)]
    assert troubles(verify(repository, WISH, Memory())) == {}


def test_segments_that_arrive_out_of_their_order_are_no_hole(repository):
    """Each look finds another one on its way."""

    def arrive(here: int, on_its_way: int) -> Callable[[], None]:
        def happen() -> None:
            repository.archive(here, here)
            repository.files.pop(wal(on_its_way), None)
            repository.archive(on_its_way + 1, on_its_way + 1)

        return happen

    repository.looks = [arrive(8, 9), arrive(9, 11), arrive(11, 13)]
    assert troubles(verify(repository, WISH, Memory())) == {}


def test_a_hole_is_a_hole_in_every_look(repository):
    del repository.files[wal(4)]
    assert troubles(verify(repository, WISH, Memory())) == {"holes": (Segment(1, 4),)}


def test_the_end_of_the_newest_backup_is_missed_though_nothing_is_behind_it(repository):
    for number in (6, 7, 8):
        del repository.files[wal(number)]
    assert troubles(verify(repository, WISH, Memory())) == {"holes": (Segment(1, 6),)}


@pytest.mark.parametrize("copy", ["", ".copy"])
@pytest.mark.parametrize("full", [False, True])
def test_a_manifest_that_rots_is_found_in_its_turn(repository, copy, full):
    memory = verify(repository, WISH, Memory()).memory
    path = f"{NEW}/backup.manifest{copy}"
    repository.files["backup/shop/" + path] = manifest(NEW).replace("8192", "8193")
    # Same size and time: only reading it tells. A week later it is due.
    assert troubles(verify(repository, WISH, memory)) == {}
    due = Wish(16 << 20, 7 * 86400.0, full=True) if full else Wish(16 << 20, 1e-9)
    assert list(troubles(verify(repository, due, memory))["wrong"]) == [
        # Where everything is read anew the two are only known to differ.
        "backup/" + (f"{NEW}/backup.manifest.copy" if full else path)
    ]


def test_copies_of_a_new_manifest_that_differ_are_seen_at_once(repository):
    repository.files[f"backup/shop/{NEW}/backup.manifest.copy"] += "x"
    assert list(troubles(verify(repository, WISH, Memory()))["wrong"]) == [f"backup/{NEW}/backup.manifest.copy"]


def test_a_manifest_that_was_put_back_is_compared_anew(repository):
    path = f"backup/shop/{NEW}/backup.manifest"
    repository.files[path] = manifest(NEW).replace("8192", "8193")
    sick = verify(repository, WISH, Memory())
    assert troubles(sick)["wrong"]
    repository.files[path], repository.times[path] = manifest(NEW), 2.0
    assert troubles(verify(repository, WISH, sick.memory)) == {}


HISTORY = "archive/shop/17-1/00000002.history"


@pytest.mark.parametrize("text", ["", "\x01garbled", "1\t0/7000028\tok\n\x02garbled\n", "2\t0/7000028\tits own parent\n", None])
def test_a_history_that_cannot_be_true_or_read_is_named(repository, text):
    repository.archive(7, 9, timeline=2)
    repository.files[HISTORY] = "1\t0/7000028\tno recovery target specified\n"
    assert troubles(verify(repository, WISH, Memory())) == {}
    if text is None:
        del repository.files[HISTORY]
    else:
        repository.files[HISTORY] = text
    assert troubles(verify(repository, WISH, Memory())) == {"broken_histories": (2,)}


def test_a_history_must_repeat_that_of_its_parent(repository):
    repository.archive(7, 8, timeline=2)
    repository.archive(8, 9, timeline=3)
    repository.files[HISTORY] = "1\t0/7000028\tok\n"
    grandchild = HISTORY.replace("2.h", "3.h")
    repository.files[grandchild] = "1\t0/7000028\tok\n2\t0/8000028\tok\n"
    assert troubles(verify(repository, WISH, Memory())) == {}
    repository.files[grandchild] = "2\t0/8000028\tok\n"
    assert troubles(verify(repository, WISH, Memory())) == {"broken_histories": (3,)}


def test_a_store_that_falls_silent_while_it_is_read_is_unusable_after_a_few_objects(repository):
    repository.archive(9, 200)
    repository.wrong = {path: SILENT for path in repository.files if path.startswith("archive/")}
    with pytest.raises(PgbackrestError, match="does not answer"):
        verify(repository, WISH, Memory())
    assert len(repository.read) < 10


def test_an_object_that_the_store_gave_at_the_second_asking_is_not_damaged(repository):
    repository.wrong = {wal(4): SILENT}
    repository.looks = [lambda: None, repository.wrong.clear]
    found = verify(repository, WISH, Memory())
    assert troubles(found) == {}
    assert found.objects_read == 13 == len(found.memory.read)


def test_a_store_that_goes_on_not_giving_one_object_is_the_matter_and_not_the_object(repository):
    repository.wrong = {wal(4): SILENT}
    with pytest.raises(PgbackrestError, match="does not answer"):
        verify(repository, WISH, Memory())


def test_damage_is_named_and_read_again_the_next_night(repository):
    repository.wrong = {f"backup/shop/{OLD}/bundle/1": "wrong checksum of pg_data/a", wal(4): PgbackrestError("broken", "mend")}
    expected = {"wrong": {f"backup/{OLD}/bundle/1": "wrong checksum of pg_data/a"}}
    expected["wrong_segments"] = {wal(4).replace("/shop", ""): "cannot be read: broken"}
    night = verify(repository, WISH, Memory())
    assert troubles(night) == expected
    again = verify(repository, WISH, night.memory)
    assert (troubles(again), again.objects_read) == (expected, 2)


def test_after_an_upgrade_the_older_backups_are_judged_by_their_own_archive(repository):
    repository.databases.append({"id": 2, "version": "18", "repo-key": 1})
    repository.add(backup("20261126-000000F", 1, 1, database=2))
    repository.files[wal(1, archive="18-2")] = "segment"
    assert troubles(verify(repository, WISH, Memory())) == {}
    del repository.files[wal(3)]
    place = wal(3).replace("/shop", "").split("-" + SHA)[0]
    assert troubles(verify(repository, WISH, Memory())) == {"missing": {place: f"gone; backup {OLD} needs it"}}
