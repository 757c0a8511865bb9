"""What a change of site needs beside its hosts: derived from the inventory, looked at side by side, judged by the site that is left."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible_collections.relevo.dr.plugins.action import dependencies as action
from ansible_collections.relevo.dr.plugins.action import preflight
from ansible_collections.relevo.dr.plugins.module_utils import dependencies
from ansible_collections.relevo.dr.plugins.module_utils.dependencies import FILE, NAME, POSTGRESQL, TCP, TLS, Need, Seen
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Control
from ansible_collections.relevo.dr.plugins.plugin_utils.dependency_look import look
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import example, given
from hypothesis import strategies as st

HOSTS = [
    {"name": "a-db1", "address": "192.0.2.71", "clients": "db.a.example.org", "site": "a", "database_port": 5432},
    {"name": "b-db1", "address": "b-db1.example.org", "clients": "b-db1.example.org", "site": "b", "database_port": 5432},
    {"name": "b-store1", "address": "192.0.2.31", "clients": "b-store1", "site": "b", "database_port": None},
]
KNOWN: dict[str, Any] = {
    "hosts": HOSTS,
    "repositories": [
        {"id": 1, "endpoint": "b-store1", "port": 443, "ca_file": "/ca.pem"},
        {"id": 2, "site": "a", "endpoint": "s3.a.example.org"},
        {"id": 3, "type": "posix", "path": "/backups"},
    ],
    "files": [
        {"id": 1, "endpoint": "b-store1", "port": 443, "ca_file": "/ca.pem"},
        {"id": 2, "endpoint": "s3.a.example.org", "port": 443, "ca_file": None},
        {"id": 3, "endpoint": "s3.c.example.org", "port": 9000, "site": "c", "ca_file": None},
    ],
    "key_paths": [
        {"name": "vault", "kind": "secrets_manager", "region": "eu-west-1"},
        {"name": "emulated", "kind": "secrets_manager", "region": "eu-west-1", "endpoint_url": "http://127.0.0.1:4566"},
        {"name": "safe", "kind": "directory", "path": "/srv/keys", "site": "a"},
    ],
    "components": [
        {"name": "dns", "endpoint": None},
        {"name": "zone", "endpoint": "https://dns.example.org:8443", "ca_file": "/ca.pem"},
    ],
    "proofs": [{"endpoints": ["https://b-db1:8443", "http://shop.example.org"], "ca_file": "/ca.pem"}],
    "store": "postgresql://relevo:geheim@results.example.org:5433/relevo?sslmode=verify-full&sslrootcert=/ca.pem",
    "secrets_directory": "/etc/secrets",
    "secret_names": ["store_a_key"],
    "ca_file": "/ca.pem",
    "declared": [{"name": "package mirror", "host": "mirror.a.example.org", "port": 80, "site": "a", "needed": True}],
}


def test_everything_the_inventory_implies_is_found_once_for_each_use_with_its_site_and_the_way_to_it() -> None:
    found = {need.name: need for need in dependencies.derive(KNOWN)}
    assert {name: (need.protocol, need.place(), need.address, need.site) for name, need in found.items()} == {
        "name of b-db1": (NAME, "b-db1.example.org", "b-db1.example.org", "b"),
        "certificate of PostgreSQL on a-db1": (POSTGRESQL, "db.a.example.org:5432", "192.0.2.71", "a"),
        "certificate of PostgreSQL on b-db1": (POSTGRESQL, "b-db1.example.org:5432", "b-db1.example.org", "b"),
        "backups, repository 1": (TLS, "b-store1:443", "192.0.2.31", "b"),
        "backups, repository 2": (TLS, "s3.a.example.org:443", "s3.a.example.org", "a"),
        "files, repository 1": (TLS, "b-store1:443", "192.0.2.31", "b"),
        "files, repository 2": (TLS, "s3.a.example.org:443", "s3.a.example.org", "a"),
        "files, repository 3": (TLS, "s3.c.example.org:9000", "s3.c.example.org", "c"),
        "keys in escrow, vault": (TLS, "secretsmanager.eu-west-1.amazonaws.com:443", "secretsmanager.eu-west-1.amazonaws.com", ""),
        "keys in escrow, emulated": (TCP, "127.0.0.1:4566", "127.0.0.1", ""),
        "keys in escrow, safe": (FILE, "/srv/keys", "/srv/keys", "a"),
        "secret store_a_key": (FILE, "/etc/secrets/store_a_key", "/etc/secrets/store_a_key", ""),
        "service that changes component dns": (TLS, "route53.amazonaws.com:443", "route53.amazonaws.com", ""),
        "service that changes component zone": (TLS, "dns.example.org:8443", "dns.example.org", ""),
        "application, endpoint 1": (TLS, "b-db1:8443", "b-db1.example.org", "b"),
        "application, endpoint 2": (TCP, "shop.example.org:80", "shop.example.org", ""),
        "results": (POSTGRESQL, "results.example.org:5433", "results.example.org", ""),
        "package mirror": (TCP, "mirror.a.example.org:80", "mirror.a.example.org", "a"),
    }
    assert [name for name, need in found.items() if need.needed] == ["package mirror"]
    authorities = {name for name, need in found.items() if need.ca_file == "/ca.pem"}
    assert {"files, repository 1", "service that changes component zone", "application, endpoint 1", "results"} <= authorities


@pytest.mark.parametrize(
    ("store", "place"),
    [
        ("/var/lib/relevo", None),
        ("sqlite:////x/relevo.db", None),
        ("postgresql:///relevo", None),
        ("postgresql://relevo@/relevo?host=/run/postgresql", None),
        ("postgresql://results.example.org/relevo", (TCP, "results.example.org:5432")),
        ("postgresql+psycopg://relevo@results.example.org:5433/relevo?sslmode=require", (TCP, "results.example.org:5433")),
        ("postgresql://relevo:geheim@[2001:db8::7]:5433/relevo", (TCP, "2001:db8::7:5433")),
        ("postgresql://r@h/d?sslmode=verify-full&sslrootcert=system", (POSTGRESQL, "h:5432")),
        ("postgresql://b-db1/relevo", (TCP, "b-db1:5432")),
    ],
)
def test_the_store_of_results_is_asked_where_it_is_reached_over_the_network(store: str, place: tuple[str, str] | None) -> None:
    found = [need for need in dependencies.derive({**KNOWN, "store": store}) if need.name == "results"]
    assert [(need.protocol, need.place()) for need in found] == ([] if place is None else [place])
    assert [need.site for need in found] in ([], [""], ["b"])


@example(before="7/@", after="", query="")
@given(
    before=st.text("g:/@?#%\\ 7", max_size=8),
    after=st.text("g:/@?#%\\ 7", max_size=8),
    query=st.sampled_from(["", "?password=geheim"]),
)
def test_no_piece_of_the_stores_password_is_ever_told(before: str, after: str, query: str) -> None:
    """However it is written: a URL that can be read in two ways is not read."""
    store = "postgresql://u:%sgeheim%s@h/relevo%s" % (before, after, query)
    found = [need for need in dependencies.derive({**KNOWN, "store": store}) if need.name == "results"]
    assert [need.place() for need in found] in ([], ["h:5432"])


@pytest.mark.parametrize("address", ["https://b-app1:geheim", "https://", "https://[b-app1"])
def test_an_address_that_is_none_is_refused_without_showing_it(address: str) -> None:
    with pytest.raises(Refusal, match="an address that is no URL: application, endpoint 1") as refused:
        dependencies.derive({**KNOWN, "proofs": [{"endpoints": [address]}]})
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize(
    "wrong", [{"name": "x"}, {"name": "x", "host": "h"}, {"name": "x", "host": "h", "port": 1, "protocol": "gopher"}]
)
def test_a_declaration_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match="an entry of dr_run_dependencies"):
        dependencies.derive({**KNOWN, "declared": [wrong]})


def test_names_of_secrets_are_those_that_declarations_name() -> None:
    assert dependencies.secret_names([{"key_secret": "b", "key_id_secret": "a", "endpoint": "x"}, {"key_secret": "b"}]) == [
        "a",
        "b",
    ]


GOOD = Seen(True, "answers in 0.01 s", 300.0)
STORE_A = Need("store a", TLS, "s3.a", 443, "a", "backups")
STORE_B = Need("store b", TLS, "s3.b", 443, "b", "backups")


def verdict_of(need: Need, seen: dict[Need, Seen], lost: str = "a") -> tuple[str, str]:
    gates = dict(zip(seen, dependencies.judge(list(seen), seen, [lost], 14.0), strict=True))
    assert gates[need].id == "DEPENDS"
    return gates[need].verdict, gates[need].observed


def test_what_goes_with_the_site_is_named_with_what_stands_in_for_it() -> None:
    silent = Seen(False, "no answer within 3 s")
    assert verdict_of(STORE_A, {STORE_A: silent, STORE_B: GOOD}) == (
        "not_applicable",
        "in site a, which is being left; store b answers outside it",
    )
    only = "in site a, which is being left; nothing outside it stands in for it"
    assert verdict_of(STORE_A, {STORE_A: GOOD}) == ("fail", only)
    # One that does not answer stands in for nothing, nor does one of another kind, or one that goes with the same site.
    assert verdict_of(STORE_A, {STORE_A: GOOD, STORE_B: silent}) == ("fail", only)
    assert verdict_of(STORE_A, {STORE_A: GOOD, replace(STORE_B, instead="keys"): GOOD}) == ("fail", only)
    assert verdict_of(STORE_A, {STORE_A: GOOD, replace(STORE_B, site="a"): GOOD}) == ("fail", only)


def test_what_is_of_the_site_itself_needs_nothing_that_stands_in_for_it() -> None:
    """The name of each host in it was a finding of every failover of a site."""
    known = {need.name: need for need in dependencies.derive(KNOWN)}
    silent = Seen(None, "not asked: in the site being left")
    for name in ("name of b-db1", "application, endpoint 1"):
        assert verdict_of(known[name], {known[name]: silent}, lost="b") == ("not_applicable", "in site b, which is being left")
    # What a user declares is not the site's own, though it be a name.
    named = Need("alias", NAME, "alias.b.example.org", site="b")
    assert verdict_of(named, {named: silent}, lost="b")[0] == "fail"
    # Of the site that stays a name is needed.
    assert verdict_of(known["name of b-db1"], {known["name of b-db1"]: Seen(False, "unknown")})[0] == "fail"


def test_an_application_that_a_cutover_starts_may_refuse_until_then_and_nothing_else_may() -> None:
    endpoint = Need("application, endpoint 2", TLS, "b-app1", 443, "b", own=True)
    refused = Seen(False, "Connection refused", refused=True)
    assert verdict_of(endpoint, {endpoint: refused}) == ("not_applicable", "Connection refused")
    assert verdict_of(STORE_B, {STORE_B: refused}) == ("fail", "Connection refused")
    for said in ("no answer within 3 s", "certificate is not good: certificate has expired"):
        assert verdict_of(endpoint, {endpoint: Seen(False, said)}) == ("fail", said)
    assert verdict_of(endpoint, {endpoint: replace(GOOD, certificate_days=3.0)})[0] == "fail"
    gates = dependencies.judge([endpoint], {endpoint: Seen(False, "no answer within 3 s")}, ["a"], 14.0)
    assert not gates[0].required


def test_what_stays_must_answer_with_a_certificate_that_lasts() -> None:
    assert verdict_of(STORE_B, {STORE_B: GOOD}) == ("pass", "answers in 0.01 s, certificate for 300 days")
    assert verdict_of(STORE_B, {STORE_B: replace(GOOD, certificate_days=13.9)})[0] == "fail"
    assert verdict_of(STORE_B, {STORE_B: Seen(False, "Connection refused")}) == ("fail", "Connection refused")
    assert verdict_of(STORE_B, {STORE_B: Seen(None, "no authority")}) == ("unknown", "no authority")


def test_only_what_is_declared_as_needed_keeps_a_run_from_going_on() -> None:
    needed = replace(STORE_A, needed=True)
    gates = dependencies.judge([needed, STORE_B], {needed: GOOD, STORE_B: Seen(False, "x")}, ["a"], 14.0)
    assert [(gate.verdict, gate.required) for gate in gates] == [("fail", True), ("fail", False)]


@pytest.mark.parametrize(
    ("runbook", "words", "asked"),
    [
        ("failover", {"dr_scope": "site", "dr_target_site": "b"}, {"b", ""}),
        ("switchover", {"dr_scope": "site", "dr_target_site": "a"}, {"a", ""}),
        ("check", {"dr_target_site": "b"}, {"a", "b", ""}),
        ("failover", {"dr_scope": "database", "dr_target_site": "b"}, None),
    ],
)
def test_a_run_asks_nothing_in_the_site_that_it_leaves(
    runbook: str, words: dict[str, str], asked: set[str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its silence would be waited for while nobody is served. A check has the time."""
    monkeypatch.delenv("RELEVO_STORE", raising=False)
    control = Control(f"20261128T110000Z-{runbook}-1f3a5c7e", str(tmp_path))
    sites = {str(host["name"]): str(host["site"]) for host in HOSTS}
    groups = {"dr_database": ["a-db1", "b-db1"], "all": list(sites)}
    control.write("landscape", {"runbook": runbook, "given": words, "groups": groups, "sites": sites})
    looked: list[Need] = []

    def seen(needs: list[Need], _seconds: float) -> dict[Need, Seen]:
        looked.extend(needs)
        return dict.fromkeys(needs, Seen(True, "answers"))

    monkeypatch.setattr(action, "look", seen)
    acting = action.ActionModule.__new__(action.ActionModule)
    acting.control, acting.host = control, "wit1"
    arguments = {name: KNOWN[name] for name in ("secrets_directory", "declared")}
    acting._task = SimpleNamespace(args={**arguments, "timeout_seconds": 3.0})
    ports = dict.fromkeys(groups["dr_database"], 5432)
    hostvars = {host: {"dr_site": site, "dr_cluster_port": ports.get(host)} for host, site in sites.items()}
    hostvars["localhost"] = {
        "dr_pgbackrest_repositories": KNOWN["repositories"],
        "dr_keys_paths": KNOWN["key_paths"],
        "dr_cluster_tls_ca_file": "/ca.pem",
    }
    acting.variables = {"groups": groups, "hostvars": hostvars}
    acting.act()
    assert {need.site for need in looked} == (asked or set())
    assert control.exists("dependencies") == (asked is not None)
    if asked is not None:
        kept = {Need(**entry["need"]): Seen(**entry["seen"]) for entry in control.read("dependencies")["looked"]}
        assert {need.site for need in kept} == {"a", "b", ""}
        assert all(one.answers is (True if need in looked else None) for need, one in kept.items())


