"""What awx/ says, as Ansible reads it, and awx/apply.yml as its tasks would be carried out: the modules themselves, in this process."""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import json
import os
import re
from typing import Any
from unittest import mock

import yaml
from ansible.module_utils import basic
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from tests.awx_controller import judge_answers
from tests.house.tree import ROOT, text

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


def template(name: str) -> dict[str, Any]:
    """A job template or a workflow."""
    said = variables()
    (found,) = [one for one in [*said["controller_templates"], *said["controller_workflows"]] if one["name"] == name]
    return dict(found)


def answered(name: str, answers: dict[str, str]) -> dict[str, str]:
    """The variables of a job, or of the jobs of a workflow, that somebody starts with these answers. RefusedError as AWX refuses them."""
    started = template(name)
    asked = {question["variable"]: question for question in started["survey_spec"]["spec"]} if started["survey_enabled"] else {}
    judge_answers(asked, answers, complete=True)
    defaults = {variable: question["default"] for variable, question in asked.items() if "default" in question}
    return {**started.get("extra_vars", {}), **defaults, **answers}


def secrets_of(kind: dict[str, Any]) -> dict[str, str]:
    """The field that holds each secret, by the secret's name, of a type of credentials."""
    found = {}
    for variable, value in kind["injectors"]["env"].items():
        name, field = re.fullmatch(r"(?:([^=]+)=)?\{\{ tower\.filename\.(\w+) \}\}", value).groups()  # type: ignore[union-attr]
        found[name or variable.removeprefix("RELEVO_SECRET_")] = field
    return found


def with_secrets(kind: dict[str, Any], *names: str) -> dict[str, Any]:
    """That type with a field for each of these secrets too, as somebody changes it whose inventory has other names."""
    changed = copy.deepcopy(kind)
    for name in names:
        field = re.sub(r"\W", "_", name)
        changed["inputs"]["fields"].append({"id": field, "label": name, "type": "string", "secret": True})
        changed["injectors"]["file"][f"template.{field}"] = f"{{{{ {field} }}}}"
        changed["injectors"]["env"][f"RELEVO_SECRET_{field}"] = f"{name}={{{{ tower.filename.{field} }}}}"
    return changed


def variables_of_the_inventory() -> dict[str, Any]:
    """What docs/awx.md has a user write into the inventory's group_vars/all.yml."""
    (block,) = re.findall(r"group_vars/all\.yml`:\n   ```\n(.*?)^   ```", text(ROOT / "docs/awx.md"), re.DOTALL | re.MULTILINE)
    return dict(yaml.safe_load(block))


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
