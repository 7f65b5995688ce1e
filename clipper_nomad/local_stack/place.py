"""Where a local stack's files and sockets lie, and the making of those directories so that nobody else gets in.

    data      XDG_STATE_HOME/clipper-nomad/<cluster> (macOS: ~/Library/Application Support/clipper-nomad/<cluster>):
              lock, state.json, token, store/, bundles/, environments/, mirrors/, logs/, work/
    runtime   XDG_RUNTIME_DIR/clipper-nomad/<hash> or /tmp/clipper-nomad-<uid>/<hash>: sockets, ready/

CLIPPER_HOME (or `home`) puts both below itself: <home>/data/<cluster> and <home>/run/<hash>. The runtime directory is
named by a hash of the data directory, so that it is short and two homes never share it. All directories are 0700 and
belong to the user; anything else is an error, because a socket in a stranger's directory is the stranger's.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clipper_nomad.errors import InvalidName, StackError

MAX_SOCKET_PATH_BYTES = 103 if sys.platform == "darwin" else 107  # sun_path without its final NUL
BUNDLE = "sha256-"  # what the names of bundles begin with
ENVIRONMENT = "env-"  # what the names of environments begin with
UNFINISHED_COPY = ".copy-"  # the same, while they are copied
_LONGEST_SOCKET_NAME = "frontend-99-rpc"
_CLUSTER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The directories of one cluster of one user, and the names of what is in them."""

    cluster: str
    data: Path
    runtime: Path

    @property
    def lock(self) -> Path:
        """Held by whoever runs this stack."""
        return self.data / "lock"

    @property
    def state(self) -> Path:
        """What survives a stop; see kept.py."""
        return self.data / "state.json"

    @property
    def token(self) -> Path:
        """The admin token, 0600."""
        return self.data / "token"

    @property
    def store_data(self) -> Path:
        """The store's append-only files."""
        return self.data / "store"

    @property
    def bundles(self) -> Path:
        """One folder per bundle, named by its digest."""
        return self.data / "bundles"

    @property
    def environments(self) -> Path:
        """One folder per environment of a model with packages of its own."""
        return self.data / "environments"

    @property
    def mirrors(self) -> Path:
        """The frontends' copies of the catalog."""
        return self.data / "mirrors"

    @property
    def logs(self) -> Path:
        """One file per process."""
        return self.data / "logs"

    @property
    def supervisor_log(self) -> Path:
        """The supervisor's own log."""
        return self.logs / "supervisor.log"

    @property
    def control(self) -> Path:
        """The supervisor's socket."""
        return self.runtime / "control"

    @property
    def store_socket(self) -> Path:
        """The store's socket."""
        return self.runtime / "store"

    @property
    def ready(self) -> Path:
        """One file per replica that is ready."""
        return self.runtime / "ready"

    @property
    def shares(self) -> Path:
        """Where the frontends note how many connections each has."""
        return self.runtime / "shares"

    @property
    def work(self) -> Path:
        """The current directory of every process: what a model writes there goes with the stack."""
        return self.data / "work"

    @property
    def directories(self) -> tuple[Path, ...]:
        """The directories in `data`."""
        return (self.store_data, self.bundles, self.environments, self.mirrors, self.logs, self.work)

    def frontend_socket(self, index: int) -> Path:
        """Return a frontend's internal socket: health, metrics, probe, report."""
        return self.runtime / f"frontend-{index}"

    def rpc_socket(self, index: int) -> Path:
        """Return the socket that replicas reach a frontend by."""
        return self.runtime / f"frontend-{index}-rpc"


