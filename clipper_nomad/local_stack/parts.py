"""How each process of a stack is started: settings in, argv and environment out. Pure.

The supervisor runs whatever these functions say; `Programs` replaces what is run, so that tests can put stand-ins in
place of a frontend or a model. The environment variables are the interface of the processes (docs/settings.md). The
user's own CLIPPER_ variables pass through where nothing here sets them: CLIPPER_ACCESS_LOG, CLIPPER_HANG_AFTER_S ….
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from clipper_nomad.local_stack.child import Part
from clipper_nomad.local_stack.environment_layout import python_of, variables
from clipper_nomad.local_stack.kept import WantedVersion
from clipper_nomad.local_stack.place import Place

LOOPBACK = "127.0.0.1"
START_WITHIN_S = 30.0  # ten times what one frontend and the rest take on two cores
START_EACH_S = 2.0  # more for each frontend: its start takes a second of a core, and others may want the core too

# Exit codes after which another start would end the same way: 127 there is no such program, 2 a setting is wrong; of
# the runtime also 3 an import of the model is missing, 4 its bundle is damaged or for another Python
HOPELESS: Mapping[str, frozenset[int]] = {
    "store": frozenset({127}),
    "admin": frozenset({2, 127}),
    "frontend": frozenset({2, 127}),
    "replica": frozenset({2, 3, 4, 127}),
}


def _module(name: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", name)  # -P: no file of the directory it starts in can hide a module


# What each replica is told by the stack; no user's `env` may say otherwise.
REPLICA_ENV = frozenset(
    {
        "CLIPPER_CLUSTER", "CLIPPER_MODEL_NAME", "CLIPPER_MODEL_VERSION", "CLIPPER_MODEL_UID", "CLIPPER_MODEL_PATH",
        "CLIPPER_MODEL_DIGEST", "CLIPPER_INPUT_TYPE", "CLIPPER_REPLICA_ID", "CLIPPER_RPC_ADDRESSES", "CLIPPER_READY_FILE",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """What is run for each kind of part. `store`: None for the one that store_binary.py finds."""

    store: tuple[str, ...] | None = None
    admin: tuple[str, ...] = field(default_factory=lambda: _module("clipper_nomad.admin"))
    frontend: tuple[str, ...] = field(default_factory=lambda: _module("clipper_nomad_frontend"))
    replica: tuple[str, ...] = field(default_factory=lambda: _module("clipper_nomad_runtime"))


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSettings:
    """What a supervisor is started with: its one argument, as JSON.

    `port`: the public one; None for the default or the next free, 0 for any. `owner`: a pid, None for a stack that
    nobody owns. `keep`: run on without owners, and keep the data over a stop. `legacy_rpc`: let containers of Clipper's
    RPC version 3 in. `cache_size`: bytes of each frontend's prediction cache; None: what CLIPPER_CACHE_BYTES says, or none.
    """

    cluster: str
    data: str
    runtime: str
    toolkit: str
    port: int | None
    frontends: int
    keep: bool
    owner: int | None
    legacy_rpc: bool = True
    cache_size: int | None = None
    programs: Programs = field(default_factory=Programs)

    @property
    def start_within_s(self) -> float:
        """How long the start may take."""
        return START_WITHIN_S + START_EACH_S * self.frontends

    @property
    def place(self) -> Place:
        """Where the stack lies."""
        return Place(cluster=self.cluster, data=Path(self.data), runtime=Path(self.runtime))

    def to_json(self) -> str:
        """Return the argument that `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> StackSettings:
        """Read the supervisor's argument."""
        fields = json.loads(text)
        programs = {kind: argv and tuple(argv) for kind, argv in fields.pop("programs").items()}
        return cls(**fields, programs=Programs(**programs))


class PartTable:
    """Makes the parts of one stack. `environ`: what every process inherits."""

    def __init__(self, settings: StackSettings, *, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._place = settings.place
        self._environ = {**environ, "PYTHONUNBUFFERED": "1", "CLIPPER_CLUSTER": settings.cluster}

    def store(self, program: tuple[str, ...]) -> Part:
        """Return the store: reached by one unix socket, every write on disk before it is answered (decision 28)."""
        options = {
            "port": "0",
            "unixsocket": str(self._place.store_socket),
            "unixsocketperm": "700",
            "dir": str(self._place.store_data),
            "appendonly": "yes",
            "appendfsync": "always",
            "aof-use-rdb-preamble": "no",  # plain commands: another server, or an older one, reads them as well
            "save": "",
            "daemonize": "no",
        }
        argv = [*program, *(word for name, value in options.items() for word in (f"--{name}", value))]
        return self._part("store", "store", argv, {}, makes=(self._place.store_socket,))

    def admin(self, listener: int) -> Part:
        """Return the admin service, on an inherited socket."""
        settings = {
            "CLIPPER_STORE_URL": self._store_url,
            "CLIPPER_ADMIN_ADDRESS": f"fd://{listener}",
            "CLIPPER_TOKEN_FILE": str(self._place.token),
            "CLIPPER_ADMIN_LOCAL": "true",
        }
        return self._part("admin", "admin", self._settings.programs.admin, settings, inherit=(listener,))

    def frontend(self, index: int, listener: int, legacy: int | None = None) -> Part:
        """Return a query frontend, which dials the others: the public socket is shared, and `legacy` for RPC version 3;
        all else is its own.
        """
        frontends = self._settings.frontends
        rpc, internal = self._place.rpc_socket(index), self._place.frontend_socket(index)
        settings = {
            "CLIPPER_FRONTEND_ID": f"frontend-{index}",
            "CLIPPER_HTTP_ADDRESS": f"fd://{listener}",
            "CLIPPER_HTTP_LOCAL": "true",
            "CLIPPER_RPC_ADDRESS": self._rpc_address(index),
            "CLIPPER_LEGACY_RPC_ADDRESS": f"fd://{legacy}" if legacy is not None else "",
            "CLIPPER_INTERNAL_ADDRESS": f"unix://{internal}",
            "CLIPPER_STORE_URL": self._store_url,
            "CLIPPER_MIRROR_PATH": str(self._place.mirrors / f"frontend-{index}.json"),
            "CLIPPER_TOKEN_FILE": str(self._place.token),
            "CLIPPER_PEER_ADDRESSES": ",".join(self._rpc_address(other) for other in range(frontends) if other != index),
            "CLIPPER_HTTP_SHARE": f"{self._place.shares}:{index}" if frontends > 1 else "",
        }
        if self._settings.cache_size is not None:
            settings["CLIPPER_CACHE_BYTES"] = str(self._settings.cache_size)
        argv = self._settings.programs.frontend
        inherit = (listener,) if legacy is None else (listener, legacy)
        return self._part(f"frontend-{index}", "frontend", argv, settings, inherit=inherit, makes=(rpc, internal))

    def replica(self, replica: str, wanted: WantedVersion) -> Part:
        """Return a model replica that dials every frontend."""
        ready = self.ready_file(replica)
        rpc_addresses = map(self._rpc_address, range(self._settings.frontends))
        settings = {
            **wanted.env,
            "CLIPPER_MODEL_NAME": wanted.name,
            "CLIPPER_MODEL_VERSION": wanted.version,
            "CLIPPER_MODEL_UID": wanted.uid,
            "CLIPPER_MODEL_PATH": str(self._place.bundles / wanted.digest),
            "CLIPPER_MODEL_DIGEST": wanted.digest,
            "CLIPPER_INPUT_TYPE": wanted.input_type,
            "CLIPPER_REPLICA_ID": replica,
            "CLIPPER_RPC_ADDRESSES": ",".join(rpc_addresses),
            "CLIPPER_READY_FILE": str(ready),
        }
        part = self._part(f"model-{replica}", "replica", self._settings.programs.replica, settings, makes=(ready,))
        if not wanted.environment:
            return part
        environment = self._place.environments / wanted.environment
        inherited = variables(environment, self._environ)
        own_python = part.argv[0] == sys.executable
        argv = (str(python_of(environment)), *part.argv[1:]) if own_python else part.argv
        return replace(part, argv=argv, env={**inherited, **settings})

    def ready_file(self, replica: str) -> Path:
        """Return the file that is there while a replica is ready."""
        return self._place.ready / replica

    def _rpc_address(self, index: int) -> str:
        return f"ipc://{self._place.rpc_socket(index)}"

    @property
    def _store_url(self) -> str:
        return f"unix://{self._place.store_socket}"

    def _part(
        self,
        name: str,
        kind: str,
        argv: list[str] | tuple[str, ...],
        settings: Mapping[str, str],
        *,
        inherit: tuple[int, ...] = (),
        makes: tuple[Path, ...] = (),
    ) -> Part:
        return Part(
            name=name,
            kind=kind,
            argv=tuple(argv),
            env={**self._environ, **settings},
            cwd=self._place.work,
            log=self._place.logs / f"{name}.log",
            inherit=inherit,
            makes=makes,
        )
