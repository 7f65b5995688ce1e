"""The releases that `terraform init` pins: by what their makers signed, by what was given, or left to be filled in."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from clipper_nomad.cli.options import WrongUsage
from clipper_nomad.cli.release_pins import pins_of, read_pairs
from clipper_nomad.dev_cluster.checksums import OfficialChecksums
from clipper_nomad.dev_cluster.releases import PRODUCTS

DIGEST = "ab" * 32


def signed(versions: Mapping[str, str]) -> dict[str, OfficialChecksums]:
    """What the makers would have signed."""
    return {
        name: OfficialChecksums(version=version, sha256={"amd64": DIGEST, "arm64": DIGEST}, remark="is of an old key")
        for name, version in versions.items()
    }


def nobody(versions: Mapping[str, str]) -> dict[str, OfficialChecksums]:
    raise AssertionError(f"nobody is to be asked for {versions}")


def test_versions_that_were_tried_are_pinned_by_what_their_makers_signed() -> None:
    pins = pins_of({}, {}, offline=False, fetch=signed)

    assert {name: each["version"] for name, each in pins.releases.items()} == {
        name: product.pinned for name, product in PRODUCTS.items()
    }
    assert all(each["sha256"] == {"amd64": DIGEST, "arm64": DIGEST} for each in pins.releases.values())
    assert pins.missing == ()
    assert pins.remarks[0].endswith("is of an old key.")


def test_another_version_and_given_checksums_are_taken_and_nobody_is_asked_for_those() -> None:
    def only_consul(versions: Mapping[str, str]) -> dict[str, OfficialChecksums]:
        assert versions == {"consul": "1.21.0"}
        return signed(versions)

    given = {"nomad_amd64": "1" * 64, "fabio_amd64": "2" * 64}
    pins = pins_of({"consul": "1.21.0"}, given, offline=False, fetch=only_consul)

    assert pins.releases["nomad"]["sha256"] == {"amd64": "1" * 64}
    assert pins.releases["consul"] == {"version": "1.21.0", "sha256": {"amd64": DIGEST, "arm64": DIGEST}}


def test_offline_what_is_not_known_is_left_to_be_filled_in() -> None:
    pins = pins_of({"nomad": "1.10.5"}, {"fabio_arm64": DIGEST}, offline=True, fetch=nobody)

    assert pins.missing == ("nomad_1.10.5_linux_amd64.zip", "nomad_1.10.5_linux_arm64.zip")
    assert pins.releases["consul"]["sha256"] == {
        each: PRODUCTS["consul"].sha256[f"linux_{each}"] for each in ("amd64", "arm64")
    }


def test_a_checksum_that_is_none_is_refused() -> None:
    with pytest.raises(WrongUsage, match="nomad_amd64"):
        pins_of({}, {"nomad_amd64": "xyz"}, offline=True, fetch=nobody)


@pytest.mark.parametrize("text", ["nomad", "nomad=", "vault=1.0.0", "=1"])
def test_a_pair_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(WrongUsage, match="--release"):
        read_pairs("--release", [text], ["consul", "nomad", "fabio"])


def test_pairs_are_read() -> None:
    assert read_pairs("--release", ["nomad=1.10.5"], ["consul", "nomad"]) == {"nomad": "1.10.5"}
