"""Reading the end of a long log gives what reading all of it would give."""

from __future__ import annotations

import itertools
import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

from ansible_collections.relevo.dr.plugins.module_utils import witness_log
from hypothesis import given
from hypothesis import strategies as st

EPOCH = datetime(2026, 11, 24, tzinfo=UTC)


def at(seconds: float) -> str:
    return (EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def write(directory: str, files: list[list[dict[str, object]]], torn: str = "") -> Path:
    """The last list is the current file, the ones before it are older."""
    path = Path(directory) / "log.jsonl"
    for number, entries in enumerate(reversed(files)):
        name = path if number == 0 else path.with_name(f"log.jsonl.{number}")
        name.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + (torn if number == 0 else ""))
    return path


@given(
    st.lists(st.lists(st.floats(0, 3), min_size=1, max_size=120), min_size=1, max_size=3),
    st.floats(-1, 400),
    st.integers(0, 300),
)
def test_since_finds_exactly_the_entries_from_that_time_on(parts: list[list[float]], moment: float, padding: int) -> None:
    files, now, number = [], 0.0, 0
    for part in parts:
        entries: list[dict[str, object]] = []
        for step in part:
            now, number = now + step, number + 1
            entries.append({"n": number, "at": at(now), "padding": "x" * padding})
        files.append(entries)
    with tempfile.TemporaryDirectory() as directory:
        path = write(directory, files, torn='{"n": 9, "a')
        found = [entry["n"] for entry in witness_log.since(str(path), at(moment))]
    assert found == [entry["n"] for entries in files for entry in entries if str(entry["at"]) >= at(moment)]


def test_the_tail_reaches_into_older_files() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = write(directory, [[{"n": 1, "at": at(1)}, {"n": 2, "at": at(2)}], [{"n": 3, "at": at(3)}]])
        assert [entry["n"] for entry in witness_log.tail(str(path), 10_000)] == [1, 2, 3]
        assert [entry["n"] for entry in witness_log.tail(str(path), 100)] == [2, 3]
        assert witness_log.reaches_further(str(path), 100)
        assert not witness_log.reaches_further(str(path), 10_000)


@given(
    st.lists(st.lists(st.sampled_from(["accepted", "refused"]), max_size=40), min_size=1, max_size=3),
    st.integers(16, 4096),
    st.integers(0, 200),
)
def test_backwards_gives_what_reading_all_of_it_gives(parts: list[list[str]], block: int, padding: int) -> None:
    numbers = itertools.count(1)
    files = [[{"n": next(numbers), "outcome": outcome, "padding": "x" * padding} for outcome in part] for part in parts]
    every = [entry for entries in files for entry in entries][::-1]
    with tempfile.TemporaryDirectory() as directory, mock.patch.object(witness_log, "_BLOCK_BYTES", block):
        path = str(write(directory, files, torn='{"n": 9, "a'))
        assert list(witness_log.backwards(path)) == every
        assert list(witness_log.backwards(path, b'"accepted"')) == [entry for entry in every if entry["outcome"] == "accepted"]


def test_a_log_that_is_not_there_is_empty() -> None:
    assert list(witness_log.backwards("/nonexistent/log.jsonl")) == []
    assert witness_log.since("/nonexistent/log.jsonl", at(0)) == []
    assert witness_log.tail("/nonexistent/log.jsonl", 100) == []
