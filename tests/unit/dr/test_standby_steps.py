"""A standby is built from the backup that leads to its primary, whichever repository has it."""

from __future__ import annotations

import getpass

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import repositories
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import Pgbackrest, PgbackrestError
from ansible_collections.relevo.dr.plugins.module_utils.standby_steps import BuildError, Steps


def backup(label: str, repository: int, timeline: int, stop: str, at: int) -> dict:
    return {
        "label": label,
        "archive": {"start": "%08X0000000000000003" % timeline},
        "lsn": {"stop": stop},
        "timestamp": {"stop": at},
        "database": {"id": 1, "repo-key": repository},
    }


BEFORE = backup("20261124-000000F", 1, 1, "0/4000000", 1)
AFTER = backup("20261124-030000F", 2, 2, "0/9000000", 2)
SILENT = PgbackrestError("it does not answer", "wait")
LEFT_BEHIND = backup("20261124-040000F", 2, 1, "0/8000000", 3)


@pytest.fixture
def restored(tmp_path, monkeypatch):
    """What pgBackRest is asked to restore, with these backups by repository; None: the repository does not answer."""

    def restore(held: dict) -> tuple:
        commands = []

        def info(_self, repository: int) -> dict:
            if held[repository] is None:
                raise SILENT
            return {"backup": held[repository]}

        monkeypatch.setattr(repositories, "configured", lambda _: [repositories.Place(number) for number in held])
        monkeypatch.setattr(Pgbackrest, "info", info)
        monkeypatch.setattr(Pgbackrest, "run", lambda _, *words, **_more: commands.append(words))
        parameters = {
            "data_directory": str(tmp_path / "main"),
            "config_directory": str(tmp_path),
            "owner": getpass.getuser(),
            "config": "/c",
            "stanza": "shop",
            "restore_timeout": 9,
            "timeline": 2,
            "history": [{"timeline": 1, "lsn": "0/7000110"}],
        }
        Steps(parameters).restore(resume=False)
        return commands[0]

    return restore


def test_the_newest_backup_that_leads_to_the_primary_is_restored_from_whichever_repository_has_it(restored):
    assert restored({1: [BEFORE], 2: [AFTER, LEFT_BEHIND]}) == ("restore", "--repo=2", "--set=20261124-030000F", "--type=standby")


def test_a_repository_that_does_not_answer_is_passed_over(restored):
    assert restored({1: [BEFORE], 2: None})[1:3] == ("--repo=1", "--set=20261124-000000F")


def test_without_a_backup_that_leads_there_nothing_is_restored(restored):
    with pytest.raises(BuildError, match="no backup in a repository that answers leads to the primary's timeline 2"):
        restored({1: None, 2: [LEFT_BEHIND]})
