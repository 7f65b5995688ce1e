"""Jobs for the tests, as HCL: one small program under raw_exec, in one way or another."""

from __future__ import annotations

import json
import sys

ANSWER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = (os.environ["NOMAD_ALLOC_ID"] + " " + os.environ.get("WORD", "")).encode()
        self.send_response(int(os.environ.get("STATUS", "200")))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["NOMAD_PORT_http"])), Handler).serve_forever()
"""
STUBBORN = """
import signal, time
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: None)
time.sleep(60)
"""
CRASH = "import sys; print('Traceback', file=sys.stderr); sys.exit('ValueError: the model has no weights')"


def hcl(text: str) -> str:
    """A string of HCL."""
    return json.dumps(text).replace("${", "$${").replace("%{", "%%{")


def web_job(
    name: str,
    *,
    program: str = ANSWER,
    count: int = 1,
    cpu: int = 50,
    memory: int = 64,
    env: dict[str, str] | None = None,
    tags: tuple[str, ...] = (),
    template: str = "",
    datacenter: str = "dc1",
    meta: dict[str, str] | None = None,
    service: bool = True,
    healthy_deadline_s: int = 6,
    auto_revert: bool = False,
) -> str:
    """A program with an HTTP service, its check and quick deadlines."""
    variables = "\n".join(f"{key} = {hcl(value)}" for key, value in (env or {}).items())
    about = "\n".join(f"{hcl(key)} = {hcl(value)}" for key, value in (meta or {}).items())
    return f"""
job {hcl(name)} {{
  datacenters = [{hcl(datacenter)}]
  meta = {{
    {about}
  }}
  update {{
    max_parallel      = 1
    min_healthy_time  = "1s"
    healthy_deadline  = "{healthy_deadline_s}s"
    progress_deadline = "{healthy_deadline_s + 5}s"
    auto_revert       = {str(auto_revert).lower()}
  }}
  group "g" {{
    count = {count}
    network {{
      port "http" {{}}
    }}
    restart {{
      attempts = 1
      delay    = "1s"
      interval = "5m"
      mode     = "fail"
    }}
    {_service(name, tags) if service else ""}
    task "t" {{
      driver = "raw_exec"
      config {{
        command = {hcl(sys.executable)}
        args    = ["-c", {hcl(program)}]
      }}
      env {{
        {variables}
      }}
      {template}
      resources {{
        cpu    = {cpu}
        memory = {memory}
      }}
    }}
  }}
}}
"""


def _service(name: str, tags: tuple[str, ...]) -> str:
    return f"""
    service {{
      name = {hcl(name)}
      port = "http"
      tags = [{", ".join(map(hcl, tags))}]
      check {{
        name     = "answers"
        type     = "http"
        path     = "/health"
        interval = "1s"
        timeout  = "1s"
      }}
    }}
"""
