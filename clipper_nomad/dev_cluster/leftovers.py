"""What Nomad leaves on a machine when it ends without having ended its tasks: containers, processes, mounts. All of it is
told by this cluster's own data folder, so that nothing of another Nomad is touched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from clipper_nomad.dev_cluster.agents import AGENTS
from clipper_nomad.dev_cluster.place import DevPlace
from clipper_nomad.errors import DevClusterError

if TYPE_CHECKING:
    from docker.models.containers import Container

_ALLOC_LABEL = "com.hashicorp.nomad.alloc_id"  # Nomad's docker driver puts it on each container
_STOP_WITHIN_S = 30
_PROC = Path("/proc")


def end_leftovers(place: DevPlace) -> list[str]:
    """End what is left of this cluster, and return what that was, in words. The agents must have ended."""
    ended = [f"container {each}" for each in _end_containers(place)]
    ended += [f"process {each}" for each in _end_processes(place)]
    _unmount_below(place.data)
    return ended


def containers_of(place: DevPlace) -> list[str]:
    """Return the names of the containers of this cluster's allocations, running or not."""
    with _containers(place) as found:
        return [str(each.name) for each in found]


def processes_of(place: DevPlace) -> list[int]:
    """Return the agents' processes, and those that Nomad started to look after tasks: their current folder is the data."""
    return [pid for pid in _pids() if _name_of(pid) in AGENTS and _works_in(pid, place.data)]


@contextlib.contextmanager
def _containers(place: DevPlace) -> Iterator[list[Container]]:
    import docker  # noqa: PLC0415  # the supervisor has no use for it
    from docker.errors import DockerException  # noqa: PLC0415

    allocations = place.nomad_client / "alloc"
    ids = {each.name for each in allocations.iterdir()} if allocations.is_dir() else set()
    if not ids:
        yield []
        return
    try:
        client = docker.from_env()
    except DockerException:
        yield []
        return
    try:
        labelled = client.containers.list(all=True, filters={"label": _ALLOC_LABEL}, ignore_removed=True)
        yield [each for each in labelled if each.labels.get(_ALLOC_LABEL) in ids]
    finally:
        client.close()


def _end_containers(place: DevPlace) -> list[str]:
    from docker.errors import DockerException, NotFound  # noqa: PLC0415  # as above

    names: list[str] = []
    with _containers(place) as found:
        for each in found:
            try:
                with contextlib.suppress(NotFound):  # it has ended meanwhile
                    each.stop(timeout=_STOP_WITHIN_S)
                    each.remove(force=True)
            except (DockerException, OSError) as exc:
                raise DevClusterError(
                    f"The container {each.name} cannot be ended: {exc}.", hint=f"docker rm --force {each.name}"
                ) from exc
            names.append(str(each.name))
    return names


def _end_processes(place: DevPlace) -> list[str]:
    ended = []
    for pid in processes_of(place):
        name = _name_of(pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
            ended.append(f"{pid} ({name})")
    return ended


def _pids() -> list[int]:
    return [int(each.name) for each in _PROC.iterdir() if each.name.isdecimal()]


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return (_PROC / str(pid) / "cwd").readlink().is_relative_to(folder)
    except OSError:  # ended meanwhile, or another user's
        return False


def _name_of(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return "?"


def _unmount_below(folder: Path) -> None:
    umount = shutil.which("umount")
    if umount is None:
        return
    for place in mounts_below(folder):
        subprocess.run([umount, str(place)], check=False, capture_output=True, timeout=20)


def mounts_below(folder: Path) -> list[Path]:
    """Return what is mounted below a folder, the innermost first."""
    try:
        lines = (_PROC / "mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    places = (Path(line.split()[1].replace("\\040", " ")) for line in lines)
    return sorted((each for each in places if each != folder and each.is_relative_to(folder)), reverse=True)
