"""JSON Schemas of what the admin service takes and answers: the components of its OpenAPI document. Pure.

Tests check every answer of a real service against them (tests/process/openapi_checks.py), and that each field they
require is required. Words for the objects: docs/behaviour.md, "JSON".
"""

from __future__ import annotations

from typing import Any, get_args

from clipper_nomad.admin.bundle_store import BundlePhase
from clipper_nomad.admin.catalog_rules import MAX_SLO_MICROS, MAX_TIMEOUT_MICROS
from clipper_nomad.admin.version_rules import LONGEST_PROBE_S, MAX_REPLICAS
from clipper_nomad.protocol.bundle_store import DIGEST_PATTERN
from clipper_nomad.protocol.datatypes import INPUT_TYPE_WORDS, InputType
from clipper_nomad.state.records import ADAPTIVE_BATCH_SIZE, SloPolicy

Schema = dict[str, Any]  # Any: a JSON Schema

TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
BOOL: Schema = {"type": "boolean"}
INPUT_TYPE: Schema = {"type": "string", "enum": [kind.word for kind in InputType]}
INPUT_WORD: Schema = {"type": "string", "enum": list(INPUT_TYPE_WORDS)}
INT32: Schema = {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}
BATCH_SIZE: Schema = {"anyOf": [{"const": ADAPTIVE_BATCH_SIZE}, {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}]}
SLO: Schema = {"type": "integer", "minimum": 1, "maximum": MAX_SLO_MICROS}
POLICY: Schema = {"type": "string", "enum": list(get_args(SloPolicy))}

SIZE: Schema = {"type": "integer", "minimum": 0}  # in bytes
DIGEST_TEXT: Schema = {"type": "string", "pattern": f"^{DIGEST_PATTERN}$"}
PROBE_S: Schema = {"type": "integer", "minimum": 1, "maximum": LONGEST_PROBE_S}


def ref(name: str) -> Schema:
    """Return a reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def listed(item: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": item}


def nullable(schema: Schema) -> Schema:
    """Return a schema that null fits too."""
    return {"anyOf": [schema, {"type": "null"}]}


def exactly(**properties: Schema) -> Schema:
    """Return the schema of an object of an answer: all of these keys, and no other."""
    return {**_object(properties, list(properties)), "additionalProperties": False}


def taking(*optional: str, **properties: Schema) -> Schema:
    """Return the schema of a request's body: all of these but the `optional` ones are required, others ignored."""
    return _object(properties, [name for name in properties if name not in optional])


def _object(properties: dict[str, Schema], required: list[str]) -> Schema:
    return {"type": "object", "properties": properties} | ({"required": required} if required else {})


WHICH = {"model_name": TEXT, "model_version": TEXT}
UID = {"uid": nullable(TEXT)}

