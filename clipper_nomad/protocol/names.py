"""Which names apps, models, versions and labels may have. Pure; checked before anything is built or written.

Deployed names become part of a job, a service and a DNS name, so they follow DNS-1123 and the whole service name stays
within 63 characters. Names that are only registered, and apps, have wider rules. Source: docs/behaviour.md, "Names".
"""

from __future__ import annotations

import re

MAX_SERVICE_NAME = 63  # Nomad and DNS refuse longer ones
MAX_TEXT_BYTES = 128

RESERVED_APP_NAMES = frozenset(
    {"v2", "metrics", "docs", "ui", "health", "admin", "update", "predict", "_clipper", "openapi.json"}
)

DEPLOYED_NAME = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z"

_DEPLOYED = re.compile(DEPLOYED_NAME)
_APP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_FORBIDDEN = re.compile(r"[,:/\s\x00-\x1f\x7f]")


def service_name(cluster: str, model: str, version: str) -> str:
    """Return the name under which a model version is found in service discovery."""
    return f"clipper-{cluster}-model-{model}-{version}"


def deployed_problem(what: str, value: object) -> str | None:
    """Return what is wrong with the name of something to deploy, or None. `what`: "model name", "model version"."""
    if isinstance(value, str) and _DEPLOYED.match(value):
        return None
    return (
        f"Invalid value: {value}: a {what} must be a valid DNS-1123 label. It must consist of lower case letters, "
        "digits or '-', and must start and end with a letter or a digit (e.g. 'my-name' or '123-abc')."
    )


def length_problem(cluster: str, model: str, version: str) -> str | None:
    """Return by how much a deployed model's service name is too long, or None."""
    excess = len(service_name(cluster, model, version)) - MAX_SERVICE_NAME
    if excess <= 0:
        return None
    return (
        f"Model '{model}' version '{version}': the service name '{service_name(cluster, model, version)}' is {excess} "
        f"characters too long; the model name may have {max(len(model) - excess, 0)} here."
    )


def registered_problem(what: str, value: str) -> str | None:
    """Return what is wrong with a registered model's name, version or label, or None."""
    if not value:
        return f"Invalid {what} supplied: it is empty."
    if len(value.encode()) > MAX_TEXT_BYTES:
        return f"Invalid {what} supplied: it has {len(value.encode())} bytes; at most {MAX_TEXT_BYTES} are allowed."
    if _FORBIDDEN.search(value):
        return f"Invalid {what} supplied: {value!r}. Contains one of: ',', ':', '/', white space, a control character"
    return None


def app_problem(name: str) -> str | None:
    """Return what is wrong with an app's name, or None."""
    if name in RESERVED_APP_NAMES:
        return f"Invalid application name: {name!r} is reserved; reserved are {', '.join(sorted(RESERVED_APP_NAMES))}."
    if _APP.match(name):
        return None
    return (
        f"Invalid application name: {name!r}. It becomes part of a URL: a letter or digit, then at most 127 letters, "
        "digits, '.', '_' or '-'."
    )
