"""What makes results evidence: they are verified, anchored elsewhere, and exported for somebody who does not trust us."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from relevo import anchor, audit, bundle, chain, clock, head, identity, keyring, paths, schema, signature, wording
from relevo.console import AsJson, commands, explained, open_store, output, print_json, results
from relevo.errors import ChainError, Exit, UsageError
from relevo.head import Head, SignedHead

if TYPE_CHECKING:
    from relevo.audit import Judgement
    from relevo.keyring import Signer
    from relevo.store import Store, StoredEntry

keys = typer.Typer(no_args_is_help=True, help="The keys with which controllers sign what happened.")
commands.add_typer(keys, name="keys")

AnchorUrl = Annotated[
    str | None,
    typer.Option(
        "--anchor",
        envvar="RELEVO_ANCHOR",
        show_envvar=True,
        help="A directory elsewhere, or s3://BUCKET/PREFIX?days=400&endpoint=...&key_id_file=...&secret_file=...&ca_file=...",
    ),
]


@results.command("verify")
@explained
def verify_results(
    run_id: Annotated[str | None, typer.Argument(help="A run id, or: latest. Without it all records.")] = None,
    place: AnchorUrl = None,
    directory: Annotated[Path | None, typer.Option("--bundle", help="Verify an exported bundle instead of the store.")] = None,
    keys_file: Annotated[
        Path | None, typer.Option("--keys", help="An allowed_signers file; default: this controller's own.")
    ] = None,
    as_json: AsJson = False,
) -> Exit:
    """Check every record, every statement and every entry of the chain; with the anchor also whether an end was cut off."""
    heads = anchor.find(place).newest() if place else []
    own = _own_keys(keys_file)
    if directory is None:
        store = open_store()
        given = audit.material(store, heads, (store.get(run_id).run_id,) if run_id else ())
        if not given.entries and not given.listed:
            output.print("There are no results yet.")
            return Exit.PASSED
    else:
        given = bundle.read(directory)
        given = replace(given, heads=[*given.heads, *heads])
    judgement = audit.judge(given, own)
    if as_json:
        print_json(_tree(judgement))
    else:
        _show(judgement, anchored=place is not None)
    return Exit.FAILED if judgement.findings else Exit.PASSED


def _own_keys(file: Path | None) -> tuple[Signer, ...]:
    if file is None:
        return signature.believed(paths.find_place(os.environ).keys)
    try:
        return keyring.read(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        message = f"The keys in {file} cannot be read: {error}."
        raise UsageError(message) from error


def _tree(judgement: Judgement) -> dict[str, Any]:
    newest = judgement.newest
    return {
        "store": judgement.links.store,
        "entries": len(judgement.links.digests),
        "records": judgement.records,
        "statements": judgement.statements,
        "taken_over": judgement.links.taken_over,
        "statements_taken_over": judgement.links.statements_taken_over,
        "head": _counted(newest) if newest else None,
        "keys": [signer.fingerprint for signer in judgement.believed],
        "findings": [asdict(finding) for finding in judgement.findings],
    }


def _counted(said: Head) -> dict[str, Any]:
    return {"at": said.at, "entries": said.sequence, "records": said.records, "statements": said.statements}


def _show(judgement: Judgement, *, anchored: bool) -> None:
    for finding in judgement.findings:
        output.print(Text(f"{finding.about}: {finding.problem}", "red"))
    links, newest = judgement.links, judgement.newest
    wrong = len({finding.about for finding in judgement.findings})
    about = {finding.about for finding in judgement.findings}
    for count, vouched, what in (
        (judgement.records, links.members, "records"),
        (judgement.statements, links.statements, "statements"),
    ):
        output.print(f"{max(count - len(about & vouched.keys()), 0)} of {count} {what} verify.", highlight=False)
    for count, what in ((links.taken_over, "Records"), (links.statements_taken_over, "Statements")):
        if count:
            output.print(f"{what} that are older than the chain: {count}. It vouches for them from then on only.", highlight=False)
    if newest and not wrong:
        output.print(f"Nothing was cut off since {wording.moment(newest.at)}.", highlight=False)
    elif not newest and not anchored:
        output.print(
            "No anchor was asked: an end that was cut off, by somebody who has the store and a key, is not found.", highlight=False
        )
    said = (
        f"{wording.count(wrong, 'thing')} {'is' if wrong == 1 else 'are'} not as written."
        if wrong
        else f"{wording.count(len(links.digests), 'entry', 'entries')} of the chain follow each other."
    )
    output.print(said, highlight=False)


@results.command("anchor")
@explained
def anchor_results(place: AnchorUrl = None, as_json: AsJson = False) -> Exit:
    """Keep the signed head of the chain, with its count, where whoever changes the store cannot change it."""
    if place is None:
        message = "Where to? Give a directory or a bucket with --anchor, or set RELEVO_ANCHOR."
        raise UsageError(message)
    target = anchor.find(place)
    last = open_store().last_entry()
    if last is None:
        message = "There are no results yet, so there is nothing to anchor."
        raise ChainError(message)
    signed = _sign_head(last)
    said = head.parse(signed.document)
    stamp = signature.stamp(clock.parse_utc(said.at))
    kept = target.keep(anchor.name(said.sequence, stamp), signed.file)
    if as_json:
        print_json({**_counted(said), "kept": kept})
    else:
        output.print(f"{said.counted}. {kept}", highlight=False)
    return Exit.PASSED


def _sign_head(last: StoredEntry, chosen: tuple[str, ...] = ()) -> SignedHead:
    """The head of a chain that ends with this entry, signed now by this controller."""
    key = signature.ready_key(paths.find_place(os.environ).keys)
    entry = chain.parse(last.document)
    made = Head(
        store=entry.store,
        at=max(clock.utc_now(), entry.at),
        sequence=last.sequence,
        records=entry.records,
        entry=chain.digest(last.document),
        controller=identity.controller(),
        key=key.fingerprint,
        chosen=chosen,
        statements=entry.statements,
    )
    return SignedHead(made.document, signature.sign(key, made.document), "")


@results.command("export")
@explained
def export_results(
    directory: Annotated[Path, typer.Option("--out", "-o", help="A new directory.")],
    run_id: Annotated[str | None, typer.Argument(help="A run id, or: latest. Without it all records.")] = None,
    as_json: AsJson = False,
) -> Exit:
    """Write a bundle for an auditor: records, statements, chain, keys, and a verifier that needs nothing of ours."""
    store = open_store()
    chosen = (store.get(run_id).run_id,) if run_id else ()
    believed = audit.believed(store.entries(), signature.believed(paths.find_place(os.environ).keys))
    made = bundle.write(store, directory, believed, _sign_head, chosen)
    count = len(chosen) or made.records
    if as_json:
        print_json({"directory": str(directory), "records": count, "entries": made.sequence, "at": made.at})
    else:
        output.print(
            f"{wording.count(count, 'record')} written to {directory}. Check them there: sh {directory / bundle.VERIFIER}",
            highlight=False,
        )
    return Exit.PASSED


@results.command("schema")
@explained
def show_schema(as_json: AsJson = False) -> Exit:
    """Print the JSON Schema of a record."""
    del as_json  # it is nothing else
    sys.stdout.write(schema.shipped())
    return Exit.PASSED


@keys.command("list")
@explained
def list_keys(as_json: AsJson = False) -> Exit:
    """Whose signatures are believed here, and which keys signed without anybody vouching for them."""
    rows = _key_rows(open_store())
    if as_json:
        print_json(rows)
        return Exit.PASSED
    table = Table(box=None, header_style="dim")
    for title in ("key", "believed", "from", "until"):
        table.add_column(title, no_wrap=True)
    for row in rows:
        believed = Text("yes") if row["believed"] else Text("no", "bold red")
        table.add_row(Text(row["key"]), believed, Text(row["since"] or "–"), Text(row["until"] or "–"))
    output.print(table)
    return Exit.PASSED


def _key_rows(store: Store) -> list[dict[str, Any]]:
    entries = store.entries()
    believed = audit.believed(entries, signature.believed(paths.find_place(os.environ).keys))
    known = {signer.key for signer in believed}
    strangers = [signer for signer in audit.introduced(entries) if signer.key not in known]
    return [
        {"key": signer.fingerprint, "believed": signer.key in known, "since": signer.since, "until": signer.until}
        for signer in (*believed, *strangers)
    ]


@keys.command("trust")
@explained
def trust_key(
    fingerprint: Annotated[str, typer.Argument(help="As the other controller shows it: SHA256:...")], as_json: AsJson = False
) -> Exit:
    """Believe another controller of this store, and say so in the chain. Compare the fingerprint on that controller first."""
    store = open_store()
    signer = next((signer for signer in audit.introduced(store.entries()) if signer.fingerprint == fingerprint), None)
    if signer is None:
        message = f"No entry of the chain introduces the key {fingerprint}: the other controller has written nothing here yet."
        raise UsageError(message)
    signature.believe(paths.find_place(os.environ).keys, signer)
    store.state_signers([signer])
    if as_json:
        print_json({"key": fingerprint, "believed": True})
    else:
        output.print(f"Believed from now on, here and by whoever believes this controller: {fingerprint}", highlight=False)
    return Exit.PASSED


@keys.command("rotate")
@explained
def rotate_key(as_json: AsJson = False) -> Exit:
    """Sign with a new key from now on. The old one vouches for it in the chain, and is believed for the past only.

    Hosts are not concerned: before they promote they believe another key of this controller, which stays.
    """
    place, store = paths.find_place(os.environ), open_store()
    old = signature.ready_key(place.keys)
    following = signature.next_key(place.keys)
    since = clock.parse_utc(store.state_signers([following]).at)
    new = signature.switch(place.keys, since)
    # A key that is new in the chain introduces itself, with all that is believed by now.
    open_store().state_signers([])
    if as_json:
        print_json({"old": old.fingerprint, "new": new.fingerprint, "since": clock.utc(since)})
    else:
        output.print(
            f"{new.fingerprint} signs from now on; {old.fingerprint} is believed for what it signed before.", highlight=False
        )
    return Exit.PASSED
