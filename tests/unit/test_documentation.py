"""The reference and the tree of the site, without building it: everything that a program takes is on a page, whatever its words hold."""

from __future__ import annotations

import re

import pytest
import yaml
from ansible_collections.relevo.dr.plugins.module_utils import inputs

from docs.site import navigation, reference
from docs.site.navigation import Part
from docs.site.reference import markdown, plugins, roles
from relevo.command_tree import build
from relevo.errors import Exit
from tests.house.tree import COLLECTION, ROLES, ROOT


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return reference.pages(ROOT)


def test_every_variable_of_every_role_is_there(pages: dict[str, str]) -> None:
    for role in ROLES:
        specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]
        page = pages[f"roles/{role.name}/README.md"]
        assert re.findall(r"^### (\w+)", page, re.MULTILINE) == list(specs)
        for spec in specs.values():
            for name in spec.get("options") or {}:
                assert f"| `{name}` |" in page
                assert re.search(rf"^\| `{name}` \|.*{role.name}", pages["docs/reference/variables.md"], re.MULTILINE), name


def test_every_module_is_there_with_its_options(pages: dict[str, str]) -> None:
    page = pages["docs/reference/collection_dr.md"]
    for path in (COLLECTION / "plugins/modules").glob("*.py"):
        section = page.partition(f"\n## relevo.dr.{path.stem}\n")[2].partition("\n## ")[0]
        about = yaml.safe_load(plugins.strings(path.read_text())["DOCUMENTATION"])
        for option in about.get("options") or {}:
            assert f"| `{option}` |" in section, f"{path.stem}: {option}"


def test_every_command_exit_code_and_input_is_there(pages: dict[str, str]) -> None:
    def leaves(tree: dict, above: str = "relevo") -> list[str]:
        return [leaf for name, inner in tree["commands"].items() for leaf in leaves(inner, f"{above} {name}")] or [above]

    page = pages["docs/reference/commands.md"]
    assert re.findall(r"^## (relevo .+)$", page, re.MULTILINE) == sorted(leaves(build()), key=page.index)
    for code in Exit:
        assert f"| {int(code)} | {code.name.lower()} |" in page
    assert [name for name in inputs.SCHEMA if f"| `{name}` |" not in pages["docs/reference/inputs.md"]] == []


def test_keys_of_both_schemas_are_there(pages: dict[str, str]) -> None:
    assert "| `verdict_reasons` |" in pages["docs/reference/record.md"]
    assert "| `needs_verified_after` |" in pages["docs/reference/policy_file.md"]


def test_the_default_that_holds_is_shown_and_nested_options_too() -> None:
    specs = {"act": {"short_description": "Act", "options": {
        "dr_x": {"type": "int", "default": 1, "description": "A | B."},
        "dr_y": {"type": "list", "elements": "dict", "required": True, "description": ["One.", "Two."], "options": {"z": {"choices": ["p", "q"]}}},
    }}}  # fmt: skip
    text = roles.of_role(specs, {"dr_x": 5})
    assert "| `dr_x` | int | `5` | A \\| B. |" in text
    assert "| `dr_y` | list of dict | **required** | One. Two. |" in text
    assert "| `dr_y.z` | str |  |  One of `p`, `q`. |" in text


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("C(exact): I(accepts) is F(/etc/x)", "`exact`: `accepts` is `/etc/x`"),
        ("a_b <c> *d* [e] `f_g`", "a\\_b \\<c\\> \\*d\\* \\[e\\] `f_g`"),
        (["one\ntwo", "three | four"], "one two three \\| four"),
        (None, ""),
    ],
)
def test_words_of_a_description_mean_nothing_to_markdown(given: object, shown: str) -> None:
    assert markdown.described(given) == shown


def test_a_page_has_the_place_where_it_is_listed_first() -> None:
    text = "# T\n[x](before.md)\n\n## One\n- [a](a.md) [b](b.md#there) [c](../c.md) [d](https://example.org/d.md)\n\n## Two\n[a](a.md), [e](e.md)\n"
    listed = navigation.parts(text, {"../c.md"})
    assert listed == [Part("One", ("a.md",)), Part("Two", ("e.md",))]
    assert navigation.parts("# Whole\n| [a](a.md) |\n") == [Part("Whole", ("a.md",))]
    assert navigation.with_places("x\n", listed[:1]) == "x\n\n```{toctree}\n:hidden:\n:caption: One\n\na.md\n```\n"


def test_nothing_is_run_to_read_what_a_plugin_says() -> None:
    assert plugins.strings("DOCUMENTATION = 'a: 1'\nEXAMPLES: str = ''\nRETURN = open('/nowhere')\nraise SystemExit\n") == {
        "DOCUMENTATION": "a: 1"
    }
