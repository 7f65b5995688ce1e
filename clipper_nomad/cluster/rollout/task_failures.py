"""Why the tasks of one allocation do not run: its task events → a trouble with a sentence and a hint. Pure.

Called by explain.py, which words it for people, and by policy.py, which decides by `lasting` and `times` whether to
go on. The events' types are constants of Nomad's API (structs.go); texts are only read where there is no type.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from clipper_nomad.cluster.rollout.image_pulls import pull_failure
from clipper_nomad.cluster.rollout.parsed_job import Json

_NOT_FOUND = re.compile(
    r'exec: \\?"(?P<path>[^"\\]+)\\?": (?:executable file not found|stat .*no such file)|'
    r'fork/exec (?P<file>\S+): no such file|binary \\?"(?P<binary>[^"\\]+)\\?" could not be found'
)
_MISSING = re.compile(r"Missing: (?P<what>.+)")
_VARIABLE = re.compile(r"nomad\.var\.(?:block|get|list)\((?P<path>[^@)]+)(?:@(?P<namespace>[^.)]*))?[^)]*\)")
_SECONDS = re.compile(r"healthy_deadline of (?P<time>\S+)")
_PORT_TAKEN = ("Address already in use", "address already in use", "EADDRINUSE", "Address in use")
_KILLED = 128  # a shell's and Docker's exit code for a signal is this plus its number
_OOM_FACTOR = 2  # what is asked for next: the next step of a power of two


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What keeps one task from running. `lasting`: no restart will help; `times`: how often it happened so far."""

    task: str
    cause: str
    hint: str | None
    lasting: bool
    times: int
    waits: bool = False  # nothing failed: the task waits for something that is not there
    exit_code: int | None = None
    is_oom: bool = False
    is_over: bool = False  # it was started again since
    at_ns: int = 0  # when it happened, if it is over; of the client's clock


def troubles_of(allocation: Json, *, memory_mib: int | None = None) -> list[Trouble]:
    """Return what is wrong with an allocation's tasks, the failed ones first; empty while nothing is."""
    states = allocation.get("TaskStates") or {}
    ordered = sorted(states.items(), key=lambda item: not item[1].get("Failed"))
    found = (_task_trouble(name, state.get("Events") or (), memory_mib=memory_mib) for name, state in ordered)
    return [trouble for trouble in found if trouble]


def _task_trouble(task: str, events: Sequence[Json], *, memory_mib: int | None) -> Trouble | None:
    """The newest event that says something decides; a task that was started again since is on its way."""
    for position in range(len(events) - 1, -1, -1):
        event = events[position]
        times = sum(1 for each in events[: position + 1] if each["Type"] == event["Type"])
        match event["Type"]:
            case "Driver Failure":
                return _driver_failure(task, _said(event, "driver_error"), times)
            case "Failed Validation":
                return Trouble(
                    task=task,
                    cause=f"the driver does not accept the task's config: {_validation(_said(event, 'validation_error'))}",
                    hint="Correct the `config` block; the driver's page in Nomad's documentation lists its arguments.",
                    lasting=True,
                    times=times,
                )
            case "Failed Artifact Download":
                return Trouble(
                    task=task,
                    cause=f"an artifact cannot be fetched: {_one_line(_said(event, 'download_error'))}",
                    hint="See that the clients reach its address, and that its checksum is right.",
                    lasting=False,
                    times=times,
                )
            case "Setup Failure" | "Task hook failed":
                return Trouble(
                    task=task,
                    cause=f"the task could not be set up: {_one_line(_said(event, 'setup_error'))}",
                    hint=None,
                    lasting=False,
                    times=times,
                )
            case "Terminated":
                since = {each["Type"] for each in _since_start(events, position)}
                if "Killing" in since:  # Nomad ended it, for a reason that is told elsewhere
                    return None
                over = any(each["Type"] == "Started" for each in events[position:])
                return replace(
                    _terminated(task, event, times, memory_mib=memory_mib), is_over=over, at_ns=int(event.get("Time") or 0)
                )
            case "Template" if missing := _MISSING.search(event.get("DisplayMessage") or ""):
                return _missing(task, missing["what"], times)
    return None


