"""What an Accept header would rather have. Pure."""

from __future__ import annotations

JSON = ("application/json",)
PROMETHEUS = ("text/plain", "application/openmetrics-text")


def prefers_json(accept: str, *, otherwise: bool) -> bool:
    """Return whether JSON is wanted rather than Prometheus' text; `otherwise`: the header does not say."""
    weights = _weights(accept)
    as_json, as_text = _best(weights, JSON), _best(weights, PROMETHEUS)
    return otherwise if as_json == as_text else as_json > as_text


def _weights(accept: str) -> dict[str, float]:
    """Return media range → q. One whose q is no number counts as not named."""
    found = {}
    for each in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in each.split(";"))
        q = next((value.partition("=")[2] for value in parameters if value.startswith("q=")), "1")
        try:
            found[kind] = float(q)
        except ValueError:
            continue
    return found


def _best(weights: dict[str, float], kinds: tuple[str, ...]) -> float:
    """Return the q of the best of `kinds`: the most specific range that fits each."""
    ranges = ((kind, f"{kind.partition('/')[0]}/*", "*/*") for kind in kinds)
    return max(next((weights[each] for each in fitting if each in weights), 0.0) for fitting in ranges)
