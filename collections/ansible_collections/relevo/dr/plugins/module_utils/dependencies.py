# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a change of site needs beside its hosts: names, stores, keys, secrets, certificates, the application, and what a user declares. Pure.

And which of it goes with a site.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional
from urllib.parse import parse_qs, urlsplit

from ansible_collections.relevo.dr.plugins.module_utils.gates import FAIL, NOT_APPLICABLE, PASS, UNKNOWN, Gate
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal

ID = "DEPENDS"
NAME, TCP, TLS, POSTGRESQL, FILE = "name", "tcp", "tls", "postgresql", "file"
PROTOCOLS = (NAME, TCP, TLS, POSTGRESQL, FILE)
_HTTPS = 443
_POSTGRESQL = 5432
_ROUTE53 = "route53.amazonaws.com"
# As the store reads its URL, but that nothing after the host may hold an @: a piece of a password would pass for a host.
_STORE = re.compile(
    r"postgres(?:ql)?(?:\+\w+)?://(?:[^:/@]*(?::[^@]*)?@)?(?P<host>\[[0-9A-Fa-f:.%]+\]|[\w.-]+)(?::(?P<port>\d{1,5}))?"
    r"(?:/[^?@]*)?(?:\?(?P<query>[^@]*))?",
    re.ASCII,
)


@dataclass(frozen=True)
class Need:
    """One thing. host: the name that its certificate bears, address: where it is asked; site: with which it is lost, empty when nobody said.

    instead: those that share this word can stand in for each other; needed: the run must not begin without it; else it is a finding.
    own: it is the site's itself. When that is left nothing has to stand in for it, and where nothing listens yet a cutover starts it.
    """

    name: str
    protocol: str
    host: str
    port: int = 0
    site: str = ""
    instead: str = ""
    ca_file: Optional[str] = None
    needed: bool = False
    address: str = ""
    own: bool = False

    def place(self) -> str:
        """For a person."""
        return "%s:%d" % (self.host, self.port) if self.port else self.host


@dataclass(frozen=True)
class Seen:
    """What came of a look. answers: None when nobody could look; certificate_days: left, where there is one; refused: it lives, and nothing listens."""

    answers: Optional[bool]
    said: str
    certificate_days: Optional[float] = None
    refused: bool = False


def derive(known: Mapping[str, Any]) -> list[Need]:
    """Everything that the inventory implies or declares, once for each use.

    known: hosts [{name, address, clients, site, database_port}], repositories, files (of file_repositories.of_host), key_paths, components (those that the
    controller plays), proofs [{endpoints, ca_file}], store (of the results, a URL or a path), secrets_directory, secret_names, ca_file, declared. address:
    by which the controller reaches a host, clients: by which others do. Raises Refusal.
    """
    sites = {str(said[key]): str(said["site"]) for said in known["hosts"] for key in ("name", "address", "clients")}
    for one in (*known["repositories"], *known["files"]):
        if one.get("endpoint") and one.get("site"):
            sites.setdefault(str(one["endpoint"]), str(one["site"]))
    addresses = {str(said[key]): str(said["address"]) for said in known["hosts"] for key in ("name", "clients")}
    found: dict[tuple[str, str, int, str], Need] = {}
    for need in (
        *_names(known),
        *_databases(known),
        *_repositories(known["repositories"], "backups", sites),
        *_repositories(known["files"], "files", sites),
        *_key_paths(known, sites),
        *_secrets(known),
        *_components(known, sites),
        *_application(known, sites),
        *_results(str(known["store"]), sites),
        *_declared(known),
    ):
        key = (need.protocol, need.host, need.port, need.instead)
        found.setdefault(key, replace(need, address=addresses.get(need.host, need.host)))
    return list(found.values())


def to_ask(needs: Sequence[Need], lost_sites: Iterable[str]) -> list[Need]:
    """What is looked at: nothing in a site that is left, whose silence would be waited for and says nothing of what is needed."""
    lost = set(lost_sites)
    return [need for need in needs if not need.site or need.site not in lost]


