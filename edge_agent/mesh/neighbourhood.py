"""What is known of the neighbours on one interface: bounded, and forgotten in time. No I/O and no clock."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edge_agent.mesh.mdns_answers import Announcement, Goodbye, IpAddress
from edge_agent.mesh.oddity import Oddity

NEIGHBOURS_MAX: Final = 256
NEIGHBOURS_PER_SOURCE_MAX: Final = 4
"""One sender stands for itself, and for a name or two that it had before a restart."""

Endpoint = tuple[IpAddress, int]


@dataclass(frozen=True)
class Change:
    """Endpoints to be told as found and as lost, and what was odd."""

    found: tuple[Endpoint, ...] = ()
    lost: tuple[Endpoint, ...] = ()
    oddity: Oddity | None = None


@dataclass
class _Known:
    name: str
    source: IpAddress
    endpoints: frozenset[Endpoint]
    ttl_seconds: int
    until_seconds: float

    def is_at(self, address: IpAddress) -> bool:
        return address == self.source or any(address == place for place, _ in self.endpoints)


class Neighbourhood:
    """The neighbours on one interface, by the names they drew. `now_seconds` is monotonic."""

    def __init__(self, own_names: Callable[[str], bool], may_be_met: Callable[[IpAddress], bool]) -> None:
        self._is_own = own_names
        self._may_be_met = may_be_met
        self._known: dict[str, _Known] = {}

    def __len__(self) -> int:
        return len(self._known)

    def heard(self, said: Announcement | Goodbye, source: IpAddress, now_seconds: float) -> Change:
        """What follows from an announcement or a goodbye that came from the address `source`.

        An endpoint is told as found again under a new name: the neighbour has started anew.
        """
        if self._is_own(said.name):
            return Change()
        key = self._key(said.name, source)
        known = self._known.get(key)
        if isinstance(said, Goodbye):
            # Whoever hears a name can say its goodbye: it counts only from where the neighbour is.
            return self._forget([key]) if known is not None else Change()
        if known is not None and known.endpoints == {(address, said.port) for address in said.addresses}:
            known.until_seconds = now_seconds + said.ttl_seconds
            known.ttl_seconds = said.ttl_seconds
            return Change()
        endpoints = frozenset((address, said.port) for address in said.addresses if self._may_be_met(address))
        if not endpoints:
            return Change(oddity=Oddity.UNREACHABLE_ADDRESS)
        oddity: Oddity | None = None
        made_room = frozenset[Endpoint]()
        if known is None:
            # The sender's own oldest name makes room for its newest: a device that restarts often is no flood.
            own = [name for name, one in self._known.items() if one.source == source]
            if len(own) >= NEIGHBOURS_PER_SOURCE_MAX:
                made_room = self._known.pop(own[0]).endpoints
                oddity = Oddity.TOO_MANY_NEIGHBOURS
            elif len(self._known) >= NEIGHBOURS_MAX:
                return Change(oddity=Oddity.TOO_MANY_NEIGHBOURS)
        before = known.endpoints if known is not None else made_room
        self._known[key] = _Known(said.name, source, endpoints, said.ttl_seconds, now_seconds + said.ttl_seconds)
        found = endpoints - before if known is not None else endpoints
        return Change(_ordered(found), self._lost(before - endpoints), oddity)

    def _key(self, name: str, source: IpAddress) -> str:
        """Under what a neighbour is known. Whoever hears a name can announce it as his own: unless it comes from where
        that neighbour is, it is another claim, and the first one stays.
        """
        known = self._known.get(name)
        return name if known is None or known.is_at(source) else f"{name} {source}"

    def expire(self, now_seconds: float) -> Change:
        """Forgets those whose time is over."""
        return self._forget([name for name, known in self._known.items() if known.until_seconds <= now_seconds])

    def forget_unreachable(self) -> Change:
        """Forgets what may not be met any more, after the interface's addresses changed."""
        gone = [
            name
            for name, known in self._known.items()
            if not all(self._may_be_met(address) for address, _ in known.endpoints)
        ]
        return self._forget(gone)

    def forget_all(self) -> Change:
        """Forgets everybody: the interface is gone."""
        return self._forget(list(self._known))

    def fresh(self, now_seconds: float) -> list[tuple[str, int]]:
        """Names with their remaining seconds whose announcements need not be repeated (RFC 6762 §7.1: over half)."""
        claims = Counter(known.name for known in self._known.values())  # of one that two claim, both shall answer
        clear = [known for known in self._known.values() if claims[known.name] == 1]
        left = ((known.name, known.until_seconds - now_seconds, known.ttl_seconds) for known in clear)
        return [(name, int(seconds)) for name, seconds, ttl_seconds in left if seconds > ttl_seconds / 2]

    def _forget(self, names: list[str]) -> Change:
        gone: set[Endpoint] = set()
        for name in names:
            gone |= self._known.pop(name).endpoints
        return Change(lost=self._lost(frozenset(gone)))

    def _lost(self, endpoints: frozenset[Endpoint]) -> tuple[Endpoint, ...]:
        kept = {endpoint for known in self._known.values() for endpoint in known.endpoints}
        return _ordered(endpoints - kept)


def _ordered(endpoints: frozenset[Endpoint]) -> tuple[Endpoint, ...]:
    return tuple(sorted(endpoints, key=lambda one: (one[0].version, int(one[0]), one[1])))
