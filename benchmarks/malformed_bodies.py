"""Malformed bodies against one query frontend: every request gets a reply that is foreseen, and memory stays flat.

Bodies of predict, update and V2 infer requests (in JSON, and with binary tensors) are made wrong by a seed: cut, flipped,
spliced, with hostile tokens, or random bytes. A reply is right if it is 400 with a reason, or 200 for a body that Python's
own JSON reader takes too. The frontend must end
as one that nothing happened to.

Run: python -m benchmarks.malformed_bodies --bodies 100000 --seed 7
"""

import argparse
import contextlib
import http.client
import json
import random
import struct
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack

from tests.process.frontends import Frontend, a_version, an_app
from tests.process.peer_replicas import PeerReplica

CONNECTIONS = 4
UPDATES, V2 = 0.05, 0.25  # of all; each costs its connection
BINARY = 0.5  # of V2's: inputs, and outputs
WARM_SHARE = 0.2  # of the bodies, before memory counts
GROWTH_MIB = 4.0
TIMEOUT_S = 30.0

VALID = {
    "doubles": ['{"input":[1.5,-2.0,3e5]}', '{"input_batch":[[1.0],[2.0,3.0]]}', '{"input":[0.1],"version":"1"}'],
    "floats": ['{"input":[1.5,2.0]}', '{"input_batch":[[1.0],[2.0]]}'],
    "integers": ['{"input":[1,2,-3]}', '{"input_batch":[[1],[2,3]]}'],
    "strings": ['{"input":"some text \\u00e4"}', '{"input_batch":["a","b",""]}'],
    "bytes": ['{"input":"aGVsbG8="}', '{"input_batch":["aGk=","aGVsbG8="]}'],
}
FEEDBACK = '{"uid":0,"input":%s,"label":1.0}'
TENSORS = {
    "doubles": [("FP64", [1, 2], [1.5, -2.0], struct.pack("<2d", 1.5, -2.0)), ("INT8", [2, 1], [[1], [2]], b"\x01\x02")],
    "floats": [("FP32", [2], [1.5, 2.0], struct.pack("<2f", 1.5, 2.0))],
    "integers": [("INT64", [1, 2], [1, -3], struct.pack("<2q", 1, -3))],
    "strings": [("BYTES", [2], ["some text", "\u00e4"], b"\t\0\0\0some text\2\0\0\0\xc3\xa4")],
    "bytes": [("BYTES", [1], ["hi"], b"\2\0\0\0hi"), ("UINT8", [1, 3], [1, 2, 255], b"\1\2\xff")],
}
TOKENS = [
    *(
        "NaN",
        "-Infinity",
        "1e999",
        "-0",
        "01",
        "1.",
        ".5",
        "0x10",
        "null",
        "true",
        '"',
        "\\",
        "\\u0000",
        "\\ud800",
        '"\\udfff"',
    ),
    *("[" * 50, "]" * 50, "{" * 50, '{"a":' * 200, "9" * 400, "[]", "{}", ",", ":", "\x00", "\x7f", "\ufeff", "/*", "\n"),
    *(
        '"shape"',
        '"data"',
        '"binary_data_size":',
        '"parameters":',
        '"FP16"',
        "18446744073709551616",
        "-1",
        '"classification"',
    ),
    *('"input"', '"input_batch"', '"version"', '"version":7', '"uid":1.5', "====", "Zm9v\n", "\U0001f600", "[[[]]]"),
]


def tensor_request(rng: random.Random, app: str) -> tuple[bytes, int | None]:
    """Return a V2 request that is right, and the size of its JSON if binary data follow."""
    datatype, shape, data, binary = rng.choice(TENSORS[app])
    tensor: dict[str, object] = {"name": "a", "datatype": datatype, "shape": shape}
    more: dict[str, object] = {"parameters": {"binary_data_output": True}} if rng.random() < BINARY else {}
    if rng.random() < BINARY:
        head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(binary)}}], **more}).encode()
        return head + binary, len(head)
    return json.dumps({"id": "7", "inputs": [{**tensor, "data": data}], **more}).encode(), None


def malformed(rng: random.Random, well: bytes) -> bytes:
    """Return a body that was `well` before something happened to it."""
    body = bytearray(well)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at, to = sorted(rng.randrange(len(body) + 1) for _ in range(2))
        match rng.randrange(7):
            case 0:
                del body[at:]
            case 1:
                del body[at:to]
            case 2:
                body[at:at] = rng.choice(TOKENS).encode()
            case 3:
                body[at:to] = rng.choice(TOKENS).encode()
            case 4 if body:
                body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
            case 5:
                body[at:at] = body[at:to] * rng.choice((1, 2, 30))
            case _:
                body[at:at] = rng.randbytes(rng.choice((1, 3, 20)))
    return bytes(body) if rng.random() > 0.02 else rng.randbytes(rng.randrange(2000))


