"""`clipper-nomad bench`: load one app for a few seconds and show what it does."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from clipper_nomad.cli.options import Json, Where
from clipper_nomad.cli.predict import App
from clipper_nomad.errors import ClipperException

_ADMIN_PATIENCE_S = 5.0
_MOST_CONNECTIONS = 1024  # each is a file here and in the frontend
_FIRST_ANSWER_WITHIN_S = 30.0


def bench(
    app: App,
    *,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, max=3600, metavar="S", help="How long.")] = 5.0,
    connections: Annotated[
        int,
        typer.Option(
            "--connections",
            min=1,
            max=_MOST_CONNECTIONS,
            metavar="N",
            help="Kept-alive connections, one query at a time on each.",
        ),
    ] = 32,
    input_json: Annotated[
        str | None, typer.Option("--input", metavar="JSON", help="The input to send.  [default: the model's sample]")
    ] = None,
    where: Where,
    as_json: Json = False,
) -> None:
    """Load an app with queries; show throughput and latency.

    Exit code 1 if a query gets no prediction. The load is made by this command, on the cores that also serve:
    docs/performance.md has figures made with more care.

    Examples:
      clipper-nomad bench digits
      clipper-nomad bench digits --seconds 10 --connections 256
      clipper-nomad bench digits --input '[0.1, 0.2]' --json
    """
    from clipper_nomad.cli.command_line import command
    from clipper_nomad.cli.finding import find_url
    from clipper_nomad.cli.judging import any_prediction
    from clipper_nomad.cli.load import run_load
    from clipper_nomad.cli.load_report import failure_line, load_document, load_lines
    from clipper_nomad.cli.output import Output
    from clipper_nomad.cli.predict import request_body
    from clipper_nomad.cli.queries import post_query, problem_with, target_of

    output = Output(as_json=as_json)
    url = find_url(where, app)
    body = request_body(input_json if input_json is not None else _sample_of(app, where))
    first = post_query(url, body, within_s=_FIRST_ANSWER_WITHIN_S)
    problem = problem_with(first)
    if problem is not None:
        raise ClipperException(
            f"{app} gave no prediction to the first query: {problem}.", hint=f"See how it is: {command('status', where)}"
        )
    with output.progress(f"loading {app} over {connections} connections", at_most_s=seconds + _FIRST_ANSWER_WITHIN_S):
        result = run_load(target_of(url), [body], any_prediction, connections=connections, seconds=seconds)
    if not result.failed:
        output.done(f"{app} answered {result.answered:,} queries, each with a prediction")
    for line in load_lines(result):
        output.line(f"  {line}")
    output.next_step(command("status", where), f"{command(f'bench {app}', where)} --connections {connections * 4}")
    output.document({"app": app, "url": url, **load_document(result)})
    failure = failure_line(result)
    if failure is not None:
        output.note(f"✖ {failure}", "red")
        raise typer.Exit(1)


def _sample_of(app: str, where: Where) -> str:
    """Return the sample input of the model that answers for an app, as JSON. Raises: ClipperException: there is none."""
    from clipper_nomad.cli.finding import find_admin

    catalog = find_admin(where, patience_s=_ADMIN_PATIENCE_S).catalog()
    found: dict[str, Any] | None = next((one for one in catalog["apps"] if one["name"] == app), None)
    if found is None:
        names = ", ".join(one["name"] for one in catalog["apps"])
        raise ClipperException(f"There is no app {app!r}.", hint=f"There is: {names or 'no app at all'}.")
    current = {model["name"]: model["current_version"] for model in catalog["models"]}
    for version in catalog["versions"]:
        if version["name"] in found["linked_models"] and version["version"] == current.get(version["name"]):
            if version["sample"]:
                return str(version["sample"])
            break
    example = '"a text"' if found["input_type"] in {"strings", "bytes"} else "[1, 2]"
    raise ClipperException(
        f"{app} has no model with a sample input, so what to send is not known.",
        hint=f"Say it: --input '{example}'",
    )
