"""Secrets on the controller: made once, except where somebody else gave all of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.relevo.dr.plugins.module_utils.given_secrets import GIVEN
from ansible_collections.relevo.dr.plugins.modules import secret_files

PASSPHRASE = "repository_1_passphrase"


@pytest.fixture
def ran(tmp_path):
    """The module itself, as a process, with what Ansible hands it."""

    def ran(*, check=False):
        arguments = {"directory": str(tmp_path), "names": [PASSPHRASE], "_ansible_check_mode": check}
        program = "import json, sys; from ansible.module_utils import basic; basic._ANSIBLE_ARGS = sys.argv[1].encode(); "
        program += "basic._ANSIBLE_PROFILE = 'legacy'; from ansible_collections.relevo.dr.plugins.modules import secret_files; secret_files.main()"
        collections = str(Path(secret_files.__file__).parents[5])
        words = [sys.executable, "-c", program, json.dumps({"ANSIBLE_MODULE_ARGS": arguments})]
        done = subprocess.run(words, capture_output=True, text=True, check=False, env={"PYTHONPATH": collections, "PATH": ""})
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    return ran


def test_a_secret_is_made_once_and_never_shown(ran, tmp_path):
    first, second = ran(), ran()
    made = (tmp_path / PASSPHRASE).read_text().strip()
    assert (first["changed"], second["changed"]) == (True, False)
    assert len(made) == 64
    assert made not in json.dumps(first)


@pytest.mark.parametrize("check", [False, True])
def test_among_the_credentials_of_a_job_nothing_is_made_up(ran, tmp_path, check):
    (tmp_path / GIVEN).touch()
    told = ran(check=check)
    assert told["failed"]
    assert f"no {PASSPHRASE} among the credentials of this job" in told["msg"]
    assert not (tmp_path / PASSPHRASE).exists()
    (tmp_path / PASSPHRASE).write_text("given\n")
    assert ran(check=check)["changed"] is False
