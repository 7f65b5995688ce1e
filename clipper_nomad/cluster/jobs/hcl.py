"""Python values to HCL, and HCL in the form that `nomad fmt` gives it. Pure; knows no job.

`hcl` is the one way for a value into a jobspec: render.py refuses to print anything that did not come through it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TypeAlias

HclValue: TypeAlias = "str | int | float | bool | Sequence[HclValue] | Mapping[str, HclValue]"

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_UNSEEN = frozenset({"Cc", "Cf", "Zl", "Zp"})  # controls, marks of direction, line separators: a reader would be misled
_TEMPLATE = re.compile(r"([$%]*)([$%])\{")
_ATTRIBUTE = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z_][\w-]*) += +(?P<value>.*)")


class Hcl(str):
    """A piece of HCL that is ready to be printed."""

    __slots__ = ()


class AtRunTime(str):
    """A text of ours in which `${...}` is for Nomad, on the client: `${NOMAD_ADDR_http}`. Never holds a user's text."""

    __slots__ = ()


class Name(str):
    """The name of an attribute, printed bare."""

    __slots__ = ()


class Comment(str):
    """A remark of ours for who reads the jobspec, printed behind a `#`."""

    __slots__ = ()


def hcl(value: HclValue) -> Hcl:
    """Return `value` as an HCL expression on one line: text quoted, numbers and booleans bare, lists and maps in full.

    What a parser reads back is `value` again. A text's `${` and `%{` are escaped, as they would be evaluated; those of
    `AtRunTime` are kept as they are, for the eye: a parser of jobspecs passes them through.
    Raises: TypeError: another type, a surrogate, which no file can hold, or a `Name` that is none.
    """
    match value:
        case bool():
            return Hcl("true" if value else "false")
        case int() | float():
            return Hcl(repr(value))
        case Name():
            if not _IDENTIFIER.match(value):
                raise TypeError(f"{value!r} is no name of an attribute")
            return Hcl(value)
        case Comment():
            return Hcl(f"# {' '.join(value.split())}")
        case AtRunTime():
            return Hcl(f'"{_escaped(value)}"')
        case str():
            return Hcl(f'"{_TEMPLATE.sub(_doubled, _escaped(value))}"')
        case Mapping():
            pairs = ", ".join(f"{hcl(key)} = {hcl(item)}" for key, item in value.items())
            return Hcl(f"{{ {pairs} }}" if pairs else "{}")
        case Sequence():
            return Hcl(f"[{', '.join(map(hcl, value))}]")
    raise TypeError(f"{value} ({type(value).__name__}) has no form in HCL")  # str() of an undefined one raises its own


def _escaped(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise TypeError(f"{text!r} is no text that a file can hold: {exc.reason}") from exc
    return "".join(_ESCAPES.get(char) or _seen(char) for char in text)


def _seen(char: str) -> str:
    if unicodedata.category(char) not in _UNSEEN:
        return char
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def _doubled(found: re.Match[str]) -> str:
    # `$${` reads as `${`. Signs in front of it would make that ambiguous, so they get a form that no reader mistakes.
    before = "".join(f"\\u{ord(sign):04x}" for sign in found[1])
    return f"{before}{found[2]}{found[2]}{{"


def aligned(text: str) -> str:
    """Return HCL with the `=` of neighbouring attributes in one column, as `nomad fmt` writes it.

    Expects one attribute on a line, as `hcl` gives them.
    """
    lines: list[str] = []
    group: list[re.Match[str]] = []
    for line in [*text.splitlines(), ""]:
        found = _ATTRIBUTE.fullmatch(line)
        if group and (found is None or found["indent"] != group[0]["indent"]):
            width = max(len(each["key"]) for each in group)
            lines += [f"{each['indent']}{each['key']:<{width}} = {each['value']}" for each in group]
            group = []
        if found is None:
            lines.append(line)
        else:
            group.append(found)
    return "\n".join(lines).rstrip("\n") + "\n"
