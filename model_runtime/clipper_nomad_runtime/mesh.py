"""Which frontends this replica links to, and how it gets there. Pure: the caller passes `now`; serving.py does as it says.

Each open link tells a roster. Of all frontends in them a replica wants min(F, 8), chosen by the hash of (replica,
frontend): every frontend gets its share, and one that comes or goes moves few links. A wanted frontend that is not linked
is dialled at its roster's address (`direct`), or looked for by dialling a seed again until it answers there (`proxy`, a
TCP proxy that balances), or both in turn (`auto`). Every seed leads to some linked frontend: one that does not is dialled.

A roster never closes a working link: it only decides what is dialled. A connection that met a frontend which is linked
already is released in good order (DRAIN, DRAINED), so that what the frontend sent meanwhile is answered.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import count
from math import inf

from clipper_nomad.protocol.links import MOST_LINKS
from clipper_nomad_runtime.link import LONGEST_PAUSE_S, Link, Roster, Stage, Way
from clipper_nomad_runtime.search_pace import SearchPace

FIRST_SEARCH_PAUSE_S = 0.05  # after a dial of a proxy that led nowhere; twice as long each time
SEED_PAUSE_S = 30.0  # the longest, for a seed that leads nowhere while other links stand
DIRECT_PATIENCE = 2  # dials of an address that never answered, then `auto` looks for its frontend through a proxy
WORKED_PATIENCE = 8  # the same, for one that did answer: it is more likely to be down than out of reach
DIRECT_AGAIN_S = 60.0


class Mode(enum.StrEnum):
    """How frontends are reached: CLIPPER_RPC_MODE."""

    DIRECT = "direct"
    PROXY = "proxy"
    AUTO = "auto"


class _Seed:
    """An address of the settings."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.link: Link | None = None
        self.met = ""  # the frontend that it led to, the last time
        self.is_done = False  # whoever is there refused this replica for good, or sent it away
        self.search_at = -inf
        self.search_pause_s = FIRST_SEARCH_PAUSE_S