def is_foreseen(kind: str, status: int, declared: str, body: bytes, reply: bytes) -> bool:
    """Return whether this reply is one that the contract has for such a body."""
    if kind == "update":
        words = {200: "Feedback received? 0", 400: ("Error parsing JSON: ", "JSON schema invalid")}.get(status)
        return words is not None and declared.startswith("text/plain") and reply.decode().startswith(words)
    if kind == "infer":
        if status == 200 and declared == "application/octet-stream":
            return reply.startswith(b'{"model_name":')
        said = json.loads(reply)
        return list(said) == ["error"] if status == 400 else status == 200 and said["outputs"][0]["name"] == "output"
    said = json.loads(reply)
    if status == 400:
        return list(said) == ["error", "cause"] and said["error"] in ("Json error", "Query processing error")
    if status != 200 or not ("output" in said or "batch_predictions" in said):
        return False
    asked = json.loads(body.decode(errors="replace"))  # keys that nobody asked for are not looked at
    return isinstance(asked, dict) and ("input" in asked or "input_batch" in asked)


class Sender(threading.Thread):
    """One client: sends its share of the bodies and judges each reply."""

    def __init__(self, address: tuple[str, int], seed: int, count: int) -> None:
        super().__init__(daemon=True)
        self._address = address
        self._rng = random.Random(seed)
        self._count = count
        self.statuses: Counter[str] = Counter()
        self.wrong: list[str] = []

    def run(self) -> None:
        """Send all."""
        connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT_S)
        for _ in range(self._count):
            app = self._rng.choice(list(VALID))
            kind, body, headers = self._request(app)
            path = f"/v2/models/{app}/infer" if kind == "infer" else f"/{app}/{kind}"
            try:
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                reply = answer.read()
            except (OSError, http.client.HTTPException) as exc:
                self.wrong.append(f"no reply to {kind} {app} {body!r}: {exc!r}")
                connection.close()
                continue
            self.statuses[f"{kind} {answer.status}"] += 1
            fits = False
            with contextlib.suppress(ValueError):
                fits = is_foreseen(kind, answer.status, answer.headers["Content-Type"], body, reply)
            if not fits:
                self.wrong.append(f"{kind} {app} {body!r} got {answer.status} {reply[:300]!r}")
        connection.close()

    def _request(self, app: str) -> tuple[str, bytes, dict[str, str]]:
        """Return what is asked, a body for it, and headers."""
        rng = self._rng
        chance = rng.random()
        if chance < V2:
            well, json_size = tensor_request(rng, app)
            body = malformed(rng, well)
            if json_size is None:
                return "infer", body, {}
            size = (
                str(json_size) if rng.random() < BINARY else rng.choice(["", "-1", "x", "9" * 30, str(rng.randrange(400))])
            )
            return "infer", body, {"Inference-Header-Content-Length": size}
        if chance < V2 + UPDATES:
            text = FEEDBACK % json.dumps(json.loads(VALID[app][0])["input"])
            return "update", malformed(rng, text.encode()), {}
        return "predict", malformed(rng, rng.choice(VALID[app]).encode()), {}


def storm(frontend: Frontend, seed: int, count: int) -> list[Sender]:
    """Send `count` bodies over CONNECTIONS connections and wait for the replies."""
    senders = [Sender(frontend.http, seed + index, count // CONNECTIONS) for index in range(CONNECTIONS)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    return senders


def main() -> int:
    """Run, print what was seen, and return 1 if any of it was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bodies", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    warm = int(given.bodies * WARM_SHARE)
    apps = [an_app(kind, model=kind, input_type=kind) for kind in VALID]
    began = time.monotonic()
    with ExitStack() as stack:
        frontend = stack.enter_context(Frontend(*apps, *(a_version(kind, input_type=kind) for kind in VALID)))
        for kind in VALID:
            stack.enter_context(PeerReplica(frontend.rpc, model=kind, kind=kind))
        senders = storm(frontend, given.seed, warm)
        before = frontend.rss_bytes()
        senders += storm(frontend, given.seed + CONNECTIONS, given.bodies - warm)
        growth = (frontend.rss_bytes() - before) / 2**20
        last = frontend.predict("doubles", [1.0, 2.0]).json["output"]
    wrong = [each for sender in senders for each in sender.wrong]
    statuses = sum((sender.statuses for sender in senders), Counter[str]())
    seen = {
        "bodies": sum(statuses.values()),
        "statuses": dict(sorted(statuses.items())),
        "wrong": len(wrong),
        "rss_mib": round(before / 2**20, 1),
        "growth_mib": round(growth, 2),
        "answers_still": last == 3.0,
        "took_s": round(time.monotonic() - began, 1),
    }
    print(json.dumps(seen, indent=2))
    for line in wrong[:20]:
        print(line, file=sys.stderr)
    return int(bool(wrong) or growth > GROWTH_MIB or not seen["answers_still"])


if __name__ == "__main__":
    sys.exit(main())
