"""Plugins: documented so that ansible-doc shows them, and runnable by the oldest Python of a host."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys

import pytest
import yaml

from tests.house.tree import COLLECTION, ROOT, name, text

MODULES = sorted((COLLECTION / "plugins/modules").glob("*.py"))
# What runs on hosts or is imported by it: nothing but Python and Ansible is there.
ON_HOSTS = [*MODULES, *sorted((COLLECTION / "plugins/module_utils").glob("*.py"))]
OLDEST_PYTHON = (3, 9)
OURS = ("ansible_collections.relevo.dr.", "ansible.module_utils.")


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_ansible_doc_renders_every_module():
    names = [f"relevo.dr.{path.stem}" for path in MODULES]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    command = [sys.executable, "-m", "ansible", "doc", "--type", "module", "--json", *names]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    for module in names:
        assert shown.get(module, {}).get("doc", {}).get("short_description"), f"{module}: {done.stderr}"
        assert shown[module]["examples"], f"{module} has no example"
        assert shown[module]["return"] is not None, f"{module} does not say what it returns"


class TakenError(Exception):
    """What a module handed to AnsibleModule."""


def argument_spec(module, monkeypatch):
    def take(argument_spec, **_):
        raise TakenError(argument_spec)

    monkeypatch.setattr(module, "AnsibleModule", take)
    with pytest.raises(TakenError) as taken:
        module.main()
    return taken.value.args[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_documented_options_are_the_ones_that_the_module_takes(path, monkeypatch):
    module = importlib.import_module(f"ansible_collections.relevo.dr.plugins.modules.{path.stem}")
    spec = argument_spec(module, monkeypatch)
    documented = yaml.safe_load(module.DOCUMENTATION).get("options") or {}
    assert set(documented) == set(spec)
    for option, said in documented.items():
        taken = spec[option]
        assert said.get("type", "str") == taken.get("type", "str"), option
        assert said.get("default") == taken.get("default"), option
        assert bool(said.get("required")) == bool(taken.get("required")), option
        assert said.get("choices") == taken.get("choices"), option


@pytest.mark.parametrize("path", ON_HOSTS, ids=name)
def test_what_runs_on_hosts_needs_only_the_standard_library_of_an_old_python(path):
    tree = ast.parse(text(path), feature_version=OLDEST_PYTHON)
    foreign = {
        module for module in imported(tree) if module.split(".")[0] not in sys.stdlib_module_names and not module.startswith(OURS)
    }
    assert foreign == set()


def test_a_secret_named_option_is_never_logged():
    for path in MODULES:
        for node in ast.walk(ast.parse(text(path))):
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    word = getattr(key, "value", "")
                    if isinstance(word, str) and word.endswith(("password", "passphrase", "_key")) and isinstance(value, ast.Dict):
                        inner = {getattr(inner_key, "value", "") for inner_key in value.keys}
                        assert "type" not in inner or "no_log" in inner, f"{name(path)}: {word}"
