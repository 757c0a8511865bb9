from __future__ import annotations

import ipaddress
import os

import pytest
from ansible_collections.relevo.lab.plugins.module_utils import credentials
from ansible_collections.relevo.lab.plugins.module_utils.laboratory import Host, Laboratory
from cryptography import x509
from cryptography.hazmat.primitives import serialization

HOSTS = [Host("a-db1", "a", "198.51.100.71", "198.51.100.64/26")]
NAMES = ["become_password"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="secrets are given to root")


@pytest.fixture
def lab(tmp_path):
    lab = Laboratory(tmp_path / "lab")
    credentials.make(lab, HOSTS, NAMES)
    return lab


def test_nothing_is_planned_or_replaced_once_it_is_there(lab):
    before = {path: path.read_bytes() for path in lab.state.rglob("*") if path.is_file()}
    assert credentials.plan(lab, HOSTS, NAMES) == []
    credentials.make(lab, HOSTS, NAMES)
    assert {path: path.read_bytes() for path in before} == before


def test_everything_is_planned_before(tmp_path):
    assert len(credentials.plan(Laboratory(tmp_path / "none"), HOSTS, NAMES)) == 5


def test_a_host_certificate_is_signed_for_its_name_and_address(lab):
    authority = x509.load_pem_x509_certificate((lab.state / "tls/ca.pem").read_bytes())
    certificate = x509.load_pem_x509_certificate((lab.state / "tls/a-db1.pem").read_bytes())
    certificate.verify_directly_issued_by(authority)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a-db1"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("198.51.100.71")]


def test_secrets_are_roots_alone_and_the_host_key_is_pinned(lab):
    for private in (
        lab.state / "secrets/become_password",
        lab.state / "secrets/ca.key",
        lab.state / "ssh/operator",
        lab.state / "tls/a-db1.key",
    ):
        assert private.stat().st_mode & 0o777 == 0o600
    assert (lab.state / "secrets").stat().st_mode & 0o777 == 0o700
    public = (lab.state / "ssh/a-db1.pub").read_text().split()[1]
    assert (lab.state / "ssh/known_hosts").read_text().split()[:3] == ["a-db1,198.51.100.71", "ssh-ed25519", public]
    serialization.load_ssh_private_key((lab.state / "ssh/operator").read_bytes(), None)
