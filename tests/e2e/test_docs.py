"""The documents keep their promises: a page for each error code, and links that lead somewhere."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

from harness import ROOT

PAGES = ROOT / "docs" / "errors"
CODE = re.compile(r'^\s+\w+ = "(?P<code>[a-z_]+)": (?P<kind>\w+),$', re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|#|mailto:)(?P<path>[^)#\s]+)(?:#(?P<anchor>[^)\s]+))?\)")
DOCUMENTS = sorted(
    path
    for path in [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "changes").glob("*.md"),
        *(ROOT / "sdk").rglob("*.md"),
    ]
)


def kinds_by_code() -> dict[str, str]:
    source = (ROOT / "crates" / "domain" / "src" / "error.rs").read_text(encoding="utf-8")
    found = {match["code"]: match["kind"] for match in CODE.finditer(source)}
    assert len(found) > 40, "the table of codes was found"
    return found


def test_every_error_code_has_a_page_and_every_page_a_code() -> None:
    pages = {path.stem for path in PAGES.glob("*.md")} - {"README"}
    assert pages == set(kinds_by_code())


@pytest.mark.parametrize("code", sorted(kinds_by_code()))
def test_an_error_page_says_kind_meaning_causes_and_what_to_do(code: str) -> None:
    text = (PAGES / f"{code}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# `{code}`\n")
    kind = re.sub(r"(?<!^)(?=[A-Z])", " ", kinds_by_code()[code]).lower()
    assert f"| kind | {kind} |" in text
    for heading in ("## What it means", "## What causes it", "## What to do", "## Example"):
        assert heading in text, heading
    for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL):
        json.loads(block)
    assert f"({code}.md)" in (PAGES / "README.md").read_text(encoding="utf-8"), "it stands in the list"


def anchors(path: pathlib.Path) -> set[str]:
    """The anchors of a page, as GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS])
def test_links_lead_somewhere(document: pathlib.Path) -> None:
    for match in LINK.finditer(document.read_text(encoding="utf-8")):
        target = document.parent / match["path"]
        assert target.exists(), match[0]
        if match["anchor"]:
            assert match["anchor"] in anchors(target), match[0]


def leaves(schema: dict[str, Any], node: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Each key of the configuration as the documents write it, and when a change of it takes effect."""
    reload = node.get("x-forebay-reload")
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].removeprefix("#/$defs/")]
    for choice in node.get("anyOf", []):
        if choice.get("type") != "null":
            yield from leaves(schema, choice | ({"x-forebay-reload": reload} if reload else {}), path)
            return
    if reload:
        yield ".".join(path).replace(".[]", "[]"), reload
        return
    for name, child in node.get("properties", {}).items():
        yield from leaves(schema, child, (*path, name))
    if isinstance(node.get("additionalProperties"), dict):
        yield from leaves(schema, node["additionalProperties"], (*path, "NAME"))
    if isinstance(node.get("items"), dict):
        yield from leaves(schema, node["items"], (*path, "[]"))


def test_every_configuration_key_is_explained_with_when_it_takes_effect() -> None:
    schema = json.loads((ROOT / "schema" / "config.schema.json").read_text(encoding="utf-8"))
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    found = list(leaves(schema, schema))
    assert len(found) > 30, found
    for path, reload in found:
        section, _, key = path.partition(".")
        section = section.removesuffix("[]")
        table = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
        row = next((line for line in table.splitlines() if line.startswith("|") and f"`{key}`" in line), None)
        assert row, f"{key} stands in no row under {section}"
        assert f"| {reload} |" in row, row