def unseen(why: str = "") -> Gate:
    """When the look itself did not come about. why: a sentence, where there is one."""
    fix = "mend that in the inventory" if why else "see what the play before this one says of the witness, on whose turn it is"
    observed = "nobody looked: %s" % why if why else "nobody looked"
    return Gate(ID, "what else a change of site needs", "controller", observed, "a look", UNKNOWN, fix, required=False)


def judge(needs: Sequence[Need], seen: Mapping[Need, Seen], lost_sites: Sequence[str], least_days: float) -> list[Gate]:
    """A gate for each. What is in the site being left must have something outside it that answers, and nothing else is asked of it."""
    return [_judged(need, seen.get(need, Seen(None, "nobody looked")), needs, seen, lost_sites, least_days) for need in needs]


def _judged(
    need: Need, found: Seen, needs: Sequence[Need], seen: Mapping[Need, Seen], lost_sites: Sequence[str], least_days: float
) -> Gate:
    title = "%s (%s)" % (need.name, need.place())
    if need.site and need.site in lost_sites and need.own:
        observed = "in site %s, which is being left" % need.site
        return Gate(ID, title, "controller", observed, "not needed", NOT_APPLICABLE, required=need.needed)
    if need.site and need.site in lost_sites:
        others = [other for other in needs if need.instead and other.instead == need.instead and other.site not in lost_sites]
        answering = [other.name for other in others if seen.get(other, Seen(None, "")).answers]
        observed = "in site %s, which is being left; %s" % (
            need.site,
            "%s answers outside it" % ", ".join(answering) if answering else "nothing outside it stands in for it",
        )
        verdict = NOT_APPLICABLE if answering else FAIL
        return Gate(
            ID,
            title,
            "controller",
            observed,
            "not needed, or another one outside",
            verdict,
            "have one at another site",
            required=need.needed,
        )
    if found.answers is None:
        verdict, expected = UNKNOWN, "an answer"
    elif need.own and found.refused:
        verdict, expected = NOT_APPLICABLE, "an answer after a cutover"
    elif found.certificate_days is not None and found.certificate_days < least_days:
        verdict, expected = FAIL, "a certificate for %g days or more" % least_days
    else:
        verdict, expected = (PASS if found.answers else FAIL), "an answer"
    left = "" if found.certificate_days is None else ", certificate for %.0f days" % found.certificate_days
    fix = (
        "renew the certificate of %s" % need.place()
        if found.answers and verdict == FAIL
        else "see why %s does not answer the controller" % need.place()
    )
    return Gate(ID, title, "controller", found.said + left, expected, verdict, fix, required=need.needed)


def _names(known: Mapping[str, Any]) -> Iterator[Need]:
    """Names that have to be resolved; addresses have not."""
    for host in known["hosts"]:
        if not _is_address(str(host["address"])):
            yield Need("name of %s" % host["name"], NAME, str(host["address"]), site=str(host["site"]), own=True)


def _databases(known: Mapping[str, Any]) -> Iterator[Need]:
    for host in known["hosts"]:
        if host.get("database_port"):
            name = "certificate of PostgreSQL on %s" % host["name"]
            yield Need(
                name,
                POSTGRESQL,
                str(host["clients"]),
                int(host["database_port"]),
                str(host["site"]),
                "database",
                known.get("ca_file"),
            )


def _repositories(declared: Iterable[Mapping[str, Any]], what: str, sites: Mapping[str, str]) -> Iterator[Need]:
    for one in declared:
        if one.get("endpoint"):
            endpoint = str(one["endpoint"])
            site = str(one.get("site") or sites.get(endpoint, ""))
            yield Need(
                "%s, repository %s" % (what, one["id"]),
                TLS,
                endpoint,
                int(one.get("port") or _HTTPS),
                site,
                what,
                one.get("ca_file"),
            )


