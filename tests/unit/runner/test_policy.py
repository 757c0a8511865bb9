from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from relevo import objectives, paths, policy_file, policy_schema
from relevo.digest import inventory_digest
from relevo.errors import Exit, PolicyError
from tests.house.tree import ROOT

DATA = ROOT / "runner/relevo/data"
EXAMPLE = ROOT / "inventories/example/policy.yml"


def refused(text: str) -> str:
    with pytest.raises(PolicyError) as error:
        policy_file.parse(text, "policy.yml")
    assert error.value.exit is Exit.USAGE
    return str(error.value)


def test_the_defaults_are_the_customers() -> None:
    policy = policy_file.parse(None, "defaults")
    assert policy.objectives_of("anything") == {"rto_seconds": 4 * 3600, "rpo_seconds": 3600}
    assert policy.objectives_of("anything") == {"rto_seconds": objectives.RTO_SECONDS, "rpo_seconds": objectives.RPO_SECONDS}
    assert {name: tier.rto_seconds for name, tier in policy.tiers.items()} == {"critical": 14400, "secondary": 86400}
    assert policy.rpo.model_dump() == {
        "database_seconds": 3600,
        "keys_seconds": 3600,
        "configuration_seconds": 86400,
        "application_seconds": 86400,
    }
    assert {name: (str(test.every), test.limit_seconds / 3600) for name, test in policy.tests.items()} == {
        "backup_restoration": ("1 month", 2),
        "partial_failover": ("3 months", 4),
        "full_site": ("6 months", 8),
        "encryption_keys": ("3 months", 1),
    }
    assert len(policy.checklist) == 19
    assert {line.section for line in policy.checklist} == {"Backup & Recovery", "Business Continuity", "Documentation", "Testing"}


def test_a_users_file_lies_over_them() -> None:
    policy = policy_file.parse(
        "clusters: {shop: {tier: secondary, tests: [full_site]}}\ntests: {full_site: {every: 1 year}}\ncontacts:\n", "policy.yml"
    )
    assert policy.objectives_of("shop")["rto_seconds"] == 86400
    assert list(policy.tests_of("shop")) == ["full_site"]
    assert len(policy.tests_of("not named")) == 4
    assert str(policy.tests["full_site"].every) == "1 year"
    assert policy.tests["full_site"].limit_seconds == 8 * 3600
    assert "encryption_keys" not in policy_file.parse("tests: {encryption_keys: null}", "policy.yml").tests


@pytest.mark.parametrize("path", [DATA / "policy.yml", EXAMPLE], ids=str)
def test_the_example_and_the_defaults_are_valid(path: Path) -> None:
    policy_file.parse(path.read_text(), str(path))
    schema = json.loads((DATA / "policy.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(path.read_text()))


def test_the_shipped_schema_is_the_models() -> None:
    assert json.loads((DATA / "policy.schema.json").read_text()) == policy_schema.build(), (
        "run: relevo policy --schema > runner/relevo/data/policy.schema.json"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        "tests: {full_site: {every: monthly}}",
        "targets: {reports: 'mailtos://u:hunter2@x'}",
        "clusterz: {}",
        "tiers: {critical: {rto: 4}}",
    ],
)
def test_the_schema_refuses_what_the_program_refuses(wrong: str) -> None:
    schema = json.loads((DATA / "policy.schema.json").read_text())
    tree = {"schema": "relevo-policy/1", **yaml.safe_load(wrong)}
    assert not jsonschema.Draft202012Validator(schema).is_valid(tree)
    assert "policy.yml, line 1" in refused(wrong)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "---\ntests:\n  full_site:\n    every: monthly\n",
            "policy.yml, line 4: tests.full_site.every: observed 'monthly'; expected a whole",
        ),
        ("contacts:\n  ana:\n    name: Ana\n", "policy.yml, line 2: contacts.ana.role: observed nothing; expected a value."),
        ("clusterz: {}", "policy.yml, line 1: clusterz: observed a key that means nothing here"),
        (
            "clusters:\n  x: {tier: gold}",
            "line 2: clusters.x.tier: observed 'gold'; expected one of the tiers: critical, secondary.",
        ),
        (
            "clusters:\n  x: {tests: [y]}",
            "line 2: clusters.x.tests[0]: observed 'y'; expected one of the tests: backup_restoration",
        ),
        (
            "escalation:\n- {after: 30, contacts: [bob], then: call}",
            "line 2: escalation[0].after: observed 30; expected a number with its unit",
        ),
        (
            "escalation:\n- {after: 1 h, contacts: [bob], then: call}",
            "line 2: escalation[0].contacts[0]: observed 'bob'; expected one of the contacts",
        ),
        ("a: 1\nb: 2\na: 3", "policy.yml, line 3: a stands twice, first on line 1; one of them would be lost."),
        ("a: [", "policy.yml, line 1: no YAML"),
        ("- 1", "policy.yml, line 1: observed no mapping"),
        (
            "needs_verified_after:\n- {what: x, measurements: [a..b]}",
            "line 2: needs_verified_after[0].measurements[0]: observed 'a..b'",
        ),
        (
            "tests: {full_site: {criteria: [{name: a, measurement: a, is: below, threshold: [1]}]}}",
            "expected a number to compare with",
        ),
        (
            "tests: {full_site: {criteria: [{name: a, measurement: a, is: below, threshold: fast}]}}",
            "observed 'fast'; expected a number with",
        ),
        ("tests: {full_site: {criteria: [{name: a, measurement: a, is: one_of, threshold: x}]}}", "expected a list of the values"),
        ("tests: {full_site: {criteria: [{name: a, measurement: a, is: equals, threshold: {}}]}}", "expected a number, a word"),
        ("tests: {full_site: null}", "what it leaves of the defaults: checklist[16].rests_on[0].test: observed 'full_site'"),
        ("tests: {full_site: {counts: []}}", "tests.full_site.counts: observed []"),
    ],
)
def test_every_mistake_is_named_with_its_line(text: str, sentence: str) -> None:
    assert sentence in refused(text)


