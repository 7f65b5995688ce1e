"""The files that Nomad writes for a task: addresses from Consul, secrets from the job's Variable. Pure: texts in Go's
template language, in which no user's text ever stands.

A file is written anew when what it is made from changes, and its task is left alone (`noop`): it reads the file again when
it connects again. The first writing is awaited; an item that is missing in the Variable keeps the task from starting.
"""

from __future__ import annotations

from dataclasses import dataclass

from clipper_nomad.cluster.jobs.hcl import Comment
from clipper_nomad.cluster.jobs.specs import EntryByService, ExternalStore, FabioJob, RedisJob, Store
from clipper_nomad.cluster.names import ClusterNames, variable_path
from clipper_nomad.store_settings import DURABLE

SECRETS, LOCAL = "/secrets", "/local"  # where docker tasks have Nomad's secrets/ and local/

# Items of a job's Nomad Variable
ADMIN_TOKEN = "admin_token"  # noqa: S105  # the item's name
STORE_PASSWORD = "store_password"  # noqa: S105  # the same
CURVE_SECRET = "curve_secret"  # noqa: S105  # the same
CURVE_KEYS = "curve_server_keys"
SERVER_KEYS = "local/curve-server-keys"  # the file with them
CURVE_NEXT = "curve_next"  # while the frontends' key is changed; no task reads it
REGISTRY_PASSWORD = "registry_password"  # noqa: S105  # the same
BUNDLE_TOKEN = "bundle_token"  # noqa: S105  # the same
CONSUL_TOKEN = "consul_token"  # noqa: S105  # the same


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFile:
    """One `template` block. `is_live`: from Consul, where a change must arrive soon; `is_env`: read as environment.

    `restarts`: the task is started anew when it changes, because it would not look again."""

    destination: str
    data: str
    comment: Comment
    is_live: bool = False
    is_env: bool = False
    restarts: bool = False

    @property
    def path(self) -> str:
        """Where the task finds it."""
        return f"/{self.destination}"


def store_url(store: Store, *, cluster: ClusterNames, job: str) -> TaskFile:
    """Return the file with the store's URL, `redis://:password@host:port/0`; empty while the store has no address."""
    if isinstance(store, ExternalStore):
        comment = "The URL of the store, which somebody else runs."
        url = f"redis://{{login}}{store.host}:{store.port}/0"
        has_password = store.has_password
    else:
        comment = "The store moves: its address is Consul's, read again by the process whenever it connects."
        # the first one only: while Redis moves there may be two for a moment, and one URL is expected
        first = f'{{{{ with service "{cluster.redis_service}" }}}}{{{{ with index . 0 }}}}'
        url = f"{first}redis://{{login}}{{{{ .Address }}}}:{{{{ .Port }}}}/0{{{{ end }}}}{{{{ end }}}}"
        has_password = True
    data = url.replace("{login}", ":{{ $password }}@" if has_password else "")
    if has_password:
        # asked for before Consul is: a password that is missing must show at the start, not when Redis appears
        data = _with_variable(job, f"{{{{ with $password := .{STORE_PASSWORD} }}}}{data}{{{{ end }}}}")
    return TaskFile(destination="secrets/store.url", data=data, comment=Comment(comment), is_live=True)


def rpc_addresses(entry: EntryByService, *, cluster: ClusterNames) -> TaskFile:
    """Return the file with where to meet frontends, `tcp://host:port` separated by commas."""
    port = "{{ $instance.Port }}" if entry.port is None else str(entry.port)
    each = f"{{{{ if $index }}}},{{{{ end }}}}tcp://{{{{ $instance.Address }}}}:{port}"
    service = entry.service or cluster.rpc_service
    return TaskFile(
        destination="local/rpc-addresses",
        data=f'{{{{ range $index, $instance := service "{service}" }}}}{each}{{{{ end }}}}',
        comment=Comment("Frontends move: where to meet the first ones comes from Consul, read again at each dial."),
        is_live=True,
    )


