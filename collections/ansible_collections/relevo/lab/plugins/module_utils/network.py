# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The network: one bridge per site, this machine as router between them, and cables that can be cut between any two hosts.

Each host's frames get a mark where they enter its bridge, and the mark stays on them through the router. A cut is the pair (port of the
receiver, mark of the sender), so it holds for every address, both directions, and connections that were open before.
"""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.relevo.lab.plugins.module_utils.laboratory import (
    CONTROLLER,
    Host,
    Laboratory,
    LaboratoryError,
    bridge_of,
    gateway_of,
    installed,
    run,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
CONTROLLER_MARK = 0x5200


def table(lab: Laboratory) -> str:
    return lab.name.replace("-", "_")


def links() -> list[dict[str, Any]]:
    if not installed("ip"):
        return []  # a bare machine has no laboratory, and removing it must say so
    found: list[dict[str, Any]] = json.loads(run(["ip", "-json", "-details", "address"]))
    return found


def own_bridges(lab: Laboratory) -> dict[str, str]:
    """Name and alias of this laboratory's bridges; the alias remembers what forwarding was before."""
    return {link["ifname"]: link["ifalias"] for link in links() if str(link.get("ifalias", "")).startswith(f"{lab.name} ")}


# -- collisions: never take an address or a name that is somebody else's --


def refuse_collisions(lab: Laboratory, networks: dict[str, str], watched: dict[str, str]) -> None:
    """`watched` maps an address this machine depends on to what it is ("the name server", "the package mirror")."""
    own = own_bridges(lab)
    foreign = [link for link in links() if link["ifname"] not in own]
    for site, network in networks.items():
        wanted = ipaddress.ip_network(network)
        for link in foreign:
            if link["ifname"] == bridge_of(site):
                raise LaboratoryError(
                    f"An interface {link['ifname']} exists that is not a bridge of the laboratory {lab.state}. It must be free: remove or rename it."
                )
            for address in link.get("addr_info", []):
                if address["family"] == "inet" and ipaddress.ip_interface(
                    f"{address['local']}/{address['prefixlen']}"
                ).network.overlaps(wanted):
                    raise taken(network, site, f"interface {link['ifname']} has {address['local']}/{address['prefixlen']}")
        for route in json.loads(run(["ip", "-json", "route"])):
            if route["dst"] != "default" and route.get("dev") not in own and ipaddress.ip_network(route["dst"]).overlaps(wanted):
                raise taken(network, site, f"a route to {route['dst']} goes through {route.get('dev')}")
        for address, purpose in watched.items():
            if ipaddress.ip_address(address) in wanted:
                raise taken(network, site, f"{purpose} has the address {address}")


def taken(network: str, site: str, seen: str) -> LaboratoryError:
    return LaboratoryError(
        f"The network {network} of site {site} is not free: {seen}. Choose another lab_network in inventories/lab/group_vars/all.yml."
    )


# -- what must be there --


def ruleset(lab: Laboratory, hosts: list[Host]) -> str:
    """Both tables as nft reads them; declared first and deleted, so that loading replaces them in one step."""
    name = table(lab)
    senders = "\n".join(f'    iifname "{host.port}" meta mark set {mark:#x}' for host, mark in marks(hosts))
    bridges = ", ".join(sorted({f'"{host.bridge}"' for host in hosts}))
    confined = [host for host in hosts if host.confined]
    chains = "".join(confinement(hosts, host) for host in confined)
    leaving = "".join(f'    iifname "{host.port}" jump {chain_of("from", host)}\n' for host in confined)
    arriving = "".join(f'    oifname "{host.port}" jump {chain_of("to", host)}\n' for host in confined)
    return f"""table bridge {name}
delete table bridge {name}
table bridge {name} {{
  set cut {{ type ifname . mark; }}
{chains}  chain sender {{
    type filter hook prerouting priority -300; policy accept;
{senders}
{leaving}  }}
  chain receiver {{
    type filter hook postrouting priority 300; policy accept;
    oifname . meta mark @cut drop
{arriving}  }}
}}
table inet {name}
delete table inet {name}
table inet {name} {{
  set cut {{ type mark; }}
  chain between_sites {{
    type filter hook forward priority 0; policy accept;
    iifname {{ {bridges} }} oifname {{ {bridges} }} accept
    iifname {{ {bridges} }} drop
    oifname {{ {bridges} }} drop
  }}
  chain from_controller {{
    type route hook output priority -300; policy accept;
    oifname {{ {bridges} }} meta mark set {CONTROLLER_MARK:#x}
  }}
  chain to_controller {{
    type filter hook input priority -300; policy accept;
    iifname {{ {bridges} }} meta mark @cut drop
  }}
}}
"""


def chain_of(direction: str, host: Host) -> str:
    return f"{direction}_{host.name.replace('-', '_')}"


def confinement(hosts: list[Host], host: Host) -> str:
    """The chains and counters of a host that may exchange packets with a few others only.

    Questions for addresses (ARP) pass: what is asked for them is what counts. Packets to everybody (multicast) and strangers' flooded frames
    are dropped uncounted, so that the counters stand still unless somebody really tried. A prober that says what it is, by DSCP CS1, is
    counted apart, and dropped all the same.
    """
    allowed = [other.address for other in hosts if other.name in host.reaches.split(",")]
    addresses = ", ".join(sorted({host.address, host.gateway, *allowed}))
    return f"""  counter {chain_of("leaked", host)} {{ }}
  counter {chain_of("probed", host)} {{ }}
  chain {chain_of("from", host)} {{
    ether type arp accept
    ip daddr {{ {addresses} }} accept
    meta pkttype {{ broadcast, multicast }} drop
    ip dscp cs1 counter name {chain_of("probed", host)} drop
    counter name {chain_of("leaked", host)} drop
  }}
  chain {chain_of("to", host)} {{
    ether type arp accept
    ip saddr {{ {addresses} }} accept
    ip daddr {host.address} counter name {chain_of("leaked", host)}
    drop
  }}
"""