def find_place(cluster: str, *, home: Path | None, environ: Mapping[str, str], uid: int, outlives_login: bool) -> Place:
    """Return where the stack of `cluster` lies. Makes nothing.

    `outlives_login`: the stack may run on after its user logged out, when systemd removes XDG_RUNTIME_DIR.
    Raises: InvalidName: the cluster's name cannot be a directory. StackError: the sockets' paths would be too long.
    """
    if not _CLUSTER_NAME.match(cluster):
        raise InvalidName(
            f"Invalid cluster name: {cluster!r}. It names a directory: a letter or digit, then at most 62 letters, "
            "digits, '.', '_' or '-'."
        )
    if home is None and environ.get("CLIPPER_HOME"):
        home = Path(environ["CLIPPER_HOME"])
    if home is not None:
        home = Path(os.path.realpath(home.expanduser()))
        data, runtimes = home / "data" / cluster, home / "run"
    else:
        data = state_home(environ) / "clipper-nomad" / cluster
        runtimes = _runtime_home(environ, uid, outlives_login=outlives_login)
    place = Place(cluster=cluster, data=data, runtime=runtimes / _short_hash(data))
    length = _socket_path_bytes(place.runtime)
    if length > MAX_SOCKET_PATH_BYTES:
        raise StackError(
            f"The paths of the local stack's sockets in {place.runtime} would have {length} bytes; the system allows "
            f"{MAX_SOCKET_PATH_BYTES}.",
            hint="Set CLIPPER_HOME (or home=) to a shorter directory.",
        )
    return place


def make_place(place: Place) -> None:
    """Make the directories, 0700. Raises: StackError: one is another user's, open to others, or no directory."""
    for _ in range(10):  # another cluster's clean-up may remove an empty parent just now
        try:
            for directory in (place.data.parent, place.data, place.runtime.parent, place.runtime):
                make_private(directory)
            for directory in (*place.directories, place.ready):
                directory.mkdir(mode=0o700, exist_ok=True)
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise StackError(
                f"The local stack's directory cannot be made: {exc}",
                hint="Set CLIPPER_HOME (or home=) to a directory that you may write to.",
            ) from exc
        return
    raise StackError(f"The directories {place.data} and {place.runtime} are removed as soon as they are made.")


def check_private(directory: Path) -> None:
    """Raise StackError unless `directory` is this user's own and closed to others."""
    found = os.lstat(directory)
    if not stat.S_ISDIR(found.st_mode):
        raise StackError(f"{directory} is no directory, and local mode needs one there.", hint=_elsewhere(directory))
    if found.st_uid != os.getuid():
        raise StackError(
            f"{directory} belongs to the user with id {found.st_uid}, not to you ({os.getuid()}); a socket in it could "
            "be that user's.",
            hint=_elsewhere(directory),
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise StackError(
            f"{directory} is open to other users (mode {stat.S_IMODE(found.st_mode):o}); local mode wants 700.",
            hint=f"Run `chmod 700 {directory}`, or set CLIPPER_HOME to a directory of your own.",
        )


def make_private(directory: Path) -> None:
    """Make a directory for this user alone. Raises: StackError: it is another user's, or open to others. OSError."""
    directory.parent.mkdir(parents=True, exist_ok=True)  # ~/.local/state and above: as the user's umask has it
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    check_private(directory)


def _elsewhere(directory: Path) -> str:
    return f"Remove {directory}, or set CLIPPER_HOME (or home=) to a directory of your own."


def state_home(environ: Mapping[str, str]) -> Path:
    """Return where programs keep what must outlive them: XDG_STATE_HOME."""
    if environ.get("XDG_STATE_HOME"):
        return Path(os.path.realpath(environ["XDG_STATE_HOME"]))
    home = Path(os.path.realpath(environ.get("HOME") or Path.home()))
    return home / "Library" / "Application Support" if sys.platform == "darwin" else home / ".local" / "state"


def _runtime_home(environ: Mapping[str, str], uid: int, *, outlives_login: bool) -> Path:
    of_login = environ.get("XDG_RUNTIME_DIR", "")
    if of_login and not outlives_login and os.access(of_login, os.W_OK | os.X_OK):
        runtimes = Path(os.path.realpath(of_login)) / "clipper-nomad"
        if _socket_path_bytes(runtimes / _short_hash(runtimes)) <= MAX_SOCKET_PATH_BYTES:
            return runtimes
    return Path(os.path.realpath("/tmp")) / f"clipper-nomad-{uid}"  # noqa: S108  # made 0700, its owner checked


def _socket_path_bytes(runtime: Path) -> int:
    return len(os.fsencode(runtime / _LONGEST_SOCKET_NAME))


def _short_hash(data: Path) -> str:
    import hashlib  # noqa: PLC0415  # 4 MiB (OpenSSL) that the supervisor and the janitor have no use for

    return hashlib.sha256(os.fsencode(data)).hexdigest()[:12]
