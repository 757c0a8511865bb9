"""Whatever is done to a store or a bundle is found and named: by relevo in both, and by standard tools in the bundle."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo import audit, bundle, chain, clock, keyring, report, signature
from relevo.errors import UsageError
from relevo.head import SignedHead
from relevo.record import parse
from relevo.store import Store, StoredEntry
from tests.unit.runner.evidence import Forger, Past, add, as_store, head_of, make, make_with_statements, place_at, say, signed_head


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Past:
    return make(tmp_path_factory.mktemp("past"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> signature.SigningKey:
    return signature.ready_key(tmp_path_factory.mktemp("stranger"))


def standard_tools(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The verifier of the bundle, as it lies there."""
    return subprocess.run(["sh", directory / "verify.sh", *options], capture_output=True, text=True, check=False)


def edit_record(forger: Forger) -> None:
    forger.edit(forger.record("run1"), b'"ana"', b'"bob"')


def edit_and_sign_record(forger: Forger) -> None:
    edit_record(forger)
    forger.sign(forger.record("run1"))


def edit_old_record(forger: Forger) -> None:
    forger.edit(forger.record("run0"), b'"ana"', b'"bob"')


def change_signature(forger: Forger) -> None:
    forger.record("run2").with_suffix(".json.sig").write_bytes(forger.record("run1").with_suffix(".json.sig").read_bytes())


def remove_record(forger: Forger) -> None:
    forger.remove(forger.record("run2"))


def remove_record_and_entry(forger: Forger) -> None:
    forger.remove(forger.record("run2"), forger.entry(4))


def close_the_gap(forger: Forger) -> None:
    forger.remove(forger.record("run2"), forger.entry(4))
    forger.exchange(forger.entry(5), forger.put_in(4))
    for suffix in ("", ".sig"):
        path = forger.entry(5).with_name(forger.entry(5).name + suffix)
        path.unlink()
        forger.record("run4").with_name(f"run4.json{suffix}").rename(forger.entry(4).with_name(forger.entry(4).name + suffix))


def exchange_records(forger: Forger) -> None:
    forger.exchange(forger.record("run1"), forger.record("run2"))


def exchange_entries(forger: Forger) -> None:
    forger.exchange(forger.entry(3), forger.entry(4))


def put_record_in(forger: Forger) -> None:
    forger.put_in(7)


def append_record(forger: Forger) -> None:
    forger.append(7)


def edit_entry(forger: Forger) -> None:
    forger.edit(forger.entry(3), b"controller ", b"controller x")


def edit_and_sign_entry(forger: Forger) -> None:
    forger.write(replace(forger.read(3), members=()))


def edit_form_of_entry(forger: Forger) -> None:
    forger.edit(forger.entry(4), b"\nkind record", b"\nkind removal")


def remove_entry(forger: Forger) -> None:
    forger.remove(forger.entry(3))


def remove_first_entry(forger: Forger) -> None:
    forger.remove(forger.entry(1))


def double_entry(forger: Forger) -> None:
    for suffix in ("", ".sig"):
        source, target = (forger.entry(number).with_name(forger.entry(number).name + suffix) for number in (5, 6))
        target.write_bytes(source.read_bytes())


def cut_the_end(forger: Forger) -> None:
    forger.remove(forger.record("run3"), forger.entry(5))


def begin_again(forger: Forger) -> None:
    """The whole chain anew, by somebody who signs it all."""
    writer = chain.Writer("there", forger.key.fingerprint, (keyring.Signer(signature.public(forger.key.path)).line,))
    begun = chain.first("0" * 32, clock.utc_now(), writer)
    members = [chain.Member(chain.digest(forger.record(f"run{n}").read_bytes()), f"run{n}") for n in range(3)]
    taken = chain.following(chain.End(1, begun.document, begun), clock.utc_now(), writer, chain.Kind.TAKEOVER, members)
    forger.remove(forger.record("run3"), *(forger.entry(number) for number in range(1, 6)))
    forger.write(begun)
    forger.write(taken)
    forger.sign(forger.record("run0"))


def empty(forger: Forger) -> None:
    forger.remove(*(forger.entry(number) for number in range(1, 6)))


@dataclass(frozen=True)
class Tampering:
    """what: done by somebody without a key of ours; named: what must be named by whoever looks."""

    what: Callable[[Forger], None]
    named: tuple[str, ...]


