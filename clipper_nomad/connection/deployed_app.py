"""What `ClipperConnection.deploy` returns: an app to ask for predictions, which shows itself as text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from clipper_nomad.connection.deployment import Deployment
from clipper_nomad.connection.prediction import Prediction


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
        url = self.predict_url
        live, *how = self.deployment.lines(self.input_type)
        return "\n".join([live, f"  predict   {url}", *how, f"  next      .predict(…)  ·  curl -d '{{\"input\": …}}' {url}"])
