"""The only file that speaks to Docker: containers, networks, files in containers. Every failure is a DockerHostError.

DOCKER_HOST and the other variables of Docker's own client say which host. Nothing is decided here.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.models.containers import Container
from docker.types import Healthcheck, LogConfig, Mount

from clipper_nomad.docker_host.containers import HEALTH_EVERY_S, HEALTH_WITHIN_S, ContainerSpec, ExtraSettings
from clipper_nomad.docker_host.limits import MIB
from clipper_nomad.docker_host.names import NETWORK_LABEL
from clipper_nomad.docker_host.verdicts import Seen
from clipper_nomad.errors import DockerHostError, ImageError
from clipper_nomad.images.contexts import packed
from clipper_nomad.images.recipes import LABEL

CALL_WITHIN_S = 300  # a pull that says nothing for so long is given up; other calls take less than a second
LOG_LINES = 10_000
_HERE = ("http+docker://localhost", "http+docker://localnpipe", "http://localhost:", "http://127.0.0.1:")  # the library's
_NANO = 1_000_000_000
_CONFLICT = 409
_KEPT_LOG = {"max-size": "16m", "max-file": "4"}  # Docker's own default for its json-file grows without bound
_RESTARTS = {"Name": "unless-stopped"}  # also after the host's own restart


class NameTaken(DockerHostError):
    """Another container has the name."""


class DockerEngine:
    """The containers of one Docker host. It is reached when it is first needed."""

    def __init__(self) -> None:
        self._client: docker.DockerClient | None = None

    @property
    def client(self) -> docker.DockerClient:
        """The Docker library's client. Raises: DockerHostError: no Docker answers."""
        if self._client is None:
            hint = "Start Docker, or set DOCKER_HOST; `docker info` shows whether it answers."
            with answered("reaching Docker", hint=hint):
                client = docker.from_env(timeout=CALL_WITHIN_S)
                client.ping()
            self._client = client
        return self._client

    @property
    def is_here(self) -> bool:
        """Whether this machine is the Docker host, so that its ports can be looked at."""
        return str(self.client.api.base_url).startswith(_HERE)

    # ---- containers ------------------------------------------------------------------------------------------------

    def find(self, *labels: str) -> list[Seen]:
        """Return the containers, ended ones too, that have all these labels (`name` or `name=value`), oldest first."""
        with answered("listing containers"):
            found = self.client.containers.list(all=True, filters={"label": list(labels)}, ignore_removed=True)
        return sorted((_seen(each) for each in found), key=lambda seen: seen.created)

    def look(self, container: str) -> Seen | None:
        """Return how a container is now, None if it is gone."""
        with answered(f"looking at container {container}"):
            try:
                return _seen(self.client.containers.get(container))
            except NotFound:
                return None

    def create(self, spec: ContainerSpec, *, network: str, address: str, extra: ExtraSettings) -> str:
        """Make a container with its files, not started yet, and return its id. `address`: of the host, for its ports.

        Raises: NameTaken. DockerHostError.
        """
        mounts = [
            Mount(target=each.path, source=each.source, type="volume", read_only=each.read_only) for each in spec.volumes
        ]
        settings: dict[str, Any] = {  # Any: the library's own types
            "restart_policy": _RESTARTS,
            "log_config": self._log_config(),
            **extra.others("labels", "environment", "mounts"),
            **spec.limits,
            "name": spec.name,
            "command": list(spec.command) or None,
            "labels": {**extra.labels, **spec.labels},
            "environment": {**extra.environment, **spec.env},
            "mounts": [*(extra.given.get("mounts") or ()), *mounts],
            "ports": {f"{inside}/tcp": (address, port) for inside, port in spec.ports.items()},
            "network": network,
            "networking_config": {network: self.client.api.create_endpoint_config(aliases=list(spec.aliases))},
        }
        if spec.health:
            settings["healthcheck"] = Healthcheck(
                test=["CMD", *spec.health],
                interval=HEALTH_EVERY_S * _NANO,
                timeout=HEALTH_WITHIN_S * _NANO,
                retries=3,
            )
        with answered(f"making container {spec.name}"):
            try:
                made = self.client.containers.create(spec.image, **settings)
            except APIError as exc:
                if exc.status_code == _CONFLICT:
                    raise NameTaken(f"There is a container called {spec.name} already.") from exc
                raise
            except TypeError as exc:  # an argument that the library does not know
                raise DockerHostError(
                    f"making container {spec.name} failed: {exc}", hint="See extra_container_kwargs."
                ) from exc
        container = str(made.id)
        try:
            if spec.files:
                self.write(container, spec.files)
        except BaseException:
            self.remove(container)
            raise
        return container

    def _log_config(self) -> LogConfig | None:
        """Return how the log of a container is kept; None where the host has a way of its own."""
        with answered("asking Docker how it keeps logs"):
            is_usual = self.client.info().get("LoggingDriver") == LogConfig.types.JSON
        return LogConfig(type=LogConfig.types.JSON, config=_KEPT_LOG) if is_usual else None

    def start(self, container: str) -> None:
        """Start a container. Raises: DockerHostError: also for a port of the host that is taken."""
        with answered(f"starting container {container[:12]}"):
            self.client.api.start(container)

    def stop(self, container: str, *, within_s: int) -> None:
        """Let a container end, or kill it after `within_s`, and remove it with the data that is its alone."""
        with answered(f"stopping container {container[:12]}"):
            try:
                self.client.containers.get(container).stop(timeout=within_s)
            except NotFound:
                return
        self.remove(container)

    def remove(self, container: str) -> None:
        """Kill a container if it runs, and remove it with the data that is its alone; nothing to do if it is gone."""
        with answered(f"removing container {container[:12]}"):
            try:
                self.client.api.remove_container(container, v=True, force=True)
            except NotFound:
                return
            except APIError as exc:
                if exc.status_code != _CONFLICT:  # somebody else removes it already
                    raise

    def log(self, container: str, *, lines: int = LOG_LINES) -> str:
        """Return the end of what a container wrote to stdout and stderr."""
        with answered(f"reading the log of container {container[:12]}"):
            try:
                said: bytes = self.client.api.logs(container, stdout=True, stderr=True, tail=lines)
            except NotFound:
                return ""
        return said.decode(errors="replace")

    # ---- files in a container --------------------------------------------------------------------------------------

    def write(self, container: str, files: Mapping[str, str]) -> None:
        """Write files (absolute path → text) into a container, running or not."""
        archive = packed({path.lstrip("/"): text.encode() for path, text in files.items()})
        with answered(f"writing files into container {container[:12]}"):
            self.client.api.put_archive(container, "/", archive)

    def read(self, container: str, path: str) -> str | None:
        """Return the text of a file in a container, None if there is none."""
        with answered(f"reading {path} in container {container[:12]}"):
            try:
                parts, _ = self.client.api.get_archive(container, path)
            except NotFound:
                return None
            content = io.BytesIO(b"".join(parts))
        with tarfile.open(fileobj=content) as archive:
            held = archive.extractfile(archive.getmembers()[0])
            return held.read().decode() if held is not None else None

    def delete(self, container: str, paths: Sequence[str]) -> None:
        """Delete files in a container that runs; what is not there is no error."""
        with answered(f"deleting files in container {container[:12]}"):
            self.client.containers.get(container).exec_run(["rm", "-f", "--", *paths], user="0")

    # ---- images, networks, volumes ---------------------------------------------------------------------------------

    def fetch_image(self, reference: str) -> None:
        """See that the host has an image; pull it if not. Raises: ImageError."""
        try:
            with answered(f"looking for image {reference}"):
                try:
                    self.client.images.get(reference)
                except ImageNotFound:
                    self.client.images.pull(reference)
        except DockerHostError as exc:
            raise ImageError(
                f"The Docker host has no image {reference}, and it cannot be pulled: {exc.msg.partition(' failed: ')[2]}",
                hint="Those of the parts are built by `clipper-nomad images build`; others may need `docker login`.",
            ) from exc

    def part_of(self, image: str) -> str:
        """Return which part of the toolkit an image on this host is, "" if none of them."""
        with answered(f"looking at image {image}"):
            return str(self.client.images.get(image).labels.get(LABEL, ""))

    def make_network(self, name: str) -> bool:
        """Make a bridge network unless there is one of that name, and say whether it was made."""
        with answered(f"making network {name}"):
            if self.client.networks.list(names=[f"^{name}$"]):
                return False
            self.client.networks.create(name, driver="bridge", labels={NETWORK_LABEL: ""}, check_duplicate=True)
        return True

    def drop_network(self, name: str) -> None:
        """Remove a network that was made here, unless somebody is on it."""
        with answered(f"removing network {name}"):
            for network in self.client.networks.list(names=[f"^{name}$"], filters={"label": NETWORK_LABEL}, greedy=True):
                if not network.attrs.get("Containers"):
                    network.remove()

    def has_volume(self, name: str) -> bool:
        """Whether the host has a named volume."""
        with answered(f"looking for volume {name}"):
            try:
                self.client.volumes.get(name)
            except NotFound:
                return False
        return True


def _seen(container: Container) -> Seen:
    attrs = container.attrs
    state = attrs["State"]
    limit = attrs["HostConfig"].get("Memory") or 0
    return Seen(
        id=attrs["Id"],
        name=attrs["Name"].lstrip("/"),
        image_id=attrs["Image"],
        network=attrs["HostConfig"]["NetworkMode"],
        labels=attrs["Config"].get("Labels") or {},
        created=attrs["Created"],
        status=state["Status"],
        health=(state.get("Health") or {}).get("Status", ""),
        exit_code=int(state.get("ExitCode") or 0),
        deaths=int(attrs.get("RestartCount") or 0),
        is_oom=bool(state.get("OOMKilled")),
        error=state.get("Error") or "",
        memory_mb=limit // MIB or None,
    )


@contextmanager
def answered(what: str, *, hint: str | None = None) -> Iterator[None]:
    """Turn every error of the client into a DockerHostError, with what was being done."""
    try:
        yield
    except APIError as exc:  # its text holds the daemon's URL, its explanation what the daemon said
        raise DockerHostError(f"{what} failed: {exc.explanation or exc}", hint=hint) from exc
    except (DockerException, OSError) as exc:
        raise DockerHostError(f"{what} failed: {exc}", hint=hint) from exc
