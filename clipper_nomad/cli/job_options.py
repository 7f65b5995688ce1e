"""What is asked of Nomad for one job, as text: `deploy --cpu 1000`, `up --set redis.memory=512`. Pure.

Both are read by one table, so that a value is written alike everywhere; all that is wrong is said at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipper_nomad.cli.options import WrongUsage

if TYPE_CHECKING:
    from clipper_nomad.cluster.jobs.options import JobOptions

PARTS = ("redis", "admin", "frontend", "fabio")  # as cluster.jobs.blueprint has it, which --help need not load
_SETTING = re.compile(r"(?P<part>[a-z-]+)\.(?P<name>[a-z-]+)(\.(?P<key>[^=]+))?=(?P<value>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What a model version's replicas get. All are texts here: what is wrong with them is said together."""

    cpu: Annotated[str | None, typer.Option("--cpu", metavar="MHZ", help="On Nomad, of each replica.  [default: 500]")] = (
        None
    )
    cores: Annotated[str | None, typer.Option("--cores", metavar="N", help="Whole cores for itself, instead of --cpu.")] = (
        None
    )
    memory: Annotated[str | None, typer.Option("--memory", metavar="MIB", help="Of each replica.  [default: 256]")] = None
    memory_max: Annotated[
        str | None, typer.Option("--memory-max", metavar="MIB", help="What it may use while the client has it.")
    ] = None
    gpu: Annotated[
        list[str] | None, typer.Option("--gpu", metavar="[DEVICE=]N", help="Of each replica; DEVICE is nvidia/gpu.")
    ] = None
    model_datacenter: Annotated[
        list[str] | None,
        typer.Option("--datacenter", metavar="DC", help="Of Nomad; several times.  [default: the cluster's]"),
    ] = None
    model_node_pool: Annotated[
        str | None, typer.Option("--node-pool", metavar="NAME", help="Of Nomad.  [default: the cluster's]")
    ] = None
    constraint: Annotated[
        list[str] | None, typer.Option("--constraint", metavar="'ATTR OP VALUE'", help="Of clients; several times.")
    ] = None
    env: Annotated[
        list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="A variable for the model; several times.")
    ] = None
    volume: Annotated[
        list[str] | None,
        typer.Option("--volume", metavar="NAME:/PATH[:ro]", help="A host volume of the clients; several times."),
    ] = None
    network_mode: Annotated[
        str | None, typer.Option("--network-mode", metavar="MODE", help="host, docker or bridge.  [default: host]")
    ] = None

    def read(self) -> JobOptions | None:
        """Return the options, None if none was given. Raises: WrongUsage: with all that is wrong."""
        said = [
            (each.name.removeprefix("model_").replace("_", "-"), text)
            for each in fields(self)
            for text in _texts(getattr(self, each.name))
        ]
        if not said:
            return None
        problems: list[str] = []
        options = _options(_merged({}, [_Said("", *_split_env(name, text)) for name, text in said], problems), problems)
        _refuse(problems, "These options cannot be", "See clipper-nomad deploy --help.")
        return options


@dataclass(frozen=True, slots=True)
class _Said:
    """One option that was said: `part` "" for a model, `key` for env, `value` "" to take it back."""

    part: str
    name: str
    key: str | None
    value: str

    @property
    def label(self) -> str:
        name = self.name if self.key is None else f"{self.name}.{self.key}"
        return f"{self.part}.{name}" if self.part else f"--{self.name}"


def changed_options(running: Mapping[str, JobOptions], settings: Iterable[str]) -> dict[str, JobOptions]:
    """Return what the parts shall have: what they run with, changed by `settings` ("redis.memory=512").

    A list that is named is replaced as a whole, by all that is said of it; an empty value takes an option back.
    Raises: WrongUsage: with all that is wrong.
    """
    problems: list[str] = []
    said: dict[str, list[_Said]] = {}
    for text in settings:
        match = _SETTING.fullmatch(text)
        if match is None or match["part"] not in PARTS:
            problems.append(f"{text!r}: expected PART.OPTION=VALUE, PART one of {', '.join(PARTS)}")
            continue
        name, key, value = match["name"], match["key"], match["value"]
        if (match["part"], name, key) == ("admin", "slo-policy", None):
            name, key = "env", SLO_POLICY
        said.setdefault(match["part"], []).append(_Said(match["part"], name, key, value))
    wanted = dict(running)
    for part, each in said.items():
        before = running[part].given if part in running else {}
        options = _options(_merged(before, each, problems), problems, part=part)
        if options is not None:
            wanted[part] = options
    _refuse(
        problems,
        "These settings of parts cannot be",
        f"--set frontend.cpu=1000; options: {', '.join(_NAMES)}; admin.slo-policy.",
    )
    return wanted


