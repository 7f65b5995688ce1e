"""Whose key may say what on an encrypted model channel. Pure.

The frontends of a cluster share one CURVE key pair. Each model version has one of its own: the secret goes to its replicas,
the public key stands in the catalog. So a connection's key tells whose it is before a word is said, and a replica can be
none of another version. Source: docs/decisions/0012-encrypted-channel.md
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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

    def __init__(self, own: KeyPair, read_frontends: Callable[[], Sequence[bytes]] = tuple) -> None:
        """`read_frontends`: reads the public keys that frontends of the cluster have now: while they are changed, two."""
        self.own = own
        self._read_frontends = read_frontends
        self._uids: Mapping[bytes, str] = {}

    def frontends(self) -> Sequence[bytes]:
        """Return the public keys that frontends may have, the own one among them."""
        return tuple(dict.fromkeys((self.own.public, *self._read_frontends())))

    def know(self, versions: Iterable[ModelVersion]) -> None:
        """Take the versions of a catalog in place of those of the last."""
        self._uids = {version.public_key.encode(): version.uid for version in versions if version.public_key}

    def is_known(self, key: bytes) -> bool:
        """Return whether a connection with this public key is let in."""
        return key in self._uids or self._is_frontend(key)

    def may_say(self, key: bytes, hello: Hello | PeerHello) -> bool:
        """Return whether the owner of this public key may introduce itself so."""
        if isinstance(hello, PeerHello):
            return self._is_frontend(key)
        return self._uids.get(key) == hello.uid

    def _is_frontend(self, key: bytes) -> bool:
        return key == self.own.public or key in self.frontends()
