"""docs/clipper-contract.md: every row of Clipper's contract names a test that exists, or a difference that is explained."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from clipper_nomad.admin.openapi import CALLS
from tests.unit.test_clipper_signatures import TABLE

TESTS = Path(__file__).resolve().parent
CONTRACT = TESTS.parent / "docs" / "clipper-contract.md"
DIFFERENCES = TESTS.parent / "docs" / "clipper-differences.md"
DIFFERS = re.compile(r"\[differs\]\(clipper-differences\.md#([\w-]+)\)\Z")
PROOF = re.compile(r"`([\w/]+\.py)::(\w+)`")


def rows() -> list[tuple[str, str, str]]:
    """Section, row and proof of each row."""
    found, section = [], ""
    for line in CONTRACT.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif match := re.fullmatch(r"\| (.+?) \| (.+) \|", line):
            found.append((section, match[1], match[2]))
    return [each for each in found if each[1] not in ("row", "---")]


@cache
def names_of_tests(path: str) -> frozenset[str]:
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


@pytest.mark.parametrize(("section", "row", "proof"), rows())
def test_a_row_names_tests_that_exist_or_a_difference_that_is_explained(section: str, row: str, proof: str) -> None:
    if differs := DIFFERS.search(proof):
        headings = re.findall(r"(?m)^## (.+)$", DIFFERENCES.read_text(encoding="utf-8"))
        assert differs[1] in {heading.lower().replace(" ", "-") for heading in headings}
        return
    named = PROOF.findall(proof)
    assert named, f"{section}: {row}: {proof} names no test"
    for path, test in named:
        assert test in names_of_tests(path), f"{section}: {row}: no {test} in {path}"


def test_no_row_comes_twice() -> None:
    named = [(section, row) for section, row, _ in rows()]

    assert len(named) == len(set(named))


def test_every_call_of_clipper_s_management_rest_has_a_row() -> None:
    calls = {call.path for call in CALLS if call.is_clippers}

    assert calls == set(re.findall(r"`(/admin/\w+)`", "\n".join(row for _, row, _ in rows()))) - {"/admin/metrics"}


def test_every_method_of_clipper_s_connection_has_a_row() -> None:
    named = {row for section, row, _ in rows() if section == "ClipperConnection"}

    assert {f"`{method}`" for method in TABLE} <= named


def test_every_difference_says_what_clipper_does_what_is_done_here_and_why() -> None:
    tables = re.findall(r"(?m)^\| (?!Clipper \||---)(.+) \|$", DIFFERENCES.read_text(encoding="utf-8"))

    assert len(tables) > 10
    for line in tables:
        cells = re.split(r"(?<!\\) \| ", line)
        assert len(cells) == 3, line
        assert all(cell.strip() for cell in cells), line
