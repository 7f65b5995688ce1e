"""The load generator of bench and demo, against a server that answers as a query frontend does, or not."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest

from clipper_nomad.cli import load
from clipper_nomad.cli.judging import any_prediction, near
from clipper_nomad.cli.load import Target, run_load
from clipper_nomad.cli.queries import post_query, problem_with
from clipper_nomad.errors import ClipperException

pytestmark = pytest.mark.process

Answer = Callable[[bytes], Awaitable[bytes]]


@contextmanager
def server(answer: Answer) -> Iterator[Target]:
    """A server that answers each body with the bytes that `answer` returns, in a thread; b"" closes the connection."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0])
                reply = await answer(await reader.readexactly(length))
                if not reply:
                    break
                writer.write(reply)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        writer.close()

    async def serve(tell: Callable[[int], None], ended: asyncio.Event) -> None:
        serving = await asyncio.start_server(talk, "127.0.0.1", 0)
        tell(serving.sockets[0].getsockname()[1])
        await ended.wait()
        serving.close()

    ports: list[int] = []
    listening = threading.Event()

    def tell(port: int) -> None:
        ports.append(port)
        listening.set()

    loop = asyncio.new_event_loop()
    ended = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve(tell, ended)))
    thread.start()
    assert listening.wait(5)
    try:
        yield Target(host="127.0.0.1", port=ports[0], path="/app/predict")
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def reply(body: object, *, status: str = "200 OK") -> bytes:
    text = json.dumps(body).encode()
    return b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (status.encode(), len(text), text)


async def doubled(body: bytes) -> bytes:
    return reply({"query_id": 1, "output": json.loads(body)["input"][0] * 2.0, "default": False})


BODIES = [json.dumps({"input": [number]}).encode() for number in range(10)]
DOUBLES = [number * 2.0 for number in range(10)]


def test_every_answer_is_judged_against_its_own_input() -> None:
    with server(doubled) as target:
        result = run_load(target, BODIES, near(DOUBLES), connections=3, seconds=0.2)

    assert result.failed == 0
    assert result.answered > 10
    assert sum(result.slices) <= result.answered
    assert min(result.latencies_s) > 0


def test_a_wrong_answer_is_counted_and_told() -> None:
    with server(doubled) as target:
        result = run_load(target, BODIES, near([number * 3.0 for number in range(10)]), connections=1, seconds=0.05)

    assert result.failed > 0
    assert result.first_failure == "input 1 was answered 2.0, and 3.0 is right"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (reply({"error": "Overloaded", "cause": "the queue is full"}, status="429 Too Many Requests"), "status 429: "),
        (reply({"query_id": 1, "output": -1.0, "default": True, "default_explanation": "why"}), "default output"),
        (reply({"no": "prediction"}), "no answer to a predict request"),
        (b"", "the connection was closed"),
    ],
)
def test_what_is_no_prediction_is_a_failure(given: bytes, told: str) -> None:
    async def always(_: bytes) -> bytes:
        return given

    with server(always) as target:
        result = run_load(target, BODIES, any_prediction, connections=2, seconds=0.05)

    assert result.answered == 0
    assert result.failed > 0
    assert told in (result.first_failure or "")


def test_an_answer_that_comes_in_pieces_is_one_answer() -> None:
    whole = reply({"query_id": 1, "output": 1.0, "default": False})

    async def slowly(_: bytes) -> bytes:
        await asyncio.sleep(0)
        return whole

    with server(slowly) as target:
        result = run_load(target, BODIES, any_prediction, connections=1, seconds=0.05)

    assert result.failed == 0


def test_a_query_that_is_never_answered_is_a_failure_and_the_load_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "ANSWER_WITHIN_S", 0.1)

    async def never(_: bytes) -> bytes:
        await asyncio.Event().wait()
        return b""

    with server(never) as target:
        result = run_load(target, BODIES, any_prediction, connections=2, seconds=0.05)

    assert (result.answered, result.failed) == (0, 2)
    assert result.first_failure == "no answer within 0.1 s of the end"


def test_a_single_query_says_who_answered_and_why_there_is_no_prediction() -> None:
    async def default(_: bytes) -> bytes:
        return reply({"query_id": 1, "output": -1.0, "default": True, "default_explanation": "no model"})

    with server(default) as target:
        found = post_query(f"http://{target.host}:{target.port}{target.path}", BODIES[0], within_s=5)

    assert found.parts[0]["output"] == -1.0
    assert problem_with(found) == "the default output came, because: no model"


def test_a_query_to_nobody_is_an_error_with_a_fix() -> None:
    with server(doubled) as target:
        url = f"http://{target.host}:{target.port}/"

    with pytest.raises(ClipperException, match="cannot be reached") as caught:
        post_query(url, BODIES[0], within_s=5)

    assert caught.value.hint == "See how the parts are: clipper-nomad status"
