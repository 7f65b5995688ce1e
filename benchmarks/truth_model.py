"""The model of the truth test: an output is f(key, version uid), and each key may bring a misfortune.

A key is a unique whole number that an input carries. `predict` runs in replicas, `output_of` tells the test what a client
must get. Both are in this one file, which is pickled by value (pickle_by_value), so they cannot differ.
"""

import os
import sys
import time
import zlib
from enum import StrEnum
from typing import Any

import cloudpickle
import numpy as np
from numpy.typing import NDArray

SHAPES = (1, 3, 10)  # elements of an input
STEP = 1 / 16  # from element to element: an input put together of two shows
BATCH_S = 0.001  # enough that work is under way when something is killed; asleep, so that it takes no processor
BATCH_S_VARIABLE = "CLIPPER_TRUTH_BATCH_S"  # another time than that
INPUT_S = 0.00002
SLOW_S = 0.3  # longer than every SLO of the test
TORN = -1.0

_SLOW_EVERY = 4_001  # primes: misfortunes meet every app, shape and version
_RAISES_EVERY = 2_003
_NO_OUTPUT_EVERY = 1_999
_KILLS_EVERY = 30_011


class Misfortune(StrEnum):
    """What the model does to one input."""

    NONE = "none"
    SLOW = "slow"
    RAISES = "raises"  # and with it the whole batch
    NO_OUTPUT = "no output"
    KILLS = "kills"  # its process


def misfortune(key: int) -> Misfortune:
    """Return what befalls the input that carries `key`."""
    if key % _KILLS_EVERY == _KILLS_EVERY - 1:
        return Misfortune.KILLS
    if key % _RAISES_EVERY == _RAISES_EVERY - 1:
        return Misfortune.RAISES
    if key % _NO_OUTPUT_EVERY == _NO_OUTPUT_EVERY - 1:
        return Misfortune.NO_OUTPUT
    if key % _SLOW_EVERY == _SLOW_EVERY - 1:
        return Misfortune.SLOW
    return Misfortune.NONE


def input_of(key: int, length: int) -> list[float]:
    """Return the input that carries `key`."""
    return [key + place * STEP for place in range(length)]


def output_of(key: int, length: int, uid: str) -> str | float | int:
    """Return the one right output. Each version has its own type of outputs, so that each form on the wire is used."""
    tag = zlib.crc32(uid.encode()) % 1024
    match uid.rpartition(".")[2]:
        case "text":
            return f"{key} of {length} by {uid}"
        case "float":
            return key + tag / 1024 + length / 16384
        case _:
            return (key * 1024 + tag) * 16 + length


def predict(inputs: NDArray[Any]) -> list[Any] | NDArray[Any]:
    """Answer a batch; runs in a replica."""
    uid = os.environ["CLIPPER_MODEL_UID"]
    time.sleep(float(os.environ.get(BATCH_S_VARIABLE, BATCH_S)) + INPUT_S * len(inputs))
    outputs: list[Any] = []
    for row in inputs:
        key = int(row[0])
        is_whole = bool((row == key + np.arange(len(row)) * STEP).all())
        outputs.append(output_of(key, len(row), uid) if is_whole else TORN)
        match misfortune(key):
            case Misfortune.KILLS:
                os._exit(1)
            case Misfortune.RAISES:
                raise ValueError(f"the input {key} is not liked")
            case Misfortune.NO_OUTPUT:
                outputs[-1] = None
            case Misfortune.SLOW:
                time.sleep(SLOW_S)
    if uid.endswith(".float") and None not in outputs:
        return np.array(outputs, np.float64)
    return outputs


def pickle_by_value() -> None:
    """Let this module travel in bundles: replicas do not have it."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
