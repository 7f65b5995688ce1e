"""Inputs that ended a replica while they were alone there. Pure: the caller passes `now`.

Such an input is refused for a while on this frontend, so that a client which repeats it does not end one replica after
another. Inputs are told apart by a digest of their bytes, type length and model version.
"""

from __future__ import annotations

from hashlib import blake2b

REFUSED_FOR_S = 600.0
MOST_REMEMBERED = 10_000


class PoisonList:
    """The refused inputs of one model version."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[bytes, float] = {}

    def __bool__(self) -> bool:
        return bool(self._until)

    def add(self, data: bytes, item_length: int, now: float) -> None:
        """Refuse this input from now on."""
        digest = _digest(data, item_length)
        self._until.pop(digest, None)  # so that the order is that of running out
        if len(self._until) >= MOST_REMEMBERED:
            del self._until[next(iter(self._until))]
        self._until[digest] = now + REFUSED_FOR_S

    def refuses(self, data: bytes, item_length: int, now: float) -> bool:
        """Return whether this input is refused; an entry past its time is dropped."""
        digest = _digest(data, item_length)
        until = self._until.get(digest)
        if until is None:
            return False
        if until <= now:
            del self._until[digest]
            return False
        return True


def _digest(data: bytes, item_length: int) -> bytes:
    return blake2b(data, digest_size=16, salt=item_length.to_bytes(8, "little")).digest()
