"""What a client gets when: status, body and headers of every answer. Pure.

The table of docs/behaviour.md, "Answers", row by row. Bodies are Clipper's; texts that Clipper's clients may compare are
constants here. http_predict.py adds the framing, a batch collector takes the bodies alone.
"""

from __future__ import annotations

import enum

import msgspec

from clipper_nomad.protocol.wire import OutputError
from clipper_nomad.state.records import SloPolicy

NO_CONNECTED_MODELS = "No connected models found for query"
MISSED_SLO = "Failed to retrieve a prediction response within the specified latency SLO"

# kinds of answers by which peers decide what to do next
LOST, NOT_TAKEN, SPLIT, POISON = "lost", "not_taken", "split", "poison"
FOR_PEERS = frozenset({LOST, NOT_TAKEN, SPLIT, POISON})

_encode = msgspec.json.Encoder().encode


class Outcome(enum.IntEnum):
    """What became of a query, as metrics and the access log count it."""

    ANSWERED = 0
    LATE = 1
    DEFAULT = 2
    ERROR = 3


class Answer:
    """Status, JSON body and additional header lines (each ending in CRLF) of one query's answer.

    `kind` names the reason of an error in one word, for whoever must tell them apart (the probe of a deploy).
    """

    __slots__ = ("body", "cause", "headers", "kind", "outcome", "status")

    def __init__(self, status: int, body: bytes, outcome: Outcome, headers: bytes = b"", cause: str = "") -> None:
        self.status = status
        self.body = body
        self.outcome = outcome
        self.headers = headers
        self.cause = cause
        self.kind = ""


MISSED_SLO_HEADER = b"X-Clipper-SLO: missed\r\n"


def prediction(query_id: int, output: bytes, replica_headers: bytes, *, is_late: bool) -> Answer:
    """Return a true answer. `output` is JSON text, `replica_headers` names who computed it."""
    if is_late:
        body = b'{"query_id":%d,"output":%b,"default":false,"late":true}' % (query_id, output)
        return Answer(200, body, Outcome.LATE, replica_headers + MISSED_SLO_HEADER)
    body = b'{"query_id":%d,"output":%b,"default":false}' % (query_id, output)
    return Answer(200, body, Outcome.ANSWERED, replica_headers)


def default(query_id: int, default_output: bytes, explanation: str) -> Answer:
    """Return the app's default output (JSON text) with the reason why it is not a prediction."""
    body = b'{"query_id":%d,"output":%b,"default":true,"default_explanation":%b}' % (
        query_id,
        default_output,
        _encode(explanation),
    )
    missed = MISSED_SLO_HEADER if explanation == MISSED_SLO else b""
    return Answer(200, body, Outcome.DEFAULT, missed, explanation)


def refused(status: int, error: str, cause: str, *, retry_after_s: int | None = None, kind: str = "") -> Answer:
    """Return an error answer of this kind. A cause may quote what a model said, so it may hold what UTF-8 does not."""
    cause = cause.encode(errors="replace").decode()
    headers = b"" if retry_after_s is None else b"Retry-After: %d\r\n" % max(1, retry_after_s)
    answer = Answer(status, _encode({"error": error, "cause": cause}), Outcome.ERROR, headers, cause)
    answer.kind = kind
    return answer


def headers_of(answer: Answer) -> dict[str, str]:
    """Return the additional headers by name."""
    return dict(line.split(": ", 1) for line in answer.headers.decode().splitlines())


def output_of(answer: Answer) -> bytes:
    """Return the output, as JSON text, in a true answer."""
    begin = answer.body.index(b'"output":') + len(b'"output":')
    return answer.body[begin : answer.body.rindex(b',"default":false')]


def not_linked(policy: SloPolicy, query_id: int, default_output: bytes, app: str) -> Answer:
    """Return the answer of an app that no model is linked to."""
    if policy == "error":
        cause = f"{NO_CONNECTED_MODELS}: application '{app}' is linked to no model; link one to it"
        return refused(503, "No connected models", cause, retry_after_s=1)
    return default(query_id, default_output, NO_CONNECTED_MODELS)


def no_replica(policy: SloPolicy, query_id: int, default_output: bytes, model: str) -> Answer:
    """Return the answer of a query that waited for a replica as long as its app lets it, and none came."""
    if policy == "error":
        cause = f"{NO_CONNECTED_MODELS}: no replica of model '{model}' was ready"
        return refused(503, "No connected models", cause, retry_after_s=1)
    return default(query_id, default_output, NO_CONNECTED_MODELS)


