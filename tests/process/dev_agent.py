"""Stands in for an agent of the development cluster: says that it started, does as the file beside it says, and waits.

    python dev_agent.py NAME PORT …     in the cluster's data folder; NAME.does holds: exit N, deaf, keyless, or nothing

The one that is called nomad has keys, and shows them on PORT.
"""

from __future__ import annotations

import http.server
import signal
import sys
import time
from pathlib import Path

name, port = sys.argv[1:3]


def does() -> list[str]:
    file = Path(f"{name}.does")
    return file.read_text().split() if file.exists() else []


class Keys(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"keys": []}' if does() == ["keyless"] else b'{"keys": [{"kid": "1"}]}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None: ...


said = does()
print(f"{name} says {said}", flush=True)  # noqa: T201  # into its log
if said[:1] == ["exit"]:
    sys.exit(int(said[1]))
if said == ["deaf"]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if name == "nomad" and "nomad-client" not in sys.argv[-1]:
    http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Keys).serve_forever()
while True:
    time.sleep(60)
