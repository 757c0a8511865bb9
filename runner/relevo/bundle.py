"""A bundle of results for somebody who does not trust us: records, chain, keys, and what it takes to check them by standard tools."""

from __future__ import annotations

import os
import shutil
from importlib.resources import files
from typing import TYPE_CHECKING

from relevo import audit, chain, entries, head, notice, schema, wording
from relevo.audit import Material
from relevo.entries import Signed
from relevo.errors import ChainError, RelevoError, UsageError
from relevo.head import SignedHead
from relevo.store import Stored, StoredEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from relevo.head import Head
    from relevo.keyring import Signer
    from relevo.store import Store

HEAD, KEYS, VERIFIER = "bundle.head", "allowed_signers", "verify.sh"
CHAIN, RECORDS, STATEMENTS = "chain", "records", "statements"


def write(
    store: Store,
    directory: Path,
    signers: Sequence[Signer],
    sign: Callable[[StoredEntry, tuple[str, ...]], SignedHead],
    chosen: tuple[str, ...] = (),
) -> Head:
    """Write a bundle as a whole, of all records and statements, or of some runs and what was said about them; its head.

    sign: makes the signed head of a chain that ends with an entry.
    """
    if directory.exists() and any(directory.iterdir()):
        message = f"{directory} is not empty: what lies there would be taken for a part of the bundle. Give a new directory."
        raise UsageError(message)
    draft = directory.absolute().with_name(f".{directory.name}.{os.getpid()}")
    try:
        (draft / CHAIN).mkdir(parents=True)
        (draft / RECORDS).mkdir()
        (draft / STATEMENTS).mkdir()
        made = _fill(store, draft, signers, sign, chosen)
        draft.rename(directory)
    except OSError as error:
        message = f"The bundle cannot be written to {directory}: {error.strerror}."
        raise RelevoError(message) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return made


def _fill(
    store: Store,
    draft: Path,
    signers: Sequence[Signer],
    sign: Callable[[StoredEntry, tuple[str, ...]], SignedHead],
    chosen: tuple[str, ...],
) -> Head:
    known, filed, linked = store.listed(), store.filed(), store.entries()
    if not linked:
        message = "There are no results yet."
        raise ChainError(message)
    links = audit.follow(linked)
    for entry in linked:
        _write_signed(draft / CHAIN / f"{entry.sequence:010d}.entry", entry.document, entry.signature)
    for stored in [store.get(run) for run in chosen] if chosen else store.each():
        _check_name(stored.run_id)
        # What came while this goes on belongs to the next bundle; what no entry vouches for is for the auditor to see.
        if stored.run_id in known or stored.run_id in links.members:
            _write_signed(draft / RECORDS / f"{stored.run_id}.json", stored.document, stored.signature)
    said = entries.about(store.statements(), chosen) if chosen else store.statements()
    for one in said:
        _check_name(one.entry_id)
        if one.entry_id in filed or one.entry_id in links.statements:
            _write_signed(draft / STATEMENTS / f"{one.entry_id}.json", one.document, one.signature)
    signed = sign(linked[-1], (*chosen, *(one.entry_id for one in said)) if chosen else ())
    made = head.parse(signed.document)
    (draft / HEAD).write_bytes(signed.file)
    (draft / KEYS).write_text("".join(f"{signer.line}\n" for signer in signers), encoding="ascii")
    (draft / schema.NAME).write_text(schema.shipped(), encoding="utf-8")
    (draft / VERIFIER).write_text(files("relevo").joinpath("templates", VERIFIER).read_text(encoding="utf-8"), encoding="utf-8")
    templates = notice.environment()
    templates.filters.update(moment=wording.moment)
    page = templates.get_template("bundle.md.j2").render(
        head=made,
        signers=signers,
        runs=len(chosen),
        taken_over=links.taken_over,
        statements_taken_over=links.statements_taken_over,
    )
    (draft / "README.md").write_text(page, encoding="utf-8")
    return made


def read(directory: Path) -> Material:
    """A bundle as something to judge. RelevoError when it is none."""
    try:
        linked = [_entry(path) for path in sorted((directory / CHAIN).glob("*.entry"))]
        content = (directory / HEAD).read_bytes() if (directory / HEAD).exists() else b""
        paths = sorted((directory / RECORDS).glob("*.json"))
        said = [Signed(path.stem, path.read_bytes(), _signature(path)) for path in sorted((directory / STATEMENTS).glob("*.json"))]
        if not (directory / CHAIN).is_dir() or not (directory / RECORDS).is_dir():
            message = f"{directory} is no bundle: it has no chain and records."
            raise UsageError(message)
    except OSError as error:
        message = f"The bundle {directory} cannot be read: {error.strerror}."
        raise RelevoError(message) from error
    signed = SignedHead.of_file(content, HEAD)
    try:
        chosen = head.parse(signed.document).chosen
    except ChainError:
        chosen = ()
    return Material(linked, _records(paths), said, [signed], chosen=chosen)


def _records(paths: Sequence[Path]) -> Iterator[Stored]:
    for path in paths:
        yield Stored(path.stem, path.read_bytes(), _signature(path))


def _entry(path: Path) -> StoredEntry:
    return StoredEntry(int(path.stem) if path.stem.isdigit() else 0, path.read_bytes(), _signature(path))


def _signature(path: Path) -> str:
    """What lies beside a file; nothing, which is no signature, when it was removed."""
    beside = path.with_name(f"{path.name}.sig")
    return beside.read_text(encoding="utf-8", errors="replace") if beside.exists() else ""


def _check_name(name: str) -> None:
    if not chain.NAME.fullmatch(name):
        message = f"A document of the store is named {name!r}, which Relevo names none: see relevo results verify."
        raise ChainError(message)


def _write_signed(path: Path, document: bytes, signature: str) -> None:
    path.write_bytes(document)
    path.with_name(f"{path.name}.sig").write_text(signature, encoding="utf-8")
