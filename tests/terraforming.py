"""Terraform without a network: with the plugins of providers that are on this machine, and skipped loudly without them.

A plugin lies as `terraform providers mirror` puts it, below a folder that CLIPPER_TERRAFORM_PLUGINS names (several: with a
colon between them), below one of those where Terraform looks by itself, or below a folder in /opt.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PLUGINS = "CLIPPER_TERRAFORM_PLUGINS"
KNOWN_FOLDERS = ("/usr/local/share/terraform/plugins", "~/.terraform.d/plugins")
OPTIONAL_SOFTWARE = Path("/opt")
NAMED = os.environ.get(PLUGINS, "")  # now: tests that start a cluster take such variables away
REGISTRY = "registry.terraform.io"
NONE: tuple[str, ...] = ()
PROVIDERS = {
    "aws": ("hashicorp/aws",),
    "scaleway": ("scaleway/scaleway",),
    "hcloud": ("hetznercloud/hcloud",),
    "existing-cluster": ("hashicorp/nomad", "hashicorp/consul"),
}
WITHIN_S = 240.0  # a provider's plugin takes seconds to start, on a busy machine tens of them


def need_terraform(*providers: str) -> list[Path]:
    """Return the folders with these providers' plugins. Skips where Terraform or one of them is missing."""
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not on PATH")
    found = []
    for provider in providers:
        folders = [folder for folder in plugin_folders() if (folder / REGISTRY / provider).is_dir()]
        if not folders:
            pytest.skip(f"there is no plugin of the provider {provider} here; {PLUGINS} names folders with plugins")
        found += folders
    return list(dict.fromkeys(found))


def plugin_folders() -> list[Path]:
    named = [Path(each).expanduser() for each in (*filter(None, NAMED.split(":")), *KNOWN_FOLDERS)]
    return named + sorted(each.parent for each in OPTIONAL_SOFTWARE.glob(f"*/{REGISTRY}"))


def terraform(
    folder: Path, *words: str, expect: int | None = 0, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Terraform in a folder, to its end; `expect`: its exit code, None: any."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "AWS_", "SCW_", "HCLOUD_"))}
    quiet = {"TF_CLI_CONFIG_FILE": os.devnull, "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1", "NO_COLOR": "1"}
    done = subprocess.run(
        [shutil.which("terraform") or "terraform", *words],
        cwd=folder,
        env=kept | quiet | dict(environ or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=WITHIN_S,
    )
    assert expect is None or done.returncode == expect, f"terraform {words} in {folder}:\n{done.stdout}\n{done.stderr}"
    return done


def initialise(folder: Path, *providers: str) -> None:
    """Initialise a module offline, with these providers. Skips where one has no plugin here."""
    folders = need_terraform(*providers)
    # an empty folder keeps Terraform from asking the registry
    options = [f"-plugin-dir={each}" for each in folders or [folder]]
    terraform(folder, "init", "-input=false", "-no-color", *options)


def copied(folder: Path) -> Path:
    """Copy the project's Terraform folder, as Terraform writes into the folders that it works in; return the copy."""
    ignored = shutil.ignore_patterns(".terraform*", "*.tfstate*")
    return Path(shutil.copytree(PROJECT / "terraform", folder / "terraform", ignore=ignored))
