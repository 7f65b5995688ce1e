"""What KServe's client sees of a server; run by an interpreter that has it: v2_kserve_client.py URL. Prints JSON."""

import asyncio
import json
import sys

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput


def request(app: str, array: np.ndarray, datatype: str, *, is_binary: bool) -> InferRequest:
    tensor = InferInput("input-0", list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=is_binary)
    outputs = [RequestedOutput("output", parameters={"binary_data": is_binary})]
    return InferRequest(app, [tensor], request_id="mine", request_outputs=outputs)


async def seen(url: str) -> dict[str, object]:
    """What the client sees."""
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    doubles = np.array([[1.0, 2.5], [3.0, -0.25]])
    found: dict[str, object] = {
        "live": await client.is_server_live(url),
        "ready": await client.is_server_ready(url),
        "model ready": await client.is_model_ready(url, "doubles"),
        "nobody ready": await client.is_model_ready(url, "nobody"),
    }
    for form, is_binary in (("json", False), ("binary", True)):
        for app, array, datatype in (
            ("doubles", doubles, "FP64"),
            ("floats", np.array([[0.5, 0.25]], np.float32), "FP32"),
            ("integers", np.array([[1, 2], [3, 4]], np.int64), "INT64"),
            ("strings", np.array(["a", "\u00e4 b"], dtype=np.object_), "BYTES"),
        ):
            asked = request(app, array, datatype, is_binary=is_binary)
            answer = await client.infer(url, asked, model_name=app)
            output = answer.outputs[0].as_numpy().tolist()
            texts = [each.decode() if isinstance(each, bytes) else each for each in output]
            found[f"{app} in {form}"] = [answer.id, answer.model_name, texts]
    as_dict = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
    found["a dict"] = (await client.infer(url, as_dict, model_name="doubles")).outputs[0].data
    try:
        await client.infer(url, request("nobody", doubles, "FP64", is_binary=False), model_name="nobody")
    except httpx.HTTPStatusError as exc:
        found["nobody"] = [exc.response.status_code, str(exc)]
    await client.close()
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(seen(sys.argv[1]))))  # noqa: T201  # what it is for
