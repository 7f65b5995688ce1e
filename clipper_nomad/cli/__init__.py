"""The command `clipper-nomad`: one file for each verb, light to import, so that `--help` answers at once.

    __init__.py   main(), which the console script calls
    app.py        the verbs in the order of --help; turns an exception into a message and an exit code
    options.py    options that several verbs share         output.py    stdout, stderr, --json, progress, errors
    up.py down.py status.py deploy.py predict.py logs.py bench.py demo.py version.py      the verbs

What the verbs use:

    finding.py       the local cluster and a connection to it      overview.py    what `status` gathers
    functions.py     FILE:FUNCTION → callable                      deploying.py   callable → model version, linked
    queries.py       one predict request                           log_files.py   find, read, follow
    load.py          a load generator                              judging.py     is an answer right? (pure)
    load_report.py   what a load found (pure)                      plot.py        numbers → unicode (pure)
    diabetes.py      the demo's model

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations


def main() -> None:
    """Run one command and end the process with its exit code."""
    from clipper_nomad.cli.app import app

    app(prog_name="clipper-nomad")