def _driver_failure(task: str, text: str, times: int) -> Trouble:
    if pull := pull_failure(text):
        return Trouble(task=task, cause=pull.cause, hint=pull.hint, lasting=pull.lasting, times=times)
    if not_found := _NOT_FOUND.search(text):
        path = next(name for name in not_found.groups() if name)
        return Trouble(
            task=task,
            cause=f"the command {path!r} is not there: not in the image, or not on the client",
            hint="Correct `command`, or put the program where it is looked for.",
            lasting=True,
            times=times,
        )
    said = _one_line(text.rpartition("Error response from daemon: ")[2])
    return Trouble(task=task, cause=f"the driver could not start the task: {said}", hint=None, lasting=False, times=times)


def _since_start(events: Sequence[Json], position: int) -> Sequence[Json]:
    """The events of one run of a task, up to its end at `position`."""
    starts = [number for number in range(position) if events[number]["Type"] == "Started"]
    return events[starts[-1] if starts else 0 : position]


def _terminated(task: str, event: Json, times: int, *, memory_mib: int | None) -> Trouble:
    details = event.get("Details") or {}
    code, number = int(details.get("exit_code") or 0), int(details.get("signal") or 0)
    again = f", {times} times" if times > 1 else ""
    if details.get("oom_killed") == "true":
        limit = f" at {memory_mib:,} MiB" if memory_mib else ""
        more = f"memory={memory_mib * _OOM_FACTOR}" if memory_mib else "a higher memory="
        hint = f"It needs more memory than it may take: try {more}."
        return Trouble(
            task=task,
            cause=f"OOM-killed{limit}{again}",
            hint=hint,
            lasting=False,
            times=times,
            exit_code=code,
            is_oom=True,
        )
    if number or code > _KILLED:
        by = _signal_name(number or code - _KILLED)
        return Trouble(task=task, cause=f"killed by {by}{again}", hint=None, lasting=False, times=times, exit_code=code)
    return Trouble(task=task, cause=f"exited with code {code}{again}", hint=None, lasting=False, times=times, exit_code=code)


def _missing(task: str, what: str, times: int) -> Trouble:
    if variable := _VARIABLE.search(what):
        path = variable["path"]
        return Trouble(
            task=task,
            cause=f"waits for the Nomad variable {path!r}, which does not exist",
            hint=f"Write it (`nomad var put {path} …`), or allow the job to read it.",
            lasting=True,
            times=times,
            waits=True,
        )
    return Trouble(
        task=task, cause=f"a template waits for {what}, which is not there", hint=None, lasting=True, times=times, waits=True
    )


def unhealthy_after(allocation: Json) -> str | None:
    """Return the time after which Nomad gave a running allocation up, such as "8s"; None if it did not."""
    for event in reversed(list(_events(allocation))):
        if event["Type"] == "Alloc Unhealthy":
            found = _SECONDS.search(event.get("DisplayMessage") or "")
            return found["time"] if found else ""
    return None


def port_is_taken(log: str) -> bool:
    """Return whether a log says that a port could not be listened on."""
    return any(words in log for words in _PORT_TAKEN)


def _events(allocation: Json) -> Iterator[Json]:
    for state in (allocation.get("TaskStates") or {}).values():
        yield from state.get("Events") or ()


def _said(event: Json, detail: str) -> str:
    return str((event.get("Details") or {}).get(detail) or event.get("DisplayMessage") or event["Type"])


def _validation(text: str) -> str:
    """Return the innermost of Nomad's nested lists of errors."""
    lines = [line.strip().removeprefix("* ").strip() for line in text.splitlines()]
    told = [line for line in lines if line and not line.endswith(("occurred:", ":"))]
    return "; ".join(line.removeprefix("Invalid label: ").rstrip(".") for line in told) or _one_line(text)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