class Unreadable(dict[str, Any]):
    """Variables of a host of which one names something that is not there."""

    def get(self, name: str, default: Any = None) -> Any:
        if name == "dr_app_components":
            message = "'dr_app_environment_file' is undefined"
            raise AnsibleError(message)
        return super().get(name, default)


def looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: dict[str, dict[str, Any]], **groups: list[str]) -> Control:
    """A check over hosts with these variables, whose looks all are answered."""
    control = Control("20261128T110000Z-check-1f3a5c7e", str(tmp_path))
    everybody = {"dr_database": [], **groups, "all": list(of)}
    control.write("landscape", {"runbook": "check", "given": {}, "groups": everybody, "sites": {}})
    monkeypatch.setattr(action, "look", lambda needs, _seconds: dict.fromkeys(needs, Seen(True, "answers")))
    acting = action.ActionModule.__new__(action.ActionModule)
    acting.control, acting.host = control, "wit1"
    acting._task = SimpleNamespace(args={"secrets_directory": "/s", "declared": [], "timeout_seconds": 3.0})
    acting.variables = {"groups": everybody, "hostvars": {"localhost": {}, **of}}
    acting.act()
    return control


FILES = {"id": 1, "endpoint": "s3.b.example.org", "bucket": "files", "key_id_secret": "files_key_id", "key_secret": "files_key"}
DNS = {
    "name": "dns",
    "provider": "route53",
    "endpoint": "https://dns.example.org",
    "key_id_secret": "dns_key_id",
    "key_secret": "dns_key",
}
WITNESS = {
    "ansible_host": "192.0.2.9",
    "dr_app_proof_mix": [{"path": "/"}],
    "dr_ledger_http_endpoints": ["https://a-app1", "https://b-app1"],
    "dr_app_proof_password_secret": "probe_password",
}


