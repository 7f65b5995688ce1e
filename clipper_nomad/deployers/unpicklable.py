"""Why a closure cannot be pickled: the object that cannot, and the way to it. Used only when pickling has failed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType, MethodType, ModuleType

import cloudpickle

MAX_DEPTH = 20  # deeper than any model's attributes; a bound for objects that make new ones when they are asked


def explain(function: Callable[..., object], exc: Exception) -> str:
    """Return one sentence: what cannot be pickled, and where the function reaches it."""
    way, culprit, cause = _culprit(function, exc)
    name = getattr(function, "__qualname__", repr(function))
    if not way:
        return f"The function '{name}' cannot be packed: {cause}."
    return (
        f"The function '{name}' cannot be packed: it needs an object of type {_type_of(culprit)}, which cannot be pickled "
        f"({cause}). It is reached from '{name}' by {' → '.join(way)}."
    )


def _culprit(root: object, exc: Exception) -> tuple[list[str], object, Exception]:
    """Follow, from `root`, the first part that cannot be pickled, to one whose parts all can."""
    way: list[str] = []
    at: object = root
    seen = {id(root)}
    while len(way) < MAX_DEPTH:
        for label, part in _parts(at):
            if id(part) in seen:
                continue
            seen.add(id(part))
            failure = _failure(part)
            if failure is not None:
                way.append(label)
                at, exc = part, failure
                break
        else:
            break
    return way, at, exc


def _failure(value: object) -> Exception | None:
    try:
        cloudpickle.dumps(value)
    except Exception as exc:  # noqa: BLE001  # whatever an object raises is the answer
        return exc
    return None


def _parts(value: object) -> Iterator[tuple[str, object]]:
    """Yield what an object holds, with the words that say how it is reached."""
    match value:
        case MethodType():
            yield f"the object it is bound to ({_type_of(value.__self__)})", value.__self__
            yield "its function", value.__func__
        case FunctionType():
            yield from _parts_of_function(value)
        case functools.partial():
            yield "the function of a partial", value.func
            yield from ((f"argument {index} of a partial", part) for index, part in enumerate(value.args))
            yield from ((f"argument '{name}' of a partial", part) for name, part in value.keywords.items())
        case ModuleType():
            yield from ((f"'{name}' of module '{value.__name__}'", part) for name, part in vars(value).items())
        case dict():
            yield from ((f"key {str(key)[:40]!r}", part) for key, part in value.items())
        case list() | tuple() | set() | frozenset():
            yield from ((f"item {index}", part) for index, part in enumerate(value))
        case type():
            yield from ((f"'{name}' of class {value.__name__}", part) for name, part in vars(value).items())
        case _:
            attributes = getattr(value, "__dict__", None)
            if isinstance(attributes, Mapping):
                yield from ((f"attribute '{name}'", part) for name, part in attributes.items())


def _parts_of_function(function: FunctionType) -> Iterator[tuple[str, object]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"the variable '{name}' around it", cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    for name in sorted(_names_in(function.__code__) & function.__globals__.keys()):
        yield f"the global '{name}'", function.__globals__[name]
    for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        yield "a default of its arguments", default
    yield from ((f"its attribute '{name}'", part) for name, part in vars(function).items())


def _names_in(code: CodeType) -> frozenset[str]:
    inner = (_names_in(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return frozenset(code.co_names).union(*inner)


def _type_of(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
