"""The database URL of an application: read as libpq reads it, and changed in nothing but its address; in a file, with everything else as it was."""

from __future__ import annotations

import os
import string
import urllib.parse

import psycopg
import pytest
from ansible_collections.relevo.dr.plugins.module_utils import app_url, environment_file, host_files
from ansible_collections.relevo.dr.plugins.module_utils.app_provider import ApplicationError
from ansible_collections.relevo.dr.plugins.module_utils.app_url import UrlFile
from ansible_collections.relevo.dr.plugins.module_utils.database_url import UrlError, parse, readdressed
from hypothesis import given
from hypothesis import strategies as st

PRINTABLE = "".join(map(chr, range(32, 127)))
# What libpq does not take as it stands: it ends the credentials, begins an escape, or is a blank.
PLAIN = "".join(one for one in PRINTABLE if one not in "@/% ")
HOSTS = st.sampled_from(["a-db1", "a-db1.example.org", "192.0.2.7", "[2001:db8::7]"])


def passwords():
    escaped = st.text(PRINTABLE, min_size=1).map(lambda text: urllib.parse.quote(text, safe=""))
    return st.one_of(st.text(PLAIN, min_size=1), escaped)


@given(
    passwords(),
    HOSTS,
    st.sampled_from(["", ":5432", ":6432"]),
    st.sampled_from(["", "?sslmode=verify-full&sslrootcert=/etc/ca.pem"]),
)
def test_a_url_is_what_libpq_reads(password, host, port, query):
    text = f"postgresql://shop:{password}@{host}{port}/minimarket{query}"
    libpq, ours = psycopg.conninfo.conninfo_to_dict(text), parse(text)
    assert (ours.user, ours.password, ours.database) == (libpq["user"], libpq["password"], libpq["dbname"])
    assert (ours.host.strip("[]"), ours.port) == (libpq["host"], int(libpq.get("port", 5432)))
    assert ours.parameters == {name: libpq[name] for name in ("sslmode", "sslrootcert") if name in libpq}


@given(passwords(), HOSTS)
def test_nothing_but_the_address_changes(password, host):
    before = f"postgresql://shop:{password}@{host}/minimarket?sslmode=verify-full"
    after = readdressed(before, "b-db1", 5433)
    old, new = (psycopg.conninfo.conninfo_to_dict(text) for text in (before, after))
    assert (new.pop("host"), new.pop("port")) == ("b-db1", "5433")
    assert new == {name: value for name, value in old.items() if name not in {"host", "port"}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mysql://a/b",
        "postgresql:///shop",
        "postgresql://a-db1",
        "postgresql://a-db1/",
        "postgresql://a-db1,b-db1/shop",
        "postgresql://a:b@a-db1:port/shop",
        "postgresql://shop:geheim@[::1/shop",
        "host=a-db1 dbname=shop",
    ],
)
def test_what_is_not_one_database_on_one_host_is_refused_and_not_shown(text):
    with pytest.raises(UrlError) as refused:
        parse(text)
    assert "geheim" not in str(refused.value)


def test_every_printable_character_survives_in_every_way_to_quote(tmp_path):
    password = urllib.parse.quote(PRINTABLE, safe=string.punctuation.translate(str.maketrans("", "", "%@/'\"\\$`#")))
    url = f"postgresql://shop:{password}@a-db1:5432/m?sslmode=verify-full"
    for line in (url, f"'{url}'", f'"{url}"', f"{url}  ", f" '{url}' "):
        path = tmp_path / "app.env"
        path.write_text(f"A=1\nDATABASE_URL={line}\nB=2\n")
        file = UrlFile(str(path), "DATABASE_URL")
        assert file.url().password == PRINTABLE
        assert file.point_at("b-db1", 5433)
        assert path.read_text() == f"A=1\nDATABASE_URL={line.replace('a-db1:5432', 'b-db1:5433')}\nB=2\n"
        assert file.url().password == PRINTABLE