def test_what_only_some_hosts_say_is_found_with_its_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELEVO_STORE", "postgresql://relevo:geheim@results.example.org/relevo")
    database = {"ansible_host": "192.0.2.7", "dr_files_repositories": [FILES]}
    application = {
        "ansible_host": "192.0.2.8",
        "dr_files_repositories": [FILES],
        "dr_app_components": [DNS, {"provider": "systemd"}],
    }
    of = {"b-db1": database, "a-app1": application, "b-app1": application, "wit1": WITNESS}
    control = looked_at(tmp_path, monkeypatch, of, dr_database=["b-db1"], dr_application=["a-app1", "b-app1"], dr_witness=["wit1"])
    kept = control.read("dependencies")
    assert kept["unread"] == [] and "geheim" not in str(kept)
    needs = {Need(**entry["need"]).place() for entry in kept["looked"] if entry["need"]["protocol"] in (TCP, TLS)}
    assert needs == {"s3.b.example.org:443", "dns.example.org:443", "a-app1:443", "b-app1:443", "results.example.org:5432"}
    secrets = {entry["need"]["host"] for entry in kept["looked"] if entry["need"]["protocol"] == FILE}
    passwords = {f"files_{host}_password" for host in ("b-db1", "a-app1", "b-app1")}
    names = {"files_key_id", "files_key", "dns_key_id", "dns_key", "probe_password", *passwords}
    assert secrets == {f"/s/{name}" for name in names}


