"""`python -m clipper_nomad`: the command, where the console script is not on PATH."""

from clipper_nomad.cli import main

main()