def leaked(lab: Laboratory, host: Host) -> tuple[int, int]:
    """Packets that were dropped because the host is confined, and those of them (counted apart) of a prober that said what it is."""
    packets = []
    for kind in ("leaked", "probed"):
        listed = json.loads(run(["nft", "--json", "list", "counter", "bridge", table(lab), chain_of(kind, host)]))["nftables"]
        packets.append(next(int(entry["counter"]["packets"]) for entry in listed if "counter" in entry))
    return packets[0], packets[1]


def marks(hosts: Iterable[Host]) -> list[tuple[Host, int]]:
    return [(host, CONTROLLER_MARK + number) for number, host in enumerate(hosts, start=1)]


def mark_of(hosts: Iterable[Host], name: str) -> int:
    return CONTROLLER_MARK if name == CONTROLLER else next(mark for host, mark in marks(hosts) if host.name == name)


def tables_present(lab: Laboratory) -> list[str]:
    if not installed("nft"):
        return []
    listed = json.loads(run(["nft", "--json", "list", "tables"]))["nftables"]
    return [entry["table"]["family"] for entry in listed if "table" in entry and entry["table"]["name"] == table(lab)]


def plan_presence(lab: Laboratory, networks: dict[str, str], hosts: list[Host]) -> list[str]:
    """What is missing, in words."""
    own = own_bridges(lab)
    plan = [f"bridge {bridge_of(site)} {gateway_of(network)}" for site, network in networks.items() if bridge_of(site) not in own]
    rules = lab.state / "network.nft"
    if len(tables_present(lab)) != 2 or not rules.exists() or rules.read_text() != ruleset(lab, hosts):
        plan.append("packet filter tables")
    if FORWARDING.read_text().strip() != "1":
        plan.append("forwarding")
    return plan


def make_present(lab: Laboratory, networks: dict[str, str], hosts: list[Host]) -> None:
    own = own_bridges(lab)
    before = forwarding_before(own) or FORWARDING.read_text().strip()
    for site, network in networks.items():
        bridge = bridge_of(site)
        if bridge in own:
            continue
        run(["ip", "link", "add", bridge, "type", "bridge", "forward_delay", "0"])
        run(["ip", "link", "set", bridge, "alias", f"{lab.name} ip_forward_before={before}"])
        run(["ip", "address", "add", f"{gateway_of(network)}/{ipaddress.ip_network(network).prefixlen}", "dev", bridge])
        run(["ip", "link", "set", bridge, "up"])
    rules = ruleset(lab, hosts)
    run(["nft", "--file", "-"], stdin=rules)
    (lab.state / "network.nft").write_text(rules)
    FORWARDING.write_text("1")


def forwarding_before(own: dict[str, str]) -> str:
    return next((alias.rpartition("=")[2] for alias in own.values()), "")


# -- what must be gone --


def plan_absence(lab: Laboratory) -> list[str]:
    return [*own_bridges(lab), *(f"table {family}" for family in tables_present(lab))]


def make_absent(lab: Laboratory) -> None:
    own = own_bridges(lab)
    before = forwarding_before(own)
    for bridge in own:
        run(["ip", "link", "delete", bridge])
    for family in tables_present(lab):
        run(["nft", "delete", "table", family, table(lab)])
    if before:
        FORWARDING.write_text(before)


# -- cuts --


def cut_elements(hosts: list[Host], one: str, other: str) -> list[tuple[str, str]]:
    """(family, set element) for both directions between two hosts, one of which may be the controller."""
    elements = []
    for sender, receiver in ((one, other), (other, one)):
        mark = mark_of(hosts, sender)
        if receiver == CONTROLLER:
            elements.append(("inet", f"{mark:#x}"))
        else:
            port = next(host.port for host in hosts if host.name == receiver)
            elements.append(("bridge", f'"{port}" . {mark:#x}'))
    return elements


def change_cut(lab: Laboratory, one: str, other: str, verb: str) -> None:
    """`verb` is add or delete; adding what is there and deleting what is not are both fine."""
    change_cuts(lab, [(one, other)], verb)


def change_cuts(lab: Laboratory, pairs: Sequence[tuple[str, str]], verb: str) -> None:
    """The same for many pairs at one moment."""
    hosts = lab.hosts()
    lines = [
        f"{{verb}} element {family} {table(lab)} cut {{{{ {element} }}}}"
        for one, other in pairs
        for family, element in cut_elements(hosts, one, other)
    ]
    # An element must exist to be deleted: add it first, in the same transaction.
    verbs = ["add", "delete"] if verb == "delete" else ["add"]
    run(["nft", "--file", "-"], stdin="\n".join(line.format(verb=each) for each in verbs for line in lines) + "\n")


def heal_all(lab: Laboratory) -> None:
    run(["nft", "--file", "-"], stdin="".join(f"flush set {family} {table(lab)} cut\n" for family in ("bridge", "inet")))


def cuts(lab: Laboratory) -> int:
    """How many one-way cuts are in force."""
    count = 0
    for family in tables_present(lab):
        for entry in json.loads(run(["nft", "--json", "list", "set", family, table(lab), "cut"]))["nftables"]:
            count += len(entry.get("set", {}).get("elem", []))
    return count
