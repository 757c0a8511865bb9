"""Repositories one by one: a silent one costs little, is left out with a mark, and never the last one."""

from __future__ import annotations

import grp
import importlib.util
import json
import os
import pwd
import socket
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.relevo.dr.plugins.filter.protection import own_site_first
from ansible_collections.relevo.dr.plugins.module_utils import managed_file, repositories, standby
from ansible_collections.relevo.dr.plugins.module_utils.repositories import Place

TEXT = """[global]
process-max=2
repo1-type=s3
repo1-s3-endpoint=b-store1
repo1-storage-port=443
repo1-cipher-pass=ONE
repo2-type=s3
repo2-s3-endpoint=a-store1
repo2-storage-port=8443
repo2-cipher-pass=TWO
repo3-type=posix
repo3-path=/backup

[minimarket]
pg1-path=/data
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr(repositories, "MARK", str(tmp_path / "left-out.json"))
    path = tmp_path / "pgbackrest.conf"
    path.write_text(TEXT)
    path.chmod(0o640)
    return path


def test_places_are_read_from_the_file():
    assert repositories.places(TEXT) == [Place(1, "b-store1", 443), Place(2, "a-store1", 8443), Place(3, None, 443)]


def test_leaving_out_takes_every_option_of_that_repository_and_marks_it(config):
    assert repositories.leave_out(str(config), [2], "R", "gone") == [2]
    assert [place.id for place in repositories.configured(str(config))] == [1, 3]
    assert "TWO" in config.read_text(), "nothing is thrown away"
    assert oct(config.stat().st_mode & 0o777) == "0o640"
    mark = json.loads(Path(repositories.MARK).read_text())
    assert (mark["2"]["run_id"], mark["2"]["reason"]) == ("R", "gone")
    assert list(repositories.left_out(str(config))) == ["2"]
    # A second time there is nothing to do, and the mark keeps its first word.
    assert repositories.leave_out(str(config), [2], "S", "again") == []
    assert json.loads(Path(repositories.MARK).read_text()) == mark


def test_once_it_is_configured_again_it_is_not_left_out_whatever_the_mark_says(config):
    repositories.leave_out(str(config), [2], "R", "gone")
    config.write_text(TEXT)
    assert repositories.left_out(str(config)) == {}


def test_the_last_one_is_never_left_out(config):
    before = config.read_text()
    assert repositories.leave_out(str(config), [1, 2, 3], "R", "gone") == []
    assert config.read_text() == before
    assert not Path(repositories.MARK).exists()


def test_a_lost_store_does_not_take_repository_12_with_repository_1():
    text = TEXT + "[global]\nrepo12-path=/x\n"
    assert [place.id for place in repositories.places(repositories.without(text, [1]))] == [2, 3, 12]


def test_a_silent_store_costs_little_time(monkeypatch):
    limits = []

    def silent(_address, limit):
        limits.append(limit)
        raise TimeoutError

    with socket.create_server(("127.0.0.1", 0)) as server:
        assert repositories.takes_connections(Place(1, "127.0.0.1", server.getsockname()[1]))
    assert repositories.takes_connections(Place(1))
    monkeypatch.setattr(repositories.socket, "create_connection", silent)
    assert not repositories.takes_connections(Place(1, "a-store1", 443))
    assert limits[0] < 1


def test_all_are_asked_at_once():
    began = time.monotonic()
    asked = repositories.ask_each([Place(1), Place(2), Place(3)], lambda place: time.sleep(0.3) or place.id * 10)
    assert asked == {1: 10, 2: 20, 3: 30}
    assert time.monotonic() - began < 0.8
    assert repositories.ask_each([], lambda _: None) == {}


@pytest.mark.parametrize(
    ("answers", "held"),
    [
        ({1: True, 2: None}, True),
        ({1: False, 2: True}, True),
        ({1: False, 2: None}, False),
        ({1: False, 2: False}, False),
        ({1: None, 2: None}, None),
        ({}, None),
    ],
)
def test_the_end_of_the_archive_is_what_any_repository_that_answers_holds(monkeypatch, answers, held):
    monkeypatch.setattr(repositories, "configured", lambda _: [Place(key) for key in answers])
    monkeypatch.setattr(standby, "_holds", lambda _archive, place, _segment, _owner: answers[place.id])
    assert standby.archived(standby.Archive("c", "s", 16 << 20, 1, 2.0), "0/3000000") is held


def test_the_own_site_comes_first():
    both = [
        {"id": 1, "endpoint": "b-store1", "port": 443},
        {"id": 2, "endpoint": "s3.example.org", "site": "a"},
        {"id": 3, "path": "/x"},
    ]
    sites = {"b-store1": "b"}
    assert [place["id"] for place in own_site_first(both, "a", sites)] == [2, 1, 3]
    assert [place["id"] for place in own_site_first(both, "b", sites)] == [1, 2, 3]
    assert own_site_first(both, "b", sites)[2] == {"id": 3, "host": None, "port": 443}


# -- relevo-archive-get --


def load():
    path = Path(__file__).parents[3] / "roles/dr_pgbackrest/files/relevo_archive_get.py"
    spec = importlib.util.spec_from_file_location("relevo_archive_get", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["relevo_archive_get"] = module
    spec.loader.exec_module(module)
    return module


get = load()
SEGMENT = "00000001000000000000002D"


@pytest.fixture
def asked(config, tmp_path, monkeypatch):
    """Repository 2 is this site's own; what each answers is in codes, None for a store that takes no connection."""
    settings = {
        "config": str(config),
        "stanza": "minimarket",
        "repositories": [{"id": 2, "host": "a", "port": 1}, {"id": 1, "host": "b", "port": 1}],
    }
    path = tmp_path / "archive.json"
    path.write_text(json.dumps(settings))
    monkeypatch.setattr(get, "SETTINGS", str(path))
    monkeypatch.setattr(get, "RESTORED", str(tmp_path / "restored"))
    monkeypatch.setattr(sys, "argv", ["x", SEGMENT, "target"])
    found = {"codes": {1: 1, 2: 1}, "calls": []}
    monkeypatch.setattr(get, "answers", lambda place: found["codes"][place["id"]] is not None)

    class Done:
        def __init__(self, code):
            self.returncode = code

    def run(command, **_):
        number = int(next(word for word in command if word.startswith("--repo=")).split("=")[1])
        found["calls"].append((number, "--no-archive-async" not in command))
        return Done(found["codes"][number])

    monkeypatch.setattr(get.subprocess, "run", run)
    return found


