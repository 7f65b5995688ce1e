"""Judges every answer of the truth test: right, a row of the table of answers, or an offence. Pure.

The table is decision 5's. The judge stands outside: it knows what was asked (truth_queries.py) and what was done to the
system (Incidents and truth_health.Health, told by truth.py), and takes no word of the frontend's code. Whether an answer
may be late, a default or missing is judged when its record comes, because that needs the time; whether a replica was healthy
whose lack an answer names, some time later, when all that had befallen it is known.
"""

from bisect import bisect_left, insort
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from benchmarks.checked_answers import Answer, Query, Record, Verdict
from benchmarks.truth_health import Health
from benchmarks.truth_model import Misfortune, misfortune, output_of
from benchmarks.truth_queries import DEFAULT_OUTPUT, NOT_REGISTERED, Ask, ask
from clipper_nomad.state.records import MICROS, App

OFFENCES_KEPT = 10
KEPT_OF_A_KIND = 3
CLOCK_S = 0.03  # a busy frontend's clock stands still while it works off one round of its loop
BROKEN_WITHIN_S = 1.5  # of a frontend's end, its connections are seen to break: a busy client looks late
SUSPECT_WITHIN_S = 6.0  # of what befell a replica, inputs may be taken for poison: a frozen link is lost after 2.5 s
KNOWN_WITHIN_S = 1.0  # of its end, the death of a process is known
DRAINED_WITHIN_S = 4.0  # of SIGTERM a frontend has turned its clients away: half a second if it is quick

NO_MODELS = "No connected models found for query"
MISSED = "Failed to retrieve a prediction response within the specified latency SLO"


class Row(StrEnum):
    """The rows of the table, with what tells them apart."""

    RIGHT = "200 the answer"
    LATE = "200 the answer, late"
    NOT_LINKED_DEFAULT = "200 default: not linked"
    NO_REPLICA_DEFAULT = "200 default: no replica"
    PAST_SLO_DEFAULT = "200 default: past the SLO"
    VERSION_UNKNOWN = "400 version not registered"
    POISON = "422 the input killed its replica alone"
    OVERLOADED = "429 queue full"
    MODEL_FAILED = "500 model raised or wrong output"
    NOT_LINKED = "503 not linked"
    NO_REPLICA = "503 no replica"
    LOST = "503 its second peer was lost as well"
    PAST_SLO = "504 past the SLO"
    PAST_TIMEOUT = "504 past the timeout"


_VERDICTS = {Row.RIGHT: Verdict.RIGHT, Row.LATE: Verdict.RIGHT} | dict.fromkeys(
    (Row.NOT_LINKED_DEFAULT, Row.NO_REPLICA_DEFAULT, Row.PAST_SLO_DEFAULT), Verdict.DEFAULT
)
_BY_ERROR = {
    (400, "Query processing error"): Row.VERSION_UNKNOWN,
    (422, "poison_input"): Row.POISON,
    (429, "Overloaded"): Row.OVERLOADED,
    (500, "Model error"): Row.MODEL_FAILED,
    (503, "No connected models"): Row.NO_REPLICA,
    (503, "Replica lost"): Row.LOST,
    (504, "SLO missed"): Row.PAST_SLO,
    (504, "Timeout"): Row.PAST_TIMEOUT,
}
_ALLOWED = {
    "late": {Row.LATE, Row.NO_REPLICA_DEFAULT, Row.PAST_TIMEOUT},
    "default": {Row.NO_REPLICA_DEFAULT, Row.PAST_SLO_DEFAULT},
    "error": {Row.NO_REPLICA, Row.PAST_SLO},
}
_ALWAYS = {Row.RIGHT, Row.OVERLOADED, Row.POISON}
_WANT_OF_REPLICAS = {Row.NO_REPLICA, Row.NO_REPLICA_DEFAULT}
_FAILING = {Misfortune.RAISES, Misfortune.NO_OUTPUT}


class Offence(Exception):
    """An answer that must not be. The message says why."""


class Incidents:
    """When something was done that explains what clients and inputs suffer. Times are of the monotonic clock."""

    def __init__(self) -> None:
        self._frontend_ends: defaultdict[str, list[float]] = defaultdict(list)
        self._frontend_drains: defaultdict[str, list[float]] = defaultdict(list)
        self._replica_troubles: list[float] = []

    def frontend_ended(self, frontend: str, at: float) -> None:
        """A frontend was killed."""
        insort(self._frontend_ends[frontend], at)

    def frontend_drained(self, frontend: str, at: float) -> None:
        """A frontend was asked to stop."""
        insort(self._frontend_drains[frontend], at)

    def replica_troubled(self, at: float) -> None:
        """A replica, a link or a peer was killed, stopped, cut or frozen, at this time or until then."""
        insort(self._replica_troubles, at)

    def reason(self, verdict: Verdict, frontend: str, at: float, *, is_unmet: bool = False) -> str | None:
        """Return why a query to a frontend may have ended so without an answer, or None if nothing explains it."""
        if verdict is Verdict.BROKEN and _is_near(self._frontend_ends[frontend], at, BROKEN_WITHIN_S):
            return "its frontend was killed"
        if verdict is Verdict.TURNED_AWAY and _is_near(self._frontend_drains[frontend], at, DRAINED_WITHIN_S):
            return "its frontend was asked to stop"
        if verdict is Verdict.BROKEN and is_unmet and _is_near(self._frontend_drains[frontend], at, DRAINED_WITHIN_S):
            return "it was in line when its frontend, which was asked to stop, stopped listening"
        return None

    def explains_loss(self, at: float) -> bool:
        """Whether an innocent input may have been at a replica, or a peer, that ended: alone, or twice."""
        return _is_near(self._replica_troubles, at, SUSPECT_WITHIN_S)


