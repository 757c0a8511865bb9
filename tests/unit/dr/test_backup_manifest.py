"""A manifest's files as objects of the repository: bundles, single files, block incrementals, and what belongs to earlier backups."""

from __future__ import annotations

import json

import pytest
from ansible_collections.relevo.dr.plugins.module_utils.backup_manifest import Part, read_manifest

FULL, INCREMENTAL = "20261125-024428F", "20261125-024428F_20261125-024515I"


def manifest(*files: tuple[str, dict], label: str = INCREMENTAL) -> str:
    lines = "\n".join(f"{name}={json.dumps(about)}" for name, about in files)
    return f"""[backrest]
backrest-format=5

[backup]
backup-bundle=true
backup-label="{label}"

[backup:option]
option-compress=true
option-compress-type="zst"

[target:file]
{lines}

[target:file:default]
group="postgres"
"""


def about(**more: object) -> dict:
    return {"checksum": "c", "rck": "r", "repo-size": 10, "size": 8192, "timestamp": 1, **more}


def test_a_bundle_holds_parts_and_the_first_begins_at_its_start():
    found = read_manifest(manifest(("pg_data/b", about(bni=1, bno=10, rck="rb")), ("pg_data/a", about(bni=1, rck="ra"))))
    assert found.objects == {f"{INCREMENTAL}/bundle/1": (Part("pg_data/a", 0, 10, "ra"), Part("pg_data/b", 10, 10, "rb"))}


def test_a_file_of_its_own_has_the_ending_of_its_compression():
    found = read_manifest(manifest(("pg_data/backup_label", about()), ("pg_data/base/1/2", about(bi=1, bim=8))))
    assert set(found.objects) == {f"{INCREMENTAL}/pg_data/backup_label.zst", f"{INCREMENTAL}/pg_data/base/1/2.pgbi"}


def test_what_an_earlier_backup_holds_is_a_reference():
    found = read_manifest(manifest(("pg_data/a", about(bni=2, reference=FULL)), ("pg_data/b", about(reference=FULL))))
    assert found.objects == {}
    assert found.references == {f"{FULL}/bundle/2", f"{FULL}/pg_data/b.zst"}


def test_an_empty_file_is_no_object():
    assert read_manifest(manifest(("pg_data/empty", {"size": 0, "timestamp": 1}))).objects == {}


def test_damaged_pages_are_named():
    found = read_manifest(manifest(("pg_data/a", about(**{"checksum-page": False, "checksum-page-error": [3, 7]}))))
    assert found.damaged == {"pg_data/a": "3, 7"}


def test_a_name_may_hold_the_sign():
    assert read_manifest(manifest(("pg_data/a=b", about(bni=1)))).objects[f"{INCREMENTAL}/bundle/1"][0].file == "pg_data/a=b"


@pytest.mark.parametrize("text", ["", '[backup]\nbackup-label="x"\n', "[target:file]\n"])
def test_what_is_no_manifest_is_an_error(text):
    with pytest.raises(ValueError, match="names no backup"):
        read_manifest(text)