def _merged(before: Mapping[str, Any], said: Iterable[_Said], problems: list[str]) -> dict[str, Any]:  # Any: fields' values
    """Return the fields of JobOptions that come out of `before` and what was said."""
    wanted, replaced = dict(before), set()
    for each in said:
        if each.name == "env" and each.key is not None:
            kept = {name: value for name, value in wanted.get("env", {}).items() if name != each.key}
            wanted["env"] = kept | ({each.key: each.value} if each.value or not each.part else {})
            continue
        if each.name not in _NAMES or each.key is not None or (each.name == "env" and each.value):
            names = "a variable as NAME=VALUE" if each.name == "env" else f"one of {', '.join(_NAMES)}"
            problems.append(f"{each.label}: {each.value!r}; expected {names}")
            continue
        field, read = _NAMES[each.name]
        try:
            if not each.value:
                wanted.pop(field, None)
            elif field in _LISTS:
                earlier = wanted.get(field, ()) if field in replaced else ()
                wanted[field] = (*earlier, read(each.value))
            else:
                wanted[field] = read(each.value)
        except ValueError as exc:
            problems.append(f"{each.label}: {_reason(exc)}")
        replaced.add(field)
    for one, other in (("cpu_mhz", "cores"), ("cores", "cpu_mhz")):  # one of the two: the one that was said now
        if one in replaced and one in wanted and other not in replaced:
            wanted.pop(other, None)
    return wanted


def _options(values: Mapping[str, Any], problems: list[str], *, part: str = "") -> JobOptions | None:
    from clipper_nomad.cluster.jobs.options import JobOptions
    from clipper_nomad.errors import InvalidSpec

    try:
        return JobOptions(**values)
    except InvalidSpec as exc:
        labels = {field: name for name, (field, _) in _NAMES.items()}
        for problem in exc.problems:
            field, _, what = problem.partition(": ")
            name = labels.get(field, field)
            problems.append(f"{f'{part}.' if part else '--'}{name}: {what}")
        return None


def _refuse(problems: list[str], what: str, hint: str) -> None:
    if problems:
        raise WrongUsage("\n  ".join([f"{what}:", *problems]), hint=hint)


def _texts(value: str | list[str] | None) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else value


def _split_env(name: str, text: str) -> tuple[str, str | None, str]:
    key, equals, value = text.partition("=")
    return (name, key, value) if name == "env" and equals and key else (name, None, text)


def _reason(exc: ValueError) -> str:
    from clipper_nomad.errors import InvalidSpec

    return "; ".join(exc.problems) if isinstance(exc, InvalidSpec) else str(exc)


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"{text!r}; expected a whole number")
    return int(text)


def _gpu(text: str) -> object:
    from clipper_nomad.cluster.jobs.requirements import Gpus

    device, _, count = text.rpartition("=")
    return Gpus(count=_whole(count), device=device) if device else Gpus(count=_whole(count))


def _constraint(text: str) -> object:
    """`attr.cpu.arch = amd64`, `meta.ssd is_set`, `distinct_hosts`; Nomad's ${…} around the attribute may be left out."""
    from clipper_nomad.cluster.jobs.requirements import OPERATORS, Constraint

    words = text.split(maxsplit=2)
    if words == ["distinct_hosts"]:
        return Constraint(operator="distinct_hosts", value="true")
    if len(words) < 2 or words[1] not in OPERATORS:  # an attribute and an operator
        raise ValueError(f"{text!r}; expected 'ATTR OP VALUE', OP one of {', '.join(sorted(OPERATORS))}")
    attribute = words[0] if words[0].startswith("${") else f"${{{words[0]}}}"
    return Constraint(attribute=attribute, operator=words[1], value="".join(words[2:]))


def _volume(text: str) -> object:
    from clipper_nomad.cluster.jobs.requirements import HostVolume

    source, _, rest = text.partition(":")
    path, _, mode = rest.partition(":")
    if not source or not path or mode not in {"", "ro", "rw"}:
        raise ValueError(f"{text!r}; expected NAME:/PATH or NAME:/PATH:ro")
    return HostVolume(source=source, path=path, read_only=mode == "ro")


_NAMES: dict[str, tuple[str, Callable[[str], object]]] = {
    "cpu": ("cpu_mhz", _whole),
    "cores": ("cores", _whole),
    "memory": ("memory_mb", _whole),
    "memory-max": ("memory_max_mb", _whole),
    "gpu": ("gpus", _gpu),
    "datacenter": ("datacenters", str),
    "node-pool": ("node_pool", str),
    "constraint": ("constraints", _constraint),
    "env": ("env", str),
    "volume": ("volumes", _volume),
    "network-mode": ("network_mode", str),
}
SLO_POLICY = "CLIPPER_DEFAULT_SLO_POLICY"  # a variable of admin's
_LISTS = frozenset({"gpus", "datacenters", "constraints", "volumes"})
