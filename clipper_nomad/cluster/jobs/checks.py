"""Collects what is wrong with the fields of a spec, so that all of it is said at once. Pure; specs.py and its parts call it.

Each problem begins with the field's name and says what was expected: "count: -1; expected an integer of at least 0".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from clipper_nomad.errors import InvalidSpec

MAX_TEXT = 8192  # of one value; Nomad keeps whole jobs in its state store
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def text_problem(value: object, *, may_be_empty: bool = False) -> str | None:
    """Return why `value` is no text that Nomad would keep as it is, or None."""
    if not isinstance(value, str):
        return f"{value!r}; expected a text"
    if not value and not may_be_empty:
        return "it is empty; expected a text"
    if len(value) > MAX_TEXT:
        return f"{len(value)} characters; expected at most {MAX_TEXT}"
    if any("\ud800" <= char <= "\udfff" for char in value):
        return f"{value!r}; half of a surrogate pair is no text"
    if "\0" in value:
        return f"{value!r}; no environment and no argument can hold a zero byte"
    if not unicodedata.is_normalized("NFC", value):
        # HCL reads every text in this form (go-cty): another one would come back changed
        return f"{value!r}; expected Unicode's composed form: unicodedata.normalize('NFC', …)"
    return None


class Checker:
    """The problems of one spec's fields, in the order of the calls."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._problems: list[str] = []

    def refuse(self, field: str, problem: str) -> None:
        """Add a problem of a field."""
        self._problems.append(f"{field}: {problem}")

    def integer(self, field: str, value: object, *, least: int, most: int | None = None) -> bool:
        """Refuse what is no integer in the range, and say whether it was one."""
        upper = "" if most is None else f" and at most {most}"
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse(field, f"{value!r}; expected an integer of at least {least}{upper}")
        elif value < least or (most is not None and value > most):
            self.refuse(field, f"{value}; expected an integer of at least {least}{upper}")
        else:
            return True
        return False

    def text(self, field: str, value: object, *, may_be_empty: bool = False) -> bool:
        """Refuse what is no text that Nomad would keep as it is, and say whether it was one."""
        problem = text_problem(value, may_be_empty=may_be_empty)
        if problem:
            self.refuse(field, problem)
        return problem is None

    def matching(self, field: str, value: object, pattern: re.Pattern[str], expected: str) -> None:
        """Refuse what `pattern` does not match from end to end. `expected`: the pattern in words."""
        if not isinstance(value, str) or pattern.fullmatch(value) is None:
            self.refuse(field, f"{value!r}; expected {expected}")

    def instance(self, field: str, value: object, *types: type[Any]) -> bool:
        """Refuse what is of none of the types, and say whether it was of one."""
        if isinstance(value, types):
            return True
        self.refuse(field, f"{value!r}; expected {' or '.join(each.__name__ for each in types)}")
        return False

    def instances(self, field: str, values: object, kind: type[Any]) -> bool:
        """Refuse what is no tuple of `kind`, and say whether it was one."""
        if not isinstance(values, tuple):
            self.refuse(field, f"{values!r}; expected a tuple of {kind.__name__}")
            return False
        fitting = [self.instance(f"{field}[{index}]", value, kind) for index, value in enumerate(values)]
        return all(fitting)

    def environment(self, field: str, values: object, *, ours: Iterable[str]) -> None:
        """Refuse what is no mapping of names to texts, and the names that the job sets itself (`ours`)."""
        if not isinstance(values, Mapping):
            self.refuse(field, f"{values!r}; expected a mapping of names to texts")
            return
        taken = frozenset(ours)
        for name, value in values.items():
            if not isinstance(name, str) or not _ENV_NAME.match(name):
                self.refuse(field, f"{name!r} is no name of a variable; expected letters, digits and '_'")
            elif name in taken or name.startswith("NOMAD_"):
                self.refuse(f"{field}.{name}", "the job sets this one itself; leave it out")
            else:
                self.text(f"{field}.{name}", value, may_be_empty=True)

    def driver_options(self, field: str, values: object, *, ours: Iterable[str]) -> None:
        """Refuse what is no mapping that a driver's config block can hold, and the options that the job sets itself."""
        if not isinstance(values, Mapping):
            self.refuse(field, f"{values!r}; expected a mapping of the driver's options")
            return
        taken = frozenset(ours)
        for name, value in values.items():
            if not isinstance(name, str) or not IDENTIFIER.match(name):
                self.refuse(field, f"{name!r} is no name of an option; expected letters, digits and '_'")
            elif name in taken:
                self.refuse(f"{field}.{name}", "the job sets this option itself; leave it out")
            else:
                self._driver_value(f"{field}.{name}", value)

    def _driver_value(self, field: str, value: object) -> None:
        match value:
            case bool() | int():
                return
            case str():
                self.text(field, value, may_be_empty=True)
            case Mapping():
                for key, item in value.items():
                    if self.text(f"{field} (a key)", key):
                        self._driver_value(f"{field}.{key}", item)
            case tuple() | list():
                for index, item in enumerate(value):
                    self._driver_value(f"{field}[{index}]", item)
            case _:
                self.refuse(field, f"{value!r}; expected a text, an integer, a boolean, a list or a mapping of them")

    def check(self) -> None:
        """Raises: InvalidSpec: with all problems."""
        if self._problems:
            raise InvalidSpec(self._subject, tuple(self._problems))
