"""`clipper-nomad predict`: one query over HTTP, as any client makes it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from clipper_nomad.cli.options import Json, Where, WrongUsage
from clipper_nomad.errors import ClipperException

if TYPE_CHECKING:
    from clipper_nomad.cli.output import Output
    from clipper_nomad.cli.queries import Reply

_AT_MOST_S = 120.0  # an app answers within its timeout, which is a minute unless it says more

App = Annotated[str, typer.Argument(metavar="APP", help="The app to ask.")]


def predict(
    app: App,
    input_json: Annotated[
        str, typer.Argument(metavar="INPUT_JSON", help="One input as JSON, a whole request body, or - for stdin.")
    ],
    *,
    where: Where,
    as_json: Json = False,
) -> None:
    """Ask an app for a prediction.

    The output goes to stdout; who answered, and how fast, to stderr.

    Examples:
      clipper-nomad predict digits '[0.1, 0.2]'
      clipper-nomad predict greeter '"a text"'
      clipper-nomad predict digits '{"input_batch": [[0.1], [0.3]]}' --json
    """
    from clipper_nomad.cli.command_line import command
    from clipper_nomad.cli.finding import find_url
    from clipper_nomad.cli.output import Output
    from clipper_nomad.cli.queries import post_query

    output = Output(as_json=as_json)
    body = request_body(sys.stdin.read() if input_json == "-" else input_json)
    url = find_url(where, app)
    with output.progress(f"asking {app}", at_most_s=_AT_MOST_S):
        reply = post_query(url, body, within_s=_AT_MOST_S)
    if reply.status != 200:
        raise ClipperException(
            f"{app} gave no prediction, status {reply.status}: {reply.cause}", hint=_hint(reply.status, where)
        )
    for part in reply.parts:
        output.line(json.dumps(part.get("output")) if "output" in part else json.dumps(part))
    _say_who(output, app, reply)
    if any(part.get("default") for part in reply.parts):
        why = next(part.get("default_explanation") for part in reply.parts if part.get("default"))
        output.note(f"! this is the app's default output, no prediction: {why}", "yellow")
        output.note(f"  see which models it is linked to: {command('status', where)}")
    output.document(
        {
            "app": app,
            "url": url,
            "status": reply.status,
            "took_ms": round(reply.took_s * 1000, 3),
            "model": reply.headers.get("x-clipper-model"),
            "replica": reply.headers.get("x-clipper-replica"),
            "request_id": reply.headers.get("x-request-id"),
            "reply": reply.body,
        }
    )
    if any("output" not in part for part in reply.parts):  # of a batch: the others are answered
        raise typer.Exit(1)


def request_body(text: str) -> bytes:
    """Return the body to post for what the user typed: an input, or a body as it is. Raises: WrongUsage: no JSON."""
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise WrongUsage(
            f"The input is no JSON: {exc}.",
            hint="Quote it for the shell: '[0.1, 0.2]' for numbers, '\"a text\"' for a text.",
        ) from exc
    is_body = isinstance(value, dict) and bool({"input", "input_batch"} & set(value))
    return json.dumps(value if is_body else {"input": value}).encode()


def _say_who(output: Output, app: str, reply: Reply) -> None:
    who = reply.headers.get("x-clipper-model", app)
    replica = reply.headers.get("x-clipper-replica")
    late = ", late: past the app's SLO" if any(part.get("late") for part in reply.parts) else ""
    at = f", replica {replica}" if replica else ""
    output.note(f"  {who} answered in {reply.took_s * 1000:.3g} ms{at}{late}")


def _hint(status: int, where: Where) -> str:
    from clipper_nomad.cli.command_line import command

    if status in {400, 404}:
        return f"See which apps there are, and what they take: {command('status', where)}"
    if status in {422, 500, 504}:
        return f"See what the model wrote: {command('logs', where)}"
    return f"See how the cluster is: {command('status', where)}"
