"""What the truth test asks: number → app, version asked for, inputs; the apps and versions it asks. Pure.

Two apps take most of the queries, each with its model: `patient` (policy late) with left:1, `punctual` (default) with
right:1. Some queries are pinned to a version, left:2 among them, some to one that is not registered; a few go to apps with
the policy error, and to apps that are linked to nothing. One in sixteen is an `input_batch`; one in eight has the inputs of
a query shortly before it, whatever its app and version.
"""

from dataclasses import dataclass, replace

from benchmarks import truth_model
from benchmarks.checked_answers import Query
from benchmarks.rig_plan import Plan, Served
from benchmarks.truth_model import SHAPES, input_of
from clipper_nomad.state.records import MICROS, App, ModelVersion

KEYS_PER_NUMBER = 4
BATCH_INPUTS = 3
REPLICAS = 2  # of each version, if nobody says otherwise
QUEUE_BOUND = 120  # so low that a version without replicas soon refuses: a row of the table to be seen
TIMEOUT_S = 3.0  # of the apps with policy late; no query waits longer for its answer
DEFAULT_OUTPUT = "no idea"

LEFT_1 = ModelVersion(name="left", version="1", uid="uid.left.1.text", input_type="doubles")
LEFT_2 = ModelVersion(name="left", version="2", uid="uid.left.2.int", input_type="doubles")
RIGHT_1 = ModelVersion(name="right", version="1", uid="uid.right.1.float", input_type="doubles")
NOT_REGISTERED = "9"


def _app(name: str, slo_s: float, policy: str, *linked: str) -> App:
    return App(
        name=name,
        input_type="doubles",
        default_output=DEFAULT_OUTPUT,
        slo_micros=int(slo_s * MICROS),
        slo_policy=policy,  # type: ignore[arg-type]  # the three words below
        timeout_micros=int(TIMEOUT_S * MICROS),
        linked_models=linked,
    )


PATIENT = _app("patient", 0.1, "late", "left")
PUNCTUAL = _app("punctual", 0.15, "default", "right")
STRICT = _app("strict", 0.2, "error", "left")
ORPHAN = _app("orphan", 0.1, "late")
STRICT_ORPHAN = _app("strict-orphan", 0.1, "error")
APPS = (PATIENT, PUNCTUAL, STRICT, ORPHAN, STRICT_ORPHAN)

# Shares of 32. Each app's version without a pin is that of the catalog's `current`.
_APP_OF = [PATIENT] * 13 + [PUNCTUAL] * 13 + [STRICT] * 4 + [ORPHAN, STRICT_ORPHAN]
_CURRENT = {PATIENT.name: LEFT_1, PUNCTUAL.name: RIGHT_1, STRICT.name: LEFT_1}
_LEFT = {"1": LEFT_1, "2": LEFT_2}


def plan(*, frontends: int = 1, replicas: int = REPLICAS, seed: int = 0, forked: bool = False, cache_bytes: int = 0) -> Plan:
    """Return what the rig is to serve. `replicas`: of each version. `cache_bytes`: of each frontend's prediction cache."""
    truth_model.pickle_by_value()
    return Plan(
        apps=APPS,
        served=[
            Served(record=replace(record, replicas=replicas), function=truth_model.predict)
            for record in (LEFT_1, LEFT_2, RIGHT_1)
        ],
        current={"left": "1", "right": "1"},
        frontends=frontends,
        inherited=frontends == 1,  # nobody else can be asked meanwhile
        forked=forked,
        seed=seed,
        frontend_settings={
            "CLIPPER_MAX_QUEUED_QUERIES": str(QUEUE_BOUND),
            "CLIPPER_CACHE_BYTES": str(cache_bytes),
        },
    )


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `version`: who must answer it; None if nobody can. `pin`: the version it asks for, if any."""

    app: App
    version: ModelVersion | None
    pin: str | None
    keys: tuple[int, ...]
    length: int

    @property
    def is_batch(self) -> bool:
        """Whether it is an `input_batch`."""
        return len(self.keys) > 1


def ask(number: int) -> Ask:
    """Return what the query of this number asks; always the same."""
    bits = _bits(number)
    app = _APP_OF[bits & 31]
    pin: str | None = None
    version = _CURRENT.get(app.name)
    if app is PATIENT or app is STRICT:
        match bits >> 5 & 31:
            case 0 | 1 | 2 | 3 | 4 | 5 | 6:
                pin = "2"
            case 7:
                pin = "1"
            case 8:
                pin = NOT_REGISTERED
        if pin is not None:
            version = _LEFT.get(pin)
    count = BATCH_INPUTS if bits >> 10 & 15 == 0 else 1
    back = 1 + (bits >> 21 & 63)
    repeated = number - back if bits >> 18 & 7 == 0 and number >= back else number  # one in eight: what was just asked
    first = repeated * KEYS_PER_NUMBER
    return Ask(app, version, pin, tuple(range(first, first + count)), SHAPES[(_bits(repeated) >> 14) % len(SHAPES)])


def _bits(number: int) -> int:
    return (number * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF) >> 24  # a multiplicative hash: its upper bits are mixed well


def query(number: int) -> Query:
    """Return the request of this number."""
    asked = ask(number)
    inputs = [_json(input_of(key, asked.length)) for key in asked.keys]
    what = f'"input_batch":[{",".join(inputs)}]' if asked.is_batch else f'"input":{inputs[0]}'
    pinned = f',"version":"{asked.pin}"' if asked.pin is not None else ""
    return Query(number, f"/{asked.app.name}/predict", f"{{{what}{pinned}}}".encode())


def _json(values: list[float]) -> str:
    return f"[{','.join(map(str, values))}]"
