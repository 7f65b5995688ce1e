"""The second run at full load: every answer of the diabetes app is compared with scikit-learn's own.

figures.py calls `check_answers` on the server whose speed it has measured; inputs are numbered, so an answer that
belongs to another query is a wrong one.

Run: python -m benchmarks.checked_diabetes http://127.0.0.1:9999/app-1/predict --connections 256 --seconds 3
"""

import argparse
import asyncio
import math
import sys
from urllib.parse import urlsplit

import msgspec
import uvloop

from benchmarks.checked_answers import Answer, Query, Tally, Verdict
from benchmarks.checked_load import Address, CheckingClient, Shape
from benchmarks.diabetes import NumberedInputs, train

# The sum over ten features may be taken in another order in a batch of another size: the last digits of outputs of some
# hundreds differ, by 1e-13. Two inputs of the same row differ in their outputs by 1e-4 and more.
_TOLERANCE = 1e-9


class _Reply(msgspec.Struct):
    output: float
    default: bool = False  # absent from FastAPI's


def check_answers(url: str, *, connections: int, seconds: float, max_pipeline: int = 1) -> Tally:
    """Load `url` for `seconds`, check each answer, and return the counts: defaults and refusals apart."""
    parts = urlsplit(url)
    inputs = NumberedInputs(train())

    def make_query(number: int) -> Query:
        return Query(number, parts.path, inputs.body(number))

    def check(query: Query, answer: Answer) -> Verdict:
        if answer.status != 200:
            return Verdict.ERROR
        try:
            reply = msgspec.json.decode(answer.body, type=_Reply)
        except msgspec.MsgspecError:
            return Verdict.WRONG
        if reply.default:
            return Verdict.DEFAULT
        is_right = math.isclose(reply.output, inputs.answer(query.number), rel_tol=0, abs_tol=_TOLERANCE)
        return Verdict.RIGHT if is_right else Verdict.WRONG

    client = CheckingClient(
        [Address(parts.hostname or "127.0.0.1", parts.port or 80)],
        make_query=make_query,
        check=check,
        shape=Shape(connections=connections, max_pipeline=max_pipeline),
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(client.run_closed(seconds=seconds))


def main() -> None:
    """Check one URL and print the counts; exit 1 if an answer was wrong or missing."""
    arguments = argparse.ArgumentParser(description="Load the diabetes app and check every answer.")
    arguments.add_argument("url")
    arguments.add_argument("--connections", type=int, default=256)
    arguments.add_argument("--seconds", type=float, default=3)
    arguments.add_argument("--max-pipeline", type=int, default=1)
    given = arguments.parse_args()
    tally = check_answers(given.url, connections=given.connections, seconds=given.seconds, max_pipeline=given.max_pipeline)
    print(tally.describe())
    if tally.wrong or tally.unanswered or not tally.queries:
        sys.exit(1)


if __name__ == "__main__":
    main()
