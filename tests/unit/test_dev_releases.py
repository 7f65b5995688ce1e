"""Names of releases, platforms, lists of checksums, and what counts as a signature."""

from __future__ import annotations

import pytest

from clipper_nomad.dev_cluster.releases import (
    MIRROR,
    PRODUCTS,
    Platform,
    mirror_of,
    pinned_release,
    platform_of,
    read_checksums,
    release_of,
)
from clipper_nomad.dev_cluster.signature import SIGNERS, Signer, judge
from clipper_nomad.errors import InvalidSetting

LINUX = Platform(system="linux", architecture="amd64")
HASHICORP, FABIO = SIGNERS["hashicorp"], SIGNERS["fabio"]
VALID = "VALIDSIG 374EC75B485913604A831CC7C820C6D5CD27AB87 2026-03-11 {signed} 0 4 0 1 8 00 {fingerprint}"


def said(*lines: str) -> str:
    return "".join(f"[GNUPG:] {line}\n" for line in ("NEWSIG", *lines))


def valid(signer: Signer, *, signed: int = 1_773_220_000) -> str:
    return VALID.format(signed=signed, fingerprint=signer.fingerprint)


def test_files_are_called_as_their_makers_call_them() -> None:
    nomad, fabio = release_of("nomad", "1.11.3"), release_of("fabio", "1.7.3")

    assert nomad.url(nomad.file(LINUX), mirror=None) == (
        "https://releases.hashicorp.com/nomad/1.11.3/nomad_1.11.3_linux_amd64.zip"
    )
    assert nomad.checksums == "nomad_1.11.3_SHA256SUMS"
    assert fabio.url(fabio.file(LINUX), mirror=None) == (
        "https://github.com/fabiolb/fabio/releases/download/v1.7.3/fabio-1.7.3-linux_amd64"
    )
    assert fabio.checksums == "fabio-1.7.3.sha256"
    assert fabio.url(fabio.checksums, mirror="http://m") == "http://m/fabio/v1.7.3/fabio-1.7.3.sha256"


def test_a_pinned_checksum_is_of_the_pinned_version_alone() -> None:
    assert pinned_release("nomad").pinned_sha256(LINUX) == PRODUCTS["nomad"].sha256["linux_amd64"]
    assert release_of("nomad", "1.10.0").pinned_sha256(LINUX) is None


@pytest.mark.parametrize("version", ["", "v1.11.3", "1.11", "1.11.3/../..", "latest"])
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(InvalidSetting, match="The version of nomad is"):
        release_of("nomad", version)


@pytest.mark.parametrize(
    ("system", "machine", "name"),
    [("Linux", "x86_64", "linux_amd64"), ("Linux", "aarch64", "linux_arm64"), ("Darwin", "arm64", "darwin_arm64")],
)
def test_a_platform_is_named_as_releases_name_it(system: str, machine: str, name: str) -> None:
    assert str(platform_of(system, machine)) == name


@pytest.mark.parametrize(("system", "machine"), [("Windows", "AMD64"), ("Linux", "riscv64")])
def test_a_platform_without_releases_is_refused(system: str, machine: str) -> None:
    with pytest.raises(InvalidSetting, match=f"for {system} on {machine}") as caught:
        platform_of(system, machine)

    assert "PATH" in (caught.value.hint or "")


def test_a_mirror_is_taken_from_the_environment() -> None:
    assert mirror_of({}) is None
    assert mirror_of({MIRROR: "https://mirror.example/hashicorp/"}) == "https://mirror.example/hashicorp"


def test_lists_of_checksums_are_read_in_both_forms() -> None:
    one, two = "a" * 64, "b" * 64

    assert read_checksums(f"{one}  one.zip\n\n{two} *two\n") == {"one.zip": one, "two": two}


@pytest.mark.parametrize("text", ["<html>", f"{'a' * 63}  short.zip", "a" * 64])
def test_what_is_no_list_of_checksums_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a line reads"):
        read_checksums(text)


def test_a_good_signature_by_a_subkey_counts() -> None:
    assert judge(said("GOODSIG 34365D9472D7468F HashiCorp Security", valid(HASHICORP)), HASHICORP).is_good


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["BADSIG 34365D9472D7468F HashiCorp"], "does not belong to this content"),
        (["ERRSIG 1 22 8 00 1 9 AAAA", "NO_PUBKEY 1"], "another key"),
        (["NODATA 4"], "or not at all"),
        (["GOODSIG 1 Fabio", valid(FABIO)], "another key"),
        (["REVKEYSIG 1 HashiCorp", valid(HASHICORP)], "revoked"),
        (["EXPSIG 1 HashiCorp", valid(HASHICORP)], "expired"),
        (["GOODSIG 1 x", valid(HASHICORP), "BADSIG 1 x"], "does not belong"),
    ],
)
def test_any_other_does_not(lines: list[str], why: str) -> None:
    found = judge(said(*lines), HASHICORP)

    assert not found.is_good
    assert why in found.why


def test_what_was_signed_after_our_copy_of_the_key_expired_counts_only_where_that_is_known() -> None:
    lines = (
        said("KEYEXPIRED 1735603200", "EXPKEYSIG 1 x", valid(FABIO)),
        said("KEYEXPIRED 1735603200", "EXPKEYSIG 1 x", valid(HASHICORP)),
    )

    fabio, hashicorp = judge(lines[0], FABIO), judge(lines[1], HASHICORP)

    assert fabio.is_good
    assert "was valid until 2024-12-31" in fabio.why
    assert not hashicorp.is_good


def test_a_signature_of_before_the_expiry_needs_no_remark() -> None:
    found = judge(said("KEYEXPIRED 1735603200", "EXPKEYSIG 1 x", valid(FABIO, signed=1_700_000_000)), HASHICORP)
    assert not found.is_good  # another's

    found = judge(said("KEYEXPIRED 1735603200", "EXPKEYSIG 1 x", valid(FABIO, signed=1_700_000_000)), FABIO)
    assert found.is_good
    assert not found.why