TAMPERINGS = [
    Tampering(edit_record, ("run1: edited", "run1: its signature does not hold")),
    Tampering(edit_and_sign_record, ("run1: edited", "run1: its signature does not hold")),
    Tampering(edit_old_record, ("run0: edited", "run0: its signature does not hold")),
    Tampering(change_signature, ("run2: its signature does not hold",)),
    Tampering(remove_record, ("run2: missing: entry 4",)),
    Tampering(remove_record_and_entry, ("missing: removed from the chain",)),
    Tampering(close_the_gap, ("entry 4: reordered: it was written as entry 5", "entry 4: does not follow entry 3")),
    Tampering(exchange_records, ("run1: edited", "run2: edited")),
    Tampering(exchange_entries, ("entry 3: reordered: it was written as entry 4", "entry 4: reordered")),
    Tampering(put_record_in, ("run7: put in: no entry",)),
    Tampering(append_record, ("entry 6: forged", "run7: its signature does not hold")),
    Tampering(edit_entry, ("entry 3: forged or edited", "entry 4: does not follow entry 3")),
    Tampering(edit_and_sign_entry, ("entry 3: forged or edited", "entry 4: does not follow entry 3", "run1: put in")),
    Tampering(edit_form_of_entry, ("entry 4: edited", "entry 5: does not follow entry 4", "run2: put in")),
    Tampering(remove_entry, ("missing: removed from the chain", "run1: put in")),
    Tampering(remove_first_entry, ("missing: removed from the chain",)),
    Tampering(double_entry, ("entry 6: reordered: it was written as entry 5",)),
    Tampering(cut_the_end, ("cut off",)),
    Tampering(begin_again, ("entry 1: forged", "entry 2: forged", "the chain was replaced", "run0: its signature does not hold")),
    Tampering(empty, ("chain: missing", "run1: put in")),
]


@pytest.fixture(params=TAMPERINGS, ids=lambda tampering: tampering.what.__name__)
def tampered(
    request: pytest.FixtureRequest, past: Past, stranger: signature.SigningKey, tmp_path: Path
) -> tuple[Path, tuple[str, ...]]:
    directory = tmp_path / "bundle"
    shutil.copytree(past.directory, directory)
    request.param.what(Forger(directory, stranger))
    return directory, request.param.named


def words(judgement: audit.Judgement) -> str:
    return "\n".join(f"{finding.about}: {finding.problem}" for finding in judgement.findings)


def test_every_tampering_is_found_by_all_three(past: Past, tampered: tuple[Path, tuple[str, ...]], tmp_path: Path) -> None:
    directory, named = tampered
    done = standard_tools(directory)
    assert done.returncode == 1, done.stdout + done.stderr
    of_the_bundle = words(audit.judge(bundle.read(directory), past.believed))
    store = as_store(directory, place_at(tmp_path / "store"))
    of_the_store = words(audit.judge(audit.material(store, [head_of(directory)]), past.believed))
    for said in (done.stdout, of_the_bundle, of_the_store):
        assert [name for name in named if name not in said] == [], said


def remove_head(forger: Forger) -> None:
    (forger.directory / "bundle.head").unlink()


def edit_head(forger: Forger) -> None:
    forger.edit(forger.directory / "bundle.head", b"\nrecords 4\n", b"\nrecords 3\n")


def edit_form_of_head(forger: Forger) -> None:
    forger.edit(forger.directory / "bundle.head", b"relevo-head/1", b"relevo-head/2")


def remove_signature_of_record(forger: Forger) -> None:
    forger.record("run2").with_name("run2.json.sig").unlink()


def remove_signature_of_entry(forger: Forger) -> None:
    forger.entry(4).with_name(f"{forger.entry(4).name}.sig").unlink()


def number_entry_anew(forger: Forger) -> None:
    for suffix in ("", ".sig"):
        path = forger.entry(5).with_name(forger.entry(5).name + suffix)
        path.rename(forger.entry(50).with_name(forger.entry(50).name + suffix))


def put_entry_in_without_number(forger: Forger) -> None:
    shutil.copy(forger.entry(4), forger.entry(4).with_name("later.entry"))


