from __future__ import annotations

from pathlib import Path

import pytest

from relevo.errors import RelevoError, UsageError
from relevo.paths import find_place, find_playbook, find_project, make_private_directory


def test_the_store_is_a_directory_or_a_url() -> None:
    assert find_place({"RELEVO_STORE": "/x"}).store_url == "sqlite:////x/relevo.db"
    place = find_place({"RELEVO_STORE": "postgresql://h/d", "XDG_STATE_HOME": "/s"})
    assert (place.store_url, place.state) == ("postgresql://h/d", Path("/s/relevo"))


def test_the_default_does_not_depend_on_the_working_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert find_place({}).state == Path("/var/lib/relevo-controller")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/ana")
    assert find_place({}).state == Path("/home/ana/.local/state/relevo")
    assert find_place({"RELEVO_STORE": ".relevo"}).state.is_absolute()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "ansible.cfg").touch()
    (tmp_path / "playbooks" / "check.yml").touch()
    return tmp_path


def test_a_project_is_found_upward_or_named(project: Path) -> None:
    (project / "a" / "b").mkdir(parents=True)
    assert find_project(project / "a" / "b", {}) == project
    assert find_project(Path("/"), {"RELEVO_PROJECT": str(project)}) == project
    with pytest.raises(UsageError, match="RELEVO_PROJECT is /nowhere"):
        find_project(project, {"RELEVO_PROJECT": "/nowhere"})


@pytest.mark.parametrize("name", ["no_such", "../check", "/etc/passwd", "a/../check"])
def test_a_runbook_is_a_file_of_playbooks_and_nothing_else(project: Path, name: str) -> None:
    assert find_playbook(project, "check").name == "check.yml"
    with pytest.raises(UsageError, match="Runbooks: check"):
        find_playbook(project, name)


def test_a_directory_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RelevoError, match="RELEVO_STORE"):
        make_private_directory(tmp_path / "file" / "below")