def _key_paths(known: Mapping[str, Any], sites: Mapping[str, str]) -> Iterator[Need]:
    for path in known["key_paths"]:
        name, site = "keys in escrow, %s" % path["name"], str(path.get("site") or "")
        if path["kind"] == "directory":
            yield Need(name, FILE, str(path["path"]), site=site, instead="keys")
            continue
        named = path.get("endpoint") or path.get("endpoint_url") or "secretsmanager.%s.amazonaws.com" % path.get("region")
        host, port, tls = _split(name, str(named), int(path.get("port") or _HTTPS))
        yield Need(name, TLS if tls else TCP, host, port, site or sites.get(host, ""), "keys", path.get("ca_file"))


def _secrets(known: Mapping[str, Any]) -> Iterator[Need]:
    for name in known["secret_names"]:
        yield Need("secret %s" % name, FILE, "%s/%s" % (known["secrets_directory"], name))


def _components(known: Mapping[str, Any], sites: Mapping[str, str]) -> Iterator[Need]:
    for one in known["components"]:
        name = "service that changes component %s" % one.get("name")
        host, port, tls = _split(name, str(one.get("endpoint") or _ROUTE53))
        yield Need(name, TLS if tls else TCP, host, port, sites.get(host, ""), ca_file=one.get("ca_file") or None)


def _application(known: Mapping[str, Any], sites: Mapping[str, str]) -> Iterator[Need]:
    """As the witness uses it. On the side that does not serve nothing may listen before a cutover."""
    for proof in known["proofs"]:
        for number, endpoint in enumerate(proof["endpoints"], 1):
            name = "application, endpoint %d" % number
            host, port, tls = _split(name, str(endpoint))
            yield Need(name, TLS if tls else TCP, host, port, sites.get(host, ""), ca_file=proof.get("ca_file") or None, own=True)


def _results(store: str, sites: Mapping[str, str]) -> Iterator[Need]:
    """Where it is a database that is reached over the network. Nothing but its host and port is ever told."""
    found = _STORE.fullmatch(store)
    if found is None:
        return
    host, port = found["host"].strip("[]"), int(found["port"] or _POSTGRESQL)
    said = {name: values[-1] for name, values in parse_qs(found["query"] or "").items()}
    authority = said.get("sslrootcert")
    if said.get("sslmode") == "verify-full" and authority:
        ca_file = None if authority == "system" else authority
        yield Need("results", POSTGRESQL, host, port, sites.get(host, ""), "results", ca_file)
    else:
        yield Need("results", TCP, host, port, sites.get(host, ""), "results")


def _declared(known: Mapping[str, Any]) -> Iterator[Need]:
    for one in known["declared"]:
        protocol = str(one.get("protocol") or TCP)
        if (
            protocol not in PROTOCOLS
            or not one.get("name")
            or not one.get("host")
            or (protocol in (TCP, TLS, POSTGRESQL) and not one.get("port"))
        ):
            raise Refusal(
                ID,
                "inventory",
                "an entry of dr_run_dependencies without name, host, port or a known protocol: %s" % one.get("name"),
                "{name, host, port, protocol (%s), site, instead, ca_file, needed}" % ", ".join(PROTOCOLS),
                "correct the inventory",
            )
        yield Need(
            str(one["name"]),
            protocol,
            str(one["host"]),
            int(one.get("port") or 0),
            str(one.get("site") or ""),
            str(one.get("instead") or ""),
            one.get("ca_file"),
            bool(one.get("needed")),
        )


def secret_names(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Every file of dr_secrets_directory that these declarations name."""
    return sorted({str(value) for entry in entries for key, value in entry.items() if key.endswith("_secret") and value})


def _split(what: str, named: str, port: int = _HTTPS) -> tuple[str, int, bool]:
    """Host, port and whether TLS is spoken there, of a URL or a bare name. Refusal for what is none; it shows nothing of it."""
    if "://" not in named:
        return named, port, True
    try:
        parts = urlsplit(named)
        host, own_port = parts.hostname, parts.port
    except ValueError:
        host, own_port = None, None
    if not host:
        raise Refusal(ID, "inventory", "an address that is no URL: %s" % what, "scheme://host[:port]", "correct the inventory")
    tls = parts.scheme == "https"
    return host, own_port or (_HTTPS if tls else 80), tls


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
