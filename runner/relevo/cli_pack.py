"""`relevo pack` and `relevo unpack`: a controller in one file, for the day on which its site is gone."""

from __future__ import annotations

import json
import os
import platform
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import relevo
from relevo import (
    belongings,
    digest,
    escape,
    estate,
    forecast,
    handbook,
    identity,
    inventory,
    lockfile,
    notice,
    pack,
    packs,
    paths,
    wheels,
    wording,
)
from relevo.belongings import Kept
from relevo.clock import utc
from relevo.console import Inventory, PolicyFile, commands, complain, explained, load_policy, open_store, output, say, write
from relevo.errors import Exit, InputRefusedError, RelevoError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from relevo.estate import Host
    from relevo.policy import Policy

# What a pack asks of the inventory.
_ASKED = (
    "ansible_ssh_common_args",
    "dr_keys_recipients",
    "dr_keys_shares_file",
    "dr_pack_files",
    "dr_pack_ssh_keys",
    "dr_secrets_directory",
    *handbook.ASKED,
)
# What a lost site needs; everything else is printed by the host that the pack was opened on.
_RUNBOOK = "failover"
_SHARES = Path("roles/dr_keys/files/combine_shares.py")


@commands.command("pack")
@explained
def make_pack(
    sources: Inventory = None,
    directory: Annotated[Path, typer.Option("--out", "-o", help="The directory to write it to.")] = Path(),
    recipients: Annotated[
        list[str] | None,
        typer.Option("--recipient", help="Who opens it: age1... or a public key of OpenSSH; default: dr_keys_recipients."),
    ] = None,
    shelf: Annotated[
        Path | None, typer.Option("--wheels", help="A directory of wheels; what it lacks is fetched. Default: in this state.")
    ] = None,
    with_secrets: Annotated[
        bool, typer.Option("--secrets/--no-secrets", help="Whether dr_secrets_directory is sealed with it.")
    ] = True,
    policy: PolicyFile = None,
) -> Exit:
    """Write an escape pack: one file with which a bare host at another site becomes the controller, without any registry."""
    root, place, source = paths.find_project(Path.cwd(), os.environ), paths.find_place(os.environ), _source(sources)
    standard, hosts = load_policy(policy), estate.look(root, [source], _ASKED)
    commit, files = belongings.project(root)
    where, listed = belongings.inventory(root, source)
    known, unpinned = belongings.known_hosts(hosts)
    lanes = {python: _wheels(root, shelf or place.state / "wheels", python) for python in pack.PYTHONS}
    shelved = {path.name: path for found, _ in lanes.values() for path in found}
    kept = _kept_files(hosts, with_secrets=with_secrets)
    claim = pack.Claim(
        made_at=datetime.now(UTC),
        made_by=f"{identity.operator(os.environ)} on {identity.controller()}",
        commit=commit,
        version=relevo.__version__,
        clusters=estate.clusters(hosts) if standard.policy.escape_pack.clusters_in_clear else None,
        architecture=platform.machine(),
        glibc=wheels.glibc_of(shelved),
    )
    judge = belongings.policy(standard)
    page = _page(claim, hosts, where, kept, unpinned, with_secrets=with_secrets, with_policy=bool(judge))
    keys = {f".relevo/keys/{name}": one for name, one in belongings.signing_key(place.keys).items()}
    sealed = {
        **{f"{escape.PROJECT}{name}": one for name, one in {**files, **listed, **keys}.items()},
        **{f"{escape.ROOT}{name.lstrip('/')}": one for name, one in kept.items()},
        **{f"wheels/{name}": Kept(path.read_bytes(), 0o644) for name, path in shelved.items()},
        **{f"requirements/{python}.txt": Kept(text.encode(), 0o644) for python, (_, text) in lanes.items()},
        **_runbooks(root, hosts, claim, where, standard.policy),
        **judge,
        "known_hosts": Kept(known, 0o600),
        "README.txt": Kept(page.encode(), 0o644),
    }
    clear = {name: path.read_bytes() for name, path in shelved.items() if name.startswith("pyrage-")}
    clear[_SHARES.name] = (root / _SHARES).read_bytes()
    people = recipients or estate.common(hosts, "dr_keys_recipients") or []
    made = pack.make(pack.Contents(sealed, where, clear), claim, people, _of_shares(hosts, source))
    target, total = directory / made.name, escape.sha256(made.content)
    write(target, made.content)
    target.chmod(0o600)
    record = packs.said(total, commit, digest.inventory_digest([source]), estate.clusters(hosts), secrets=with_secrets)
    say(open_store(), packs.KIND, made.label["pack_id"], packs.MADE, record)
    for name in unpinned:
        complain(f"{name}: no host key is pinned here, so the pack has none and ssh will refuse it. Next: pin it, and pack again.")
    output.print(f"{target}: {wording.size(len(made.content))}. Write this down: sha256 {total}", highlight=False)
    return Exit.PASSED


