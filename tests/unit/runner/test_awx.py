"""A job of AWX: its record needs a place that outlives it, and its key and secrets come as files of any name."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from ansible.errors import AnsibleLookupError
from ansible_collections.relevo.dr.plugins.lookup import secrets
from ansible_collections.relevo.dr.plugins.plugin_utils import controller

from relevo import awx, redact, signature
from relevo.errors import SignatureError, StoreError
from relevo.paths import find_place

JOB = {"awx_job_id": 42, "tower_job_id": 42, "awx_user_name": "ana"}


@pytest.mark.parametrize("variables", [JOB, {"tower_job_id": 42}, {"awx_job_id": 42}])
@pytest.mark.parametrize("store", ["", "STATE", "sqlite:////tmp/relevo.db"])
def test_a_job_whose_record_would_go_with_it_is_refused(store: str, variables: dict[str, object], tmp_path: Path) -> None:
    place = find_place({"RELEVO_STORE": store.replace("STATE", str(tmp_path)), "XDG_STATE_HOME": str(tmp_path)})
    with pytest.raises(StoreError, match="must be the URL of a PostgreSQL database"):
        awx.check_store(place, variables)
    awx.check_store(place, {"dr_mode": "drill"})


@pytest.mark.parametrize("url", ["postgresql://results.example.org/relevo", "postgresql+psycopg://results.example.org/relevo"])
def test_a_job_with_a_database_goes_on(url: str, tmp_path: Path) -> None:
    awx.check_store(find_place({"RELEVO_STORE": url, "XDG_STATE_HOME": str(tmp_path)}), JOB)


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A controller's key, as a credential of AWX gives it: a file of some name, in which the last newline may be missing."""
    key = signature.ready_key(tmp_path / "elsewhere").path
    path = tmp_path / "tmp8d3k"
    path.write_text(key.read_text().rstrip())
    monkeypatch.setenv(signature.GIVEN_KEY, str(path))
    return path


def test_each_job_signs_with_the_key_of_its_credential(given: Path, tmp_path: Path) -> None:
    first, second = (signature.ready_key(tmp_path / state) for state in ("first", "second"))
    assert first.fingerprint == second.fingerprint == signature.ready_key(tmp_path / "first").fingerprint
    assert signature.public(tmp_path / "first" / signature.CONTROLLER) == signature.public(
        tmp_path / "elsewhere" / signature.CONTROLLER
    )
    assert stat.S_IMODE((tmp_path / "first" / signature.CONTROLLER).stat().st_mode) == 0o600
    # What an earlier job signed is believed by a later one, whose state is new.
    (signer,) = signature.believed(tmp_path / "second")
    assert signer.since is None
    assert given.exists()


def test_two_keys_for_one_controller_are_refused(given: Path, tmp_path: Path) -> None:
    signature.ready_key(tmp_path / "first")
    other = tmp_path / "other"
    os.environ.pop(signature.GIVEN_KEY)
    signature.ready_key(other)
    os.environ[signature.GIVEN_KEY] = str(given)
    with pytest.raises(SignatureError, match="names another key"):
        signature.ready_key(other)


@pytest.mark.parametrize("text", ["", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----", "\xe4"])
def test_what_is_no_key_is_refused_and_nothing_is_left(given: Path, text: str, tmp_path: Path) -> None:
    given.write_text(text)
    with pytest.raises(SignatureError):
        signature.ready_key(tmp_path / "first")
    assert {path.name for path in (tmp_path / "first").iterdir()} <= {".lock"}


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two secrets as AWX injects them, and a field that nobody filled."""
    files = {"become_password": "canary-4711-become\n", "store_a_key": "canary-4711-store", "notify_urls": ""}
    for number, (name, text) in enumerate(files.items()):
        path = tmp_path / f"tmp{number}"
        path.write_text(text)
        monkeypatch.setenv(f"{secrets.PREFIX}{name}", str(path))
    monkeypatch.setenv(f"{secrets.PREFIX}files_a_app1_password", f"files_a-app1_password={tmp_path}/tmp0")
    run = tmp_path / "run"
    run.mkdir()
    monkeypatch.setenv("RELEVO_RUN_DIR", str(run))
    return run


def looked_up() -> str:
    (found,) = secrets.LookupModule.__new__(secrets.LookupModule).run(["/etc/relevo-controller/secrets"])
    return found


def test_secrets_of_credentials_are_found_by_their_names(credentials: Path) -> None:
    directory = Path(looked_up())
    assert directory == Path(looked_up()) == credentials / "secrets"
    assert (directory / "become_password").read_text() == "canary-4711-become\n"
    assert {path.name for path in directory.iterdir()} == {".given", "become_password", "store_a_key", "files_a-app1_password"}
    assert directory.stat().st_mode & 0o077 == 0
    assert {"canary-4711-become", "canary-4711-store"} <= redact.values_below(directory), "no record may hold them"


@pytest.mark.usefixtures("credentials")
def test_a_secret_is_never_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{secrets.PREFIX}x", "../journal.jsonl=/dev/null")
    with pytest.raises(AnsibleLookupError, match="expected the name of a file"):
        looked_up()


def test_without_credentials_it_is_the_controllers_own_directory() -> None:
    assert looked_up() == "/etc/relevo-controller/secrets"


@pytest.mark.usefixtures("credentials")
def test_outside_a_run_there_is_no_place_for_links(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RELEVO_RUN_DIR")
    with pytest.raises(AnsibleLookupError, match="no run is open"):
        looked_up()


def test_an_account_that_is_only_a_number_has_a_name_in_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that runs as any number has no line in passwd for it, unless somebody adds one."""

    def unknown() -> str:
        raise OSError

    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setattr(controller.getpass, "getuser", unknown)
    assert controller.identity()["owner"] == f"uid {os.getuid()}"
