"""Constants of Clipper's module clipper_admin that its users import. Public as clipper_nomad.NAME."""

from __future__ import annotations

import re

from clipper_nomad.container_manager import USUAL_CACHE_BYTES
from clipper_nomad.protocol.names import DEPLOYED_NAME

CLIPPER_TEMP_DIR = "/tmp/clipper"  # noqa: S108  # Clipper's; nothing is written there, bundles have folders of their own
DEFAULT_LABEL: list[str] = []
DEFAULT_PREDICTION_CACHE_SIZE_BYTES = USUAL_CACHE_BYTES
deploy_regex_str = DEPLOYED_NAME
deployment_regex = re.compile(deploy_regex_str)
