"""Names of WAL segments, and reading an application's URL."""

from __future__ import annotations

import pytest
from ansible_collections.relevo.dr.plugins.module_utils.app_provider import ApplicationError
from ansible_collections.relevo.dr.plugins.module_utils.app_url import UrlFile
from ansible_collections.relevo.dr.plugins.module_utils.database_url import parse, readdressed
from ansible_collections.relevo.dr.plugins.module_utils.server_stop import replay_target
from ansible_collections.relevo.dr.plugins.module_utils.standby import segment_name

MIB = 1 << 20


@pytest.mark.parametrize(
    ("timeline", "lsn", "size", "name"),
    [
        (1, "0/3000148", 16 * MIB, "000000010000000000000003"),
        (10, "12/FF000000", 16 * MIB, "0000000A00000012000000FF"),
        (1, "1/40000000", 1024 * MIB, "000000010000000100000001"),
    ],
)
def test_segment_names_are_those_of_pg_walfile_name(timeline, lsn, size, name):
    assert segment_name(timeline, lsn, size) == name


def test_the_newest_clean_shutdown_is_what_must_be_replayed():
    assert replay_target([{"shutdown_lsn": "0/FF"}, {"shutdown_lsn": None}, {"shutdown_lsn": "1/0"}]) == "1/0"
    assert replay_target([{"shutdown_lsn": None}]) is None


def test_only_the_address_of_a_url_changes():
    url = "postgresql://shop:p%40ss@a-db1/minimarket?sslmode=verify-full"
    assert readdressed(url, "b-db1", 5433) == "postgresql://shop:p%40ss@b-db1:5433/minimarket?sslmode=verify-full"
    assert parse(url).address == "a-db1:5432"


def test_the_environment_file_changes_as_a_whole_and_keeps_its_other_lines(tmp_path):
    path = tmp_path / "app.env"
    path.write_text("# shop\nDATABASE_URL=postgresql://shop@a-db1/m\nWORKERS=2\n")
    path.chmod(0o640)
    file = UrlFile(str(path), "DATABASE_URL")
    assert file.point_at("b-db1", 5432)
    assert not file.point_at("b-db1", 5432)
    assert path.read_text() == "# shop\nDATABASE_URL=postgresql://shop@b-db1:5432/m\nWORKERS=2\n"
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    "content", ["", "DATABASE_URL=", "DATABASE_URL=mysql://x/y", "DATABASE_URL=postgresql:///m", "DATABASE_URL=postgresql://h"]
)
def test_a_url_without_host_or_database_is_refused(tmp_path, content):
    path = tmp_path / "app.env"
    path.write_text(content)
    with pytest.raises(ApplicationError):
        UrlFile(str(path), "DATABASE_URL").url()
