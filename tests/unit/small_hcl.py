"""A reader of the part of HCL that our jobspecs use, written from HCL's specification and not from our writer.

Blocks become lists of (labels, body), for a jobspec may have several of a kind; attributes become values. It refuses a text
in which something would be evaluated, unless that is what Nomad evaluates on its clients.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

AT_RUN_TIME = re.compile(r"\$\{(NOMAD_\w+|node\.unique\.id|CLIPPER_REGISTRY_PASSWORD)\}")
_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_NAME = re.compile(r"[A-Za-z_][\w-]*")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}


@dataclass(slots=True)
class Body:
    """What stands between two braces."""

    attributes: dict[str, Any] = field(default_factory=dict)
    blocks: list[tuple[str, tuple[str, ...], Body]] = field(default_factory=list)

    def one(self, kind: str) -> Body:
        (found,) = (body for name, _, body in self.blocks if name == kind)
        return found

    def all(self, kind: str) -> list[Body]:
        return [body for name, _, body in self.blocks if name == kind]


class Reader:
    """Reads from the front; `AssertionError` where the text is not what it should be."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def body(self, end: str = "") -> Body:
        found = Body()
        while self._peek() != end:
            name = self._match(_NAME)
            if self._peek() == "=":
                self._at += 1
                assert name not in found.attributes, f"{name} twice"
                found.attributes[name] = self.value()
                continue
            labels = []
            while self._peek() == '"':
                labels.append(self._text_value())
            self._expect("{")
            found.blocks.append((name, tuple(labels), self.body("}")))
            self._expect("}")
        return found

    def value(self) -> Any:  # noqa: ANN401  # a value of HCL, as JSON has it
        match self._peek():
            case '"':
                return self._text_value()
            case "[":
                return self._list()
            case "{":
                return self._object()
            case char if char.isdigit() or char == "-":
                return json.loads(self._match(_NUMBER))
        return {"true": True, "false": False}[self._match(_NAME)]

    def _list(self) -> list[Any]:
        self._expect("[")
        items: list[Any] = []
        while self._peek() != "]":
            items.append(self.value())
            if self._peek() == ",":
                self._at += 1
        self._expect("]")
        return items

    def _object(self) -> dict[str, Any]:
        self._expect("{")
        items: dict[str, Any] = {}
        while self._peek() != "}":
            key = self._text_value()
            self._expect("=")
            items[key] = self.value()
            if self._peek() == ",":
                self._at += 1
        self._expect("}")
        return items

    def _text_value(self) -> str:
        self._expect('"')
        parts: list[str] = []
        while (char := self._text[self._at]) != '"':
            assert char.isprintable() or ord(char) > 0x9F, f"{char!r} stands bare in a text"
            if char == "\\":
                parts.append(self._escape())
            elif char in "$%" and self._text.startswith(f"{char}{char}{{", self._at):
                parts.append(f"{char}{{")
                self._at += 3
            elif char in "$%" and self._text.startswith(f"{char}{{", self._at):
                found = AT_RUN_TIME.match(self._text, self._at)
                assert found, f"something is evaluated: {self._text[self._at : self._at + 40]}"
                parts.append(found[0])
                self._at = found.end()
            else:
                # HCL's own reader takes a run of signs before a brace in its own way: ours never writes one
                assert not re.match(r"[$%]{3,}\{|\$%\{|%\$\{", self._text[self._at :]), "ambiguous signs"
                parts.append(char)
                self._at += 1
        self._at += 1
        return "".join(parts)

    def _escape(self) -> str:
        kind = self._text[self._at + 1]
        if kind in "uU":
            digits = {"u": 4, "U": 8}[kind]
            code = self._text[self._at + 2 : self._at + 2 + digits]
            self._at += 2 + digits
            return chr(int(code, 16))
        self._at += 2
        return _ESCAPES[kind]

    def _peek(self) -> str:
        found = _SPACE.match(self._text, self._at)
        assert found
        self._at = found.end()
        return self._text[self._at : self._at + 1]

    def _match(self, pattern: re.Pattern[str]) -> str:
        self._peek()
        found = pattern.match(self._text, self._at)
        assert found, f"expected {pattern.pattern} at {self._text[self._at : self._at + 40]!r}"
        self._at = found.end()
        return found[0]

    def _expect(self, sign: str) -> None:
        assert self._peek() == sign, f"expected {sign!r} at {self._text[self._at : self._at + 40]!r}"
        self._at += 1


def read(text: str) -> Body:
    """Return the body of a whole file."""
    return Reader(text).body()
