"""Sessions and errors that the callers of Nomad, Consul and Fabio share: TLS as asked, and what went wrong in short.

Each thread and each forked process has a session of its own (see http_sessions.py, whose sessions carry no TLS settings).
"""

from __future__ import annotations

import os
import re
import ssl
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import requests
from requests.adapters import HTTPAdapter

from clipper_nomad.cluster.endpoints import Endpoint

Client = TypeVar("Client")
_OPENSSL = re.compile(r"\[[^]]*\] (?P<said>.*) \(_ssl\.c:\d+\)")  # "[SSL: CERTIFICATE_VERIFY_FAILED] … (_ssl.c:1006)"
_DEEPEST = 10
_LOOK = {"NOMAD": ("nomad server members", "NOMAD_ADDR"), "CONSUL": ("consul members", "CONSUL_HTTP_ADDR")}


class OnePerThread(threading.local, Generic[Client]):
    """One client for each thread, and a new one after a fork: two processes on one connection mix up answers."""

    def __init__(self, make: Callable[[], Client]) -> None:
        self._make = make
        self._made_by = 0
        self._client: Client | None = None

    def current(self) -> Client:
        """Return the client of this thread in this process."""
        if self._client is None or self._made_by != os.getpid():
            self._made_by, self._client = os.getpid(), self._make()
        return self._client


def session_for(endpoint: Endpoint) -> requests.Session:
    """Return a session that speaks to `endpoint` as its settings say, with nothing else from the environment."""
    session = requests.Session()
    session.trust_env = False  # no proxy in between, no .netrc that would replace the token
    session.max_redirects = 0  # a redirect would carry the token to another host
    session.auth = endpoint.http_auth
    session.verify = endpoint.verify
    session.cert = endpoint.client_cert
    if endpoint.tls_server_name:
        session.mount("https://", _NamedServer(endpoint.tls_server_name))
    return session


class _NamedServer(HTTPAdapter):
    """Expects one name in the server's certificate, whatever the address is."""

    def __init__(self, name: str) -> None:
        self._name = name
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # Any: requests' own arguments, passed on
        super().init_poolmanager(*args, server_hostname=self._name, assert_hostname=self._name, **kwargs)


def where_to_look(error: BaseException, service: str) -> str:
    """Return what to do about a connection that failed. `service`: what the variables' names begin with, as NOMAD."""
    if any(isinstance(each, ssl.SSLError | requests.exceptions.SSLError) for each in _chain(error)):
        return (
            f"The server's certificate must be of the CA in {service}_CACERT and for the host of its address, or for"
            f" {service}_TLS_SERVER_NAME; if it wants one of yours, {service}_CLIENT_CERT and {service}_CLIENT_KEY hold it."
        )
    members, address = _LOOK[service]
    return f"See that it runs there (`{members}`), and that {address} and {service}_CACERT are right."


def shortly(error: BaseException) -> str:
    """Return what went wrong with a connection in a few words: "Connection refused", "timed out", "certificate …"."""
    if isinstance(error, requests.exceptions.Timeout):
        return "timed out"
    seen = _chain(error)[-1]
    if isinstance(seen, TimeoutError):
        return "timed out"
    if isinstance(seen, ssl.SSLError) and (words := _OPENSSL.search(str(seen))):
        return words["said"]
    if isinstance(seen, OSError) and seen.strerror:
        return seen.strerror
    return str(seen) or type(seen).__name__


def _chain(error: BaseException) -> list[BaseException]:
    """An error and what it wraps: requests wraps urllib3, which wraps the socket's or OpenSSL's error."""
    chain = [error]
    while len(chain) < _DEEPEST and (inner := next((each for each in _inside(chain[-1]) if each is not chain[-1]), None)):
        chain.append(inner)
    return chain


def _inside(error: BaseException) -> list[BaseException]:
    candidates = [getattr(error, "reason", None), *error.args, error.__cause__, error.__context__]
    return [each for each in candidates if isinstance(each, BaseException)]
