"""The Terraform module cluster-config: its own tests, its format, and its templates against what Python makes of them.

All offline: the module needs no provider.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from clipper_nomad.dev_cluster.templates import Value, hcl, render
from clipper_nomad.errors import ClipperException
from clipper_nomad.resources import terraform_folder

TERRAFORM = shutil.which("terraform") or shutil.which("tofu")
MODULE = terraform_folder() / "modules/cluster-config"
FRAGMENTS = sorted(
    str(path.relative_to(MODULE / "templates"))
    for folder in ("consul", "nomad", "fabio")
    for path in (MODULE / "templates" / folder).iterdir()
)
SAMPLES: tuple[Value, ...] = ('{{ a | b "c" }}', 4646, True, ["10.0.0.1", "ü <&>\u2028"], "back\\slash\n\t", [], "")

pytestmark = pytest.mark.process
needs_terraform = pytest.mark.skipif(TERRAFORM is None, reason="neither terraform nor tofu is on PATH")


def terraform(*words: str, folder: Path) -> str:
    """What a command of Terraform's prints; what it said comes with the failure."""
    assert TERRAFORM is not None
    done = subprocess.run([TERRAFORM, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"{words} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def values_of(fragment: str) -> dict[str, Value]:
    """Some value for each name in a fragment; text where it is no HCL."""
    names = sorted(set(re.findall(r"\$\{(\w+)\}", (MODULE / "templates" / fragment).read_text(encoding="utf-8"))))
    samples = SAMPLES if fragment.endswith(".hcl") else ("a;b=c,:7000", "127.0.0.1:9998")
    return {name: samples[place % len(samples)] for place, name in enumerate(names)}


@needs_terraform
def test_each_fragment_is_the_same_from_terraform_and_from_python(tmp_path: Path) -> None:
    asked = {each: values_of(each) for each in FRAGMENTS}
    (tmp_path / "values.json").write_text(json.dumps(asked), encoding="utf-8")
    rendered = "\n".join(
        f"{json.dumps(each)} = templatefile({json.dumps(str(MODULE / 'templates' / each))},"
        f" {{ for k, v in local.values[{json.dumps(each)}] : k =>"
        f" {'jsonencode(v)' if each.endswith('.hcl') else 'v'} }})"
        for each in FRAGMENTS
    )
    (tmp_path / "main.tf").write_text(
        'locals {\n values = jsondecode(file("${path.module}/values.json"))\n}\n'
        f'output "rendered" {{\n value = {{\n{rendered}\n}}\n}}\n',
        encoding="utf-8",
    )
    terraform("init", folder=tmp_path)
    terraform("apply", "-auto-approve", folder=tmp_path)

    from_terraform = json.loads(terraform("output", "-json", "rendered", folder=tmp_path))

    assert from_terraform == {each: render(each, values) for each, values in asked.items()}


def test_a_template_has_nothing_but_names_in_braces() -> None:
    for each in FRAGMENTS:
        text = (MODULE / "templates" / each).read_text(encoding="utf-8")
        assert "%{" not in text, each
        assert re.sub(r"\$\{[a-z_]+\}", "", text).count("$") == 0, each


def test_a_value_that_is_missing_is_named() -> None:
    with pytest.raises(ClipperException, match="has the values name, path, read_only; given: name"):
        render("nomad/host-volume.hcl", {"name": "shared"})


def test_a_fragment_that_is_not_there_is_named() -> None:
    with pytest.raises(ClipperException, match=r"no fragment 'consul/none\.hcl'"):
        render("consul/none.hcl")


@pytest.mark.parametrize(
    ("value", "as_hcl"),
    [("a<b", '"a\\u003cb"'), (True, "true"), (7, "7"), (["x", "y"], '["x","y"]')],
)
def test_a_value_is_written_as_hcl_has_it(value: Value, as_hcl: str) -> None:
    assert hcl(value) == as_hcl


@needs_terraform
def test_terraform_files_are_formatted() -> None:
    terraform("fmt", "-check", "-recursive", "-diff", folder=terraform_folder())
