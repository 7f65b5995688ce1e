"""Options that belong together, as one value: a verb's parameter that is a dataclass stands for an option for each field.

The fields are annotated as typer wants a parameter to be. app.py expands every verb once.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any


def expanded(verb: Callable[..., None]) -> Callable[..., None]:
    """Return `verb` with a parameter for each field of its groups, which typer reads as options."""
    signature = inspect.signature(verb, eval_str=True)
    groups: dict[str, type[Any]] = {
        name: each.annotation
        for name, each in signature.parameters.items()
        if isinstance(each.annotation, type) and is_dataclass(each.annotation)
    }

    @functools.wraps(verb)
    def with_groups(**given: Any) -> None:  # Any: values of options, as typer made them
        values = {
            name: group(**{each.name: given.pop(each.name) for each in fields(group)}) for name, group in groups.items()
        }
        verb(**given, **values)

    parameters = [
        each
        for name, parameter in signature.parameters.items()
        for each in (_options(parameter.annotation) if name in groups else [parameter])
    ]
    with_groups.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # typer reads it
    return with_groups


def _options(group: type[Any]) -> list[inspect.Parameter]:
    annotations = typing.get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if each.default is MISSING else each.default,
            annotation=annotations[each.name],
        )
        for each in fields(group)
    ]
