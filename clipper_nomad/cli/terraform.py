"""`clipper-nomad terraform init`: a Terraform root module for a cluster of machines, to be read, kept in git, and applied.

root_module.py says what it holds, release_pins.py which releases. Terraform itself is not run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipper_nomad.cli.options import Json, WrongUsage
from clipper_nomad.cli.root_module import Cloud

if TYPE_CHECKING:
    from clipper_nomad.cli.output import Output
    from clipper_nomad.cli.release_pins import Pins

_ON_VOLUMES = " --redis-volume clipper-redis --bundle-volume clipper-bundles"  # the host volumes of the examples
_SHOWN = 8  # files of ours named one by one; the copied modules are counted


class Act(StrEnum):
    """What is to be done."""

    INIT = "init"


def terraform(
    act: Annotated[Act, typer.Argument(metavar="ACT", help="init.")],  # noqa: ARG001  # there is only one
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to write.")] = Path(),
    *,
    cloud: Annotated[Cloud, typer.Option("--cloud", metavar="CLOUD", help="aws, scaleway, hetzner, generic or existing.")],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Of the cluster of machines.  [default: ml]")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", metavar="CIDR", help="A network that reaches Nomad, Consul and SSH; several times."),
    ] = None,
    queries: Annotated[
        list[str] | None,
        typer.Option("--queries", metavar="CIDR", help="A network that may send queries; several times.  [default: all]"),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--source", metavar="REPOSITORY", help="Of the modules; without it they are copied beside."),
    ] = None,
    release: Annotated[
        list[str] | None,
        typer.Option("--release", metavar="PRODUCT=VERSION", help="Of consul, nomad or fabio; several times."),
    ] = None,
    sha256: Annotated[
        list[str] | None,
        typer.Option("--sha256", metavar="PRODUCT_ARCH=HEX", help="Of a release, as nomad_amd64=…, instead of its makers'."),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask nobody for checksums; what is not known here is left to be filled in.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a Terraform root module for a cluster of machines.

    Machines with Nomad, Consul and Fabio: aws, scaleway and hetzner make them; generic gives what machines of any
    kind start with (cloud-init); existing adds policies, and a Fabio if wanted, to a Nomad that is there. Releases
    are pinned by the checksums that their makers signed. Files that are there are never overwritten.

    Examples:
      clipper-nomad terraform init --cloud aws --allow 203.0.113.7/32 cluster
      clipper-nomad terraform init --cloud hetzner --release nomad=1.11.3
      clipper-nomad terraform init --cloud generic --offline
      clipper-nomad terraform init --cloud existing --source ../clipper-nomad
    """
    from importlib.metadata import version

    from clipper_nomad.cli import root_module
    from clipper_nomad.cli.output import Output
    from clipper_nomad.cli.release_pins import read_pairs
    from clipper_nomad.dev_cluster.releases import ARCHITECTURES, PRODUCTS
    from clipper_nomad.resources import terraform_folder

    output = Output(as_json=as_json)
    values: dict[str, object] = {}
    if name is not None:
        values["name"] = root_module.checked_name(name)
    if allow:
        values["allowed_cidrs"] = root_module.checked_networks("--allow", allow, may_be_everybody=False)
    if queries:
        values["query_cidrs"] = root_module.checked_networks("--queries", queries, may_be_everybody=True)
    from_where = None if source is None else root_module.module_source(source, version=version("clipper-nomad"))
    versions = read_pairs("--release", release or (), list(PRODUCTS))
    given = read_pairs("--sha256", sha256 or (), [f"{each}_{arch}" for each in PRODUCTS for arch in ARCHITECTURES])
    files = root_module.root_files(terraform_folder(), cloud, source=from_where, values=values)
    _refuse_overwriting(directory, [*files, root_module.RELEASES])
    missing: tuple[str, ...] = ()
    if cloud is not Cloud.EXISTING:
        with output.progress("fetching the signed checksums of the releases", at_most_s=60):
            pins = _pins(versions, given, offline=offline)
        files[root_module.RELEASES] = json.dumps({"releases": pins.releases}, indent=2) + "\n"
        missing = pins.missing
        for remark in pins.remarks:
            output.note(remark)
    elif versions or given:
        raise WrongUsage("--release and --sha256 say nothing of --cloud existing.", hint="Leave them out.")
    _write(directory, files)
    _tell(output, directory, cloud, files, missing)


def _pins(versions: Mapping[str, str], sha256: Mapping[str, str], *, offline: bool) -> Pins:
    from clipper_nomad.cli.release_pins import pins_of
    from clipper_nomad.errors import DownloadFailed

    try:
        return pins_of(versions, sha256, offline=offline)
    except DownloadFailed as exc:
        exc.add_note(
            "Nothing was written. Without the network: --sha256 for each release, or --offline to fill them in later."
        )
        raise


def _refuse_overwriting(directory: Path, files: list[str]) -> None:
    """Refuse before anything is asked or written. Raises: WrongUsage."""
    there = [path for path in files if (directory / path).exists()]
    if there:
        named = ", ".join(there[:_SHOWN]) + (f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else "")
        raise WrongUsage(
            f"{directory.resolve()} has {named} already; nothing was written.",
            hint="Name another directory: clipper-nomad terraform init --cloud … DIR. Or move those files away.",
        )


def _write(directory: Path, files: Mapping[str, str]) -> None:
    from clipper_nomad.errors import ClipperException

    try:
        for path, text in files.items():
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as exc:
        raise ClipperException(
            f"{exc.filename or directory} cannot be written: {exc.strerror}. What was written before it is in {directory}.",
            hint="Remove it, and name a directory that you may write to.",
        ) from exc


def _tell(output: Output, directory: Path, cloud: Cloud, files: Mapping[str, str], missing: tuple[str, ...]) -> None:
    from clipper_nomad.cli.root_module import RELEASES, VALUES, empty_values

    ours = [path for path in files if not path.startswith("modules/")]
    copied = len(files) - len(ours)
    empty = empty_values(files[VALUES])
    output.done(f"wrote a Terraform root module for {cloud} to {directory}")
    output.detail("files", ", ".join(ours) + (f", and {copied} of the modules" if copied else ""))
    for each in empty:
        output.warn(f"{VALUES}: {each} is empty; fill it in.")
    for each in missing:
        output.warn(f"{RELEASES}: the SHA-256 of {each} is not known; fill it in. (Without --offline it is fetched.)")
    enter = "" if directory.resolve() == Path.cwd() else f"cd {directory} && "
    commands = [f"{enter}terraform init && terraform apply"]
    if cloud is Cloud.GENERIC:
        commands.append("see README.md: how machines get what comes out")
    up = "clipper-nomad up" + (_ON_VOLUMES if '"clipper-redis"' in files["main.tf"] else "")
    commands += ['eval "$(terraform output -raw env)"', f"clipper-nomad doctor --wait 5m && {up}"]
    output.next_step(*commands)
    output.document(
        {
            "directory": str(directory.resolve()),
            "cloud": str(cloud),
            "files": list(files),
            "to_fill_in": [*empty, *missing],
        }
    )
