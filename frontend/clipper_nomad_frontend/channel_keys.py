"""Whose key may say what on an encrypted model channel. Pure.

The frontends of a cluster share one CURVE key pair. Each model version has one of its own: the secret goes to its replicas,
the public key stands in the catalog. So a connection's key tells whose it is before a word is said, and a replica can be
none of another version. Source: docs/decisions/0012-encrypted-channel.md
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from clipper_nomad.protocol.mesh_messages import PeerHello
from clipper_nomad.protocol.wire import Hello
from clipper_nomad.state.records import ModelVersion


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A CURVE key pair, each key as 40 characters of Z85."""

    public: bytes
    secret: bytes = field(repr=False)


class ChannelKeys:
    """The keys that are let in: the frontends' own, and those of the versions in the catalog."""

    def __init__(self, own: KeyPair) -> None:
        self.own = own
        self._uids: Mapping[bytes, str] = {}

    def know(self, versions: Iterable[ModelVersion]) -> None:
        """Take the versions of a catalog in place of those of the last."""
        self._uids = {version.public_key.encode(): version.uid for version in versions if version.public_key}

    def is_known(self, key: bytes) -> bool:
        """Return whether a connection with this public key is let in."""
        return key == self.own.public or key in self._uids

    def may_say(self, key: bytes, hello: Hello | PeerHello) -> bool:
        """Return whether the owner of this public key may introduce itself so."""
        if isinstance(hello, PeerHello):
            return key == self.own.public
        return self._uids.get(key) == hello.uid