# What can be done to the files of a bundle alone.
OF_FILES = [
    Tampering(remove_head, ("bundle.head: missing",)),
    Tampering(edit_head, ("bundle.head: forged",)),
    Tampering(edit_form_of_head, ("bundle.head: edited",)),
    Tampering(remove_signature_of_record, ("run2: its signature does not hold",)),
    Tampering(remove_signature_of_entry, ("entry 4: forged or edited",)),
    Tampering(number_entry_anew, ("missing: removed from the chain", "entry 50: reordered: it was written as entry 5")),
    Tampering(put_entry_in_without_number, ()),
]


@pytest.mark.parametrize("tampering", OF_FILES, ids=lambda tampering: tampering.what.__name__)
def test_every_tampering_with_the_files_of_a_bundle_is_found_by_both(
    past: Past, stranger: signature.SigningKey, tmp_path: Path, tampering: Tampering
) -> None:
    directory = tmp_path / "bundle"
    shutil.copytree(past.directory, directory)
    tampering.what(Forger(directory, stranger))
    done = standard_tools(directory)
    assert done.returncode == 1, done.stdout + done.stderr
    judgement = audit.judge(bundle.read(directory), past.believed)
    assert judgement.findings
    for said in (done.stdout, words(judgement)):
        assert [name for name in tampering.named if name not in said] == [], said


def test_what_nobody_touched_is_as_it_was_written(past: Past, tmp_path: Path) -> None:
    done = standard_tools(past.directory)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Everything is as it was written: 4 records, 0 statements, 5 entries." in done.stdout
    assert "Records that are older than the chain: 1." in done.stdout
    assert words(audit.judge(bundle.read(past.directory), past.believed)) == ""
    store = as_store(past.directory, place_at(tmp_path / "store"))
    judgement = audit.judge(audit.material(store, [head_of(past.directory)]), past.believed)
    assert words(judgement) == ""
    assert (judgement.records, judgement.links.taken_over) == (4, 1)
    own = audit.judge(audit.material(Store(past.place), []), past.believed)
    assert words(own) == ""


def test_a_key_of_ours_that_is_dated_back_is_found(past: Past, tmp_path: Path) -> None:
    """Who stole a key that is out of use can sign with an old date only."""
    shutil.copytree(past.directory, tmp_path / "bundle")
    forger = Forger(tmp_path / "bundle", past.key)
    forger.append(7, at=forger.read(1).at)
    said = words(audit.judge(bundle.read(tmp_path / "bundle"), past.believed))
    done = standard_tools(tmp_path / "bundle")
    assert "entry 6: dated back" in said and "entry 6: dated back" in done.stdout
    assert done.returncode == 1


def test_a_cut_end_with_its_head_is_found_by_an_anchor_only(past: Past, tmp_path: Path) -> None:
    directory = tmp_path / "bundle"
    shutil.copytree(past.directory, directory)
    forger = Forger(directory, past.key)
    kept = tmp_path / "kept.head"
    kept.write_bytes((directory / "bundle.head").read_bytes())
    cut_the_end(forger)
    path = forger.entry(4)
    shorter = signed_head(past.key)(StoredEntry(4, path.read_bytes(), ""), ())
    (directory / "bundle.head").write_bytes(shorter.file)
    assert standard_tools(directory).returncode == 0
    done = standard_tools(directory, "-a", str(kept))
    assert done.returncode == 1
    assert "cut off" in done.stdout
    given = bundle.read(directory)
    assert words(audit.judge(given, past.believed)) == ""
    given = bundle.read(directory)
    anchored = replace(given, heads=[SignedHead.of_file(kept.read_bytes(), "kept")])
    assert "kept: cut off" in words(audit.judge(anchored, past.believed))


@pytest.mark.parametrize("column", ["runbook", "verdict", "opened_at"])
def test_a_list_that_shows_other_figures_is_found(past: Past, tmp_path: Path, column: str) -> None:
    store = as_store(past.directory, place_at(tmp_path / "store"))
    for table in ("record", "summary"):
        with sqlite3.connect(tmp_path / "store" / "relevo.db") as database:
            database.execute(f"UPDATE {table} SET {column} = '2030' WHERE run_id = 'run2'")  # noqa: S608 - of this test
        assert "run2: the lists show other figures" in words(audit.judge(audit.material(store, []), past.believed))


