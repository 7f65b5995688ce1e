"""The command `clipper-nomad`: one file for each verb, light to import, so that `--help` answers at once.

    __init__.py   main(), which the console script calls
    app.py        the verbs in the order of --help; turns an exception into a message and an exit code
    options.py    options that several verbs share         output.py    stdout, stderr, --json, progress, errors
    option_groups.py  a dataclass of options → a verb's parameters                board.py  a line for each part at work
    demo.py up.py status.py deploy.py predict.py scale.py bench.py logs.py down.py version.py      the verbs
    terraform.py                            one for machines: root_module.py has its files, release_pins.py the releases
    dev.py doctor.py plan.py images.py render.py policy.py keys.py                                 those for Nomad

What the verbs use:

    finding.py       which cluster is meant, and a connection      overview.py    what `status` gathers
    on_nomad/        what they do with a cluster on Nomad
    functions.py     FILE:FUNCTION → callable                      deploying.py   callable → model version, linked
    queries.py       one predict request                           log_files.py   find, read, follow
    load.py          a load generator                              judging.py     is an answer right? (pure)
    load_report.py   what a load found (pure)                      plot.py        numbers → unicode (pure)
    diabetes.py      the demo's model

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted; `plan`: 0 nothing, 1 changes, 255 error.
"""

from __future__ import annotations


def main() -> None:
    """Run one command and end the process with its exit code."""
    from clipper_nomad.cli.app import app

    app(prog_name="clipper-nomad")
