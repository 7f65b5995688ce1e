"""docs/cli.md has every verb, option and example, and no other; README.md's pictures and links are there."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clipper_nomad.cli.app import VERBS
from clipper_nomad.cli.load import LoadResult
from clipper_nomad.cli.load_report import load_document
from clipper_nomad.cli.overview import stopped_document

PROJECT = Path(__file__).resolve().parents[2]
PAGE = (PROJECT / "docs/cli.md").read_text(encoding="utf-8")
BEFORE, *SECTIONS = re.split(r"^## ", PAGE, flags=re.MULTILINE)
PLACE = {"--cluster", "--local", "--nomad", "--consul", "--fabio", "--namespace"}
IMAGES = {"--registry", "--runtime-image", "--base-image", "--build-network"}
OF_SEVERAL = {*PLACE, *IMAGES, "--json"}  # described once, before the verbs
Verb = Callable[..., None]


def section(verb: Verb) -> str:
    (found,) = (text for text in SECTIONS if text.split("\n", 1)[0] == verb.__name__)
    return found


def options(verb: Verb) -> set[str]:
    infos: list[Any] = [
        parameter.annotation.__metadata__[0] for parameter in inspect.signature(verb, eval_str=True).parameters.values()
    ]
    # in an annotation typer takes the first name for the default
    names = [name for info in infos for name in (info.default, *(getattr(info, "param_decls", None) or ()))]
    given = (each for name in names if isinstance(name, str) for each in name.split("/"))  # "--this/--no-this"
    return {name for name in given if name.startswith("-")}


def examples(verb: Verb) -> list[str]:
    return [line.strip() for line in (inspect.getdoc(verb) or "").partition("Examples:")[2].splitlines() if line.strip()]


def test_the_page_has_the_verbs_in_their_order_and_no_other() -> None:
    assert [text.split("\n", 1)[0] for text in SECTIONS] == [verb.__name__ for verb in VERBS]


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_on_the_page_and_no_other(verb: Verb) -> None:
    table = "\n".join(line for line in section(verb).splitlines() if line.startswith("| `-"))

    written = set(re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", table))

    assert written == options(verb) - OF_SEVERAL


def test_the_options_of_several_verbs_are_described_before_them() -> None:
    assert all(f"`{name}" in BEFORE for name in OF_SEVERAL)
    assert {name for verb in VERBS for name in options(verb)} >= OF_SEVERAL


@pytest.mark.parametrize("verb", VERBS)
def test_the_examples_of_help_are_those_of_the_page(verb: Verb) -> None:
    block = section(verb).rpartition("```\n")[0].rpartition("```\n")[2]

    assert block.splitlines() == examples(verb)


@pytest.mark.parametrize("verb", [verb for verb in VERBS if "--json" in options(verb)])
def test_every_verb_with_json_lists_its_keys(verb: Verb) -> None:
    assert "JSON: `" in section(verb)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("status", set(stopped_document("c", Path("/nowhere")))),
        ("bench", {"app", "url", *load_document(LoadResult(connections=1))}),
    ],
)
def test_the_keys_of_the_documents_are_on_the_page(name: str, keys: set[str]) -> None:
    (verb,) = (verb for verb in VERBS if verb.__name__ == name)
    listed = section(verb).partition("JSON: ")[2].partition(".\n")[0]

    assert set(re.findall(r"`([a-z0-9_]+)`", listed)) - {"starting", "up", "stopping", "stopped"} == keys


PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_picture_and_page_that_is_linked_to_is_there(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:\s]+)\)", page.read_text(encoding="utf-8"))

    missing = [target for target in targets if not (page.parent / target).exists()]

    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_a_page_has_a_verb_that_there_is(page: Path) -> None:
    verbs = {verb.__name__ for verb in VERBS}

    typed = re.findall(r"(?:^|`)clipper-nomad ([a-z]+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE)

    assert set(typed) <= verbs
