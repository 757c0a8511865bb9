"""What awx/ says, as Ansible reads it, and awx/apply.yml as its tasks would be carried out: the modules themselves, in this process."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
from typing import Any
from unittest import mock

from ansible.module_utils import basic
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from tests.house.tree import ROOT

AWX = ROOT / "awx"
# What a user makes by hand: AWX holds its contents, and no file of the project does.
CREDENTIALS: list[dict[str, Any]] = [
    {"name": "Relevo hosts", "credential_type": "Machine", "inputs": {"username": "sre"}},
    {
        "name": "Relevo results database",
        "credential_type": "Relevo results database",
        "inputs": {
            "host": "results.example.org",
            "port": "5432",
            "database": "relevo",
            "username": "relevo",
            "password": "p",
            "authority": "c",
        },
    },
    {"name": "Relevo signing key", "credential_type": "Relevo signing key", "inputs": {"key": "k", "known_hosts": "h"}},
    {
        "name": "Relevo object stores",
        "credential_type": "Relevo object stores",
        "inputs": {"store_a_key_id": "i", "store_a_key": "k"},
    },
    {"name": "Relevo database and hosts", "credential_type": "Relevo database and hosts", "inputs": {"become_password": "p"}},
    {"name": "Relevo approvals", "credential_type": "Red Hat Ansible Automation Platform", "inputs": {"host": "awx.example.org"}},
]


def play() -> dict[str, Any]:
    """The one play of awx/apply.yml."""
    (found,) = DataLoader().load_from_file(str(AWX / "apply.yml"), trusted_as_template=True)
    return dict(found)


def variables(**changed: Any) -> dict[str, Any]:
    """All variables of that play, rendered."""
    loader, known = DataLoader(), {}
    for name in play()["vars_files"]:
        known.update(loader.load_from_file(str(AWX / name), trusted_as_template=True))
    known["controller_credentials"] = [{**one, "organization": "Default"} for one in CREDENTIALS]
    known.update(changed)
    found: dict[str, Any] = Templar(loader=loader, variables=known).template(known)
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


def apply(url: str, only: str = "awx.awx.") -> list[tuple[str, str, bool]]:
    """Do what awx/apply.yml does, or only with one module: module, name, and whether it changed anything."""
    known, done = variables(), []
    for task in play()["tasks"]:
        (module,) = [word for word in task if word.startswith("awx.awx.")]
        if not module.startswith(only):
            continue
        for item in Templar(loader=None, variables=known).template(task["loop"]):
            arguments = Templar(loader=None, variables={**known, "item": item, "omit": OMIT}).template(task[module])
            given = {name: value for name, value in arguments.items() if value != OMIT}
            name = item["name"] if isinstance(item, dict) else f"{item[0]['name']}: {item[1]['identifier']}"
            done.append((module, name, run(module, {**given, "controller_host": url, "controller_oauthtoken": "t"})["changed"]))
    return done


OMIT = "__nothing_given__"


def run(module: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """One module of AWX's collection, in this process; what it says."""
    main = importlib.import_module(f"ansible_collections.awx.awx.plugins.modules.{module.rpartition('.')[2]}").main
    basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": json.loads(json.dumps(arguments))}).encode()
    basic._ANSIBLE_PROFILE = "legacy"
    said = io.StringIO()
    # Each request would read this machine's authorities anew, of which plain http knows none: nine tenths of the time.
    no_authorities = mock.patch.dict(os.environ, {"SSL_CERT_FILE": os.devnull})
    with no_authorities, contextlib.suppress(SystemExit), contextlib.redirect_stdout(said):
        main()
    told: dict[str, Any] = json.loads(said.getvalue().strip().splitlines()[-1])
    assert not told.get("failed"), f"{module} {arguments.get('name')}: {told.get('msg')} {json.dumps(told)[:600]}"
    return told


def playbooks() -> list[str]:
    """What AWX would find in this checkout, by its own rule; see tests/house/test_playbooks.py."""
    from tests.house.test_playbooks import found_by_awx  # noqa: PLC0415 - only the rule is wanted
    from tests.house.tree import files, name  # noqa: PLC0415 - only where it is called

    return sorted(name(path) for path in files(".yml", ".yaml") if found_by_awx(path))
