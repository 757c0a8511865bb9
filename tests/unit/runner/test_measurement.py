from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo import measurement

DOCUMENT: dict[str, Any] = {
    "measures": {
        "ledger": {"lost": 0, "lost_numbers": []},
        "tests": [{"rpo": 1}, {"rpo": None}, {}, "odd"],
        "files": {"a": 1, "b": 2},
    },
    "gates": [
        {"id": "LOSS", "phase": "PREFLIGHT", "verdict": "pass"},
        {"id": "LOSS", "phase": "CUTOVER", "verdict": "fail"},
        {"id": "G01", "verdict": "pass"},
    ],
    "versions": {"ansible-core": "2.21.5"},
}


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("measures.ledger.lost", [0]),
        ("measures.ledger.lost_numbers", [[]]),
        ("measures.ledger.lost_numbers[*]", [None]),
        ("measures.nothing.at.all", [None]),
        ("measures.ledger.lost.deeper", [None]),
        ("versions.ansible-core", ["2.21.5"]),
        ("gates[id=LOSS].verdict", ["pass", "fail"]),
        ("gates[id=LOSS,phase=CUTOVER].verdict", ["fail"]),
        ("gates[id=G99].verdict", [None]),
        ("measures.ledger[id=G99].verdict", [None]),
        ("measures.tests[*].rpo", [1, None, None, None]),
        ("measures.files[*]", [1, 2]),
        ("nowhere[*].x", [None]),
    ],
)
def test_what_is_not_there_counts_as_unobserved(path: str, values: list[Any]) -> None:
    assert measurement.parse(path).read(DOCUMENT) == values


@pytest.mark.parametrize(
    "text", ["", ".", "a.", ".a", "a..b", "a.[*]", "[*]", "a[", "a[x]", "a[id=]", "a b", "a[*]b", "a[id=x", 3, None]
)
def test_what_is_no_path_is_told_how_one_looks(text: object) -> None:
    with pytest.raises(ValueError, match="expected a path such as"):
        measurement.parse(text)


@given(st.lists(st.one_of(st.none(), st.fixed_dictionaries({}, optional={"v": st.one_of(st.none(), st.integers())}))))
def test_nothing_is_ever_dropped(elements: list[Any]) -> None:
    values = measurement.parse("a[*].v").read({"a": elements})
    assert len(values) == max(1, len(elements))
    assert values.count(None) == sum(one is None or one.get("v") is None for one in elements) + (not elements)
