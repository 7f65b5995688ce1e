"""Whether a file was signed by who should have: gpgv reads the signature, `judge` (pure) decides.

The keys are in keys/, as their owners publish them; a key of another fingerprint is nobody's. gpgv belongs to GnuPG and
says what it found in lines that are made for programs (GnuPG's doc/DETAILS); its exit code decides nothing.
"""

from __future__ import annotations

import base64
import binascii
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from clipper_nomad.errors import DownloadFailed

GPGV = "gpgv"
_PREFIX = "[GNUPG:] "
_CHECK_WITHIN_S = 30.0
_KEYS = Path(__file__).parent / "keys"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Who signs. `fingerprint`: of the primary key. `expiry_is_known`: their key's published copy has expired, its owner
    goes on signing with it, and no newer copy is published."""

    name: str
    fingerprint: str
    key: Path
    expiry_is_known: bool = False


# https://www.hashicorp.com/security: valid until 2030-03-01. https://fabiolb.net/faq/verifying-releases/: the copy there,
# which is named for all releases since 1.5.14, expired on 2024-12-31; docs/decisions/0021-dev-cluster.md.
SIGNERS = {
    "hashicorp": Signer(
        name="HashiCorp", fingerprint="C874011F0AB405110D02105534365D9472D7468F", key=_KEYS / "hashicorp.asc"
    ),
    "fabio": Signer(
        name="Fabio's maintainers",
        fingerprint="76462AB9B0C185ABC66FD98F59861FC4870361CA",
        key=_KEYS / "fabio.asc",
        expiry_is_known=True,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Whether a signature counts. `why`: why not, or what is to be known about one that does."""

    is_good: bool
    why: str = ""


def judge(said: str, signer: Signer) -> Judgement:
    """Return whether what gpgv said on its status channel is a good signature of `signer`."""
    lines = [line.removeprefix(_PREFIX).split() for line in said.splitlines() if line.startswith(_PREFIX)]
    words = {line[0]: line for line in lines if line}
    if "BADSIG" in words:
        return Judgement(is_good=False, why="the signature does not belong to this content")
    if "VALIDSIG" not in words:
        key = words.get("ERRSIG", ["", "?"])[-1]
        return Judgement(is_good=False, why=f"it is signed by another key ({key}), or not at all")
    valid = words["VALIDSIG"]
    if valid[-1] != signer.fingerprint:
        return Judgement(is_good=False, why=f"it is signed by another key ({valid[-1]})")
    if "GOODSIG" in words:
        return Judgement(is_good=True)
    if "EXPKEYSIG" not in words or "KEYEXPIRED" not in words:
        return Judgement(is_good=False, why="the key was revoked, or the signature has expired")
    signed, expired = int(valid[3]), int(words["KEYEXPIRED"][1])
    if signed <= expired:
        return Judgement(is_good=True)
    when = f"was made on {_day(signed)}, and our copy of the key of {signer.name} was valid until {_day(expired)}"
    return Judgement(is_good=signer.expiry_is_known, why=when)


def check_signature(content: bytes, signature: bytes, *, signer: Signer, what: str) -> str:
    """Check that `signer` signed `content`, called `what`, and return what is to be known about that; "": nothing.

    Raises: DownloadFailed: they did not, or gpgv is missing.
    """
    program = shutil.which(GPGV)
    if program is None:
        raise DownloadFailed(
            f"The signature of {what} cannot be checked: there is no gpgv on PATH.",
            hint="Install GnuPG (Debian and Ubuntu: `apt install gpgv`; macOS: `brew install gnupg`), or put the programs on"
            " PATH yourself.",
        )
    with tempfile.TemporaryDirectory(prefix="clipper-gpgv-") as folder:
        names = [Path(folder) / each for each in ("key.gpg", "signature", "content")]
        for path, data in zip(names, (_without_armor(signer.key.read_text()), signature, content), strict=True):
            path.write_bytes(data)
        key, *files = map(str, names)
        argv = [program, "--homedir", folder, "--status-fd", "1", "--keyring", key, *files]
        done = subprocess.run(
            argv, capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=_CHECK_WITHIN_S, text=True
        )
    found = judge(done.stdout, signer)
    if not found.is_good:
        raise DownloadFailed(
            f"The signature of {what} is not one of {signer.name}: {found.why}.",
            hint="Do not use these files. See whether a mirror or a proxy is in between; if the key is new, a newer"
            " clipper-nomad knows it; programs on PATH are used as they are.",
        )
    return found.why


def _without_armor(text: str) -> bytes:
    """Return the key in the one form that gpgv takes."""
    lines = iter(text.splitlines())
    for line in lines:
        if not line.strip():  # the headers have ended
            break
    body = [line for line in lines if line.strip() and not line.startswith(("=", "-"))]
    try:
        return base64.b64decode("".join(body), validate=True)
    except binascii.Error as exc:
        raise DownloadFailed(
            "A key that came with clipper-nomad cannot be read.", hint="Install clipper-nomad anew."
        ) from exc


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