def test_plain_characters_survive_in_single_quotes(tmp_path):
    path = tmp_path / "app.env"
    plain = PLAIN.replace("'", "")
    path.write_text(f"DATABASE_URL='postgresql://shop:{plain}@a-db1/m'\n")
    file = UrlFile(str(path), "DATABASE_URL")
    assert file.point_at("b-db1", 5432)
    assert (file.url().password, file.url().host) == (plain, "b-db1")


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("plain", "plain"),
        ("  padded \t", "padded"),
        ("'single $x \\ \"'", 'single $x \\ "'),
        ('"double \\" \\$ \\n"', 'double " $ \\n'),
        ("mid'dle\"", "mid'dle\""),
        ("back\\ slash", "back slash"),
        ("'one' 'two'", "onetwo"),
        ('"open', "open"),
        ("", ""),
    ],
)
def test_a_value_is_read_as_systemd_reads_it(raw, value):
    assert environment_file.decoded(raw) == value


def test_of_several_assignments_the_last_counts_and_changes():
    text = "# U=postgresql://x/y\nU=postgresql://a-db1/m\nUU=postgresql://a-db1/m\nU=postgresql://c-db1/m\n"
    after = environment_file.changed(text, "U", lambda value: readdressed(value, "b-db1", 5432))
    assert after == text.replace("c-db1", "b-db1:5432")
    with pytest.raises(environment_file.AssignmentError):
        environment_file.changed("V=1\n", "U", str)


@pytest.mark.parametrize(
    "value", ["postgresql://shop:geheim@a\\-db1/m", "'postgresql://shop:geheim@'a-db1/m", "postgresql://s:a\\/b@a-db1/m"]
)
def test_quotes_that_hide_the_address_are_refused_and_the_file_stays(tmp_path, value):
    path = tmp_path / "app.env"
    path.write_text(f"DATABASE_URL={value}\n")
    with pytest.raises(ApplicationError) as refused:
        UrlFile(str(path), "DATABASE_URL").point_at("b-db1", 5432)
    assert "geheim" not in str(refused.value)
    assert path.read_text() == f"DATABASE_URL={value}\n"


def test_a_change_that_a_service_would_read_as_another_is_not_written():
    with pytest.raises(environment_file.AssignmentError, match="quoted in a way"):
        environment_file.changed("U='a'\n", "U", lambda value: value + "'b")


def test_an_interrupted_write_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "app.env"
    path.write_text("DATABASE_URL=postgresql://shop@a-db1/m\n")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(host_files.os, "fsync", full)
    with pytest.raises(ApplicationError, match="No space left on device"):
        UrlFile(str(path), "DATABASE_URL").point_at("b-db1", 5432)
    assert path.read_text() == "DATABASE_URL=postgresql://shop@a-db1/m\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["app.env"]


def test_a_new_file_is_never_seen_with_another_owner_or_mode(tmp_path, monkeypatch):
    path = tmp_path / "app.env"
    path.write_text("DATABASE_URL=postgresql://shop@a-db1/m\n")
    path.chmod(0o640)
    replace, seen = os.replace, []
    monkeypatch.setattr(host_files.os, "replace", lambda old, new: (seen.append(os.stat(old)), replace(old, new)))
    changed = []
    monkeypatch.setattr(host_files.os, "fchown", lambda _descriptor, user, group: changed.append((user, group)))
    UrlFile(str(path), "DATABASE_URL").point_at("b-db1", 5432)
    assert [status.st_mode & 0o777 for status in seen] == [0o640]
    assert changed == [(path.stat().st_uid, path.stat().st_gid)]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "shared.env").write_text("U=postgresql://shop@a-db1/m\n")
    (tmp_path / "app.env").symlink_to("shared.env")
    app_url.UrlFile(str(tmp_path / "app.env"), "U").point_at("b-db1", 5432)
    assert (tmp_path / "app.env").is_symlink()
    assert "b-db1" in (tmp_path / "shared.env").read_text()