def test_a_measured_time_that_is_edited_beside_its_document_is_found(past: Past, tmp_path: Path) -> None:
    store = as_store(past.directory, place_at(tmp_path / "store"))
    with sqlite3.connect(tmp_path / "store" / "relevo.db") as database:
        database.execute("UPDATE summary SET rto_seconds = 1 WHERE run_id = 'run2'")
        (row,) = database.execute("SELECT * FROM summary WHERE run_id = 'run1'")
        database.execute(f"INSERT INTO summary VALUES ({', '.join('?' * len(row))})", ("run9", *row[1:]))  # noqa: S608 - marks
    said = words(audit.judge(audit.material(store, []), past.believed))
    assert "run2: the lists show other figures" in said
    assert "run9: the lists show a run of which there is no record" in said


def test_a_store_that_is_put_back_to_an_earlier_state_is_found_without_an_anchor(tmp_path: Path) -> None:
    place = place_at(tmp_path / "state")
    add(place, 1)
    earlier = (tmp_path / "state" / "relevo.db").read_bytes()
    add(place, 2)
    assert words(audit.judge(audit.material(Store(place), []), signature.believed(place.keys))) == ""
    (tmp_path / "state" / "relevo.db").write_bytes(earlier)
    said = words(audit.judge(audit.material(Store(place), []), signature.believed(place.keys)))
    assert "this controller's memory: cut off" in said


def test_one_run_is_judged_beside_the_whole_chain(past: Past, tmp_path: Path) -> None:
    directory = tmp_path / "some"
    bundle.write(Store(past.place), directory, past.believed, signed_head(past.key), ("run2",))
    assert [path.name for path in sorted((directory / "records").iterdir())] == ["run2.json", "run2.json.sig"]
    done = standard_tools(directory)
    assert done.returncode == 0, done.stdout
    assert "some runs only" in done.stdout
    assert words(audit.judge(bundle.read(directory), past.believed)) == ""
    (directory / "records" / "run2.json").unlink()
    assert "run2: missing" in standard_tools(directory).stdout
    assert "run2: missing" in words(audit.judge(bundle.read(directory), past.believed))


def test_the_verifier_says_when_it_cannot_check(past: Past, tmp_path: Path) -> None:
    assert standard_tools(past.directory, "-k", str(tmp_path / "nothing")).returncode == 2
    assert standard_tools(past.directory, "-x").returncode == 2
    assert standard_tools(past.directory, str(tmp_path)).returncode == 2


def test_keys_that_came_another_way_decide(past: Past, stranger: signature.SigningKey) -> None:
    done = standard_tools(past.directory, "-k", str(stranger.allowed_signers))
    assert done.returncode == 1
    assert "entry 1: forged" in done.stdout and "run1: its signature does not hold" in done.stdout
    said = words(audit.judge(bundle.read(past.directory), signature.believed(stranger.path.parent)))
    assert "relevo keys trust" in said


