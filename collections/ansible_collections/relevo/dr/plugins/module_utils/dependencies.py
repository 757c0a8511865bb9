# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a change of site needs beside its hosts: names, stores, keys, secrets, certificates, and what a user declares; which of it goes with a site. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional
from urllib.parse import urlsplit

from ansible_collections.relevo.dr.plugins.module_utils.gates import FAIL, NOT_APPLICABLE, PASS, UNKNOWN, Gate
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal

ID = "DEPENDS"
NAME, TCP, TLS, POSTGRESQL, FILE = "name", "tcp", "tls", "postgresql", "file"
PROTOCOLS = (NAME, TCP, TLS, POSTGRESQL, FILE)
_HTTPS = 443


@dataclass(frozen=True)
class Need:
    """One thing. host: the name that its certificate bears, address: where it is asked; site: with which it is lost, empty when nobody said.

    instead: those that share this word can stand in for each other; needed: the run must not begin without it; else it is a finding.
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

    def place(self) -> str:
        """For a person."""
        return "%s:%d" % (self.host, self.port) if self.port else self.host


@dataclass(frozen=True)
class Seen:
    """What came of a look. answers: None when nobody could look; certificate_days: left, where there is one."""

    answers: Optional[bool]
    said: str
    certificate_days: Optional[float] = None


def derive(known: Mapping[str, Any]) -> list[Need]:
    """Everything that the inventory implies or declares, once.

    known: hosts [{name, address, clients, site, database_port}], repositories, key_paths, secrets_directory, secret_names, ca_file, declared. address: by
    which the controller reaches a host, clients: by which others do.
    """
    sites = {str(said[key]): str(said["site"]) for said in known["hosts"] for key in ("name", "address", "clients")}
    addresses = {str(said[key]): str(said["address"]) for said in known["hosts"] for key in ("name", "clients")}
    found: dict[tuple[str, str, int], Need] = {}
    for need in (*_names(known), *_databases(known), *_stores(known, sites), *_secrets(known), *_declared(known)):
        found.setdefault((need.protocol, need.host, need.port), replace(need, address=addresses.get(need.host, need.host)))
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
            yield Need("name of %s" % host["name"], NAME, str(host["address"]), site=str(host["site"]))


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


def _stores(known: Mapping[str, Any], sites: Mapping[str, str]) -> Iterator[Need]:
    for one in known["repositories"]:
        if one.get("endpoint"):
            endpoint = str(one["endpoint"])
            site = str(one.get("site") or sites.get(endpoint, ""))
            yield Need(
                "backups, repository %s" % one["id"],
                TLS,
                endpoint,
                int(one.get("port") or _HTTPS),
                site,
                "backups",
                one.get("ca_file"),
            )
    for path in known["key_paths"]:
        name, site = "keys in escrow, %s" % path["name"], str(path.get("site") or "")
        if path["kind"] == "directory":
            yield Need(name, FILE, str(path["path"]), site=site, instead="keys")
            continue
        named = path.get("endpoint") or path.get("endpoint_url") or "secretsmanager.%s.amazonaws.com" % path.get("region")
        host, port, tls = _split(str(named), int(path.get("port") or _HTTPS))
        yield Need(name, TLS if tls else TCP, host, port, site or sites.get(host, ""), "keys", path.get("ca_file"))


def _secrets(known: Mapping[str, Any]) -> Iterator[Need]:
    for name in known["secret_names"]:
        yield Need("secret %s" % name, FILE, "%s/%s" % (known["secrets_directory"], name))


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


def _split(named: str, port: int) -> tuple[str, int, bool]:
    """Host, port and whether TLS is spoken there, of a URL or a bare name."""
    if "://" not in named:
        return named, port, True
    parts = urlsplit(named)
    tls = parts.scheme == "https"
    return parts.hostname or "", parts.port or (_HTTPS if tls else 80), tls


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
