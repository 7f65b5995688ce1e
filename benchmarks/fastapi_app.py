"""The comparison: the same model behind FastAPI, the way its documentation shows it, in one process.

`async def`, because a plain `def` would send each call through a thread pool and cost FastAPI more than the model does.
Served by uvicorn with uvloop and httptools and without an access log: serving.py has the command line.
"""

from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks import diabetes

_model = diabetes.train()
app = FastAPI()


class PredictRequest(BaseModel):
    """One input of ten doubles."""

    input: list[float]


class PredictReply(BaseModel):
    """One answer."""

    output: float


@app.post("/app-1/predict")
async def predict(request: PredictRequest) -> PredictReply:
    """Answer one input."""
    return PredictReply(output=float(_model.predict([request.input])[0]))
