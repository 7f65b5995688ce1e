"""What can be said wrongly in docs/ is compared with the code: settings, exceptions, sections, errors."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from clipper_nomad.protocol.names import RESERVED_APP_NAMES

PROJECT = Path(__file__).resolve().parents[1]
DOCS = PROJECT / "docs"
SOURCES = ("clipper_nomad", "frontend", "model_runtime")
CONFIGS = {  # the section of docs/settings.md, and the process's settings
    "Query frontend": "frontend/clipper_nomad_frontend/config.py",
    "Model replica": "model_runtime/clipper_nomad_runtime/config.py",
    "Admin service": "clipper_nomad/admin/config.py",
}


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def settings_read_in(tree: ast.AST) -> set[str]:
    """The variables that are read through a Reader: `reader.text("CLIPPER_CLUSTER", …)`."""
    return {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        for name in _first_text(node)
        if re.fullmatch(r"[A-Z][A-Z0-9_]+", name)
    }


def _first_text(call: ast.Call) -> Iterator[str]:
    match call.args:
        case [ast.Constant(value=str() as text), *_]:
            yield text


def section(page: str, title: str) -> str:
    """The text of one `##` section."""
    parts = re.split(r"(?m)^## (.+)$", (DOCS / page).read_text(encoding="utf-8"))
    return dict(zip(parts[1::2], parts[2::2], strict=True))[title]


def documented_settings(title: str) -> set[str]:
    return set(re.findall(r"(?m)^\| `([A-Z0-9_]+)` \|", section("settings.md", title)))


def test_each_process_that_has_settings_has_a_section() -> None:
    found = {str(path.relative_to(PROJECT)) for source in SOURCES for path in (PROJECT / source).rglob("config.py")}

    assert found == set(CONFIGS.values())


@pytest.mark.parametrize("title", CONFIGS)
def test_every_setting_of_a_process_is_in_its_table_and_no_other(title: str) -> None:
    read = settings_read_in(tree_of(PROJECT / CONFIGS[title]))

    assert read
    assert documented_settings(title) == read


def test_settings_are_found_in_every_form_of_reading() -> None:
    code = 'a = reader.text("A_1")\nb = f(X=reader.parsed("B_2", int, 1, "a"))\nc = other("C")\nd = reader.text(name)'

    assert settings_read_in(ast.parse(code)) == {"A_1", "B_2"}


def test_every_exception_says_in_errors_md_what_to_do_next() -> None:
    classes = {node.name for node in tree_of(PROJECT / "clipper_nomad/errors.py").body if isinstance(node, ast.ClassDef)}
    rows = re.findall(r"(?m)^\| `(\w+)` \| (.+) \| (.+) \|$", (DOCS / "errors.md").read_text(encoding="utf-8"))

    assert {name for name, _, _ in rows} == classes
    assert all(happened and to_do for _, happened, to_do in rows)


def test_every_section_that_code_refers_to_exists() -> None:
    wanted = {
        (page, title)
        for source in SOURCES
        for path in (PROJECT / source).rglob("*.py")
        for page, title in re.findall(r'docs/(\w+\.md), "(\w+)"', path.read_text(encoding="utf-8"))
    }

    assert ("behaviour.md", "Retries") in wanted
    for page, title in sorted(wanted):
        assert f"\n## {title}\n" in (DOCS / page).read_text(encoding="utf-8"), f"docs/{page} has no section {title}"


def test_every_error_that_a_client_can_get_is_among_the_answers() -> None:
    tree = tree_of(PROJECT / "frontend/clipper_nomad_frontend/answers.py")
    errors = {
        (status, error)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "refused"
        for status, error in _status_and_error(node)
    }

    assert (429, "Overloaded") in errors
    for status, error in errors:
        assert f"{status} `{error}`" in section("behaviour.md", "Answers")


def _status_and_error(call: ast.Call) -> Iterator[tuple[int, str]]:
    match call.args:
        case [ast.Constant(value=int() as status), ast.Constant(value=str() as error), *_]:
            yield status, error


def test_the_reserved_names_are_listed() -> None:
    (listed,) = re.findall(r"(?m)^Reserved app names: (.+)\.$", section("behaviour.md", "Names"))

    assert set(re.findall(r"`([^`]+)`", listed)) == RESERVED_APP_NAMES


def test_pages_link_to_pages_that_exist() -> None:
    for page in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([\w/.-]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
