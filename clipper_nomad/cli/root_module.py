"""The files of a Terraform root module for a cloud: an example of terraform/examples, with its module and values put in.

Pure but for reading the modules that come with clipper-nomad. cli/terraform.py writes; cli/release_pins.py has the releases.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from clipper_nomad.cli.options import WrongUsage
from clipper_nomad.errors import ClipperException

VALUES = "terraform.tfvars"
RELEASES = "releases.auto.tfvars.json"
_SOURCE = re.compile(r'"\.\./\.\./modules/([a-z-]+)"')
_BESIDE = re.compile(r"\.\./([a-z-]+)")  # how one module names another
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?\Z")
_NOT_OF_A_MODULE = re.compile(r"(^|/)(tests|\.terraform[^/]*|[^/]*\.tfstate[^/]*)(/|$)")


class Cloud(StrEnum):
    """Where the machines are."""

    AWS = "aws"
    SCALEWAY = "scaleway"
    HETZNER = "hetzner"
    GENERIC = "generic"
    EXISTING = "existing"


_EXAMPLES = {Cloud.GENERIC: "generic-cloud-init", Cloud.EXISTING: "existing-cluster"}


def root_files(folder: Path, cloud: Cloud, *, source: str | None, values: Mapping[str, object]) -> dict[str, str]:
    """Return path → content of a root module. `folder`: that of the modules that come along; `source`: of others, as
    `module_source` has it, None: those are copied. `values`: variable → value, for `terraform.tfvars`.

    Raises: WrongUsage: this cloud's module has no such variable. ClipperException: the installation lacks files.
    """
    example = folder / "examples" / _EXAMPLES.get(cloud, cloud.value)
    files = {path: text for path, text in texts_below(example).items() if not _NOT_OF_A_MODULE.search(path)}
    if "main.tf" not in files:
        raise ClipperException(
            f"This installation of clipper-nomad lacks {example}.",
            hint="Install it anew: pip install --force-reinstall clipper-nomad",
        )
    modules = {name for text in files.values() for name in _SOURCE.findall(text)}
    given = files.pop(f"{VALUES}.example", "")
    files[VALUES] = with_values(given, values, cloud)
    rendered = {path: _SOURCE.sub(lambda found: _address(found[1], source), text) for path, text in files.items()}
    if source is not None:
        return rendered
    beside = {path: text.replace("../../modules/", "modules/") for path, text in rendered.items()}  # of the README
    return beside | _copied(folder / "modules", modules)


def _address(module: str, source: str | None) -> str:
    return json.dumps(f"./modules/{module}" if source is None else source.replace("MODULE", module))


def module_source(text: str, *, version: str) -> str:
    """Return where modules are, with MODULE for a module's name: a checkout's folder, or a git repository as Terraform
    writes it, at this version's tag unless `?ref=` names another. Raises: WrongUsage: it is neither."""
    folder = Path(text)
    if folder.is_dir():
        if not (folder / "terraform" / "modules").is_dir():
            raise WrongUsage(f"--source {text} has no folder terraform/modules.", hint="Name a checkout of clipper-nomad.")
        return f"{folder.resolve()}/terraform/modules/MODULE"
    if not re.match(r"(git::|[a-z0-9.-]+\.[a-z]+[/:]|git@)", text) or "//" in text.partition("://")[2]:
        raise WrongUsage(
            f"--source is {text!r}, which is neither a folder nor a git repository.",
            hint="Write a checkout's folder, or a repository: git::https://git.example/clipper-nomad.git",
        )
    repository, _, query = text.partition("?")
    return f"{repository}//terraform/modules/MODULE?{query or f'ref=v{version}'}"


def with_values(text: str, values: Mapping[str, object], cloud: Cloud) -> str:
    """Return the values' file with these values. Raises: WrongUsage: it has no such variable."""
    for name, value in values.items():
        line = re.search(rf"(?m)^{name} = .*$", text)
        if line is None:
            option = {"allowed_cidrs": "--allow", "query_cidrs": "--queries"}.get(name, f"--{name}")
            raise WrongUsage(f"{option} says nothing of --cloud {cloud}.", hint="Leave it out.")
        text = f"{text[: line.start()]}{name} = {_hcl(value)}{text[line.end() :]}"
    return text


def _hcl(value: object) -> str:
    return json.dumps(value, ensure_ascii=False).replace("${", "$${").replace("%{", "%%{")


def empty_values(text: str) -> list[str]:
    """Return the variables of a values' file that still want one."""
    return re.findall(r"(?m)^(\w+) = \[\]$", text)


def checked_name(name: str) -> str:
    """Return the name of a cluster of machines. Raises: WrongUsage: it is no DNS label of at most 32 characters."""
    if not _NAME.match(name):
        raise WrongUsage(
            f"--name is {name!r}.", hint="Write at most 32 lower-case letters, digits and hyphens, as in ml-prod."
        )
    return name


def checked_networks(option: str, networks: Sequence[str], *, may_be_everybody: bool) -> list[str]:
    """Return address ranges. Raises: WrongUsage: one is none, or is everybody where that may not be."""
    for each in networks:
        try:
            network = ipaddress.ip_network(each)
        except ValueError as exc:
            raise WrongUsage(
                f"{option} {each}: {exc}.", hint="Write a network, as 203.0.113.0/24 or 203.0.113.7/32."
            ) from exc
        if network.prefixlen == 0 and not may_be_everybody:
            raise WrongUsage(
                f"{option} {each} is everybody, and who reaches Nomad's API can try tokens there.",
                hint="Name the networks that you work from, as 203.0.113.7/32.",
            )
    return list(networks)


def texts_below(folder: Path) -> dict[str, str]:
    """Return relative path → content of all files below a folder, in order."""
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _copied(modules: Path, wanted: Iterable[str]) -> dict[str, str]:
    """Return the files of these modules and of those that they use, below modules/."""
    found: dict[str, str] = {}
    waiting, seen = sorted(wanted), set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen or not (modules / name).is_dir():
            continue
        seen.add(name)
        texts = {path: text for path, text in texts_below(modules / name).items() if not _NOT_OF_A_MODULE.search(path)}
        waiting += [each for path, text in texts.items() if path.endswith(".tf") for each in _BESIDE.findall(text)]
        found |= {f"modules/{name}/{path}": text for path, text in texts.items()}
    return dict(sorted(found.items()))