def test_all_mistakes_are_told_at_once() -> None:
    assert len(refused("clusterz: {}\ntests: {full_site: {every: 1}}\nremind_before: soon").splitlines()) == 3


@pytest.mark.parametrize("secret", ["mailtos://u:hunter2@example.org", "hunter2hunter2/x", "../hunter2"])
def test_what_stands_where_a_name_of_a_secret_belongs_is_never_shown(secret: str) -> None:
    said = refused(f"targets: {{alerts: '{secret}'}}")
    assert "expected the name of a file in dr_secrets_directory" in said
    assert "hunter2" not in said


def project(tmp_path: Path, *inventories: str) -> Path:
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "ansible.cfg").touch()
    for name in inventories:
        (tmp_path / "inventories" / name).mkdir(parents=True)
        (tmp_path / "inventories" / name / "policy.yml").write_text("remind_before: 1 day\n")
    return tmp_path


def test_the_one_policy_of_the_project_is_found_and_the_example_is_none(tmp_path: Path) -> None:
    root = project(tmp_path, "example", "shop")
    loaded = policy_file.load(None, root, {})
    assert loaded.source == str(root / "inventories/shop/policy.yml")
    done = subprocess.run(["sha256sum", loaded.source], capture_output=True, text=True, check=True)
    assert loaded.digest == done.stdout.split()[0]
    assert str(loaded.policy.remind_before) == "1 day"


def test_of_several_one_must_be_named(tmp_path: Path) -> None:
    root = project(tmp_path, "one", "two")
    with pytest.raises(PolicyError, match=r"several policies: .*one.*two.*--policy"):
        policy_file.load(None, root, {})
    one, two = root / "inventories/one/policy.yml", root / "inventories/two/policy.yml"
    assert policy_file.load(None, root, {"RELEVO_POLICY": str(one)}).source == str(one)
    assert policy_file.load(two, root, {"RELEVO_POLICY": str(one)}).source == str(two)


def test_without_one_the_defaults_hold_and_a_named_one_must_be_there(tmp_path: Path) -> None:
    loaded = policy_file.load(None, project(tmp_path, "example"), {})
    assert (loaded.source, loaded.digest) == ("the built-in policy", None)
    with pytest.raises(PolicyError, match="cannot be read: No such file"):
        policy_file.load(tmp_path / "nothing.yml", tmp_path, {})


def test_a_policy_beside_an_inventory_is_no_inventory_and_changes_no_digest(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("all: {hosts: {a-db1: {dr_cluster: shop}}}\n")
    before = inventory_digest([str(tmp_path)])
    (tmp_path / "policy.yml").write_text(EXAMPLE.read_text())
    assert inventory_digest([str(tmp_path)]) == before
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "policy.yml").write_text("a_group_of_that_name: 1\n")
    assert inventory_digest([str(tmp_path)]) != before
    command = [Path(sys.executable).with_name("ansible-inventory"), "--list", "-i", tmp_path]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        env={"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "PATH": "/usr/bin:/bin"},
    )
    assert set(json.loads(done.stdout)) == {"_meta", "all", "ungrouped"}
    assert done.stderr == ""


def test_a_place_without_a_project_has_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "a/b/c/paths.py"))
    assert policy_file.find(None, tmp_path, {}) is None