def past_slo(policy: SloPolicy, query_id: int, default_output: bytes, slo_micros: int) -> Answer:
    """Return what an app of policy `default` or `error` answers when the SLO has passed without an output."""
    if policy == "error":
        answer = refused(504, "SLO missed", f"{MISSED_SLO} of {slo_micros} microseconds")
        answer.headers += MISSED_SLO_HEADER
        return answer
    return default(query_id, default_output, MISSED_SLO)


def past_timeout(app: str, timeout_micros: int) -> Answer:
    """Return the answer of a query that no output came for until its timeout."""
    cause = (
        f"no output came within timeout_micros={timeout_micros} of application '{app}'; give the application a longer "
        "timeout or the model more replicas"
    )
    return refused(504, "Timeout", cause)


def model_failed(model: str, replica: str, error: OutputError) -> Answer:
    """Return the answer to an input for which the model raised, or returned what is no output."""
    where = f"model '{model}', replica '{replica}'"
    if error.traceback_id:
        where += f", traceback id {error.traceback_id}"
    return refused(500, "Model error", f"{error.message} ({where})", kind=error.kind)


def poison(model: str) -> Answer:
    """Return the answer to an input that twice ended the replica which worked on it."""
    cause = (
        f"this input ended two replicas of model '{model}', the second while it was the only one there; it is refused for "
        "ten minutes. The replicas' logs show why"
    )
    return refused(422, "poison_input", cause, kind=POISON)


def lost(model: str, tries: int) -> Answer:
    """Return the answer to a query whose replica died and that may not be tried again."""
    times = "once" if tries < 2 else f"{tries} times"
    cause = f"the replica of model '{model}' that worked on this input was lost, and the input may be tried {times}"
    return refused(503, "Replica lost", cause, retry_after_s=1, kind=LOST)


def not_taken(model: str) -> Answer:
    """Return what a peer is told of a query that it sent and that was not executed here."""
    return refused(
        503, "No connected models", f"no replica of model '{model}' is ready here", retry_after_s=1, kind=NOT_TAKEN
    )


def split(model: str) -> Answer:
    """Return what a peer is told of a query whose batch raised: it may have been a mate's fault."""
    return refused(500, "Model error", f"model '{model}' raised for the batch with this input", kind=SPLIT)


def relayed_failure(status: int, error: str, cause: str, kind: str) -> Answer:
    """Return the final error that a peer gave a query."""
    return refused(status, error, cause, retry_after_s=1 if status in {429, 503} else None, kind=kind)


def queue_full(model: str, reason: str, retry_after_s: int) -> Answer:
    """Return the answer to a query that the queue has no room for."""
    return refused(429, "Overloaded", f"the queue of model '{model}' {reason}", retry_after_s=retry_after_s, kind=NOT_TAKEN)


def no_such_version(model: str, version: str) -> Answer:
    """Return the answer to a query that asks for a version that is not registered."""
    cause = f"Requested version: {version} does not exist for model: {model}"
    return refused(400, "Query processing error", cause)


def bad_request(cause: str) -> Answer:
    """Return the answer to a body that is no predict request."""
    return refused(400, "Json error", cause)


def batch(parts: list[tuple[int, Answer]]) -> Answer:
    """Return the reply to an `input_batch`, from (query id, answer) in the order of its inputs.

    200 if any input was answered; each failed one stands in its place with its own status. If all failed: their status,
    or the highest if they differ. A batch of one gets the bare object, as in Clipper.
    """
    if len(parts) == 1:
        return parts[0][1]
    objects = [_in_batch(query_id, answer) for query_id, answer in parts]
    listed = b'"batch_predictions":[%b]' % b",".join(objects)
    outcome = max((answer.outcome for _, answer in parts), default=Outcome.ANSWERED)
    if parts and all(answer.status != 200 for _, answer in parts):
        worst = max((answer for _, answer in parts), key=lambda answer: answer.status)
        body = b'{"error":"All inputs failed","cause":%b,%b}' % (_encode(worst.cause), listed)
        return Answer(worst.status, body, outcome, worst.headers, worst.cause)
    missed = MISSED_SLO_HEADER if any(MISSED_SLO_HEADER in answer.headers for _, answer in parts) else b""
    return Answer(200, b"{%b}" % listed, outcome, missed)


def _in_batch(query_id: int, answer: Answer) -> bytes:
    if answer.status == 200:
        return answer.body
    return b'{"query_id":%d,%b,"status":%d}' % (query_id, answer.body[1:-1], answer.status)
