"""`clipper-nomad demo`: the whole way on this machine, told step by step. Train, register, deploy, link, predict, load.

It has a cluster of its own, `demo`, which is stopped and deleted at the end unless --keep. diabetes.py has the model.
"""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from clipper_nomad.errors import ClipperException

if TYPE_CHECKING:
    from clipper_nomad.cli.diabetes import Trained
    from clipper_nomad.cli.output import Output
    from clipper_nomad.cli.queries import Reply
    from clipper_nomad.connection import ClipperConnection
    from clipper_nomad.local_stack.manager import LocalContainerManager

CLUSTER = "demo"
APP = "app-1"
MODEL = "diabetes"
VERSION = "1"
SLO_MICROS = 10_000_000
DEFAULT_OUTPUT = "-1.0"

_START_AT_MOST_S = 40.0
_DEPLOY_AT_MOST_S = 60.0
_STOP_AT_MOST_S = 75.0
_ANSWER_WITHIN_S = 15.0
_LOAD_CONNECTIONS = 32
_LOAD_S = 1.5

_WIDTH = 76

Result = TypeVar("Result")


def demo(
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the cluster `demo` running at the end.")] = False,
) -> None:
    """Train a model, deploy it here, predict over HTTP.

    Uses a cluster of its own, `demo`; it is stopped at the end and nothing is left, unless --keep.

    Examples:
      clipper-nomad demo
      clipper-nomad demo --keep
    """
    from clipper_nomad.cli.diabetes import require_scikit_learn
    from clipper_nomad.cli.finding import find_cluster, make_manager, read_status, stop_interrupted
    from clipper_nomad.cli.output import Output

    output = Output()
    require_scikit_learn()
    manager = make_manager(output, CLUSTER, keep=keep)
    if read_status(find_cluster(CLUSTER)) is not None or find_cluster(CLUSTER).data.is_dir():
        with output.progress("stopping the demo of before", at_most_s=_STOP_AT_MOST_S):
            manager.stop_all(purge=True)
    is_done = False
    try:
        trained, connection = _prepare(output, manager)
        _register(output, connection)
        _deploy(output, connection, trained)
        _predict(output, connection, trained)
        _load(output, connection, trained)
        is_done = True
    except KeyboardInterrupt:
        if keep:  # without it the cluster ends with this process, whatever else
            stop_interrupted(manager, CLUSTER)
        raise
    finally:
        if not (keep and is_done):
            _timed(output, "stopping the cluster", _STOP_AT_MOST_S, lambda: manager.stop_all(purge=True))
    _end(output, keep=keep)


def _prepare(output: Output, manager: LocalContainerManager) -> tuple[Trained, ClipperConnection]:
    """Start the cluster while the model is trained: most of either is waiting for the other's core."""
    from clipper_nomad.cli.diabetes import train
    from clipper_nomad.connection import ClipperConnection

    began = time.monotonic()
    with (
        output.progress("starting the cluster, training the model", at_most_s=_START_AT_MOST_S),
        ThreadPoolExecutor(max_workers=1) as pool,
    ):
        started = pool.submit(manager.start_clipper)
        trained = train()
        trained_s = time.monotonic() - began
        started.result()
    output.done(f"trained LinearRegression on scikit-learn's diabetes data, {trained.trained_on} rows", took_s=trained_s)
    output.done(f"started cluster {CLUSTER!r}: store, admin, 1 query frontend", took_s=time.monotonic() - began)
    connection = ClipperConnection(manager)
    connection.connect()
    return trained, connection


def _register(output: Output, connection: ClipperConnection) -> None:
    connection.register_application(APP, "doubles", DEFAULT_OUTPUT, SLO_MICROS)
    output.done(f"registered {APP}: takes doubles, answers within 10 s, default output {DEFAULT_OUTPUT}")
    reply = _ask(connection, [0.0] * 10)
    output.line("  asked before a model is linked to it, it says that this is no prediction:")
    _show_answer(output, reply)
    if not reply.parts or reply.parts[0].get("default") is not True:
        raise ClipperException(f"An app without a model answered {reply.body!r} instead of its default output.")


