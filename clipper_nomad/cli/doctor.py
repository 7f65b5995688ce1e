"""`clipper-nomad doctor`: is everything there that a cluster on Nomad needs? examining.py asks, verdicts.py judges."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from clipper_nomad.cli.options import Building, Frontends, Json, Shape, Where, WrongUsage

if TYPE_CHECKING:
    from rich.text import Text

    from clipper_nomad.cli.on_nomad.verdicts import Verdict
    from clipper_nomad.cli.output import Output

_STYLES = {"well": "green", "doubt": "yellow", "problem": "red"}
_AREA = 9


def doctor(
    *,
    where: Where,
    frontends: Frontends = None,
    shape: Shape,
    building: Building,
    wait: Annotated[
        str | None,
        typer.Option(
            "--wait", metavar="TIME", help="Look again, so long, until Nomad, Consul and Fabio are there: 5m, 90s."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """See whether everything is there that a cluster on Nomad needs.

    Asks Nomad, Consul, Fabio, the registry, DNS and Docker; changes nothing. Each line is ✔, ⚠ or ✖, with why and what
    to do. Without --nomad and NOMAD_ADDR it asks a development cluster, else 127.0.0.1. Exit code 1 if there is a problem.

    Examples:
      clipper-nomad doctor
      clipper-nomad doctor --nomad 10.0.0.5 --consul 10.0.0.5 --json
      clipper-nomad doctor --wait 5m
    """
    from clipper_nomad.cli.command_line import command
    from clipper_nomad.cli.finding import is_on_nomad
    from clipper_nomad.cli.on_nomad.examining import examine
    from clipper_nomad.cli.on_nomad.patience import seconds_of
    from clipper_nomad.cli.output import Output

    if where.local:
        raise WrongUsage(
            "doctor is about a cluster on Nomad.", hint="Leave out --local; there is `status` for the local one."
        )
    is_on_nomad(where)  # a development cluster that runs is found
    output = Output(as_json=as_json)

    def look() -> Iterator[Verdict]:
        return examine(where, shape, building, frontends=frontends or 1)

    found: list[Verdict] = []
    for verdict in look() if wait is None else _patiently(output, look, within_s=seconds_of(wait)):
        found.append(verdict)
        for line in lines_of(verdict, is_same_area=len(found) > 1 and found[-2].area == verdict.area):
            output.line(line)
    problems = sum(each.level == "problem" for each in found)
    doubts = sum(each.level == "doubt" for each in found)
    output.line(f"{_counted(problems, 'problem')}, {_counted(doubts, 'warning')}.")
    _end(output, found, command("up" if not problems else "doctor", where), problems=problems)


def _patiently(output: Output, look: Callable[[], Iterable[Verdict]], *, within_s: float) -> list[Verdict]:
    """Look until there is no problem that may pass by itself, and return what was found last."""
    from clipper_nomad.cli.on_nomad.patience import next_look, time_left, waited_for

    deadline = time.monotonic() + within_s
    said: tuple[str, ...] = ()
    while True:
        found = list(look())
        now = time.monotonic()
        pause = next_look(found, now=now, deadline=deadline)
        if pause is None:
            if waited_for(found):
                output.note(f"gave up after {within_s:g} s (--wait)", "yellow")
            return found
        if waited_for(found) != said:
            said = waited_for(found)
            left = time_left(now=now, deadline=deadline)
            output.note("\n".join(f"… {left} left, waiting for {line}" for line in said))
        time.sleep(pause)


def lines_of(verdict: Verdict, *, is_same_area: bool) -> list[Text]:
    """Return how a verdict is shown."""
    from rich.text import Text

    area = "" if is_same_area else verdict.area
    first = Text.assemble(f"{area:<{_AREA}} ", (f"{verdict.sign} ", _STYLES[verdict.level]), verdict.text)
    more = [("why", verdict.why), ("fix", verdict.fix)]
    return [first, *(Text.assemble(" " * (_AREA + 1), (f"{name}   ", "dim"), text) for name, text in more if text)]


def _counted(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def _end(output: Output, found: list[Verdict], next_step: str, *, problems: int) -> None:
    output.next_step(next_step)
    output.document(
        {
            "problems": problems,
            "checks": [
                {"area": each.area, "level": each.level, "text": each.text, "why": each.why, "fix": each.fix}
                for each in found
            ],
        }
    )
    if problems:
        raise typer.Exit(1)
