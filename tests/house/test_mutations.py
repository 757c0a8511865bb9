"""What a mutation takes out stands where its list says: found here in a second, and not when the mutations are run."""

from __future__ import annotations

import pytest

from tests.house.tree import ROOT
from tests.mutation.test_protections import FAST, ON_THE_LABORATORY, Protection, named


@pytest.mark.parametrize("protection", [*FAST, *ON_THE_LABORATORY], ids=named)
def test_what_a_mutation_takes_out_is_there_and_so_is_its_test(protection: Protection) -> None:
    assert protection.old in (ROOT / protection.file).read_text(), f"{protection.file} no longer holds {protection.old!r}"
    assert (ROOT / protection.test.partition("::")[0]).is_file()
