"""Where Nomad and Consul are and how they want to be spoken to, from arguments and the environment.

The variables are those that HashiCorp's own tools read (Nomad: api/api.go, Consul: api/api.go), with their meaning. TLS is
verified unless a variable says otherwise. Used by nomad_api.py and consul_api.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from clipper_nomad.errors import InvalidSetting

NOMAD_PORT = 4646
CONSUL_PORT = 8500
_TRUE = frozenset({"1", "t", "true"})  # what Go's strconv.ParseBool takes, in any case
_FALSE = frozenset({"0", "f", "false"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One HTTP API: its address and TLS. `verify` is True, False, or the path of a CA file or folder."""

    url: str  # scheme://host:port, without a path
    token: str | None = field(default=None, repr=False)
    http_auth: tuple[str, str] | None = field(default=None, repr=False)
    verify: bool | str = True
    client_cert: tuple[str, str] | None = None  # files: certificate, key
    tls_server_name: str | None = None
    region: str | None = None  # Nomad's; for Consul the datacenter is the agent's
    namespace: str | None = None


def nomad_endpoint(environ: Mapping[str, str], *, address: str | None = None) -> Endpoint:
    """Return where Nomad is. `address` ("10.0.0.1", "10.0.0.1:4646" or a URL) goes before NOMAD_ADDR.
    Raises: InvalidSetting: the variable's name and its value."""
    tls = any(environ.get(f"NOMAD_{name}") for name in ("CACERT", "CAPATH", "CLIENT_CERT"))
    scheme = _scheme_of(environ.get("NOMAD_ADDR", "")) or ("https" if tls else "http")
    asked = address or environ.get("NOMAD_ADDR") or f"http://127.0.0.1:{NOMAD_PORT}"
    return Endpoint(
        url=_url(asked, scheme=scheme, port=NOMAD_PORT, name="address" if address else "NOMAD_ADDR"),
        token=_token("NOMAD_TOKEN", environ.get("NOMAD_TOKEN")),
        http_auth=_user_and_password(environ, "NOMAD_HTTP_AUTH"),
        verify=_verify(environ, ca=("NOMAD_CACERT", "NOMAD_CAPATH"), off=_flag(environ, "NOMAD_SKIP_VERIFY") is True),
        client_cert=_client_cert(environ, "NOMAD_CLIENT_CERT", "NOMAD_CLIENT_KEY"),
        tls_server_name=environ.get("NOMAD_TLS_SERVER_NAME") or None,
        region=environ.get("NOMAD_REGION") or None,
        namespace=environ.get("NOMAD_NAMESPACE") or None,
    )


def consul_endpoint(environ: Mapping[str, str], *, address: str | None = None) -> Endpoint:
    """Return where Consul's HTTP API is. `address` goes before CONSUL_HTTP_ADDR.
    Raises: InvalidSetting: the variable's name and its value."""
    scheme = "https" if _flag(environ, "CONSUL_HTTP_SSL") else "http"
    asked = address or environ.get("CONSUL_HTTP_ADDR") or f"{scheme}://127.0.0.1:{CONSUL_PORT}"
    return Endpoint(
        url=_url(asked, scheme=scheme, port=CONSUL_PORT, name="address" if address else "CONSUL_HTTP_ADDR"),
        token=_consul_token(environ),
        http_auth=_user_and_password(environ, "CONSUL_HTTP_AUTH"),
        verify=_verify(
            environ, ca=("CONSUL_CACERT", "CONSUL_CAPATH"), off=_flag(environ, "CONSUL_HTTP_SSL_VERIFY") is False
        ),
        client_cert=_client_cert(environ, "CONSUL_CLIENT_CERT", "CONSUL_CLIENT_KEY"),
        tls_server_name=environ.get("CONSUL_TLS_SERVER_NAME") or None,
        namespace=environ.get("CONSUL_NAMESPACE") or None,
    )


def _scheme_of(address: str) -> str:
    return address.partition("://")[0] if "://" in address else ""


def _url(asked: str, *, scheme: str, port: int, name: str) -> str:
    """Return scheme://host:port of an address in any of the usual forms."""
    parts = urlsplit(asked if "://" in asked else f"{scheme}://{asked}")
    wanted = f"expected http://host:{port}, https://host:{port}, host:{port} or host"
    if parts.scheme not in {"http", "https"}:
        raise InvalidSetting(f"{name} is {asked!r}, with the scheme {parts.scheme!r}; {wanted}.")
    if parts.username or parts.password:  # not repeated: it is a password
        raise InvalidSetting(
            f"{name} holds a user name; {wanted}, and NOMAD_HTTP_AUTH or CONSUL_HTTP_AUTH for user:password."
        )
    try:
        host, number = parts.hostname, parts.port
    except ValueError:
        host, number = None, None
    if not host or parts.path.strip("/") or parts.query:
        raise InvalidSetting(f"{name} is {asked!r}; {wanted}.")
    shown = f"[{host}]" if ":" in host else host
    # as Go's clients: a URL without a port means the scheme's own, a bare host the service's
    if number is None and "://" in asked:
        return f"{parts.scheme}://{shown}"
    return f"{parts.scheme}://{shown}:{number or port}"


def _flag(environ: Mapping[str, str], name: str) -> bool | None:
    value = environ.get(name, "").strip()
    if not value:
        return None
    if value.lower() not in _TRUE | _FALSE:
        raise InvalidSetting(f"{name} is {value!r}; expected true or false.")
    return value.lower() in _TRUE


def _verify(environ: Mapping[str, str], *, ca: tuple[str, str], off: bool) -> bool | str:
    if off:
        return False
    return next((environ[name] for name in ca if environ.get(name)), True)


def _client_cert(environ: Mapping[str, str], cert: str, key: str) -> tuple[str, str] | None:
    found = environ.get(cert, ""), environ.get(key, "")
    if any(found) and not all(found):
        missing = key if found[0] else cert
        raise InvalidSetting(f"{cert} and {key} belong together; {missing} is not set.")
    return found if all(found) else None


def _user_and_password(environ: Mapping[str, str], name: str) -> tuple[str, str] | None:
    value = environ.get(name, "")
    if not value:
        return None
    user, _, password = value.partition(":")
    return user, password


def _token(name: str, value: str | None) -> str | None:
    """Return a token that can stand in a header. Raises: InvalidSetting; the value is not repeated, it is a secret."""
    if value and not (value.isascii() and value.isprintable() and " " not in value):
        raise InvalidSetting(f"{name} holds a space, a line end or another character that no token has; expected one word.")
    return value or None


def _consul_token(environ: Mapping[str, str]) -> str | None:
    if token := environ.get("CONSUL_HTTP_TOKEN"):
        return _token("CONSUL_HTTP_TOKEN", token)
    path = environ.get("CONSUL_HTTP_TOKEN_FILE")
    if not path:
        return None
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123  # a path as the environment has it
            return _token("CONSUL_HTTP_TOKEN_FILE", file.read().strip())
    except OSError as exc:
        raise InvalidSetting(f"CONSUL_HTTP_TOKEN_FILE {path!r} cannot be read: {exc.strerror}.") from exc