@commands.command("unpack")
@explained
def unpack(
    file: Annotated[Path, typer.Argument(help="The pack.")],
    directory: Annotated[Path, typer.Argument(help="A directory that is empty or not there.")],
    identities: Annotated[list[Path], typer.Option("--identity", "-i", help="An identity file of age, or a key of OpenSSH.")],
) -> Exit:
    """Make an escape pack ready to run on this host; on a bare one, where there is no relevo yet, sh PACK unpack does it."""
    try:
        target = escape.unpack(file, directory, identities, lambda sentence: output.print(sentence, highlight=False))
    except escape.PackError as error:
        raise InputRefusedError(str(error)) from None
    output.print(f"Ready. Next: . {target}/{escape.BESIDE}/environment", highlight=False)
    return Exit.PASSED


def _source(sources: list[str] | None) -> str:
    named = os.environ.get("RELEVO_INVENTORY")
    given = inventory.absolute(sources or ([named] if named else []))
    if len(given) != 1:
        message = f"A pack holds one inventory, and {len(given) or 'none'} was given: name it with -i or RELEVO_INVENTORY."
        raise UsageError(message)
    return given[0]


def _wheels(root: Path, shelf: Path, python: str) -> tuple[list[Path], str]:
    """The wheels for a Python, and the list by which pip checks them."""
    wanted = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    pins = lockfile.needed(lockfile.parse((root / "requirements.lock").read_text(encoding="utf-8")), wanted, python)
    return wheels.gather(shelf, pins, python, platform.machine()), lockfile.text(pins)


def _kept_files(hosts: Sequence[Host], *, with_secrets: bool) -> Mapping[str, Kept]:
    named = [str(path) for path in estate.common(hosts, "dr_pack_files") or []]
    secrets = {str(host.variables["dr_secrets_directory"]) for host in hosts if host.variables.get("dr_secrets_directory")}
    return belongings.controller_files([*named, *(sorted(secrets) if with_secrets else [])])


def _of_shares(hosts: Sequence[Host], source: str) -> str | None:
    """The recipient whose identity was cut into shares; None where there are none."""
    beside = Path(source) if Path(source).is_dir() else Path(source).parent
    file = Path(estate.common(hosts, "dr_keys_shares_file") or beside / "keys_shares.json")
    if not file.exists():
        return None
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["recipient"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{file} is not what the entry point share of dr_keys wrote: {error}. Correct dr_keys_shares_file, or remove it."
        raise UsageError(message) from error


def _runbooks(root: Path, hosts: Sequence[Host], claim: pack.Claim, where: str, policy: Policy) -> dict[str, Kept]:
    """For paper, to each site that has a database; without a PDF where this machine can draw none."""
    cluster, texts = estate.only_cluster(hosts), handbook.read(root, _RUNBOOK)
    here = handbook.Here(hosts, policy, *forecast.look(open_store(), cluster, [_RUNBOOK]))
    found = {}
    for target in handbook.targets(hosts):
        about = handbook.About(cluster, target, where, utc(claim.made_at), claim.made_by, claim.commit)
        for form in handbook.Form:
            try:
                found[f"{_RUNBOOK}-to-{target}.{form}"] = Kept(handbook.render(texts, about, here, form), 0o644)
            except RelevoError as error:
                complain(f"{error} The pack holds the page as HTML.")
    return found


def _page(
    claim: pack.Claim,
    hosts: Sequence[Host],
    where: str,
    kept: Mapping[str, Kept],
    unpinned: Sequence[str],
    *,
    with_secrets: bool,
    with_policy: bool,
) -> str:
    reached = sorted({(host.user or "the user of this session", host.key_file) for host in hosts if not host.local}, key=str)
    escrow: list[dict[str, Any]] = next(
        (list(host.variables["dr_keys_paths"]) for host in hosts if host.variables["dr_keys_paths"]), []
    )
    return (
        notice.environment()
        .get_template("escape.txt.j2")
        .render(
            made_at=wording.moment(claim.made_at.isoformat()),
            made_by=claim.made_by,
            commit=claim.commit,
            clusters=estate.clusters(hosts),
            inventory=where,
            ssh_keys=[f"{user} enters the hosts with {key or 'a key of your agent'}" for user, key in reached],
            hint=estate.common(hosts, "dr_pack_ssh_keys"),
            unpinned=unpinned,
            files=sorted({str(Path(name).parent) for name in kept}),
            secrets=with_secrets,
            policy=f"{escape.BESIDE}/{escape.POLICY} (RELEVO_POLICY)" if with_policy else "the built-in one",
            secrets_directory=estate.common(hosts, "dr_secrets_directory"),
            escrow=[", ".join(f"{key} {value}" for key, value in one.items() if not key.endswith("_secret")) for one in escrow],
        )
    )
