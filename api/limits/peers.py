"""How many connections there may be, in all and of one peer."""

from __future__ import annotations

import ipaddress
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ConnectionLimits:
    """Of one server. A connection over `most` or `most_per_peer` is answered with 503 at once.

    head_bytes, head_seconds: for the request line and the headers. body_rate: bytes a second, at least.
    """

    most: int
    most_per_peer: int
    head_bytes: int
    head_seconds: float
    body_rate: float


@dataclass
class OpenConnections:
    """The connections of one server, by peer."""

    by_peer: Counter[str] = field(default_factory=Counter)

    def admit(self, peer: str, limits: ConnectionLimits) -> bool:
        """Counts a new connection unless there are too many already."""
        if self.by_peer.total() >= limits.most or self.by_peer[peer] >= limits.most_per_peer:
            return False
        self.by_peer[peer] += 1
        return True

    def leave(self, peer: str) -> None:
        """Forgets an admitted connection that has ended."""
        self.by_peer[peer] -= 1
        if not self.by_peer[peer]:
            del self.by_peer[peer]


def peer_of(address: tuple[str, int] | None) -> str:
    """Who is counted: an IPv4 address, or the first half of an IPv6 address, since anybody has all of the second."""
    if address is None:
        return ""
    host = ipaddress.ip_address(address[0])
    if isinstance(host, ipaddress.IPv4Address):
        return str(host)
    if host.ipv4_mapped is not None:
        return str(host.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(host) >> 64 << 64, 64)))
