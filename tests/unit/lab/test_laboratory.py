from __future__ import annotations

import dataclasses
import os
import subprocess

import pytest
from ansible_collections.relevo.lab.plugins.filter.hosts import hosts as hosts_filter
from ansible_collections.relevo.lab.plugins.module_utils import container, faults, fleet, host_files, laboratory
from ansible_collections.relevo.lab.plugins.module_utils.laboratory import Host, Laboratory, LaboratoryError
from ansible_collections.relevo.lab.plugins.module_utils.options import hosts_from

NETWORK = "198.51.100.64/26"
HOST = Host("a-db1", "a", "198.51.100.71", NETWORK, "/var/lib/postgresql", 8)

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="files are given to root")


@pytest.fixture
def lab(tmp_path):
    lab = Laboratory(tmp_path / "relevo-lab-unit")
    lab.state.mkdir()
    return lab


def test_another_user_than_root_is_told_what_to_do(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LaboratoryError, match=r"user id 1000.*root.*sudo"):
        laboratory.require_root()


def test_a_missing_command_is_named():
    with pytest.raises(LaboratoryError, match="no-such-command is not installed"):
        laboratory.run(["no-such-command"])


@root_only
def test_a_file_is_replaced_only_when_it_differs(tmp_path):
    path = tmp_path / "file"
    assert laboratory.write_file(path, "one", 0o600)
    assert not laboratory.write_file(path, "one", 0o600)
    assert laboratory.write_file(path, "one", 0o644)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@root_only
def test_a_laboratory_made_with_another_release_is_not_touched(lab, tmp_path):
    present = fleet.Fleet("trixie", tmp_path, [HOST])
    lab.write(present.description())
    fleet.refuse_other(lab, present)
    with pytest.raises(LaboratoryError, match=r"another release \(trixie, now asked for: bookworm\).*lab-down"):
        fleet.refuse_other(lab, dataclasses.replace(present, release="bookworm"))


@root_only
def test_an_unknown_host_is_answered_with_the_known_ones(lab, tmp_path):
    with pytest.raises(LaboratoryError, match="make lab"):
        lab.host("a-db1")
    lab.write(fleet.Fleet("trixie", tmp_path, [HOST]).description())
    assert lab.host("a-db1") == HOST
    with pytest.raises(LaboratoryError, match=r"no host z .* a-db1"):
        lab.host("z")


def test_the_inventory_becomes_the_modules_option():
    hostvars = {"a-db1": {"dr_site": "a", "ansible_host": "198.51.100.71", "lab_host_volume": "/var/lib/postgresql"}}
    option = hosts_filter(["a-db1"], hostvars)
    assert option == [{"name": "a-db1", "site": "a", "address": "198.51.100.71", "volume": "/var/lib/postgresql"}]
    assert hosts_from([{**option[0], "volume_gigabytes": 8}], {"a": NETWORK}) == [HOST]


def test_a_host_finds_the_others_by_name_and_its_way_out():
    assert "198.51.100.71 a-db1\n" in host_files.hosts_file([HOST])
    assert "Address=198.51.100.71/26\nGateway=198.51.100.65\n" in host_files.network_file(HOST)


@pytest.mark.parametrize(
    "path", ["/etc", "/var/lib/postgresql-other", "/var/lib/postgresql/../../../etc", "/var/lib/postgresql/none"]
)
def test_only_directories_of_the_volume_are_filled(lab, monkeypatch, path):
    monkeypatch.setattr(Laboratory, "host", lambda _lab, _name: HOST)
    (lab.directory(HOST) / "volume").mkdir(parents=True)
    with pytest.raises(LaboratoryError):
        faults.fill(lab, "a-db1", path)


def test_one_host_is_not_cut_off_from_itself(lab):
    with pytest.raises(LaboratoryError, match="Two different hosts"):
        faults.cut(lab, "a-db1", "a-db1")


def test_a_cut_that_does_not_bite_is_an_error(lab, monkeypatch):
    other = dataclasses.replace(HOST, name="b-db1")
    monkeypatch.setattr(Laboratory, "host", lambda _lab, name: {"a-db1": HOST, "b-db1": other}[name])
    monkeypatch.setattr(container, "leader", lambda _lab, _host: 1)
    monkeypatch.setattr(faults, "open_line", lambda *_arguments: None)
    monkeypatch.setattr(faults.network, "change_cut", lambda *_arguments: None)
    monkeypatch.setattr(faults, "passes", lambda _lab, sender, _address: sender is HOST)
    with pytest.raises(LaboratoryError, match="a-db1 to b-db1 still passes"):
        faults.cut(lab, "a-db1", "b-db1")


def test_a_host_without_processes_is_off(lab):
    assert not container.is_on(lab, HOST)
    with pytest.raises(LaboratoryError, match="a-db1 is off"):
        container.leader(lab, HOST)


@pytest.mark.parametrize("left", [False, True])
def test_a_cable_that_goes_by_itself_meanwhile_is_no_failure(monkeypatch, left):
    seen = iter([True, left])

    def gone(_argv):
        message = "Cannot find device"
        raise laboratory.LaboratoryError(message)

    monkeypatch.setattr(container, "has_cable", lambda _host: next(seen))
    monkeypatch.setattr(container, "run", gone)
    if left:
        with pytest.raises(laboratory.LaboratoryError, match="Cannot find device"):
            container.remove_cable(HOST)
    else:
        container.remove_cable(HOST)


def test_a_command_that_ends_while_the_host_is_looked_for_is_passed_over(lab, monkeypatch):
    ended = subprocess.Popen(["true"])
    ended.wait()
    monkeypatch.setattr(container, "processes_in", lambda _path: [ended.pid])
    with pytest.raises(laboratory.LaboratoryError, match=f"{HOST.name} is off"):
        container.leader(lab, HOST)
