"""The script by which machines on AWS keep their secrets in SSM, run against a stand-in that checks who signed what."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.terraforming import PROJECT

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

SCRIPT = PROJECT / "terraform/modules/aws/files/ssm.sh"
RECEIVE = PROJECT / "terraform/modules/aws/files/receive"
KEY_ID, SECRET, SESSION, IMDS_TOKEN = "AKIAEXAMPLE", "wJalr/secret+key", "session/token==", "imds-token"


@dataclass(slots=True)
class Cloud:
    """The metadata service and SSM: parameters by name, and what was wrong with a request."""

    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)  # Any: JSON
    wrong: list[str] = field(default_factory=list)
    url: str = ""

    def metadata(self, path: str, token: str | None) -> str | None:
        if token != IMDS_TOKEN:
            self.wrong.append(f"{path} was asked for without a session token")
            return None
        base = "/latest/meta-data/iam/security-credentials/"
        login = {"AccessKeyId": KEY_ID, "SecretAccessKey": SECRET, "Token": SESSION}
        return {base: "ml-server", f"{base}ml-server": json.dumps(login)}.get(path)

    def ssm(self, action: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:  # Any: JSON
        name = asked["Name"]
        if action == "AmazonSSM.PutParameter":
            if name in self.parameters and not asked["Overwrite"]:
                return 400, {"__type": "ParameterAlreadyExists"}
            self.parameters[name] = asked
            return 200, {"Version": 1, "Tier": "Standard"}
        if name not in self.parameters:
            return 400, {"__type": "ParameterNotFound"}
        assert asked["WithDecryption"]
        return 200, {"Parameter": {"Name": name, "Value": self.parameters[name]["Value"]}}


def signature(headers: Any, body: bytes) -> str:  # noqa: ANN401  # http's message
    """What AWS computes for a request to / (Signature Version 4), from the headers that it says are signed."""
    said = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=(\S+), SignedHeaders=(\S+), Signature=(\S+)", headers["Authorization"])
    assert said
    _, day, region, service, _ = said[1].split("/")
    names = said[2].split(";")
    assert {"host", "x-amz-date", "x-amz-security-token", "x-amz-target"} <= set(names)
    canonical = "".join(f"{name}:{headers[name].strip()}\n" for name in names)
    request = f"POST\n/\n\n{canonical}\n{said[2]}\n{hashlib.sha256(body).hexdigest()}"
    scope = f"{day}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{SECRET}".encode()
    for part in (day, region, service, "aws4_request", text):
        key = hmac.digest(key, part.encode(), "sha256")
    return "" if key.hex() == said[3] else f"the signature is {said[3]}, and {key.hex()} is right"


def handler_of(cloud: Cloud) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self._answer(200, IMDS_TOKEN if self.path == "/latest/api/token" else "")

        def do_GET(self) -> None:
            found = cloud.metadata(self.path, self.headers["X-aws-ec2-metadata-token"])
            self._answer(404 if found is None else 200, found or "")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if wrong := signature(self.headers, body):
                cloud.wrong.append(wrong)
            status, answer = cloud.ssm(self.headers["X-Amz-Target"], json.loads(body))
            self._answer(status, json.dumps(answer))

        def _answer(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None: ...

    return Handler


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    if shutil.which("curl") is None:
        pytest.skip("curl is not on PATH")
    found = Cloud()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(found))
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()
    assert found.wrong == []


def run(cloud: Cloud, action: str, role: str, bundle: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the script as a machine does: as the text of `sh -c`."""
    values = {"action": action, "endpoint": f"{cloud.url}/", "region": "eu-west-3", "path": "/clipper/ml", "key": "alias/k"}
    text = re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], SCRIPT.read_text())
    return subprocess.run(
        ["/bin/sh", "-c", text.replace("http://169.254.169.254", cloud.url)],
        input=bundle,
        env={"PATH": "/usr/bin:/bin", "CLIPPER_ROLE": role, "NO_PROXY": "*", **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_bundle_comes_back_as_it_was_and_is_kept_encrypted(cloud: Cloud) -> None:
    bundle = "H4sIAAAA+/\nsecond=line\n"

    stored = run(cloud, "store", "client", bundle)
    fetched = run(cloud, "fetch", "client")

    assert (stored.returncode, fetched.returncode) == (0, 0), stored.stderr + fetched.stderr
    assert fetched.stdout == bundle
    kept = cloud.parameters["/clipper/ml/client"]
    assert (kept["Type"], kept["KeyId"]) == ("SecureString", "alias/k")


def test_a_bundle_that_is_not_there_is_waited_for_without_a_word(cloud: Cloud) -> None:
    fetched = run(cloud, "fetch", "server")

    assert fetched.returncode != 0
    assert (fetched.stdout, fetched.stderr) == ("", "")


def test_of_two_first_servers_one_gives_the_cluster_its_secrets(cloud: Cloud) -> None:
    first = run(cloud, "store", "server", "first")
    second = run(cloud, "store", "server", "second")
    renewed = run(cloud, "store", "server", "renewed", CLIPPER_REPLACE="true")

    assert (first.returncode, renewed.returncode) == (0, 0)
    assert second.returncode != 0
    assert "ParameterAlreadyExists" in second.stderr
    assert cloud.parameters["/clipper/ml/server"]["Value"] == "renewed"


def test_no_secret_is_on_a_command_line() -> None:
    words = re.findall(r"(?m)^.*\bcurl\b.*$", SCRIPT.read_text())

    assert words
    assert not [line for line in words if "$login" in line or "--user " in line]


def test_the_operators_bundle_is_fetched_once_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "operator").mkdir()
    (tmp_path / "operator" / "ca.pem").write_text("the CA\n")
    (tmp_path / "operator" / "env").write_text("export NOMAD_TOKEN=x\n")
    ready = tmp_path / "tried"
    command = (
        f"[ -e {ready} ] || {{ touch {ready}; echo not there yet >&2; exit 1; }}; tar -C {tmp_path} -cz operator | base64"
    )

    said = [
        subprocess.run(
            ["/bin/sh", str(RECEIVE), str(tmp_path / "of operator"), "sh", "-c", command],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stderr
        for _ in range(2)  # the second time there is nothing to do
    ]

    assert (tmp_path / "of operator" / "ca.pem").read_text() == "the CA\n"
    assert (tmp_path / "of operator").stat().st_mode & 0o077 == 0
    assert "waiting for the operator's secrets" in said[0]
    assert said[1] == ""


def test_who_gives_nothing_is_told_after_the_time_that_it_may_take(tmp_path: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", str(RECEIVE), str(tmp_path / "folder"), "sh", "-c", "echo denied >&2; exit 1"],
        env={"PATH": "/usr/bin:/bin", "CLIPPER_WAIT_S": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1
    assert "gave up after 1 s" in done.stderr
    assert "It said: denied" in done.stderr
