"""The page on Molecule, typed as it stands by somebody who brings an application: the copied scenario passes."""

from __future__ import annotations

import shutil

import pytest

from tests.house import typed
from tests.house.tree import ROOT
from tests.integration.test_tutorial import Reader

PAGE = "docs/molecule.md"
COPY = ROOT / "tests/molecule/shop"


@pytest.mark.full
def test_an_application_of_somebody_else_survives_the_failure_of_a_site(record_property: pytest.RecordProperty) -> None:
    lines = typed.lines(ROOT / PAGE)
    copied = next(number for number, line in enumerate(lines) if line.text.startswith("cp "))
    reader = Reader(ROOT)
    try:
        # All scenarios ran before this test, that of the page's first line among them.
        said = [reader.types(line) for line in lines[copied:]]
    finally:
        shutil.rmtree(COPY, ignore_errors=True)
    record_property("seconds", reader.seconds)
    assert COPY.name in said[-1]
