"""Calls the predict function on a batch, checks what it returned, and times it. Nothing it does ends this process.

The contract: it takes an array of n inputs and returns one output for each, in their order. Whatever breaks it becomes
an error that begins as Clipper's does, names the model and says what to do; serving.py sends it in place of the outputs.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass
from itertools import islice
from time import monotonic
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipper_nomad.protocol.wire import MAX_FRAME_BYTES, ErrorKind, OutputError, OutputType
from clipper_nomad_runtime.outputs import Outputs, WrongOutput, pack_outputs

SAME_FAILURE_S = 10.0  # a failure on the same lines within this time shares its traceback: the log stays readable
_MAX_FAILURES = 256  # that are remembered
_MAX_MESSAGE = 2000  # letters
_FULL_MESSAGES = 100  # of wrong outputs in a batch; the others point to the first, so that all fit MAX_ERRORS_BYTES
_NOTHING = Outputs(OutputType.TEXT, None, b"")
_NO_LISTS = (str, bytes, bytearray, dict, set, frozenset)  # iterable, but not outputs in the order of the inputs

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Answer:
    """What the model made of one batch, and the seconds that its function took."""

    outputs: Outputs
    errors: tuple[OutputError, ...]
    exec_s: float


@dataclass(slots=True)
class _Failure:
    """One traceback in the log, and how often it occurred since without being logged."""

    traceback_id: str
    until: float
    repeats: int = 0


class _BrokenContract(Exception):
    """What came back is no list of outputs."""

    def __init__(self, kind: ErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Predictor:
    """The predict function of one model version."""

    def __init__(self, function: Callable[[NDArray[Any]], object], *, model: str, version: str) -> None:
        self._function = function
        self._fields = {"model": model, "version": version}
        self._name = f"Model '{model}' version '{version}'"
        self._failures: dict[tuple[object, ...], _Failure] = {}

    def answer(self, inputs: NDArray[Any]) -> Answer:
        """Return the outputs or the errors of one batch, at least one input."""
        count = len(inputs)
        took = -1.0
        begin = monotonic()
        try:
            returned = self._function(inputs)
            result = returned if type(returned) is list else self._as_list(returned, count)
            took = monotonic() - begin
            outputs = self._pack(result, count)
        except _BrokenContract as exc:
            return Answer(_NOTHING, (OutputError(None, exc.kind, str(exc), ""),), max(took, 0.0))
        except BaseException as exc:  # noqa: BLE001  # SystemExit too: a batch must not end the process
            now = monotonic()
            return Answer(_NOTHING, (self._raised(exc, now),), took if took >= 0 else now - begin)
        return Answer(outputs, self._wrong_outputs(outputs.wrong, count) if outputs.wrong else (), took)

    def _pack(self, result: list[Any] | NDArray[Any], count: int) -> Outputs:
        if len(result) != count:
            raise _BrokenContract(ErrorKind.WRONG_COUNT, self._wrong_count(str(len(result)), count))
        outputs = pack_outputs(result)
        if len(outputs.data) > MAX_FRAME_BYTES:
            raise _BrokenContract(ErrorKind.WRONG_TYPE, self._too_large(len(outputs.data)))
        return outputs

    def _as_list(self, result: object, count: int) -> list[Any] | NDArray[Any]:
        """Return what is no list as one, or as an array. Raises: _BrokenContract."""
        if not isinstance(result, _NO_LISTS):
            if hasattr(type(result), "__array__"):  # numpy's arrays, and the tensors and frames of others
                array: NDArray[Any] = np.asanyarray(result)
                if array.ndim:
                    return array
            elif isinstance(result, Sized) and isinstance(result, Iterable):
                return list(result)
            elif isinstance(result, Iterable):  # a generator, maybe an endless one
                items = list(islice(result, count + 1))
                if len(items) > count:
                    raise _BrokenContract(ErrorKind.WRONG_COUNT, self._wrong_count(f"more than {count}", count))
                return items
        what = "None" if result is None else f"a {type(result).__name__[:100]}"
        raise _BrokenContract(
            ErrorKind.WRONG_TYPE,
            f"Model did not return a list. {self._name} returned {what} for a batch of {count} inputs; expected a list with "
            "one output for each input. Fix the function and deploy it as a new version.",
        )

    def _raised(self, exc: BaseException, now: float) -> OutputError:
        failure = self._log(exc, now)
        return OutputError(None, ErrorKind.RAISED, f"{type(exc).__name__}: {_words(exc)}", failure.traceback_id)

    def _log(self, exc: BaseException, now: float) -> _Failure:
        """Log the traceback, from the function on, unless the same one was logged just before."""
        traceback = exc.__traceback__
        if traceback is not None and traceback.tb_next is not None:
            traceback = traceback.tb_next  # `answer` itself is not what the reader looks for
        where = (type(exc), *_lines(traceback))
        known = self._failures.get(where)
        if known is not None and now < known.until:
            known.repeats += 1
            return known
        if len(self._failures) >= _MAX_FAILURES:
            self._failures.clear()
        failure = self._failures[where] = _Failure(secrets.token_hex(4), now + SAME_FAILURE_S)
        fields = {**self._fields, "traceback_id": failure.traceback_id, "repeats": known.repeats if known else 0}
        log.error("the predict function raised", extra=fields, exc_info=(type(exc), exc, traceback))
        return failure

    def _wrong_count(self, returned: str, count: int) -> str:
        return (
            f"Expected model to return {count} outputs, found {returned} outputs. {self._name} must return one output for "
            "each input, in their order. Fix the function and deploy it as a new version."
        )

    def _too_large(self, size: int) -> str:
        return (
            f"{self._name} returned outputs of {size} bytes for one batch; at most {MAX_FRAME_BYTES} can be sent. "
            "Return less for each input, or deploy it with a smaller batch_size."
        )

    def _wrong_outputs(self, wrong: tuple[WrongOutput, ...], count: int) -> tuple[OutputError, ...]:
        return tuple(
            OutputError(
                each.index,
                ErrorKind.WRONG_TYPE,
                f"Model must return a list of strs. Found {each.what} for input {each.index} of {count}. What {self._name} "
                "returns for an input may also be a number, a bool, or a list, array or dict of those and of texts. Fix the "
                "function and deploy it as a new version."
                if number < _FULL_MESSAGES
                else f"no output; see input {wrong[0].index}",
                "",
            )
            for number, each in enumerate(wrong)
        )


def _words(exc: BaseException) -> str:
    try:
        # Half of a surrogate pair, as in names of files that are not UTF-8, is no text that can be sent.
        return str(exc)[:_MAX_MESSAGE].encode(errors="backslashreplace").decode()
    except Exception:  # noqa: BLE001  # an exception of the model may fail to describe itself
        return "(its text cannot be had)"


def _lines(traceback: TracebackType | None) -> tuple[object, ...]:
    """Return where a traceback begins and ends."""
    if traceback is None:
        return ()
    last = traceback
    while last.tb_next is not None:
        last = last.tb_next
    return (
        traceback.tb_frame.f_code.co_filename,
        traceback.tb_lineno,
        last.tb_frame.f_code.co_filename,
        last.tb_lineno,
    )
