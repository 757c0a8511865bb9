from __future__ import annotations

import pytest
from ansible_collections.relevo.lab.plugins.module_utils import root_tree
from ansible_collections.relevo.lab.plugins.module_utils.laboratory import LaboratoryError

STANZAS = """Types: deb deb-src
# a comment between
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""


@pytest.fixture
def apt(tmp_path):
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def test_the_machines_own_mirror_is_used_for_another_release(apt):
    (apt / "sources.list.d/debian.sources").write_text(STANZAS)
    expected = ["deb http://mirror.example/debian trixie main", "deb http://mirror.example/debian-security trixie-security main"]
    assert root_tree.mirrors("trixie", apt) == expected
    assert root_tree.mirror_hosts("trixie", apt) == ["mirror.example"]


def test_the_older_format_is_read_too_with_and_without_options(apt):
    (apt / "sources.list").write_text(
        "# deb http://no.example x main\ndeb [arch=amd64 signed-by=/k] https://m.example/debian trixie main\n"
    )
    assert root_tree.mirrors("bookworm", apt) == ["deb https://m.example/debian bookworm main"]


def test_a_machine_of_another_distribution_leaves_the_choice_to_mmdebstrap(apt):
    (apt / "sources.list").write_text("deb http://archive.example/ubuntu noble main\ndeb http://tools.example/apt nodistro main\n")
    assert root_tree.mirrors("trixie", apt) == []


def test_a_tree_is_reused_whatever_the_order_of_its_packages(tmp_path):
    assert root_tree.place(tmp_path, "trixie", ["a", "b"]) == root_tree.place(tmp_path, "trixie", ["b", "a"])
    assert root_tree.place(tmp_path, "trixie", ["a", "b"]) != root_tree.place(tmp_path, "trixie", ["a"])


def test_a_killed_build_is_removed_and_never_used(tmp_path, monkeypatch):
    target = root_tree.place(tmp_path, "trixie", ["a"])
    killed = target.with_name(f"building-{target.name}")
    killed.mkdir(parents=True)
    (killed / "half").touch()
    older = target.with_name("0123")
    older.mkdir()
    monkeypatch.setattr(root_tree, "run", lambda argv, **_options: (killed.mkdir(), "")[1] if argv[0] == "mmdebstrap" else "")
    monkeypatch.setattr(root_tree, "customise", lambda _tree: None)
    assert root_tree.build(tmp_path, "trixie", ["a"]) == target
    assert sorted(path.name for path in target.parent.iterdir()) == [target.name]
    assert not (target / "half").exists()


def test_a_tree_that_hosts_lie_on_is_not_purged(tmp_path, monkeypatch):
    (tmp_path / "trixie/key").mkdir(parents=True)
    monkeypatch.setattr(root_tree, "users_of", lambda _tree: ["/var/lib/relevo-lab/hosts/a-db1/root"])
    with pytest.raises(LaboratoryError, match="make lab-down"):
        root_tree.purge(tmp_path)
    assert (tmp_path / "trixie/key").is_dir()
