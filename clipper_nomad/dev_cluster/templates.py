"""The configuration of Consul, Nomad and Fabio, from the templates of the Terraform module cluster-config.

Terraform's `templatefile` renders the same files; tests/process/test_terraform.py compares the bytes. So a template has only
`${name}` in it, and each feature is a fragment of its own, which Consul and Nomad merge from one folder.
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import TypeAlias

from clipper_nomad.errors import ClipperException
from clipper_nomad.resources import terraform_folder

Value: TypeAlias = str | int | bool | Sequence[str]

_FOLDER = "modules/cluster-config/templates"
_ESCAPED = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}  # as Terraform's jsonencode has it


class _Braces(string.Template):
    """As Terraform: a name stands in braces, and `$${` is `${`; any other dollar sign is itself."""

    pattern = r"\$(?:(?P<escaped>\$)(?=\{)|(?P<named>(?!))|\{(?P<braced>[a-z_]+)\}|(?P<invalid>\{))"  # type: ignore[assignment]  # a text is what it may be


def render(fragment: str, values: Mapping[str, Value] | None = None) -> str:
    """Return a fragment as "consul/agent.hcl" with its values: as HCL in an .hcl file, else as the text that they are.

    Raises: ClipperException: there is no such fragment, or the values are not those that it has.
    """
    path = terraform_folder() / _FOLDER / fragment
    try:
        template = _Braces(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise ClipperException(f"There is no fragment {fragment!r} of configuration; looked for {path}.") from exc
    given = dict(values or {})
    wanted = set(template.get_identifiers())
    if wanted != set(given):
        raise ClipperException(
            f"The fragment {fragment!r} has the values {', '.join(sorted(wanted)) or 'none'};"
            f" given: {', '.join(sorted(given)) or 'none'}."
        )
    is_hcl = PurePosixPath(fragment).suffix == ".hcl"
    return template.substitute({name: hcl(value) if is_hcl else str(value) for name, value in given.items()})


def hcl(value: Value) -> str:
    """Return a value as HCL has it, which is JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPED)
