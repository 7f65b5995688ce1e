"""Takes 50 ms for a batch of any size, adds each input up, and writes down what it was given: a line for each batch."""

from __future__ import annotations

import os
import time
from typing import Any

from numpy.typing import NDArray

BATCH_S = 0.05


def predict(inputs: NDArray[Any]) -> NDArray[Any]:
    line = " ".join(str(int(row[0])) for row in inputs) + "\n"
    file = os.open(os.environ["CLIPPER_EXECUTED_PATH"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, line.encode())  # one write: several replicas share the file
    os.close(file)
    time.sleep(BATCH_S)
    sums: NDArray[Any] = inputs.sum(axis=1)
    return sums