def test_a_bundle_is_written_into_a_new_directory_only(past: Past, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        bundle.write(Store(past.place), tmp_path, past.believed, signed_head(past.key))


def test_its_readme_says_what_it_is_and_is_not(past: Past) -> None:
    text = (past.directory / "README.md").read_text()
    assert past.key.fingerprint in text
    assert "all its 4 records and 0 statements, and its chain of 5 entries" in text
    assert "Records that are older than the chain: 1." in text


def test_by_hand_as_the_readme_says(past: Past) -> None:
    (sums,) = [line for line in (past.directory / "README.md").read_text().splitlines() if line.endswith("| sha256sum -c")]
    done = subprocess.run(["sh", "-c", sums], cwd=past.directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": OK") == 4


def test_by_hand_as_each_report_says(past: Past, tmp_path: Path) -> None:
    """What stands at the end of a report is run where the bundle lies, as its first line makes it."""
    document = (past.directory / "records" / "run1.json").read_bytes()
    page = report.render(parse(document), report.Form.HTML)
    export, *by_hand = unescape(page[page.index("<pre>") + 5 : page.index("</pre>")]).splitlines()
    assert export == "relevo results export run1 --out bundle"
    for name, edited in (("as_it_was", document), ("edited", document.replace(b'"ana"', b'"bob"'))):
        shutil.copytree(past.directory, tmp_path / name / "bundle")
        (tmp_path / name / "bundle" / "records" / "run1.json").write_bytes(edited)
        words = ["sh", "-c", "\n".join(by_hand)]
        done = subprocess.run(words, cwd=tmp_path / name, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) is (edited == document), done.stdout + done.stderr


def stored(past: Past) -> list[StoredEntry]:
    return list(bundle.read(past.directory).entries)


@given(data=st.data())
def test_no_byte_of_any_entry_but_the_last_changes_without_a_finding(past: Past, data: st.DataObject) -> None:
    entries = stored(past)
    which = data.draw(st.integers(0, len(entries) - 2))
    document = bytearray(entries[which].document)
    at = data.draw(st.integers(0, len(document) - 1))
    document[at] ^= data.draw(st.integers(1, 255))
    entries[which] = StoredEntry(entries[which].sequence, bytes(document), "")
    assert audit.follow(entries).findings


@given(data=st.data())
def test_no_other_order_of_entries_follows(past: Past, data: st.DataObject) -> None:
    entries = stored(past)
    numbers = data.draw(st.permutations(range(len(entries))).filter(lambda order: order != sorted(order)))
    shuffled = [StoredEntry(index + 1, entries[number].document, "") for index, number in enumerate(numbers)]
    assert audit.follow(shuffled).findings


# -- statements --


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Past:
    return make_with_statements(tmp_path_factory.mktemp("told"))


def edit_statement(forger: Forger) -> None:
    forger.edit(forger.statement(6), b"it was slow", b"it was fine")


def edit_and_sign_statement(forger: Forger) -> None:
    edit_statement(forger)
    forger.sign(forger.statement(6))


def change_signature_of_statement(forger: Forger) -> None:
    one, other = (path.with_name(f"{path.name}.sig") for path in (forger.statement(6), forger.statement(7)))
    one.write_bytes(other.read_bytes())


def remove_statement(forger: Forger) -> None:
    forger.remove(forger.statement(8))


def remove_statement_and_entry(forger: Forger) -> None:
    forger.remove(forger.statement(8), forger.entry(8))


def exchange_statements(forger: Forger) -> None:
    forger.exchange(forger.statement(6), forger.statement(8))


def exchange_entries_of_statements(forger: Forger) -> None:
    forger.exchange(forger.entry(6), forger.entry(8))


def put_statement_in(forger: Forger) -> None:
    forger.say()


def append_statement(forger: Forger) -> None:
    forger.append_statement()


def cut_what_was_said_last(forger: Forger) -> None:
    forger.remove(forger.statement(9), forger.entry(9))


def miscount_statements(forger: Forger) -> None:
    forger.edit(forger.entry(9), b"\nstatements 4\n", b"\nstatements 5\n")


SPOKEN = [
    Tampering(edit_statement, ("-finding-", ": edited: its bytes are not those that entry 6", "its signature does not hold")),
    Tampering(edit_and_sign_statement, (": edited: its bytes are not those that entry 6", "its signature does not hold")),
    Tampering(change_signature_of_statement, ("its signature does not hold",)),
    Tampering(remove_statement, ("missing: entry 8 vouches for it",)),
    Tampering(remove_statement_and_entry, ("missing: removed from the chain",)),
    Tampering(exchange_statements, ("its bytes are not those that entry 6", "its bytes are not those that entry 8")),
    Tampering(exchange_entries_of_statements, ("entry 6: reordered: it was written as entry 8", "entry 8: reordered")),
    Tampering(put_statement_in, ("-sign_off-", "put in: no entry of the chain vouches for it")),
    Tampering(append_statement, ("entry 10: forged", "its signature does not hold")),
    Tampering(cut_what_was_said_last, ("cut off", "9 entries, 4 records and 4 statements")),
    Tampering(miscount_statements, ("entry 9: counts 5 statements, expected 4", "entry 9: forged or edited")),
]


@pytest.mark.parametrize("tampering", SPOKEN, ids=lambda tampering: tampering.what.__name__)
def test_every_tampering_with_what_was_said_is_found_by_all_three(
    told: Past, stranger: signature.SigningKey, tmp_path: Path, tampering: Tampering
) -> None:
    directory = tmp_path / "bundle"
    shutil.copytree(told.directory, directory)
    tampering.what(Forger(directory, stranger))
    done = standard_tools(directory)
    assert done.returncode == 1, done.stdout + done.stderr
    of_the_bundle = words(audit.judge(bundle.read(directory), told.believed))
    store = as_store(directory, place_at(tmp_path / "store"))
    of_the_store = words(audit.judge(audit.material(store, [head_of(directory)]), told.believed))
    for said in (done.stdout, of_the_bundle, of_the_store):
        assert [name for name in tampering.named if name not in said] == [], said


def test_what_was_said_and_nobody_touched_is_as_it_was_written(told: Past, tmp_path: Path) -> None:
    done = standard_tools(told.directory)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Everything is as it was written: 4 records, 4 statements, 9 entries." in done.stdout
    assert words(audit.judge(bundle.read(told.directory), told.believed)) == ""
    store = as_store(told.directory, place_at(tmp_path / "store"))
    judgement = audit.judge(audit.material(store, [head_of(told.directory)]), told.believed)
    assert words(judgement) == ""
    assert (judgement.records, judgement.statements, judgement.links.statements_taken_over) == (4, 4, 0)
    assert words(audit.judge(audit.material(Store(told.place), []), told.believed)) == ""


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("UPDATE entry SET kind = 'contact' WHERE number = 2", "filed under another kind or subject"),
        ("UPDATE entry SET subject = 'F-000009' WHERE number = 0", "filed under another kind or subject"),
        ("UPDATE entry SET number = 9 WHERE number = 0", "reordered: in its place the chain has"),
        ("UPDATE entry SET entry_id = 'x' WHERE number = 0", "replaced: the document is of the statement"),
        ("UPDATE entry SET document = '{}' WHERE number = 0", "unreadable: A stored entry is no relevo-entry/1"),
    ],
)
def test_a_statement_that_is_filed_elsewhere_is_found(told: Past, tmp_path: Path, change: str, named: str) -> None:
    """It would be heard by nobody, or in another order, while its document and the chain are as they were."""
    store = as_store(told.directory, place_at(tmp_path / "store"))
    with sqlite3.connect(tmp_path / "store" / "relevo.db") as database:
        assert database.execute(change).rowcount == 1
    assert named in words(audit.judge(audit.material(store, []), told.believed))