REQUESTS: dict[str, Schema] = {
    "AddApp": taking(name=TEXT, input_type=INPUT_WORD, default_output=TEXT, latency_slo_micros=SLO),
    "AddOurApp": taking(
        "slo_policy",
        "timeout_micros",
        name=TEXT,
        input_type=INPUT_WORD,
        default_output=TEXT,
        latency_slo_micros=SLO,
        slo_policy=nullable(POLICY),
        timeout_micros=nullable({"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MICROS}),
    ),
    "AppName": taking(name=TEXT),
    "AppOfLinks": taking(app_name=TEXT),
    "AddModel": taking(
        "model_data_path",
        **WHICH,
        labels=listed(TEXT),
        input_type=INPUT_WORD,
        container_name=TEXT,
        model_data_path=nullable(TEXT),
        batch_size=BATCH_SIZE,
    ),
    "AddVersion": taking(
        *("container_name", "labels", "batch_size", "replicas", "retry", "sample", "public_key", "legacy", "staged"),
        **WHICH,
        input_type=INPUT_WORD,
        container_name=nullable(TEXT),
        labels=nullable(listed(TEXT)),
        batch_size=nullable(BATCH_SIZE),
        replicas=nullable({"type": "integer", "minimum": 0, "maximum": MAX_REPLICAS}),
        retry=nullable(BOOL),
        sample=nullable(TEXT),
        public_key=nullable(TEXT),
        legacy=nullable(BOOL),
        staged=nullable(BOOL),
    ),
    "WhichVersion": taking(**WHICH),
    "WhichRegistration": taking("uid", **WHICH, **UID),
    "DeleteVersion": taking("uid", "only_staged", **WHICH, **UID, only_staged=nullable(BOOL)),
    "Link": taking(app_name=TEXT, model_names=listed(TEXT)),
    "Verbose": taking(verbose=BOOL),
    "WhichReplica": taking(**WHICH, replica_id=INT32),
    "UserOfApp": taking(app_name=TEXT, uid=INT32),
    "Probe": taking("uid", "timeout_s", **WHICH, **UID, input={}, timeout_s=nullable(PROBE_S)),
}

_CATALOG = {
    "CatalogApp": exactly(
        name=TEXT,
        input_type=INPUT_TYPE,
        default_output=TEXT,
        slo_micros=SLO,
        slo_policy=POLICY,
        timeout_micros=nullable(INTEGER),
        linked_models=listed(TEXT),
    ),
    "CatalogModel": exactly(name=TEXT, current_version=nullable(TEXT)),
    "CatalogVersion": exactly(
        name=TEXT,
        version=TEXT,
        uid=TEXT,
        input_type=INPUT_TYPE,
        image=TEXT,
        labels=listed(TEXT),
        batch_size=INTEGER,
        replicas=INTEGER,
        retry=BOOL,
        sample=nullable(TEXT),
        public_key=TEXT,
        legacy=BOOL,
        staged=BOOL,
    ),
    "Catalog": exactly(
        store_id=TEXT,
        revision=INTEGER,
        apps=listed(ref("CatalogApp")),
        models=listed(ref("CatalogModel")),
        versions=listed(ref("CatalogVersion")),
    ),
}

# what a query frontend says of itself; one of another release may say more, so nothing is forbidden here
_REPORT = {
    "Report": taking(
        *("curve_key", "legacy_rpc"),
        frontend=TEXT,
        toolkit=TEXT,
        pid=INTEGER,
        store_id=nullable(TEXT),
        revision=INTEGER,
        conflict=BOOL,
        conflict_cause=nullable(TEXT),
        draining=BOOL,
        http=TEXT,
        internal=nullable(TEXT),
        rpc=TEXT,
        curve_key=nullable(TEXT),
        legacy_rpc=nullable(TEXT),
        peers=listed(taking(frontend=TEXT, address=TEXT, linked=BOOL, links_here=BOOL)),
        replicas=listed(
            taking(
                model=TEXT,
                version=TEXT,
                uid=TEXT,
                replica=TEXT,
                id=INTEGER,
                state={"enum": ["ready", "stalled", "draining", "waiting"]},
                in_flight=INTEGER,
                answered=INTEGER,
                exec_ms_per_input=NUMBER,
            )
        ),
        versions=listed(
            taking(
                "legacy",
                model=TEXT,
                version=TEXT,
                uid=TEXT,
                legacy=BOOL,
                queued=INTEGER,
                ready=INTEGER,
                via_peers=INTEGER,
                relayed=INTEGER,
                last_error=nullable(TEXT),
                batch_limit=INTEGER,
                cache_hits=INTEGER,
                cache_lookups=INTEGER,
            )
        ),
        cache=nullable(taking(capacity=INTEGER, bytes=INTEGER, entries=INTEGER, evicted=INTEGER)),
        apps=listed(
            taking(
                app=TEXT,
                queries=INTEGER,
                late=INTEGER,
                defaults=INTEGER,
                errors=INTEGER,
                p50_ms=nullable(NUMBER),
                p99_ms=nullable(NUMBER),
            )
        ),
    ),
}

ANSWERS: dict[str, Schema] = {
    "App": exactly(
        input_type=INPUT_TYPE,
        default_output=TEXT,
        latency_slo_micros=SLO,
        name=TEXT,
        linked_models=listed(TEXT),
    ),
    "Version": exactly(
        **WHICH,
        input_type=INPUT_TYPE,
        labels=listed(TEXT),
        container_name=TEXT,
        model_data_path={"const": "DEPRECATED"},
        is_current_version=BOOL,
    ),
    "Replica": exactly(model_id=TEXT, **WHICH, model_replica_id=INTEGER, input_type=INPUT_TYPE),
    "Nothing": exactly(),
    "Error": exactly(error=TEXT, cause=TEXT),
    "Result": exactly(result=TEXT),
    "Registered": exactly(uid=TEXT),
    "Health": {"anyOf": [exactly(status={"const": "ok"}), ref("WholeHealth")]},
    "WholeHealth": {
        **taking(
            *("durable", "frontends", "in_conflict"),
            status={"enum": ["ok", "catalog conflict", "store away"]},
            toolkit=TEXT,
            cluster=TEXT,
            store_id=TEXT,
            revision=INTEGER,
            durable=nullable(BOOL),
            frontends=INTEGER,
            in_conflict=listed(TEXT),
        ),
        "additionalProperties": False,
    },
    "BundleSettings": exactly(problem=TEXT, runtime_image=TEXT, cache_volume=TEXT, max_bytes=SIZE, piece_bytes=SIZE),
    "BundleState": exactly(state={"enum": list(get_args(BundlePhase))}, received=SIZE, damaged=TEXT),
    "Frontends": exactly(live=INTEGER, frontends=listed(ref("Report"))),
    "Probes": exactly(
        live=INTEGER,
        probes=listed({"type": "object", "required": ["frontend", "status"], "properties": {"status": INTEGER}}),
    ),
    "Feedback": exactly(
        id=TEXT,
        at_ms=INTEGER,
        app=TEXT,
        uid=INTEGER,
        label=NUMBER,
        model=TEXT,
        input=TEXT,
        input_sha256=TEXT,
        frontend=TEXT,
        query_id=INTEGER,
    ),
    "AllFeedback": exactly(feedback=listed(ref("Feedback"))),
    "Accepted": exactly(live=INTEGER, behind=listed(TEXT)),
    "Restored": exactly(store_id=TEXT, revision=INTEGER, mirror_of=TEXT, records=INTEGER),
    **_CATALOG,
    **_REPORT,
}
