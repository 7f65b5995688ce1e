"""Which frontends are alive, as this one knows it. Pure: the caller passes `now`.

The union of what the store's channel, the peers and the own links tell. An entry leaves by its own goodbye, or when there
was no sign of it for FORGOTTEN_AFTER_S: no link of anybody's, no word of its own. The store may be away, or may have
lost everything: that alone removes nobody. Source: docs/decisions/0009-mesh.md
"""

from __future__ import annotations

from clipper_nomad.protocol.mesh_messages import MAX_ROSTER, Known, RosterEntry, can_be_told

FORGOTTEN_AFTER_S = 30.0


class Roster:
    """This frontend and the others.

    `version` rises when the entries change, and when a link stands again to one that was lost: replicas are told anew then,
    and look for it at once. Other signs of life change nothing.
    """

    def __init__(self, own: RosterEntry) -> None:
        self.own = own
        self.version = 0
        self._entries: dict[str, RosterEntry] = {}
        self._alive_at: dict[str, float] = {}  # the last sign of life; of those gone too, till all forgot them
        self._gone: dict[str, float] = {}  # said goodbye: nobody's older word brings them back
        self._linked: set[str] = set()
        self._lost: set[str] = set()  # had a link, and have none
        self._spoke: set[str] = set()  # said themselves where they are: hearsay does not move them

    def __contains__(self, frontend: str) -> bool:
        return frontend == self.own.frontend or frontend in self._entries

    @property
    def others(self) -> tuple[RosterEntry, ...]:
        """Every other frontend."""
        return tuple(self._entries.values())

    @property
    def entries(self) -> tuple[RosterEntry, ...]:
        """Every frontend, this one first."""
        return (self.own, *self._entries.values())

    def heard(self, entry: RosterEntry, now: float) -> None:
        """A frontend spoke for itself, over a link or the store's channel."""
        if self._note(entry, now):
            self._gone.pop(entry.frontend, None)
            self._spoke.add(entry.frontend)

    def told(self, known: Known, now: float) -> None:
        """A peer told of a frontend. What is known at first hand, or is newer, stands."""
        name = known.entry.frontend
        if name in self._linked or known.unlinked_s >= FORGOTTEN_AFTER_S:
            return
        alive_at = now - known.unlinked_s
        gone_at = self._gone.get(name)
        if gone_at is not None and alive_at <= gone_at + FORGOTTEN_AFTER_S:
            return
        if alive_at >= self._alive_at.get(name, alive_at):
            self._note(self._entries[name] if name in self._spoke else known.entry, alive_at)

    def linked(self, frontend: str, now: float) -> None:
        """A link to `frontend` stands, from here on."""
        self._linked.add(frontend)
        self._alive_at[frontend] = now
        if frontend in self._lost:
            self._lost.discard(frontend)
            self.version += 1

    def unlinked(self, frontend: str, now: float) -> None:
        """The last link to `frontend` has ended."""
        if frontend in self._linked:
            self._linked.discard(frontend)
            self._lost.add(frontend)
        self._alive_at[frontend] = now

    def goodbye(self, frontend: str, now: float) -> None:
        """`frontend` said that it ends."""
        self._gone[frontend] = now
        self._linked.discard(frontend)
        self._remove(frontend)

    def forget(self, now: float) -> None:
        """Drop whoever gave no sign of life for too long. To be called about once a second."""
        for frontend in self._linked:
            self._alive_at[frontend] = now
        for frontend, alive_at in list(self._alive_at.items()):
            if now - alive_at > FORGOTTEN_AFTER_S:
                del self._alive_at[frontend]
                self._remove(frontend)
        for frontend, gone_at in list(self._gone.items()):
            if now - gone_at > 2 * FORGOTTEN_AFTER_S:  # by then the last who had not heard of it has forgotten it too
                del self._gone[frontend]

    def known(self, now: float) -> tuple[Known, ...]:
        """Return what to tell peers."""
        return tuple(
            Known(entry, 0.0 if name in self._linked else max(0.0, now - self._alive_at[name]))
            for name, entry in self._entries.items()
        )

    def _remove(self, frontend: str) -> None:
        self._lost.discard(frontend)
        self._spoke.discard(frontend)
        if self._entries.pop(frontend, None) is not None:
            self.version += 1

    def _note(self, entry: RosterEntry, alive_at: float) -> bool:
        """Keep an entry; False if it is this frontend's own, or one that could not be passed on."""
        name = entry.frontend
        is_full = len(self._entries) >= MAX_ROSTER - 1 and name not in self._entries
        if name == self.own.frontend or is_full or not can_be_told(entry):
            return False
        self._alive_at[name] = max(alive_at, self._alive_at.get(name, alive_at))
        if self._entries.get(name) != entry:
            self._entries[name] = entry
            self.version += 1
        return True
