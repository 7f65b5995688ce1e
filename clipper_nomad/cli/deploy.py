"""`clipper-nomad deploy`: a Python function from a file or module becomes a model version that answers over HTTP."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from clipper_nomad.cli.job_options import Asking
from clipper_nomad.cli.options import Building, Json, Where, WrongUsage
from clipper_nomad.errors import ClipperException

if TYPE_CHECKING:
    from collections.abc import Callable

    from clipper_nomad.cli.output import Output
    from clipper_nomad.connection import ClipperConnection
    from clipper_nomad.connection.deployment import Deployment

_LONGEST_EXAMPLE = 60  # characters of an input in the last line


def deploy(
    function: Annotated[str, typer.Argument(metavar="FUNCTION", help="FILE:FUNCTION or MODULE:FUNCTION.")],
    *,
    name: Annotated[str, typer.Option("--name", metavar="MODEL", help="The model's name, and its app's.")],
    version: Annotated[
        str | None, typer.Option("--version", metavar="V", help="The model version.  [default: the next number]")
    ] = None,
    sample: Annotated[
        str | None, typer.Option("--sample", metavar="JSON", help="One input, to try the function on. Bytes in base64.")
    ] = None,
    trial: Annotated[
        bool, typer.Option("--trial/--no-trial", help="Call the function once here, before anything is built.")
    ] = True,
    package: Annotated[
        list[str] | None, typer.Option("--package", metavar="REQ", help="To install for it, as for pip; several times.")
    ] = None,
    input_type: Annotated[
        str | None,
        typer.Option(
            "--input-type", metavar="TYPE", help="bytes, integers, floats, doubles or strings.  [default: the sample's]"
        ),
    ] = None,
    replicas: Annotated[int, typer.Option("--replicas", min=0, metavar="N", help="How many processes run it.")] = 1,
    app: Annotated[
        str | None,
        typer.Option("--app", metavar="APP", help="Link to this app, which is there.  [default: the model's name]"),
    ] = None,
    default_output: Annotated[
        str | None, typer.Option("--default-output", metavar="TEXT", help="A new app's default output.  [default: None]")
    ] = None,
    slo_ms: Annotated[
        float | None, typer.Option("--slo-ms", min=0.001, metavar="MS", help="A new app's SLO.  [default: 3000]")
    ] = None,
    slo_policy: Annotated[
        str | None,
        typer.Option("--slo-policy", metavar="POLICY", help="A new app's: late, default or error.  [default: late]"),
    ] = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1.0, metavar="S", help="How long it may take to become ready.")
    ] = 300.0,
    rpc_mode: Annotated[
        str | None,
        typer.Option("--rpc-mode", metavar="MODE", help="On Nomad: how replicas reach frontends, auto, direct or proxy."),
    ] = None,
    asking: Asking,
    where: Where,
    building: Building,
    as_json: Json = False,
) -> None:
    """Deploy a Python function as a model version.

    The function takes a batch (an array, one row for each input) and returns one output for each input. It is packed
    with the modules of yours that it uses, and live when it has answered through every query frontend; if it does not,
    the version of before serves on. The app of the model's name is registered if there is none.

    Examples:
      clipper-nomad deploy model.py:predict --name digits --sample '[0.1, 0.2]'
      clipper-nomad deploy mypackage.models:clf.predict --name digits --replicas 2
      clipper-nomad deploy texts.py:greet --name greeter --input-type strings
      clipper-nomad deploy train.py:clf.predict --name digits --package six
      clipper-nomad deploy model.py:predict --name m --memory 2048 --gpu 1
    """
    from clipper_nomad.cli.deploying import AppSettings, Target, check_app, deploy_target
    from clipper_nomad.cli.finding import connect, is_on_nomad, refuse_nomad_options, running_stack
    from clipper_nomad.cli.functions import load_function
    from clipper_nomad.cli.output import Output

    output = Output(as_json=as_json)
    value = _parsed_sample(sample, input_type)
    job_options = asking.read()
    on_nomad = is_on_nomad(where)
    if on_nomad:
        from clipper_nomad.cli.on_nomad.reaching import running_settings

        running_settings(where)
    else:
        refuse_nomad_options({**asdict(building), "rpc_mode": rpc_mode})
        running_stack(where.cluster)  # before the user's code runs, which may take its time
    with output.progress(f"loading {function}", at_most_s=timeout_s):
        loaded = load_function(function)
    kind = _kind(loaded, value, input_type)
    settings = AppSettings(default_output=default_output, slo_ms=slo_ms, slo_policy=slo_policy)
    target = Target(
        name=name,
        app=app or name,
        version=version,
        kind=kind,
        sample=value,
        replicas=replicas,
        packages=tuple(package or ()),
        trial=trial,
        timeout_s=timeout_s,
        job_options=job_options,
    )
    with ExitStack() as showing:
        if on_nomad:
            from clipper_nomad.cli.on_nomad.deploying_there import connect_to_deploy

            connection = connect_to_deploy(
                output, where, building, rpc_mode=rpc_mode or "auto", board=showing.enter_context(output.board())
            )
        else:
            connection = connect(output, where)
        apps = {found["name"]: found for found in connection.get_all_apps(verbose=True)}
        check_app(apps, target)
        if target.app in apps and settings != AppSettings():
            output.note(f"! app {target.app!r} is there already; its settings stay as they are", "yellow")
        if not on_nomad:
            doing = f"starting {_replicas(replicas)} of {name}, asking for an answer"
            showing.enter_context(output.progress(doing, at_most_s=timeout_s))
        try:
            done = deploy_target(connection, loaded, target, settings)
        except KeyboardInterrupt as exc:
            if not getattr(exc, "__notes__", ()):
                exc.add_note(f"Model {name!r} was not deployed; nothing had been registered of it.")
            raise
    _say(output, connection, done, app=target.app, kind=kind, where=where)


def _say(output: Output, connection: ClipperConnection, done: Deployment, *, app: str, kind: str, where: Where) -> None:
    from clipper_nomad.cli.command_line import command

    url = connection.predict_url(app)
    given = json.dumps(done.sample)
    output.done(f"{done.name}:{done.version} is live", took_s=done.took_s)
    output.detail("predict", f"POST {url}")
    output.detail("try it", f"{url.removesuffix('/predict')}/docs, in a browser")
    if done.warning is None:  # else it was logged, and is on stderr
        answer = json.dumps(done.output)
        output.detail("tested", f"your function answered {_short(answer)} in {done.exec_micros / 1000:.3g} ms")
    length = f", {len(done.sample)} of them" if isinstance(done.sample, list) else ""
    output.detail("input", f"{kind}{length}")
    example = given if done.sample is not None and len(given) <= _LONGEST_EXAMPLE else "INPUT_JSON"
    output.next_step(command(f"predict {app} '{example}'", where), command(f"bench {app}", where))
    output.document(
        {
            "app": app,
            "model": done.name,
            "version": done.version,
            "uid": done.uid,
            "input_type": kind,
            "predict_url": url,
            "output": done.output,
            "exec_ms": done.exec_micros / 1000,
            "took_s": round(done.took_s, 3),
            "warning": done.warning,
        }
    )


def _parsed_sample(sample: str | None, input_type: str | None) -> object:
    from clipper_nomad.protocol.datatypes import decode_base64

    if sample is None:
        return None
    try:
        value = json.loads(sample)
        return decode_base64(value) if input_type in {"bytes", "byte", "b"} else value
    except (ValueError, TypeError) as exc:
        raise WrongUsage(
            f"The sample is no JSON of an input: {exc}.",
            hint="Quote it for the shell: '[0.1, 0.2]' for numbers, '\"a text\"' for a text, base64 text for bytes.",
        ) from exc


def _kind(function: Callable[..., object], sample: object, input_type: str | None) -> str:
    """Return the input type's canonical word. Raises: WrongUsage: it is not known."""
    from clipper_nomad.connection.inputs import kind_of

    try:
        return kind_of(function, sample, input_type).word
    except ClipperException as exc:
        raise WrongUsage(
            exc.msg, hint="Give one input with --sample '[0.1, 0.2]', or the type with --input-type doubles."
        ) from exc


def _replicas(count: int) -> str:
    return "1 replica" if count == 1 else f"{count} replicas"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_EXAMPLE else f"{text[: _LONGEST_EXAMPLE - 1]}…"
