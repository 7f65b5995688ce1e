"""Reading a process's settings from its environment: typed, all problems reported at once. Pure.

Each process has one frozen settings class of its own (config.py there) that is filled through a Reader, before a socket
opens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

Value = TypeVar("Value")


class SettingsError(ValueError):
    """One or more settings are missing or wrong; the message lists every one."""


def file_url(path: str) -> str:
    """Return file:// and the path of a file that holds the value and may change. Raises: ValueError: it is not absolute."""
    if not path.startswith("/"):
        raise ValueError(path)
    return f"file://{path}"


class Reader:
    """Reads variables of `environment` and collects what is wrong with them until `check`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._problems: list[str] = []

    def text(self, name: str, default: str | None = None) -> str:
        """Return the variable; without a default it must be there."""
        return self.parsed(name, str, default, "a text")

    def integer(self, name: str, default: int, *, least: int = 0, most: int | None = None) -> int:
        """Return the variable as an integer from `least` to `most`."""

        def parse(text: str) -> int:
            value = int(text)
            if value < least or (most is not None and value > most):
                raise ValueError
            return value

        limits = f"an integer of at least {least}" if most is None else f"an integer from {least} to {most}"
        return self.parsed(name, parse, default, limits)

    def seconds(self, name: str, default: float) -> float:
        """Return the variable as a length of time above 0, in seconds."""

        def parse(text: str) -> float:
            value = float(text)
            if not 0 < value < float("inf"):
                raise ValueError
            return value

        return self.parsed(name, parse, default, "seconds, above 0")

    def flag(self, name: str, *, default: bool) -> bool:
        """Return the variable as true or false: 1/0, true/false, yes/no, on/off."""
        words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
        return self.parsed(name, lambda text: words[text.lower()], default, "true or false")

    def parsed(self, name: str, parse: Callable[[str], Value], default: Value | None, expected: str) -> Value:
        """Return `parse` of the variable, or the default if it is not set or empty."""
        text = self._environment.get(name, "")
        if text == "":
            if default is None:
                self._problems.append(f"{name} is not set; expected {expected}")
            return default  # type: ignore[return-value]  # `check` raises before a None is used
        try:
            return parse(text)
        except (ValueError, KeyError):
            self._problems.append(f"{name} is {text!r}; expected {expected}")
            return default  # type: ignore[return-value]  # as above

    def optional(self, name: str, parse: Callable[[str], Value], expected: str) -> Value | None:
        """Return `parse` of the variable, or None if it is not set or empty."""
        return self.parsed(name, parse, None, expected) if self._environment.get(name, "") else None

    def one_of(self, what: str, *values: Value | None) -> Value | None:
        """Return the value that is given, of settings that exclude each other."""
        given = [value for value in values if value is not None]
        if len(given) > 1:
            self.refuse(f"{what} is given {len(given)} times; expected one of these settings")
        return given[0] if given else None

    def refuse(self, problem: str) -> None:
        """Add a problem that concerns more than one variable."""
        self._problems.append(problem)

    def check(self) -> None:
        """Raise SettingsError if anything was wrong."""
        if self._problems:
            raise SettingsError("\n".join(["the environment of this process is not right:", *self._problems]))
