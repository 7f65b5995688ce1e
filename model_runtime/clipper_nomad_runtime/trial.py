"""A bundle's first call, before it is deployed: `python -m clipper_nomad_runtime.trial ASKED REPORT`, two files.

Loads and calls as a replica does, Clipper's names and texts as `bytes` included; no frontend is asked. The process ends with
its report, with whoever holds its standard input, or, with a traceback on stderr, when its time is over. Started by
clipper_nomad/deployers/trial.py.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from clipper_nomad.protocol.environment import Reader
from clipper_nomad.protocol.trial import Asked, Outcome, Report, read_asked, to_json
from clipper_nomad.protocol.wire import ErrorKind
from clipper_nomad_runtime.clipper_admin_names import offer
from clipper_nomad_runtime.clipper_forms import adapted
from clipper_nomad_runtime.config import texts_as_bytes
from clipper_nomad_runtime.loader import ImportMissing, ModelFailed, load_model, sample_array
from clipper_nomad_runtime.predict import Predictor
from clipper_nomad_runtime.stopping import LEAVE_S

_OURS = Path(__file__).parent


def main() -> None:
    """Do what is asked for in the first file, and report in the second."""
    asked, report = read_asked(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2])
    faulthandler.enable()
    faulthandler.dump_traceback_later(asked.within_s, exit=True)
    threading.Thread(target=_end_with_the_deployer, daemon=True).start()
    offer()
    logging.disable(logging.CRITICAL)  # the report says it
    text = to_json(tried(asked))
    unfinished = report.with_suffix(".new")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.rename(report)
    last_resort = threading.Timer(LEAVE_S, os._exit, [0])
    last_resort.daemon = True
    last_resort.start()


def tried(asked: Asked) -> Report:
    """Load the bundle, call its function on the one input, and return what became of it."""
    try:
        model = load_model(Path(asked.bundle), digest=None, kind=None)
    except ImportMissing as exc:
        return Report(outcome=Outcome.IMPORT, error=str(exc), frames=_frames(exc.__cause__))
    except ModelFailed as exc:
        return Report(outcome=Outcome.LOAD, error=str(exc), frames=_frames(exc.__cause__))
    reader = Reader(os.environ)
    as_bytes = texts_as_bytes(reader)
    reader.check()
    function = adapted(model.function, model.input_type, texts_as_bytes=as_bytes)
    raised: list[BaseException] = []

    def called(inputs: NDArray[Any]) -> object:
        try:
            return function(inputs)
        except BaseException as exc:
            raised.append(exc)
            raise

    model_name, _, version = asked.title.partition(":")
    predictor = Predictor(called, model=model_name, version=version)
    errors = predictor.answer(sample_array(asked.input, model.input_type)).errors
    if not errors:
        return Report(outcome=Outcome.ANSWERED)
    error = errors[0]
    if error.kind is not ErrorKind.RAISED:
        return Report(outcome=Outcome.WRONG, error=error.message)
    is_import = any(isinstance(exc, ImportError) for exc in raised)
    outcome = Outcome.IMPORT if is_import else Outcome.RAISED
    return Report(outcome=outcome, error=error.message, frames=_frames(raised[0] if raised else None))


def _frames(exc: BaseException | None) -> tuple[tuple[str, int, str], ...]:
    """Return where an exception came from, but for our own files."""
    found = traceback.extract_tb(exc.__traceback__) if exc is not None else []
    return tuple(
        (frame.filename, frame.lineno or 0, frame.name) for frame in found if not Path(frame.filename).is_relative_to(_OURS)
    )


def _end_with_the_deployer() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
