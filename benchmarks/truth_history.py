"""What a run of the truth test showed, as values, as JSON and as text. truth.py makes it."""

import datetime as dt
import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.acts import Kind
from benchmarks.checked_answers import Tally, Verdict
from benchmarks.truth_judge import Row

_RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(slots=True)
class History:
    """What a run showed, ready for print and JSON."""

    seed: int
    frontends: int
    replicas: int
    tally: Tally
    rows: Counter[Row]
    endings: Counter[Verdict]
    explained: Counter[str]
    acts: Counter[Kind]
    recoveries: dict[str, dict[str, float]]
    deaths: dict[str, int] = field(default_factory=dict)
    wrong: int = 0
    wants: int = 0  # answers that said that there was no replica; each was judged
    unfound: int = 0  # of them: a replica's way to that very frontend was open, but no dial through the proxy had met it
    healthy_share: float = 0.0  # of the times looked at: a replica was healthy, so that none of those could be
    offence_count: int = 0
    offences: list[str] = field(default_factory=list)
    offence_kinds: dict[str, int] = field(default_factory=dict)
    stood_still_s: float = 0.0  # how long whoever ran the test was not run: nobody was healthy then
    whole_again_s: float | None = None
    calm_right: float = 0.0
    relayed: Counter[str] = field(default_factory=Counter)  # what the proxy or the replayer did
    frontend_mb: tuple[float, float] = (
        0.0,
        0.0,
    )  # of the first, at the start and at the end: two processes if it was killed

    @property
    def is_good(self) -> bool:
        """Whether nothing was that must not be."""
        return not (self.offence_count or self.tally.wrong or self.tally.unanswered or self.tally.verdicts[Verdict.UNSENT])

    def to_json(self) -> dict[str, Any]:
        """Return all but the examples."""
        tally = self.tally
        return {
            "seed": self.seed,
            "frontends": self.frontends,
            "replicas": self.replicas,
            "queries": tally.queries,
            "seconds": round(tally.seconds, 1),
            "good": self.is_good,
            "wrong": self.wrong + tally.wrong,
            "unanswered": tally.unanswered,
            "statuses": {str(status): count for status, count in sorted(tally.statuses.items())},
            "rows": {row.value: self.rows[row] for row in Row},
            "endings": {verdict.value: self.endings[verdict] for verdict in Verdict},
            "explained": dict(self.explained),
            "p50_ms": round(tally.percentile_s(50) * 1e3, 2),
            "p99_ms": round(tally.percentile_s(99) * 1e3, 2),
            "acts": {kind.value: self.acts[kind] for kind in Kind},
            "deaths": self.deaths,
            "recoveries": self.recoveries,
            "no_replica_answers": self.wants,
            "no_replica_answers_with_an_open_way": self.unfound,
            "healthy_share": self.healthy_share,
            "stood_still_s": self.stood_still_s,
            "relayed": dict(self.relayed),
            "whole_again_s": self.whole_again_s,
            "calm_right_share": self.calm_right,
            "frontend_mb": self.frontend_mb,
            "offence_count": self.offence_count,
            "offence_kinds": self.offence_kinds,
            "offences": self.offences,
        }

    def describe(self) -> str:
        """Return it as text."""
        values = self.to_json()
        parts = [f"seed {self.seed}: {self.tally.describe()}"]
        for title in ("rows", "endings", "explained", "acts", "deaths", "recoveries", "relayed", "offence_kinds"):
            parts += [f"{title}:", *(f"  {name}: {value}" for name, value in values[title].items() if value)]
        parts.append(
            f"{self.wants} were told that there is no replica ({self.unfound} by a frontend to which one had an open way "
            f"that its dials had not met), and none was healthy in {1 - self.healthy_share:.4f} of "
            f"the time; the machine stood still for {self.stood_still_s} s"
        )
        parts.append(f"whole again after {self.whole_again_s} s; {self.calm_right:.4f} right in the calm after")
        parts += [f"{self.offence_count} offences", *(f"  {offence}" for offence in self.offences)]
        return "\n".join(parts)

    def write(self, name: str) -> None:
        """Write it to benchmarks/results/<name>-<date>.json."""
        target = _RESULTS / f"{name}-{dt.datetime.now(tz=dt.UTC).date()}.json"
        target.write_text(json.dumps({**self.to_json(), "cpus": os.cpu_count()}, indent=1) + "\n")
        print(f"written to {target}")