def test_a_bundle_of_some_runs_holds_what_was_said_about_them_and_nothing_else(told: Past, tmp_path: Path) -> None:
    directory = tmp_path / "some"
    bundle.write(Store(told.place), directory, told.believed, signed_head(told.key), ("run1",))
    said = [path.stem for path in sorted((directory / "statements").glob("*.json"))]
    assert sorted(said) == sorted(Forger(told.directory, told.key).statement(number).stem for number in (6, 8))
    done = standard_tools(directory)
    assert done.returncode == 0, done.stdout
    assert words(audit.judge(bundle.read(directory), told.believed)) == ""
    assert "1 of its 4 records, 2 of its 4 statements" in (directory / "README.md").read_text()
    (directory / "statements" / f"{said[0]}.json").unlink()
    assert f"{said[0]}: missing" in standard_tools(directory).stdout
    assert f"{said[0]}: missing" in words(audit.judge(bundle.read(directory), told.believed))


def test_by_hand_statements_too(told: Past) -> None:
    (sums,) = [line for line in (told.directory / "README.md").read_text().splitlines() if line.endswith("| sha256sum -c")]
    done = subprocess.run(["sh", "-c", sums], cwd=told.directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": OK") == 8


def test_an_anchor_counts_what_was_said(tmp_path: Path) -> None:
    """Also where no record came since."""
    place = place_at(tmp_path / "state")
    add(place, 1)
    earlier = (tmp_path / "state" / "relevo.db").read_bytes()
    say(place, "sign_off", "run1", "signed", name="Ana", statement="Seen.")
    last = Store(place).last_entry()
    assert last is not None
    anchored = signed_head(signature.ready_key(place.keys))(last, ())
    (tmp_path / "state" / "relevo.db").write_bytes(earlier)
    shutil.rmtree(tmp_path / "state" / "heads")
    said = words(audit.judge(audit.material(Store(place), [anchored]), signature.believed(place.keys)))
    assert "anchor: cut off" in said and "3 entries, 1 records and 1 statements" in said
