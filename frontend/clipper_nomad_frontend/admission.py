"""Whether a queue takes one more query. Pure. Limits: docs/behaviour.md, "Overload"."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueBounds:
    """The most that may wait for one model version."""

    queries: int = 20_000
    input_bytes: int = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no room, in words that follow "the queue of model 'm:1'", and when to come again."""

    reason: str
    retry_after_s: int


def refusal(
    bounds: QueueBounds, *, queued: int, queued_bytes: int, per_query_s: float, ready: int, timeout_s: float
) -> Refusal | None:
    """Return why one more query is refused, or None.

    `per_query_s` is that of batches as large as they get, since a long queue makes them so; 0 while it is not known: then
    only counts bound the queue. The estimated wait is that of all queued queries shared by the `ready` replicas.
    """
    estimate_s = queued * per_query_s / max(1, ready)
    retry_after_s = max(1, math.ceil(estimate_s))
    if queued >= bounds.queries:
        return Refusal(f"holds {queued} queries, which is its bound", retry_after_s)
    if queued_bytes >= bounds.input_bytes:
        return Refusal(f"holds {queued_bytes} bytes of inputs; its bound is {bounds.input_bytes}", retry_after_s)
    if ready and estimate_s > timeout_s:
        return Refusal(
            f"would take about {estimate_s:.1f} s to come to this query, whose timeout is {timeout_s:g} s", retry_after_s
        )
    return None
