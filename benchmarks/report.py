"""docs/performance.md and its picture, from a results file. Only what stands between the two markers is replaced.

figures.py calls `write_page`; by hand: python -m benchmarks.report [results/2026-11-23.json] (the newest without a
name)
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.plot import draw
from benchmarks.results import LoadSet, Results, Spread, newest, read_results
from benchmarks.targets import Row, Verdict, judge, show

BEGIN = "<!-- figures: made by benchmarks/report.py from here -->"
END = "<!-- figures: to here -->"

_RESULTS = Path(__file__).with_name("results")
_DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = _DOCS / "performance.md"
PICTURE = _DOCS / "performance.svg"


class ReportError(Exception):
    """The page cannot be written without touching what people wrote."""


def write_page(results: Results, *, source: str, page: Path = PAGE, picture: Path = PICTURE) -> None:
    """Replace the made part of the page, and the picture.

    Raises: ReportError: the page is not there, or its markers are not.
    """
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ReportError(f"{page.name} must hold, once and in this order, the lines\n{BEGIN}\n{END}")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    made = render_markdown(results, source=source, picture=picture.name if results.sets else None)
    page.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{after}", encoding="utf-8")
    if results.sets:
        draw(results, picture)


def render_markdown(results: Results, *, source: str, picture: str | None) -> str:
    """Return the made part of the page."""
    rows = judge(results)
    machine = results.machine
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    where = (
        f"Measured {results.started_at[:10]} on {machine.cores} cores ({machine.processor}), {machine.kernel}, "
        f"Python {machine.python}; {packages}. All numbers: [{source}](../benchmarks/results/{source})."
    )
    parts = [
        where,
        f"![Throughput, CPU a query and latency]({picture})" if picture else "",
        _table(
            ("", "target", "measured: median [lowest–highest]", ""),
            [(row.what, row.target, row.measured, _mark(row)) for row in rows],
        ),
        _table(
            ("connections", "server", "queries a second", "p50 ms", "p99 ms", "CPU a query, µs"),
            [row for measured in results.sets for row in _server_rows(measured)],
        )
        if results.sets
        else "",
        *(
            f"Void at {measured.connections} connections: {measured.void_because}."
            for measured in results.sets
            if measured.void_because is not None
        ),
        *(f"Not measured ({part}): {why.splitlines()[0]}" for part, why in results.missing.items()),
    ]
    return "\n\n".join(part for part in parts if part)


def render_text(rows: Sequence[Row]) -> str:
    """Return the verdicts as lines for a terminal."""
    return "\n".join(f"{row.verdict:>12}  {row.what}: {row.measured or '–'} (target {row.target})" for row in rows)


def _server_rows(measured: LoadSet) -> list[tuple[str, ...]]:
    rows = []
    for name in ("ours", "echo", "bare", "fastapi"):
        runs = measured.runs_of(name)
        if runs:
            figures = (
                Spread.of(run.per_s for run in runs),
                Spread.of(run.p50_ms for run in runs),
                Spread.of(run.p99_ms for run in runs),
                Spread.of(run.cpu_us for run in runs),
            )
            rows.append((str(measured.connections), name, *(show(figure, "") for figure in figures)))
    return rows


def _mark(row: Row) -> str:
    return f"**{row.verdict}**" if row.verdict is Verdict.SHORT else str(row.verdict)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Write the page from a results file that is already there."""
    parser = argparse.ArgumentParser(description="Write docs/performance.md from a results file.")
    parser.add_argument("results", type=Path, nargs="?", help="the newest dated one in benchmarks/results/ if not given")
    given: Path | None = parser.parse_args().results
    path = given or newest(list(_RESULTS.glob("2*.json")))
    results = read_results(path)
    write_page(results, source=path.name)
    print(render_text(judge(results)))


if __name__ == "__main__":
    main()