class _Reach:
    """How dialling the address of one wanted frontend went."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.is_usable = address.startswith(("tcp://", "ipc://"))
        self.failed = 0  # dials in a row
        self.worked = False
        self.next_at = -inf


class Mesh:
    """The links of this replica. Call `welcomed`, `told` and `lost` as these happen, and `plan` when it `is_due`."""

    def __init__(
        self,
        seeds: Sequence[str],
        *,
        replica: str,
        mode: Mode,
        jitter: Callable[[], float],
        dropped: Counter[str],
        most: int = MOST_LINKS,
    ) -> None:
        """`jitter` and `dropped` as for Link. `most`: how many frontends to link to."""
        self.links: list[Link] = []  # of every stage; what is gone leaves with the next plan
        self.due = -inf  # when to plan next, if nothing happens before
        self.wanted: tuple[str, ...] = ()
        self.refusal = ""  # the last for good
        self.was_sent_away = False
        self._seeds = [_Seed(address) for address in seeds]
        self._replica = replica
        self._mode = mode
        self._jitter = jitter
        self._dropped = dropped
        self._most = most
        self._told: list[Roster] = []
        self._known: dict[str, str] = {}  # frontend → address, of all rosters
        self._own_addresses: frozenset[str] = frozenset()  # each of one frontend: no proxy's
        self._reach: dict[str, _Reach] = {}  # of the wanted
        self._settled: set[str] = set()  # frontends that refused this replica for good, or sent it away
        self._pace = SearchPace(most, jitter=jitter)
        self._turns = count()

    # ---- what happened ---------------------------------------------------------------------------------------------

    def is_due(self, now: float) -> bool:
        """Return whether to plan."""
        return now >= self.due

    @property
    def is_stirred(self) -> bool:
        """Whether anything happened since the last plan."""
        return self.due == -inf

    def stir(self) -> None:
        """Plan next time: a link changed its stage, or a roster was told."""
        self.due = -inf

    def told(self, link: Link, now: float) -> None:
        """`link` told a roster. The same once more says that somebody who was lost is back: it is looked for at once."""
        self.stir()
        missing = set(self._missing()) if link.is_told_again and not link.is_surplus else set()
        if missing:
            self._pace.hurry()
            self._pace.grant(len(self.wanted), now)
            for seed in self._seeds:
                seed.search_at, seed.search_pause_s = -inf, FIRST_SEARCH_PAUSE_S
        for other in self._under_way(Way.DIRECT):
            if other.expected in missing:
                other.hasten(now)

    def welcomed(self, link: Link, now: float) -> bool:
        """`link` has just opened. Return whether to keep it; if not, release it."""
        self.stir()
        others = [other for other in self.links if other is not link and other.stage is Stage.OPEN]
        met = link.frontend, link.identity[0]
        link.is_surplus = any((other.frontend, other.identity[0]) == met for other in others)
        if link.way is not Way.SEED and link.frontend not in self.wanted and len(others) >= self._enough:
            link.is_surplus = True
        if link.way is Way.DIRECT:
            self._note_direct(link, now)
        elif link.way is Way.PROXY:
            self._pace.met(is_new=not link.is_surplus)
            for seed in self._seeds_at(link.address):
                seed.search_pause_s = FIRST_SEARCH_PAUSE_S
        if not link.is_surplus:
            link.expected = link.frontend
        return not link.is_surplus

    def lost(self, link: Link, was: Stage, now: float) -> bool:
        """The connection of `link` ended; `was`: its stage. Return whether its address is given up for a proxy, now."""
        self.stir()
        if link.way is Way.PROXY and was in {Stage.DIALING, Stage.GREETING}:
            for seed in self._seeds_at(link.address):
                seed.search_at = now + seed.search_pause_s * (0.5 + 0.5 * self._jitter())
                seed.search_pause_s = min(2 * seed.search_pause_s, SEED_PAUSE_S)
        reach = self._reach.get(link.expected)
        if link.way is not Way.DIRECT or was is not Stage.DIALING or reach is None or reach.address != link.address:
            return False
        had_given_up = self._has_given_up(reach)
        self._note_failure(reach, now)
        return self._has_given_up(reach) and not had_given_up

    def _note_direct(self, link: Link, now: float) -> None:
        reach = self._reach.get(link.expected)
        if reach is None or reach.address != link.address:
            return
        if link.frontend == link.expected:
            reach.failed, reach.worked = 0, True
        else:  # another has the address by now
            self._note_failure(reach, now)
            reach.next_at = max(reach.next_at, now + LONGEST_PAUSE_S)

    def _note_failure(self, reach: _Reach, now: float) -> None:
        reach.failed += 1
        if self._has_given_up(reach):
            reach.next_at = now + DIRECT_AGAIN_S * (0.5 + 0.5 * self._jitter())

    # ---- what to do ------------------------------------------------------------------------------------------------

    def plan(self, now: float) -> list[Link]:
        """Bring `links` up to date: add those to dial. Return those that were given up: their connections are to end."""
        self.due = inf
        self._clear_away()
        self._read_rosters(now)
        given_up = self._give_up()
        self._dial_directly(now)
        self._dial_seeds(now)
        self._search(now)
        return given_up

    @property
    def is_over(self) -> bool:
        """Whether no link is left, and none will be."""
        return self.due == inf and all(link.stage is Stage.GONE for link in self.links)

    @property
    def open_count(self) -> int:
        """How many frontends may send work."""
        return sum(link.stage is Stage.OPEN for link in self.links)

    @property
    def by_proxy(self) -> list[str]:
        """The wanted frontends that could not be dialled at their own address."""
        return [name for name, reach in self._reach.items() if self._mode is Mode.AUTO and self._has_given_up(reach)]

    def _clear_away(self) -> None:
        """Forget the links that are gone, and remember why they are."""
        for link in [link for link in self.links if link.stage is Stage.GONE]:
            self.links.remove(link)
            for seed in self._seeds:
                if seed.link is link:
                    seed.link, seed.met = None, link.frontend
                    seed.is_done = not link.is_surplus
            was_sent_away = link.was_sent_away and not link.is_surplus
            self.refusal = link.refusal or self.refusal
            self.was_sent_away |= was_sent_away
            if was_sent_away:
                self._settled.add(link.frontend)
            elif link.refusal is not None and link.way is Way.DIRECT:  # a refusal does not say whose it is
                self._settled.add(link.expected)

    def _read_rosters(self, now: float) -> None:
        """Take the union of what open links told. While none tells anything, the last one stands."""
        tellers = [link for link in self.links if link.stage is Stage.OPEN and link.roster]
        told = [link.roster for link in tellers]
        if not told or told == self._told:
            return
        self._told = told
        self._known = {entry.frontend: entry.address for roster in told for entry in roster}
        for link in tellers:  # of itself each knows best
            self._known.update((each.frontend, each.address) for each in link.roster if each.frontend == link.frontend)
        uses = Counter(self._known.values())
        self._own_addresses = frozenset(address for address, times in uses.items() if times == 1)
        before = self.wanted
        self.wanted = wanted_of(self._replica, list(self._known), most=self._most)
        self._reach = {frontend: self._reach_of(frontend) for frontend in self.wanted}
        news = set(self.wanted) - set(before)
        if news:
            self._pace.hurry()
        for seed in self._seeds:
            if seed.link is not None and any(seed.address == self._known[frontend] for frontend in news):
                seed.link.hasten(now)

    def _reach_of(self, frontend: str) -> _Reach:
        address = self._known[frontend]
        reach = self._reach.get(frontend)
        return reach if reach is not None and reach.address == address else _Reach(address)

    def _give_up(self) -> list[Link]:
        """Take away the direct links that are not wanted any more, before they have said hello: nothing is lost then."""
        settled = self._linked | self._settled
        given_up = []
        for link in self.links:
            if link.way is not Way.DIRECT or link.stage not in {Stage.WAITING, Stage.DIALING}:
                continue
            reach = self._reach.get(link.expected)
            is_hopeless = reach is None or reach.address != link.address or link.expected in settled
            if is_hopeless or (link.failed_dials and reach is not None and self._has_given_up(reach)):
                link.leave()
                given_up.append(link)
        self.links = [link for link in self.links if link not in given_up]
        return given_up

    def _dial_directly(self, now: float) -> None:
        if self._mode is Mode.PROXY:
            return
        dialled = {link.expected for link in self._under_way(Way.DIRECT)}
        by_seeds = {link.address for link in self._under_way(Way.SEED)}
        for frontend in self._missing():
            reach = self._reach[frontend]
            if frontend in dialled or reach.address in by_seeds or not reach.is_usable:
                continue
            if now < reach.next_at:
                self.due = min(self.due, reach.next_at)
            else:
                self._add(reach.address, Way.DIRECT, expected=frontend)

    def _dial_seeds(self, now: float) -> None:
        """See to it that every seed leads to somebody who is linked."""
        linked = self._linked
        is_cut_off = not self.open_count
        wanted_addresses = {reach.address for reach in self._reach.values()}
        for seed in self._seeds:
            if seed.link is None and seed.met in self._settled:
                seed.is_done = True
            if seed.link is None and not seed.is_done and seed.met not in linked:
                seed.link = self._add(seed.address, Way.SEED)
            if seed.link is not None:
                is_urgent = is_cut_off or not self._known or seed.address in wanted_addresses
                seed.link.longest_pause_s = LONGEST_PAUSE_S if is_urgent else SEED_PAUSE_S
                if is_urgent and seed.link.due > now + LONGEST_PAUSE_S:
                    seed.link.hasten(now)

    def _search(self, now: float) -> None:
        """Dial seeds again for the frontends that are missing and cannot be dialled themselves."""
        sought = [frontend for frontend in self._missing() if self._has_given_up(self._reach[frontend])]
        seeds = [seed for seed in self._seeds if not seed.is_done and seed.address not in self._own_addresses]
        if not seeds or not self.open_count:
            return
        for _ in range(len(sought) - len(self._under_way(Way.PROXY))):
            ready_at = max(self._pace.ready_at(now), min(seed.search_at for seed in seeds))
            if ready_at > now:
                self.due = min(self.due, ready_at)
                return
            free = [seed for seed in seeds if now >= seed.search_at]
            self._pace.dialled(now)
            self._add(free[next(self._turns) % len(free)].address, Way.PROXY)

    # ---- looking -----------------------------------------------------------------------------------------------------

    @property
    def _enough(self) -> int:
        return min(len(self._known), self._most)

    @property
    def _linked(self) -> set[str]:
        return {link.frontend for link in self.links if link.stage in {Stage.OPEN, Stage.LEAVING} and not link.is_surplus}

    def _missing(self) -> Iterator[str]:
        linked = self._linked | self._settled
        return (frontend for frontend in self.wanted if frontend not in linked)

    def _under_way(self, way: Way) -> list[Link]:
        return [link for link in self.links if link.way is way and link.stage in _UNDER_WAY]

    def _has_given_up(self, reach: _Reach) -> bool:
        if self._mode is not Mode.AUTO:
            return self._mode is Mode.PROXY
        return not reach.is_usable or reach.failed >= (WORKED_PATIENCE if reach.worked else DIRECT_PATIENCE)

    def _seeds_at(self, address: str) -> Iterator[_Seed]:
        return (seed for seed in self._seeds if seed.address == address)

    def _add(self, address: str, way: Way, *, expected: str = "") -> Link:
        link = Link(address, jitter=self._jitter, dropped=self._dropped, way=way, expected=expected)
        self.links.append(link)
        return link


_UNDER_WAY = frozenset({Stage.WAITING, Stage.DIALING, Stage.GREETING})


def wanted_of(replica: str, frontends: Sequence[str], *, most: int = MOST_LINKS) -> tuple[str, ...]:
    """Return the frontends that `replica` is to link to: those of the highest hashes with it."""
    return tuple(sorted(frontends, key=lambda frontend: _weight(replica, frontend), reverse=True)[:most])


def _weight(replica: str, frontend: str) -> bytes:
    return blake2b(f"{replica}\0{frontend}".encode(), digest_size=8).digest()