def test_who_vouches_for_a_server_is_a_path_on_the_controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host has the authority elsewhere; only where the controller says nothing is that taken."""
    monkeypatch.delenv("RELEVO_STORE", raising=False)
    hosts = {
        "b-db1": {"dr_files_repositories": [{**FILES, "ca_file": "/etc/ssl/ca.pem"}]},
        "wit1": {**WITNESS, "dr_ledger_http_ca_file": "/etc/ssl/ca.pem"},
    }
    here = {"dr_files_repositories": [{**FILES, "ca_file": "/home/ca.pem"}], "dr_ledger_http_ca_file": "/home/ca.pem"}

    def paths(**localhost: Any) -> set[str | None]:
        found = looked_at(tmp_path, monkeypatch, {**hosts, "localhost": localhost}, dr_database=["b-db1"], dr_witness=["wit1"])
        return {entry["need"]["ca_file"] for entry in found.read("dependencies")["looked"] if entry["need"]["protocol"] == TLS}

    assert paths(**here) == {"/home/ca.pem"}
    assert paths() == {"/etc/ssl/ca.pem"}


def test_a_proof_that_nobody_makes_needs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RELEVO_STORE", raising=False)
    control = looked_at(tmp_path, monkeypatch, {"wit1": {**WITNESS, "dr_app_proof_mix": []}}, dr_witness=["wit1"])
    assert control.read("dependencies") == {"looked": [], "unread": []}


def test_one_variable_that_cannot_be_read_is_said_and_hides_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RELEVO_STORE", raising=False)
    wrong = Unreadable(ansible_host="192.0.2.8", dr_files_repositories=[{"id": 1, "endpoint": "s3.b.example.org"}])
    groups = {"dr_application": ["a-app1", "b-app1"], "dr_witness": ["wit1"]}
    control = looked_at(tmp_path, monkeypatch, {"a-app1": wrong, "b-app1": wrong, "wit1": WITNESS}, **groups)
    kept = control.read("dependencies")
    assert {entry["need"]["name"] for entry in kept["looked"]} == {
        "application, endpoint 1",
        "application, endpoint 2",
        "secret probe_password",
    }
    assert kept["unread"] == [
        "dr_files_repositories: an entry without what it needs",
        "dr_app_components: 'dr_app_environment_file' is undefined",
    ]
    plan: Any = SimpleNamespace(scope="site", source_site="a")
    judge = preflight.ActionModule.__new__(preflight.ActionModule)
    judge.control, judge._task = control, SimpleNamespace(args={"certificate_min_days": 14.0})
    gates = judge._dependencies(plan)
    assert [(gate.verdict, gate.required) for gate in gates] == [("pass", False)] * 3 + [("unknown", False)] * 2
    assert gates[-1].observed == "nobody looked: dr_app_components: 'dr_app_environment_file' is undefined"


def test_what_cannot_be_read_is_a_finding_and_the_witness_goes_on(tmp_path: Path) -> None:
    """A task that failed would take the witness out of the run, and its account with it."""
    control = Control("20261128T110000Z-failover-1f3a5c7e", str(tmp_path))
    words = {"dr_scope": "site", "dr_target_site": "b"}
    control.write("landscape", {"runbook": "failover", "given": words, "groups": {"dr_database": []}, "sites": {}})
    acting = action.ActionModule.__new__(action.ActionModule)
    acting.control, acting.host = control, "wit1"
    wrong = [{"name": "mirror", "host": "mirror.example.org", "port": 0, "protocol": "tls"}]
    acting._task = SimpleNamespace(args={"secrets_directory": "/etc/secrets", "declared": wrong, "timeout_seconds": 3.0})
    acting.variables = {"groups": {"dr_database": [], "all": []}, "hostvars": {"localhost": {}}}
    answer = acting.act()
    assert "failed" not in answer
    (said,) = control.read("dependencies")["unread"]
    gate = dependencies.unseen(said)
    assert (gate.verdict, gate.required) == ("unknown", False)
    assert "mirror" in gate.observed


def test_a_look_that_did_not_come_about_is_said() -> None:
    assert (dependencies.unseen().verdict, dependencies.unseen().required) == ("unknown", False)


# -- the look, at real servers --


@contextmanager
def served(answer: Callable[[socket.socket], object]) -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    try:
                        answer(connection)
                    except OSError:
                        continue

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that is its own authority, for ten days."""
    directory, key = tmp_path_factory.mktemp("tls"), ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]), datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=10))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    (directory / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    (directory / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return directory


@pytest.fixture
def speak(authority: Path) -> Callable[[socket.socket], object]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "ca.pem", authority / "key.pem")
    return lambda connection: context.wrap_socket(connection, server_side=True)


def local(protocol: str, port: int, ca_file: Path | None = None, host: str = "localhost") -> Need:
    return Need("it", protocol, host, port, ca_file=str(ca_file) if ca_file else None, address="127.0.0.1")


def only(need: Need) -> Seen:
    return look([need], 2.0)[need]


def test_a_store_is_believed_by_its_authority_and_its_name(authority: Path, speak: Callable[[socket.socket], object]) -> None:
    with served(speak) as port:
        seen = only(local(TLS, port, authority / "ca.pem"))
        assert seen.answers and seen.said.startswith("answers in ") and 9 < (seen.certificate_days or 0) < 10
        stranger = only(local(TLS, port))
        assert stranger.answers is False and stranger.said.startswith("certificate is not good: ")
        other = only(local(TLS, port, authority / "ca.pem", host="elsewhere.example.org"))
        assert other.answers is False and "certificate is not good" in other.said
        assert only(local(TLS, port, authority / "nowhere.pem")).answers is None


def test_postgresql_is_asked_in_its_own_words(authority: Path, speak: Callable[[socket.socket], object]) -> None:
    def postgresql(connection: socket.socket) -> None:
        assert connection.recv(8) == bytes.fromhex("0000000804d2162f")
        connection.sendall(b"S")
        speak(connection)

    with served(postgresql) as port:
        assert only(local(POSTGRESQL, port, authority / "ca.pem")).answers
    with served(lambda connection: (connection.recv(8), connection.sendall(b"N"))) as port:
        assert only(local(POSTGRESQL, port, authority / "ca.pem")) == Seen(False, "speaks no TLS")


def test_what_is_silent_is_waited_for_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "full").write_text("secret\n")
    with served(lambda _: time.sleep(5)) as port:
        silent = [replace(local(TLS, port), name=str(number)) for number in range(8)]
        files = [Need("file", FILE, str(tmp_path / name), address="") for name in ("full", "empty", "nowhere", "")]
        began = time.monotonic()
        seen = look([*silent, *files, local(NAME, 0), local(NAME, 0, host="nowhere.invalid")], 0.5)
        assert time.monotonic() - began < 2.5
    assert {seen[need].said for need in silent} == {"no answer within 0.5 s"}
    assert [(seen[need].answers, seen[need].said) for need in files] == [
        (True, "is there"),
        (False, "is empty"),
        (False, "No such file or directory"),
        (True, "is there"),
    ]
    assert seen[local(NAME, 0)].said.startswith("is ") and "127.0.0.1" in seen[local(NAME, 0)].said
    assert not seen[local(NAME, 0, host="nowhere.invalid")].answers
    with closing(socket.create_server(("127.0.0.1", 0))) as gone:
        port = gone.getsockname()[1]
    assert only(local(TCP, port)) == Seen(False, "Connection refused", refused=True)