@pytest.mark.parametrize(
    ("codes", "code", "calls"),
    [
        ({2: 0, 1: 0}, 0, [2]),
        ({2: 1, 1: 0}, 0, [2, 1]),
        ({2: 1, 1: 1}, 1, [2, 1]),
        ({2: None, 1: 0}, 0, [1]),
        ({2: 1, 1: None}, 1, [2]),
        ({2: 49, 1: 103}, 1, [2, 1]),
        ({2: None, 1: None}, 1, []),
    ],
)
def test_the_first_that_has_it_gives_it(asked, codes, code, calls):
    asked["codes"] = codes
    assert get.main() == code
    assert [number for number, _ in asked["calls"]] == calls


def test_one_that_was_left_out_is_not_asked(asked, config):
    repositories.leave_out(str(config), [2], "R", "gone")
    assert get.main() == 1
    assert [number for number, _ in asked["calls"]] == [1]


def test_it_prefetches_only_while_segment_follows_segment(asked):
    asked["codes"] = {2: 0, 1: 0}
    assert get.main() == get.main() == 0
    assert asked["calls"] == [(2, False), (2, True)]
    sys.argv[1] = "00000002.history"
    get.main()
    assert asked["calls"][-1] == (2, False)


def test_the_files_of_this_test_are_ours(config):
    """What leave_out writes keeps its owner, whoever runs this."""
    found = managed_file.observe(str(config))
    assert (found.owner, found.group) == (pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(config.stat().st_gid).gr_name)
