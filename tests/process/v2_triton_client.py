"""What NVIDIA's Triton client sees of a server; run by an interpreter that has it: v2_triton_client.py HOST:PORT[/PREFIX].

Prints JSON. It uses the client as its documentation does, binary tensors being its default.
"""

import asyncio
import json
import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype


def tensor(array: np.ndarray, name: str = "input", *, is_binary: bool = True) -> triton.InferInput:
    made = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array, binary_data=is_binary)
    return made


def refusal(client: triton.InferenceServerClient, app: str, *inputs: triton.InferInput, version: str = "") -> list[object]:
    try:
        client.infer(app, list(inputs), model_version=version)
    except InferenceServerException as exc:
        return [exc.status(), exc.message()]
    return ["no exception"]


def seen(address: str) -> dict[str, object]:
    """What the synchronous client sees."""
    client = triton.InferenceServerClient(address)
    doubles = np.array([[1.0, 2.5], [3.0, -0.25]])
    texts = np.array(["a", "\u00e4 b"], dtype=np.object_)
    raw = np.array([b"\x00\xff", b""], dtype=np.object_)
    output = triton.InferRequestedOutput("output", binary_data=False)
    in_binary = client.infer("doubles", [tensor(doubles)], request_id="mine", timeout=5_000_000)
    in_json = client.infer("doubles", [tensor(doubles, is_binary=False)], outputs=[output])
    waiting = client.async_infer("integers", [tensor(np.array([[1, 2], [3, 4]]))])
    found: dict[str, object] = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model ready": client.is_model_ready("doubles"),
        "version ready": client.is_model_ready("doubles", "1"),
        "nobody ready": client.is_model_ready("nobody"),
        "server": client.get_server_metadata(),
        "model": client.get_model_metadata("doubles"),
        "id": in_binary.get_response()["id"],
        "in binary": in_binary.as_numpy("output").tolist(),
        "in json": in_json.as_numpy("output").tolist(),
        "in 32 bits": client.infer("doubles", [tensor(doubles.astype(np.float32))]).as_numpy("output").tolist(),
        "asked and waited": waiting.get_result().as_numpy("output").tolist(),
        "floats": client.infer("floats", [tensor(np.array([[0.5, 0.25]], np.float16))]).as_numpy("output").tolist(),
        "texts": [each.decode() for each in client.infer("strings", [tensor(texts)]).as_numpy("output")],
        "texts in json": [
            str(each)
            for each in client.infer("strings", [tensor(texts, is_binary=False)], outputs=[output]).as_numpy("output")
        ],
        "lengths of bytes": client.infer("bytes", [tensor(raw)]).as_numpy("output").tolist(),
        "lengths of rows": client.infer("bytes", [tensor(np.zeros((2, 3), np.uint8))]).as_numpy("output").tolist(),
        "lists": client.infer("lists", [tensor(doubles)]).as_numpy("output").tolist(),
        "not finite": [
            str(each)
            for each in client.infer("lists", [tensor(np.array([[np.nan, np.inf, -np.inf]]))]).as_numpy("output")[0]
        ],
        "default": client.infer("loose", [tensor(doubles)]).get_response()["parameters"],
        "wrong type": refusal(client, "doubles", tensor(texts)),
        "two tensors": refusal(client, "doubles", tensor(doubles), tensor(doubles, "more")),
        "no such version": refusal(client, "doubles", tensor(doubles), version="9"),
        "nobody": refusal(client, "nobody", tensor(doubles)),
        "many": [client.infer("doubles", [tensor(np.array([[float(n)]]))]).as_numpy("output").tolist() for n in range(50)],
    }
    client.close()
    return found


async def seen_from_asyncio(address: str) -> dict[str, object]:
    """What its client for asyncio sees, which is built on another HTTP library."""
    async with aio.InferenceServerClient(address) as client:
        numbers = [np.array([[float(n), 1.0]]) for n in range(20)]
        results = await asyncio.gather(*(client.infer("doubles", [tensor(each)]) for each in numbers))
        return {
            "asyncio ready": await client.is_model_ready("doubles"),
            "asyncio": [result.as_numpy("output").tolist() for result in results],
        }


if __name__ == "__main__":
    print(json.dumps(seen(sys.argv[1]) | asyncio.run(seen_from_asyncio(sys.argv[1]))))  # noqa: T201  # what it is for
