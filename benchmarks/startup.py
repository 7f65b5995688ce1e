"""Time to `up`: from the command to the first HTTP answer at the address it prints.

figures.py calls `measure_up`. The command is the user's own, from the environment that runs the suite.
"""

import http.client
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.serving import ServingError

CLUSTER = "bench-up"
UP = ("up", "--local", "--cluster", CLUSTER)
DOWN = ("down", "--cluster", CLUSTER, "--volumes")

_COMMAND = Path(sys.executable).with_name("clipper-nomad")
_LIMIT_S = 30.0
_POLL_S = 0.01
_URL = re.compile(rb"http://[\w.]+:\d+[^\s\x1b]*")


def measure_up() -> float:
    """Bring a local stack up and down again, and return the seconds until the printed address answered.

    It has a cluster name and a home of its own: a stack that this user runs is left alone.
    Raises: ServingError: there is no such command yet, it failed, or nothing answered.
    """
    if not _COMMAND.exists():
        raise ServingError("the command clipper-nomad is not installed in this environment")
    home = tempfile.mkdtemp(prefix="cnb-")
    environment = {**os.environ, "CLIPPER_HOME": home}
    began = time.monotonic()
    try:
        with tempfile.TemporaryFile() as output:  # not a pipe: what `up` leaves behind may hold on to it
            done = subprocess.run(
                [_COMMAND, *UP], stdout=output, stderr=subprocess.STDOUT, timeout=_LIMIT_S, check=False, env=environment
            )
            output.seek(0)
            printed = output.read()
        found = _URL.search(printed)
        if done.returncode != 0 or found is None:
            text = printed.decode("utf-8", "replace")
            raise ServingError(f"`clipper-nomad up --local` ended with {done.returncode} and printed:\n{text}")
        url = found.group().decode()
        while not _has_answer(url):
            if time.monotonic() > began + _LIMIT_S:
                raise ServingError(f"`clipper-nomad up --local` printed {url}, which did not answer in {_LIMIT_S:.0f} s")
            time.sleep(_POLL_S)
        return time.monotonic() - began
    except subprocess.TimeoutExpired as exc:
        raise ServingError(f"`clipper-nomad up --local` did not end in {_LIMIT_S:.0f} s") from exc
    finally:
        with suppress(subprocess.TimeoutExpired):  # the figure stands; what ended wrongly is a test's to find
            subprocess.run([_COMMAND, *DOWN], capture_output=True, timeout=_LIMIT_S, check=False, env=environment)
        shutil.rmtree(home, ignore_errors=True)


def _has_answer(url: str) -> bool:
    """Whether `url` answers at all. A 404 is an answer: the stack is up, and no app is registered yet."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