def _deploy(output: Output, connection: ClipperConnection, trained: Trained) -> None:
    from clipper_nomad.deployers.python import deploy_python_closure

    _, took_s = _timed(
        output,
        "starting clf.predict in a process of its own",
        _DEPLOY_AT_MOST_S,
        lambda: deploy_python_closure(connection, MODEL, VERSION, "doubles", trained.predict),
    )
    output.done(f"deployed clf.predict as {MODEL}:{VERSION}; it runs in a process of its own", took_s=took_s)
    connection.link_model_to_app(APP, MODEL)
    output.done(f"linked {APP} → {MODEL}")


def _predict(output: Output, connection: ClipperConnection, trained: Trained) -> None:
    body = json.dumps({"input": list(trained.example)}, separators=(",", ":"))
    output.line()
    output.line(f"  curl {connection.predict_url(APP)} \\")
    output.line(f"    -d '{body}'")
    reply = _ask(connection, list(trained.example))
    _show_answer(output, reply)
    output.line()
    own = [trained.example_answer, *trained.answers]
    answers = [_output_of(reply), *(_output_of(_ask(connection, list(row))) for row in trained.rows)]
    wrong = next((index for index, answer in enumerate(answers) if answer != own[index]), None)
    if wrong is not None:
        raise ClipperException(
            f"An answer is not scikit-learn's own: {answers[wrong]!r} over HTTP, {own[wrong]!r} from clf.predict.",
            hint="This is an error of clipper-nomad: please report it with this output.",
        )
    output.done(f"asked for all {len(trained.rows)} test rows: each answer is exactly scikit-learn's own")


def _load(output: Output, connection: ClipperConnection, trained: Trained) -> None:
    from clipper_nomad.cli.judging import near
    from clipper_nomad.cli.load import run_load
    from clipper_nomad.cli.load_report import failure_line, load_lines
    from clipper_nomad.cli.queries import target_of

    target = target_of(connection.predict_url(APP))
    bodies = [json.dumps({"input": list(row)}).encode() for row in trained.rows]
    result, _ = _timed(
        output,
        f"asking over {_LOAD_CONNECTIONS} connections, from this process",
        _LOAD_S + _ANSWER_WITHIN_S,
        lambda: run_load(target, bodies, near(trained.answers), connections=_LOAD_CONNECTIONS, seconds=_LOAD_S),
    )
    failure = failure_line(result)
    if failure is not None:
        raise ClipperException(f"Under load, {failure}.", hint="Please report it with this output.")
    output.done(f"asked {result.answered:,} times under load, every answer checked", took_s=result.seconds)
    output.line()
    for line in load_lines(result):
        output.line(f"  {line}")
    output.line()


def _end(output: Output, *, keep: bool) -> None:
    from clipper_nomad.cli.command_line import command
    from clipper_nomad.cli.options import Where

    here = Where(cluster=CLUSTER, local=True)
    if keep:
        output.done(f"cluster {CLUSTER!r} runs on: try the curl command above")
        output.next_step(command("status", here), command("down --volumes", here))
    else:
        output.done(f"stopped cluster {CLUSTER!r}; nothing of it is left")
        output.next_step("clipper-nomad demo --keep, to try the curl command yourself", "clipper-nomad up --local")


def _ask(connection: ClipperConnection, row: list[float]) -> Reply:
    from clipper_nomad.cli.queries import post_query

    body = json.dumps({"input": row}).encode()
    reply = post_query(connection.predict_url(APP), body, within_s=_ANSWER_WITHIN_S)
    if reply.status != 200:
        raise ClipperException(f"{APP} gave no prediction: status {reply.status}, {reply.cause}")
    return reply


def _show_answer(output: Output, reply: Reply) -> None:
    for line in textwrap.wrap(json.dumps(reply.body), _WIDTH, break_long_words=False):
        output.line(f"    {line}")


def _output_of(reply: Reply) -> object:
    return reply.parts[0].get("output") if reply.parts else None


def _timed(output: Output, doing: str, at_most_s: float, do: Callable[[], Result]) -> tuple[Result, float]:
    began = time.monotonic()
    with output.progress(doing, at_most_s=at_most_s):
        result = do()
    return result, time.monotonic() - began
