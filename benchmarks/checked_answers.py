"""What a checking client asks, gets and concludes: Query, Answer, Verdict, Record, and the Tally of a run. Pure.

checked_load.py makes the records; a caller's check function turns a Query and its Answer into a Verdict.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

_EXAMPLES = 20  # records kept whole: enough to see what went wrong
_SHOWN = 5  # of them in the description
LATE_SEND_S = 0.05  # a client that waits longer before it sends is no open loop any more


class Verdict(StrEnum):
    """How a query ended. The first four are said by the check, the others by the client itself."""

    RIGHT = "right"
    DEFAULT = "default"  # 200, and says that it is the app's default output
    ERROR = "error"  # a refusal that the table of answers allows
    WRONG = "wrong"
    UNANSWERED = "unanswered"  # past the timeout, on a connection that is still open
    BROKEN = "broken"  # the peer ended the connection while it owed this answer
    TURNED_AWAY = "turned away"  # sent behind a request whose reply said `Connection: close`: safe to send again
    UNSENT = "unsent"  # no connection had room for it in time


@dataclass(frozen=True, slots=True)
class Query:
    """One request. The number is its own: no two queries of a run share it."""

    number: int
    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """One reply, as it came."""

    status: int
    headers: Mapping[bytes, bytes]  # names in lower case
    body: bytes

    @property
    def is_late(self) -> bool:
        """Whether the server marked it as past the SLO."""
        return self.headers.get(b"x-clipper-slo") == b"missed"


Check = Callable[[Query, Answer], Verdict]


@dataclass(frozen=True, slots=True)
class Record:
    """How one query ended. Times are of the monotonic clock."""

    number: int
    verdict: Verdict
    status: int | None  # None: no answer
    is_late: bool
    started_at: float  # closed loop: when it was sent; open loop: when it was due
    latency_s: float  # from there to its end
    detail: str = ""  # what the connection said, or how a reply that was not right began
    is_unmet: bool = False  # without an answer, as all else on its connection
    place: int = -1  # which of the client's addresses was asked; -1: none was


class Tally:
    """Counts of one run. Holds every latency (8 bytes each), and whole records only of what was not right."""

    def __init__(self) -> None:
        self.verdicts: Counter[Verdict] = Counter()
        self.statuses: Counter[int] = Counter()
        self.late = 0
        self.stray_answers = 0  # replies on a connection that owed none: a swap, or one too many
        self.answered_after_timeout = 0  # recorded as unanswered before; checked all the same
        self.wrong_after_timeout = 0  # of those; a query keeps its one verdict
        self.connects = 0
        self.failed_connects = 0
        self.seconds = 0.0  # of the whole run
        self.late_sends = 0  # open loop: sent more than LATE_SEND_S after they were due; latency counts from there
        self.latest_send_s = 0.0  # open loop: the longest that one was sent after it was due
        self.examples: list[Record] = []
        self._latencies_s = array("d")

    def add(self, record: Record) -> None:
        """Count one query."""
        self.verdicts[record.verdict] += 1
        if record.status is not None:
            self.statuses[record.status] += 1
            self._latencies_s.append(record.latency_s)
        self.late += record.is_late
        if record.verdict is not Verdict.RIGHT:
            self._keep(record)

    def add_after_timeout(self, record: Record) -> None:
        """Count the answer to a query that was already recorded as unanswered. A wrong one is wrong even then."""
        self.answered_after_timeout += 1
        if record.verdict is Verdict.WRONG:
            self.wrong_after_timeout += 1
            self._keep(record)

    def note_send(self, late_s: float) -> None:
        """Count how late the open loop sent a query."""
        self.late_sends += late_s > LATE_SEND_S
        self.latest_send_s = max(self.latest_send_s, late_s)

    @property
    def queries(self) -> int:
        """Queries that ended, each counted once."""
        return sum(self.verdicts.values())

    @property
    def wrong(self) -> int:
        """Answers that were not what was asked for: the figure that must be 0."""
        return self.verdicts[Verdict.WRONG] + self.wrong_after_timeout + self.stray_answers

    @property
    def unanswered(self) -> int:
        """Queries past their timeout on an open connection: the other figure that must be 0."""
        return self.verdicts[Verdict.UNANSWERED]

    def percentile_s(self, percent: float) -> float:
        """Return the latency that `percent` of the answers stayed within; 0 if there was none."""
        if not self._latencies_s:
            return 0.0
        ordered = sorted(self._latencies_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]

    def describe(self) -> str:
        """Return the counts as a few lines of text."""
        per_s = self.queries / self.seconds if self.seconds else 0.0
        verdicts = ", ".join(f"{count:,} {verdict}" for verdict, count in self.verdicts.most_common())
        statuses = ", ".join(f"{count:,} × {status}" for status, count in sorted(self.statuses.items()))
        examples = "".join(
            f"\n  e.g. number {record.number}: {record.verdict}, status {record.status}, "
            f"{record.latency_s * 1e3:.1f} ms: {record.detail}"
            for record in self.examples[:_SHOWN]
        )
        return (
            f"{self.queries:,} queries in {self.seconds:.1f} s, {per_s:,.0f} a second · "
            f"p50 {self.percentile_s(50) * 1e3:.2f} ms · p99 {self.percentile_s(99) * 1e3:.2f} ms\n"
            f"verdicts: {verdicts or 'none'} · statuses: {statuses or 'none'}\n"
            f"{self.wrong} wrong in all ({self.stray_answers} answers to nothing, {self.wrong_after_timeout} after the "
            f"timeout) · {self.late:,} late · {self.answered_after_timeout} answered after the timeout\n"
            f"{self.connects} connections made, {self.failed_connects} attempts failed{self._of_sends()}{examples}"
        )

    def _of_sends(self) -> str:
        if not self.latest_send_s:
            return ""
        return f" · {self.late_sends:,} sent over {LATE_SEND_S * 1e3:.0f} ms late, at most {self.latest_send_s * 1e3:.0f} ms"

    def _keep(self, record: Record) -> None:
        # Wrong and unanswered ones displace the harmless: a run with thousands of 429s must still show its one wrong
        # answer.
        if len(self.examples) < _EXAMPLES:
            self.examples.append(record)
        elif record.verdict in {Verdict.WRONG, Verdict.UNANSWERED}:
            for place, kept in enumerate(self.examples):
                if kept.verdict not in {Verdict.WRONG, Verdict.UNANSWERED}:
                    self.examples[place] = record
                    break