def legacy_address(entry: EntryByService, *, cluster: ClusterNames) -> TaskFile:
    """Return the file with where a container of RPC version 3 dials, as the variables that it reads at its start."""
    port = "{{ .Port }}" if entry.port is None else str(entry.port)
    address = f"CLIPPER_IP={{{{ .Address }}}}\nCLIPPER_PORT={port}\n"
    service = entry.service or cluster.legacy_service
    return TaskFile(
        destination="local/rpc-address.env",
        data=f'{{{{ with service "{service}" }}}}{{{{ with index . 0 }}}}{address}{{{{ end }}}}{{{{ end }}}}',
        comment=Comment(
            "A container of Clipper's knows one address, and reads it once: it is started anew where that moves."
        ),
        is_live=True,
        is_env=True,
        restarts=True,
    )


def bundle_addresses(cluster: ClusterNames) -> TaskFile:
    """Return the file with where admin has the bundles, `http://host:port` separated by commas."""
    each = "{{ if $index }},{{ end }}http://{{ $instance.Address }}:{{ $instance.Port }}"
    return TaskFile(
        destination="local/bundle-addresses",
        data=f'{{{{ range $index, $instance := service "{cluster.admin_service}" }}}}{each}{{{{ end }}}}',
        comment=Comment("Admin moves: where the bundle is fetched comes from Consul, read again at each try."),
        is_live=True,
    )


def secret(item: str, *, job: str, comment: str) -> TaskFile:
    """Return the file that holds one item of the job's Variable and nothing else."""
    return TaskFile(
        destination=f"secrets/{item.replace('_', '-')}", data=_with_variable(job, _item(item)), comment=Comment(comment)
    )


def server_keys(job: str) -> TaskFile:
    """Return the file with the public keys that frontends have, separated by spaces: two while they are changed."""
    comment = "The frontends' public key, or two while it is changed (clipper-nomad keys rotate). Read at each dial."
    return TaskFile(
        destination=SERVER_KEYS,
        data=_with_variable(job, _item(CURVE_KEYS)),
        comment=Comment(comment),
        is_live=True,
    )


def registry_environment(job: str) -> TaskFile:
    """Return the file that gives the driver the registry's password."""
    return TaskFile(
        destination="secrets/registry.env",
        data=_with_variable(job, f"CLIPPER_REGISTRY_PASSWORD={_item(REGISTRY_PASSWORD)}"),
        comment=Comment("The driver needs the password before the container is there; the container can read it too."),
        is_env=True,
    )


def redis_settings(spec: RedisJob, *, data_folder: str, listens_on: str) -> TaskFile:
    """Return redis.conf."""
    lines = (
        f"bind {listens_on}",
        'port {{ env "NOMAD_PORT_db" }}',
        f"dir {data_folder}",
        *DURABLE,
        f"requirepass {_item(STORE_PASSWORD)}",
    )
    return TaskFile(
        destination="secrets/redis.conf",
        data=_with_variable(spec.job_id, "\n".join(lines) + "\n"),
        comment=Comment("Every write is on disk before it is answered. The password is in no jobspec."),
    )


def fabio_settings(spec: FabioJob) -> TaskFile:
    """Return fabio.properties. Why each value: Fabio's own defaults, and what they cost, are in docs/cluster.md."""
    # rt, it: a client that sends half a request and waits would keep its connection for ever. No limits on the TCP
    # listeners: they would cut idle model channels.
    listeners = (f":{spec.http_port};rt=30s;it=75s", *(f":{port};proto=tcp" for port in spec.tcp_ports))
    lines = (
        f"proxy.addr = {','.join(listeners)}",
        "proxy.strategy = rr",
        "proxy.dialtimeout = 1s",
        "proxy.noroutestatus = 503",
        "proxy.shutdownwait = 2s",
        f"ui.addr = 127.0.0.1:{spec.admin_port}",
        "ui.access = ro",
        f"registry.consul.addr = {spec.consul_address}",
        "registry.consul.checksRequired = all",
        "registry.consul.register.enabled = false",
        *([f"registry.consul.token = {_item(CONSUL_TOKEN)}"] if spec.has_consul_token else []),
    )
    text = "\n".join(lines) + "\n"
    return TaskFile(
        destination="secrets/fabio.properties",
        data=_with_variable(spec.job_id, text) if spec.has_consul_token else text,
        comment=Comment("Settings in a file: on the command line a token of Consul's would be seen by everybody."),
    )


def _item(name: str) -> str:
    return f"{{{{ .{name} }}}}"


def _with_variable(job: str, text: str) -> str:
    return f'{{{{ with nomadVar "{variable_path(job)}" }}}}{text}{{{{ end }}}}'
