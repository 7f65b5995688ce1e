"""What `ClipperConnection.deploy` returns: an app to ask for predictions, which shows itself as text."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clipper_nomad.connection.deployment import Deployment
from clipper_nomad.connection.prediction import Prediction

WIDTH = 60
MAX_OUTPUT = 60


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DeployedApp:
    """An app that answers, and the deployment that made it so. Printed, it says where, how it was tested, what next."""

    name: str
    predict_url: str
    input_type: str
    deployment: Deployment
    ask: Callable[..., Prediction]

    def predict(self, input: object, *, timeout_s: float | None = None) -> Prediction:  # noqa: A002  # the API's word
        """Return the app's answer to one input. Raises: PredictionFailed: it gave none."""
        return self.ask(self.name, input, timeout_s=timeout_s)

    def __repr__(self) -> str:
        done = self.deployment
        live = f"✔ {done.name}:{done.version} is live"
        lines = [f"{live:<{WIDTH}} {done.took_s:.1f} s", f"  predict   {self.predict_url}"]
        if done.warning:
            lines.append(f"  warning   {done.warning}")
        else:
            answer = f"{_short(done.output)} in {done.exec_micros / 1000:.1f} ms"
            lines.append(f"  tested    your function ran on a sample → {answer}    input: {self._input()}")
        return "\n".join([*lines, f"  next      .predict(…)  ·  curl -d '{{\"input\": …}}' {self.predict_url}"])

    def _input(self) -> str:
        sample = self.deployment.sample
        return f"{self.input_type}[{len(sample)}]" if isinstance(sample, list) else self.input_type


def _short(output: Any) -> str:  # noqa: ANN401  # JSON
    text = json.dumps(output)
    return text if len(text) <= MAX_OUTPUT else f"{text[: MAX_OUTPUT - 1]}…"
