# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The laboratory's secrets, made at run time outside of any checkout: passwords, ssh keys, an authority and the hosts' certificates."""

from __future__ import annotations

import datetime
import ipaddress
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.relevo.lab.plugins.module_utils.laboratory import Host, Laboratory, write_file
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence

VALIDITY = datetime.timedelta(days=397)


def plan(lab: Laboratory, hosts: Sequence[Host], names: Sequence[str]) -> list[str]:
    """What is missing, in words. What exists is never made again: hosts already know it."""
    wanted = {
        "password of the operator and named secrets": [lab.state / "secrets" / name for name in names],
        "operator's ssh key": [lab.state / "ssh/operator"],
        "certificate authority": [lab.state / "secrets/ca.key", lab.state / "tls/ca.pem"],
        "known hosts": [lab.state / "ssh/known_hosts"],
        **{f"keys of {host.name}": [lab.state / "ssh" / host.name, lab.state / f"tls/{host.name}.pem"] for host in hosts},
    }
    return [what for what, paths in wanted.items() if not all(path.exists() for path in paths)]


def make(lab: Laboratory, hosts: Sequence[Host], names: Sequence[str]) -> None:
    for directory, mode in (
        (lab.state, 0o700),
        (lab.state / "secrets", 0o700),
        (lab.state / "ssh", 0o700),
        (lab.state / "tls", 0o700),
    ):
        directory.mkdir(mode=mode, parents=True, exist_ok=True)
    for name in names:
        if not (lab.state / "secrets" / name).exists():
            write_file(lab.state / "secrets" / name, secrets.token_urlsafe(24), 0o600)
    make_ssh_key(lab.state / "ssh/operator", "operator of the laboratory")
    authority = load_authority(lab)
    for host in hosts:
        make_ssh_key(lab.state / "ssh" / host.name, host.name)
        make_certificate(lab, host, authority)
    lines = [f"{host.name},{host.address} {(lab.state / 'ssh' / f'{host.name}.pub').read_text().strip()}\n" for host in hosts]
    write_file(lab.state / "ssh/known_hosts", "".join(lines), 0o600)


def make_ssh_key(path: Path, comment: str) -> None:
    if path.exists():
        return
    key = ed25519.Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    write_file(path.with_name(f"{path.name}.pub"), f"{public} {comment}\n")
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    write_file(path, private.decode(), 0o600)


Authority = tuple[ec.EllipticCurvePrivateKey, x509.Certificate]


def load_authority(lab: Laboratory) -> Authority:
    key_path, certificate_path = lab.state / "secrets/ca.key", lab.state / "tls/ca.pem"
    if key_path.exists() and certificate_path.exists():
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key, x509.load_pem_x509_certificate(certificate_path.read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Relevo laboratory authority")])
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = base(name, name, key.public_key()).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    certificate = builder.add_extension(usage, critical=True).sign(key, hashes.SHA256())
    write_file(key_path, private_pem(key), 0o600)
    write_file(certificate_path, certificate.public_bytes(serialization.Encoding.PEM).decode())
    return key, certificate


def make_certificate(lab: Laboratory, host: Host, authority: Authority) -> None:
    path = lab.state / f"tls/{host.name}.pem"
    if path.exists():
        return
    authority_key, authority_certificate = authority
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host.name)])
    names = x509.SubjectAlternativeName([x509.DNSName(host.name), x509.IPAddress(ipaddress.ip_address(host.address))])
    issuer_key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    certificate = (
        base(subject, authority_certificate.subject, key.public_key())
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(issuer_key_id, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    write_file(path.with_suffix(".key"), private_pem(key), 0o600)
    write_file(path, certificate.public_bytes(serialization.Encoding.PEM).decode())


def base(subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + VALIDITY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def private_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
