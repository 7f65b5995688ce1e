"""A process that owns a local stack, to be interrupted and killed: `python local_stack_owner.py '<JSON>' [fork]`.

The JSON holds LocalContainerManager's arguments; `programs` as lists. It prints the stack's address when it is up, or
what went wrong, and then sleeps until it is told to end by the end of its standard input.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from clipper_nomad.errors import ClipperException
from clipper_nomad.local_stack.manager import LocalContainerManager
from clipper_nomad.local_stack.parts import Programs


def main() -> None:
    arguments = json.loads(sys.argv[1])
    programs = {kind: tuple(argv) for kind, argv in arguments.pop("programs").items()}
    try:
        manager = LocalContainerManager(**arguments, programs=Programs(**programs))
        manager.start_clipper()
    except ClipperException as exc:
        say(f"error {exc}".replace("\n", " | "))
        sys.exit(1)
    if "fork" in sys.argv:
        worker = os.fork()
        if worker == 0:
            signal.pause()
        say(f"worker {worker}")
    signal.signal(signal.SIGINT, lambda *_: say("interrupted"))  # as a notebook's kernel does
    say(f"up {manager.get_query_addr()}")
    sys.stdin.read()


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
