"""What a client gets when: the table of answers, row by row."""

from __future__ import annotations

import json
from typing import Any

import pytest

from clipper_nomad.protocol.wire import ErrorKind, OutputError
from clipper_nomad.state.records import SLO_POLICIES, SloPolicy
from clipper_nomad_frontend import answers
from clipper_nomad_frontend.answers import Answer, Outcome
from tests.unit.queries import endpoint, query

NO_MODELS = "No connected models found for query"
MISSED = "Failed to retrieve a prediction response within the specified latency SLO"
DEFAULT_REPLY = ["query_id", "output", "default", "default_explanation"]
REPLICA = b"X-Clipper-Model: m:1\r\nX-Clipper-Replica: r1\r\n"
EVERY_POLICY = pytest.mark.parametrize("policy", SLO_POLICIES)


def body_of(answer: Answer) -> dict[str, Any]:
    """The body, which is one compact JSON object."""
    value = json.loads(answer.body)
    assert isinstance(value, dict)
    assert b"\n" not in answer.body
    return value


def headers_of(answer: Answer) -> dict[str, str]:
    """The additional headers, each a whole line."""
    assert answer.headers == b"" or answer.headers.endswith(b"\r\n")
    return dict(line.split(": ", 1) for line in answer.headers.decode().split("\r\n")[:-1])


def assert_default(answer: Answer, explanation: str) -> None:
    assert answer.status == 200
    assert body_of(answer) == {"query_id": 5, "output": -1.0, "default": True, "default_explanation": explanation}
    assert list(body_of(answer)) == DEFAULT_REPLY
    assert answer.outcome is Outcome.DEFAULT


def assert_error(answer: Answer, status: int, *words: str, retry_after: str | None = None) -> None:
    assert answer.status == status
    assert list(body_of(answer)) == ["error", "cause"]
    assert answer.cause == body_of(answer)["cause"]
    assert all(word in answer.cause for word in words), answer.cause
    assert headers_of(answer).get("Retry-After") == retry_after
    assert answer.outcome is Outcome.ERROR


# ---- app not linked


@pytest.mark.parametrize("policy", ["late", "default"])
def test_an_app_without_a_link_gives_its_default_with_the_reason(policy: SloPolicy) -> None:
    assert_default(answers.not_linked(policy, 5, b"-1.0", "digits"), NO_MODELS)


def test_an_app_without_a_link_that_wants_errors_gives_503() -> None:
    assert_error(answers.not_linked("error", 5, b"-1.0", "digits"), 503, NO_MODELS, "digits", retry_after="1")


# ---- linked, no replica


@pytest.mark.parametrize("policy", ["late", "default"])
def test_without_a_replica_the_default_comes_with_the_reason(policy: SloPolicy) -> None:
    assert_default(answers.no_replica(policy, 5, b"-1.0", "m:1"), NO_MODELS)


def test_without_a_replica_an_app_that_wants_errors_gives_503() -> None:
    assert_error(answers.no_replica("error", 5, b"-1.0", "m:1"), 503, NO_MODELS, "m:1", retry_after="1")


# ---- past the SLO


def test_an_answer_in_time_has_clippers_keys_in_clippers_order() -> None:
    answer = answers.prediction(5, b"[1,2]", REPLICA, is_late=False)

    assert answer.status == 200
    assert answer.body == b'{"query_id":5,"output":[1,2],"default":false}'
    assert answer.headers == REPLICA
    assert answer.outcome is Outcome.ANSWERED


def test_a_late_answer_says_so_after_clippers_keys() -> None:
    answer = answers.prediction(5, b'"x"', REPLICA, is_late=True)

    assert answer.status == 200
    assert answer.body == b'{"query_id":5,"output":"x","default":false,"late":true}'
    assert headers_of(answer) == {"X-Clipper-Model": "m:1", "X-Clipper-Replica": "r1", "X-Clipper-SLO": "missed"}
    assert answer.outcome is Outcome.LATE


def test_past_its_slo_an_app_that_wants_defaults_gets_it_in_clippers_words() -> None:
    answer = answers.past_slo("default", 5, b"-1.0", 20_000)

    assert_default(answer, MISSED)
    assert headers_of(answer) == {"X-Clipper-SLO": "missed"}


def test_past_its_slo_an_app_that_wants_errors_gives_504() -> None:
    answer = answers.past_slo("error", 5, b"-1.0", 20_000)

    assert_error(answer, 504, MISSED, "20000")
    assert headers_of(answer) == {"X-Clipper-SLO": "missed"}


# ---- past the timeout


def test_past_its_timeout_a_query_gives_504_that_names_setting_and_value() -> None:
    assert_error(answers.past_timeout("digits", 10_000_000), 504, "timeout_micros=10000000", "digits")


# ---- which of these an endpoint gives when its patience ends


@pytest.mark.parametrize(
    ("policy", "has_replica", "status", "text"),
    [
        ("late", True, 504, "timeout_micros=10000000"),
        ("late", False, 200, NO_MODELS),
        ("default", True, 200, MISSED),
        ("default", False, 200, NO_MODELS),
        ("error", True, 504, MISSED),
        ("error", False, 503, NO_MODELS),
    ],
)
def test_out_of_patience_each_policy_has_its_own_answer(
    policy: SloPolicy, *, has_replica: bool, status: int, text: str
) -> None:
    app = endpoint(policy=policy)

    answer = app.out_of_patience(query(app), has_replica=has_replica, model="m:1")

    assert answer.status == status
    assert text in answer.body.decode()


# ---- the model failed


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_a_failed_model_gives_500_that_names_model_replica_and_traceback(kind: ErrorKind) -> None:
    answer = answers.model_failed("m:1", "r7", OutputError(None, kind, "ValueError: no", "4af2"))

    assert_error(answer, 500, "ValueError: no", "'m:1'", "'r7'", "traceback id 4af2")
    assert answer.kind == kind