def _is_near(times: list[float], at: float, within_s: float) -> bool:
    """Whether one of the sorted `times` is at most `within_s` before `at`; a tenth of a second after it is the clock's."""
    place = bisect_left(times, at - within_s)
    return place < len(times) and times[place] <= at + 0.1


@dataclass(frozen=True, slots=True)
class _Want:
    """An answer that says that there was no replica."""

    uid: str
    frontend: str
    at: float
    what: str


class Judge:
    """Counts rows and offences. `check` and `note` are the client's callbacks."""

    def __init__(self, incidents: Incidents, health: Health, *, frontends: Sequence[str]) -> None:
        """`frontends`: by the places of the client's addresses."""
        self.rows: Counter[Row] = Counter()
        self.endings: Counter[Verdict] = Counter()
        self.explained: Counter[str] = Counter()  # queries without an answer
        self.poison_sent = 0
        self.offence_kinds: Counter[str] = Counter()
        self.offences: list[str] = []
        self.wrong = 0  # of the offences: answers that belong to another query or version
        self.wants = 0  # answers that said that there was no replica
        self.unfound = 0  # of these: while the way to a replica was open, and it had not found it
        self._incidents = incidents
        self._health = health
        self._frontends = tuple(frontends)
        self._wants: deque[_Want] = deque()  # not judged yet
        self._rows_of: dict[int, list[Row]] = {}  # of answers whose record has not come

    def check(self, query: Query, answer: Answer) -> Verdict:
        """Judge what an answer says."""
        asked = ask(query.number)
        try:
            rows = self._rows(asked, answer)
        except Offence as exc:
            what = f"number {query.number} ({asked.app.name}, {len(asked.keys)} inputs)"
            self._offend(str(exc).partition(":")[0], f"{what}: {exc}: {answer.body[:300]!r}")
            return Verdict.WRONG
        self._rows_of[query.number] = rows
        self.rows.update(rows)
        verdicts = {_VERDICTS.get(row, Verdict.ERROR) for row in rows}
        return next(each for each in (Verdict.ERROR, Verdict.DEFAULT, Verdict.RIGHT) if each in verdicts)

    def note(self, record: Record) -> None:
        """Judge how a query ended, and when."""
        self.endings[record.verdict] += 1
        asked = ask(record.number)
        self.poison_sent += sum(misfortune(key) is Misfortune.KILLS for key in asked.keys)
        rows = self._rows_of.pop(record.number, [])
        ended_at = record.started_at + record.latency_s
        what = f"number {record.number} ({asked.app.name}) after {record.latency_s:.3f} s: {record.verdict}, {record.detail}"
        frontend = self._frontends[record.place] if record.place >= 0 else ""
        if record.status is None:
            reason = self._incidents.reason(record.verdict, frontend, ended_at, is_unmet=record.is_unmet)
            if reason is None:
                self._offend(record.verdict, f"{what}; nothing that was done explains it")
            else:
                self.explained[f"{record.verdict}: {reason}"] += 1
            return
        for row in set(rows):
            least_s = _earliest_s(row, asked.app)
            if record.latency_s < least_s - CLOCK_S:
                self._offend("too early", f"{what}; '{row}' cannot be before {least_s} s")
        kills = any(misfortune(key) is Misfortune.KILLS for key in asked.keys)
        if (Row.POISON in rows and not kills) or Row.LOST in rows:
            self._innocent(what, ended_at)
        if asked.version is not None and not _WANT_OF_REPLICAS.isdisjoint(rows):
            self.wants += 1
            self._wants.append(_Want(asked.version.uid, frontend, ended_at, what))

    def judge_wants(self, now: float) -> None:
        """Judge who was told that there is no replica, as far as all is known that had happened by then."""
        while self._wants and self._wants[0].at + KNOWN_WITHIN_S <= now:
            want = self._wants.popleft()
            witness = self._health.witness(want.uid, want.frontend, want.at)
            self.unfound += self._health.is_open(want.uid, want.frontend, want.at)
            if witness is not None:
                self._offend("no connected models, and one was healthy", f"{want.what}; {witness}")

    def _innocent(self, what: str, at: float) -> None:
        if not self._incidents.explains_loss(at):
            self._offend("no poison", f"{what}; this input kills nobody, and nothing was in trouble")

    def _offend(self, kind: str, what: str) -> None:
        self.offence_kinds[kind] += 1
        if len(self.offences) < OFFENCES_KEPT and self.offence_kinds[kind] <= KEPT_OF_A_KIND:
            self.offences.append(what)

    # ---- what an answer says ---------------------------------------------------------------------------------------

    def _rows(self, asked: Ask, answer: Answer) -> list[Row]:
        try:
            body = msgspec.json.decode(answer.body)
        except msgspec.MsgspecError as exc:
            raise Offence(f"status {answer.status}, not JSON: {exc}") from exc
        if not isinstance(body, dict):
            raise Offence(f"status {answer.status}, not an object")
        if not asked.is_batch:
            if (b"x-clipper-slo" in answer.headers) != _is_missed(answer.status, body):
                raise Offence("the header X-Clipper-SLO and the body disagree")
            return [self._row(asked, asked.keys[0], answer.status, body, answer.headers.get(b"x-clipper-model"))]
        parts = body.get("batch_predictions")
        if not isinstance(parts, list) or len(parts) != len(asked.keys):
            raise Offence(f"status {answer.status}, and not {len(asked.keys)} predictions")
        statuses = [part.get("status", 200) for part in parts]
        if answer.status != (200 if 200 in statuses else max(statuses)):
            raise Offence(f"status {answer.status} over parts of {statuses}")
        return [
            self._row(asked, key, status, part, None) for key, status, part in zip(asked.keys, statuses, parts, strict=True)
        ]

    def _row(self, asked: Ask, key: int, status: int, body: dict[str, Any], model: bytes | None) -> Row:
        row = self._row_of_default(body) if status == 200 else _BY_ERROR.get((status, body.get("error", "")))
        if row is None:
            raise Offence(f"status {status} is in no row of the table")
        if row in {Row.RIGHT, Row.LATE}:
            self._must_be_right(asked, key, body, model)
        if row is Row.NO_REPLICA and asked.version is None:
            row = Row.NOT_LINKED
        if row is Row.NO_REPLICA_DEFAULT and asked.version is None:
            row = Row.NOT_LINKED_DEFAULT
        if row not in self._allowed(asked, key):
            raise Offence(f"'{row}' is not for this query")
        return row

    @staticmethod
    def _row_of_default(body: dict[str, Any]) -> Row:
        if body.get("default") is False:
            return Row.LATE if body.get("late") else Row.RIGHT
        if body.get("default") is not True:
            raise Offence("status 200, and neither an answer nor a default")
        if body.get("output") != DEFAULT_OUTPUT:
            raise Offence("a default that is not the app's")
        match body.get("default_explanation"):
            case t if t == NO_MODELS:
                return Row.NO_REPLICA_DEFAULT
            case t if t == MISSED:
                return Row.PAST_SLO_DEFAULT
        raise Offence("a default without a known reason")

    def _must_be_right(self, asked: Ask, key: int, body: dict[str, Any], model: bytes | None) -> None:
        version = asked.version
        if version is None or misfortune(key) in _FAILING | {Misfortune.KILLS}:
            self.wrong += 1
            raise Offence("an output where there can be none")
        wanted = output_of(key, asked.length, version.uid)
        output = body.get("output")
        if output != wanted or type(output) is not type(wanted):
            self.wrong += 1
            raise Offence(f"WRONG: {wanted!r} is right")
        if model is not None and model.decode() != version.key:
            self.wrong += 1
            raise Offence(f"answered by {model.decode()}")

    def _allowed(self, asked: Ask, key: int) -> Iterable[Row]:
        if asked.version is None:
            if asked.pin == NOT_REGISTERED:
                return {Row.VERSION_UNKNOWN}
            return {Row.NOT_LINKED} if asked.app.slo_policy == "error" else {Row.NOT_LINKED_DEFAULT}
        failing = {Row.MODEL_FAILED} if misfortune(key) in _FAILING else set()
        lost = {Row.LOST} if len(self._frontends) > 1 else set()
        return _ALWAYS | _ALLOWED[asked.app.slo_policy] | failing | lost


def _is_missed(status: int, body: dict[str, Any]) -> bool:
    """Whether the body says that the SLO was missed."""
    return (
        bool(body.get("late"))
        or body.get("default_explanation") == MISSED
        or (status, body.get("error")) == (504, "SLO missed")
    )


def _earliest_s(row: Row, app: App) -> float:
    """Return how long a query of `app` waits at least for an answer of this row."""
    slo_s, timeout_s = app.slo_micros / MICROS, app.effective_timeout_micros / MICROS
    match row:
        case Row.PAST_TIMEOUT:
            return timeout_s
        case Row.NO_REPLICA_DEFAULT:
            return timeout_s if app.slo_policy == "late" else slo_s
        case Row.NO_REPLICA | Row.LATE | Row.PAST_SLO | Row.PAST_SLO_DEFAULT:
            return slo_s
    return 0.0