def test_without_a_traceback_none_is_named() -> None:
    answer = answers.model_failed("m:1", "r7", OutputError(0, ErrorKind.WRONG_TYPE, "None is no output", ""))

    assert_error(answer, 500, "None is no output (model 'm:1', replica 'r7')")
    assert "traceback" not in answer.cause


def test_a_message_that_utf8_cannot_hold_is_still_an_answer() -> None:
    answer = answers.model_failed("m:1", "r7", OutputError(None, ErrorKind.RAISED, "no file '\udcff'", "4af2"))

    assert_error(answer, 500, "no file '?'")


def test_an_input_that_ended_replicas_gives_422() -> None:
    answer = answers.poison("m:1")

    assert_error(answer, 422, "m:1", "ten minutes")
    assert body_of(answer)["error"] == "poison_input"


@pytest.mark.parametrize(("tries", "times"), [(1, "once"), (2, "2 times")])
def test_an_input_that_may_not_be_tried_again_gives_503(tries: int, times: str) -> None:
    assert_error(answers.lost("m:1", tries), 503, "m:1", times, retry_after="1")


# ---- no room, no version, no request


def test_a_full_queue_gives_429_with_when_to_come_again() -> None:
    answer = answers.queue_full("m:1", "holds 9 queries, which is its bound", 17)

    assert_error(answer, 429, "the queue of model 'm:1' holds 9 queries", retry_after="17")


def test_nobody_is_told_to_come_again_in_no_time() -> None:
    assert_error(answers.refused(503, "No", "why", retry_after_s=0), 503, "why", retry_after="1")


def test_an_unknown_version_gives_400_in_clippers_words() -> None:
    answer = answers.no_such_version("digits", "7")

    assert_error(answer, 400)
    assert body_of(answer) == {
        "error": "Query processing error",
        "cause": "Requested version: 7 does not exist for model: digits",
    }


def test_a_body_that_is_no_request_gives_400_as_clipper_does() -> None:
    answer = answers.bad_request('Error parsing JSON: "x"')

    assert_error(answer, 400)
    assert body_of(answer) == {"error": "Json error", "cause": 'Error parsing JSON: "x"'}


# ---- input_batch


def good(query_id: int) -> tuple[int, Answer]:
    return query_id, answers.prediction(query_id, b"1", REPLICA, is_late=False)


def failed(query_id: int) -> tuple[int, Answer]:
    return query_id, answers.model_failed("m:1", "r7", OutputError(0, ErrorKind.RAISED, "no", "t"))


def test_the_reply_to_a_batch_has_the_answers_in_order() -> None:
    answer = answers.batch([good(4), good(5)])

    assert answer.status == 200
    assert answer.body == (
        b'{"batch_predictions":[{"query_id":4,"output":1,"default":false},{"query_id":5,"output":1,"default":false}]}'
    )
    assert answer.headers == b""
    assert answer.outcome is Outcome.ANSWERED


def test_a_batch_of_one_gets_the_bare_object() -> None:
    assert answers.batch([good(4)]).body == b'{"query_id":4,"output":1,"default":false}'
    assert answers.batch([failed(4)]).status == 500


def test_an_empty_batch_gets_an_empty_list() -> None:
    answer = answers.batch([])

    assert (answer.status, answer.body) == (200, b'{"batch_predictions":[]}')


def test_a_failed_input_stands_in_its_place_with_its_own_status() -> None:
    answer = answers.batch([good(4), failed(5), good(6)])

    assert answer.status == 200
    listed = body_of(answer)["batch_predictions"]
    assert [part["query_id"] for part in listed] == [4, 5, 6]
    assert list(listed[1]) == ["query_id", "error", "cause", "status"]
    assert listed[1]["status"] == 500
    assert answer.outcome is Outcome.ERROR


def test_a_batch_with_a_late_answer_is_marked() -> None:
    late = 5, answers.prediction(5, b"1", REPLICA, is_late=True)

    assert headers_of(answers.batch([good(4), late])) == {"X-Clipper-SLO": "missed"}


def test_if_all_inputs_failed_alike_their_status_is_the_reply_s() -> None:
    full = [(number, answers.queue_full("m:1", "is full", 3)) for number in (4, 5)]

    answer = answers.batch(full)

    assert answer.status == 429
    assert list(body_of(answer)) == ["error", "cause", "batch_predictions"]
    assert [part["status"] for part in body_of(answer)["batch_predictions"]] == [429, 429]
    assert headers_of(answer) == {"Retry-After": "3"}
    assert answer.cause == body_of(answer)["cause"]


def test_if_all_inputs_failed_differently_the_highest_status_is_the_reply_s() -> None:
    answer = answers.batch([(4, answers.poison("m:1")), failed(5)])

    assert answer.status == 500


@EVERY_POLICY
def test_every_body_is_json_whatever_the_names_hold(policy: SloPolicy) -> None:
    name = 'a"b\\c\n\u2028é'
    replies = [
        answers.not_linked(policy, 1, b"null", name),
        answers.no_replica(policy, 1, b"null", name),
        answers.past_slo(policy, 1, b"null", 1),
        answers.past_timeout(name, 1),
        answers.model_failed(name, name, OutputError(None, ErrorKind.RAISED, name, name)),
        answers.poison(name),
        answers.lost(name, 1),
        answers.queue_full(name, name, 1),
        answers.no_such_version(name, name),
        answers.bad_request(name),
    ]

    for answer in (*replies, answers.batch(list(enumerate(replies)))):
        body_of(answer)
        headers_of(answer)
